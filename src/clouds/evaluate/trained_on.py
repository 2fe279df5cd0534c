"""Images of a domain that a model was trained on without labels: its score there is not of unseen images."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from clouds.base.progress import say
from clouds.config.records import UnlabelledPhoto, read_rows
from clouds.config.runs import MODELS, PHOTOGRAPHS
from clouds.data.photographs import file_of
from clouds.errors import DataError
from clouds.evaluate.domains import Domain
from clouds.evaluate.scores import Score


def mark_trained_on(scores: Sequence[Score], domains: Sequence[Domain], model: Path) -> None:
    """Write into each score's row how many of the domain's images the run of ``model`` trained on without labels, and
    warn; a row where there are none stays as it is. A warm-up model saw none."""
    folder = model.resolve()
    runs = [each for each in (folder, folder.parent) if (each / PHOTOGRAPHS).is_file()]
    if not runs or folder.name == MODELS["warmup"]:
        return
    rows = [row for row in read_rows(runs[0] / PHOTOGRAPHS, UnlabelledPhoto) if row.problem is None]
    for score, domain in zip(scores, domains, strict=True):
        if count := count_trained_on(domain, rows):
            score.row = score.row.model_copy(update={"trained_on_unlabelled": count})
            say(f"{domain.name}: {count} of its {domain.length} images are among the photos that {model} was "
                "trained on without labels; so this score is not of unseen images")  # fmt: skip


def count_trained_on(domain: Domain, rows: Sequence[UnlabelledPhoto]) -> int:
    """How many images of a domain are photographs of a run, by their path or, moved or copied, by their content."""
    if domain.data is None:
        return 0
    files = {(row.file, row.member) for row in rows if row.seconds is None}
    digests = {row.sha256 for row in rows}
    sizes = {row.bytes for row in rows}
    count = 0
    for k in domain.indices:
        place = domain.data.samples[k].image
        with suppress(DataError):  # scoring names a file that cannot be read
            count += file_of(place) in files or (
                place.files.size(place.name) in sizes and hashlib.sha256(place.read()).hexdigest() in digests
            )
    return count
