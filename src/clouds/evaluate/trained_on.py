"""Images of a domain that a model was trained on without labels: its score there is not of unseen images."""

import hashlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from clouds.base.progress import say
from clouds.config.runs import MODELS, PHOTOGRAPHS
from clouds.data.photographs import fingerprint, fingerprints
from clouds.errors import DataError
from clouds.evaluate.domains import Domain
from clouds.evaluate.scores import Score
from clouds.predict.image_predictor import ImagePredictor


def mark_trained_on(
    scores: Sequence[Score], domains: Sequence[Domain], model: Path, predictor: ImagePredictor
) -> None:
    """Write into each score's row how many of the domain's images ``model`` trained on without labels, and warn; a row
    where there are none stays as it is."""
    known = predictor.trained_on
    photos = _of_run(model.resolve()) if known is None else known
    if not photos:
        return
    for score, domain in zip(scores, domains, strict=True):
        if count := count_trained_on(domain, photos):
            score.row = score.row.model_copy(update={"trained_on_unlabelled": count})
            say(f"{domain.name}: {count} of its {domain.length} images are among the photos that {model} was "
                "trained on without labels; so this score is not of unseen images")  # fmt: skip


def _of_run(model: Path) -> frozenset[str]:
    """What older versions did not write beside the model: the photos of its run. A warm-up model saw none."""
    runs = [each for each in (model, model.parent) if (each / PHOTOGRAPHS).is_file()]
    return fingerprints(runs[0]) if runs and model.name != MODELS["warmup"] else frozenset()


def count_trained_on(domain: Domain, photos: Collection[str]) -> int:
    """How many images of a domain are among ``photos``, by their content."""
    if domain.data is None:
        return 0
    sizes = {int(each.split()[0]) for each in photos}
    count = 0
    for k in domain.indices:
        place = domain.data.samples[k].image
        with suppress(DataError):  # scoring names a file that cannot be read
            size = place.files.size(place.name)
            count += size in sizes and fingerprint(size, hashlib.sha256(place.read()).hexdigest()) in photos
    return count
