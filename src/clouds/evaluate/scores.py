"""Score a model on domains it never saw.

Protocol: the image is brought to a shorter side, predicted whole (or as the recipe's ``evaluate.window``, ``scales``
and ``flip`` say), its semantic map brought back to the label's own size, and scored there; ``evaluate.protocol`` scores
as a publication does (``protocols``). A model's classes are
folded into the label set of the domain after the argmax. docs/evaluation.md says what is measured.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clouds.base.machine import commit, peak_memory_gb
from clouds.base.processes import ALONE, Processes
from clouds.base.progress import track
from clouds.config.score_records import DomainScore, ImageScore, Missing, Results
from clouds.errors import DataError
from clouds.evaluate.domains import Domain, class_table
from clouds.evaluate.metrics import (
    BINS,
    accuracy,
    bootstrap_interval,
    boundary_parts,
    calibration,
    confusion,
    expected_calibration_error,
    fwiou,
    iou,
    iou_of_parts,
    mean_iou,
    mean_present,
    parts,
)
from clouds.evaluate.protocols import View
from clouds.model.inference import OWN_SIZE, Inference
from clouds.predict.image_predictor import ImagePredictor


@dataclass
class Score:
    """Of one domain: its row of RESULTS; the summed confusion matrix int64 (K, K + 1); the summed calibration float64
    (3, 15), see ``metrics.calibration``; each image's score, in order, and what its IoU is made of, int64 (N, 3, K),
    see ``metrics.parts``."""

    row: DomainScore
    counts: NDArray[np.int64]
    calibration: NDArray[np.float64]
    images: list[ImageScore]
    parts: NDArray[np.int64]
    view: View | None = None  # of a publication's protocol


@dataclass(frozen=True)
class Seen:
    """What one image adds to a score."""

    name: str
    parts: NDArray[np.int64]
    boundary: NDArray[np.int64]
    calibration: NDArray[np.float64]


@dataclass
class Tally:
    """A domain as far as one process scored it: confusion matrix so far, images by their place, seconds."""

    counts: NDArray[np.int64]
    seen: dict[int, Seen] = field(default_factory=dict)
    seconds: float = 0.0


def score(
    predictor: ImagePredictor, domain: Domain, table: NDArray[np.uint8], i: int
) -> tuple[NDArray[np.int64], Seen]:
    """Predict image i -> its confusion counts int64 (C, C + 1) in the domain's label set, and the rest."""
    name, image, truth = domain.sample(i)
    result = seen_as(predictor, domain).predict(image)
    prediction, classes = table[result.labels], len(domain.label_set.classes)
    try:
        counts = confusion(truth, prediction, classes)
    except DataError as error:
        raise DataError(f"{domain.name}: {name}: {error}") from None
    boundary = boundary_parts(truth, prediction, classes)
    return counts, Seen(name, parts(counts), boundary, calibration(truth, prediction, result.scores))


def seen_as(predictor: ImagePredictor, domain: Domain) -> ImagePredictor:
    """The model looking as the protocol of the domain says, or as it does."""
    return predictor.with_inference(**vars(domain.view.inference())) if domain.view else predictor


def class_tables(classes: tuple[str, ...], domains: list[Domain]) -> list[NDArray[np.uint8]]:
    """A model's ``class_table`` for each domain; DataError for a domain without images."""
    if empty := [domain.name for domain in domains if not domain.length]:
        raise DataError(f"{', '.join(empty)}: holds no image to score")
    return [class_table(classes, domain.name, domain.label_set) for domain in domains]


def evaluate(predictor: ImagePredictor, domains: list[Domain], what: str, processes: Processes = ALONE) -> list[Score]:
    """Score every domain.

    Of several processes each predicts every world-th image, and all return the same scores: those of one alone.
    UsageError for a model whose classes do not fit, DataError for a domain without images and for a bad label.
    """
    tables = class_tables(tuple(predictor.classes), domains)
    sizes = [len(domain.label_set.classes) for domain in domains]
    tallies = [Tally(np.zeros((size, size + 1), np.int64)) for size in sizes]
    work = [(d, i) for d, domain in enumerate(domains) for i in range(processes.rank, domain.length, processes.world)]
    shown = track(work, f"scoring: {what}", len(work), unit="images") if processes.main else work
    for d, i in shown:
        began = time.monotonic()
        counts, seen = score(predictor, domains[d], tables[d], i)
        tallies[d].counts += counts
        tallies[d].seen[i] = seen
        tallies[d].seconds += time.monotonic() - began
    whole = [_merged(list(each)) for each in zip(*processes.gather(tallies), strict=True)]
    return [summarise(domain, tally) for domain, tally in zip(domains, whole, strict=True)]


def _merged(tallies: list[Tally]) -> Tally:
    """What the processes have of one domain."""
    seen = {i: image for tally in tallies for i, image in tally.seen.items()}
    counts = np.sum([tally.counts for tally in tallies], 0)
    return Tally(counts, seen, max(tally.seconds for tally in tallies))


def summarise(domain: Domain, tally: Tally) -> Score:
    """The domain's score; DataError where no pixel of it is labelled."""
    if not tally.counts.any():
        raise DataError(f"{domain.name}: no pixel of its {domain.length} labels is of a class; nothing to score")
    images = [tally.seen[i] for i in sorted(tally.seen)]
    each = np.stack([image.parts for image in images])
    bins = np.zeros((3, BINS))
    for image in images:  # one by one in order: a float's sum depends on it
        bins += image.calibration
    row = DomainScore(
        name=domain.name,
        images=domain.length,
        label_set=domain.label_set.name,
        miou=float(mean_iou(tally.counts, domain.absent_counts)),
        ci95=bootstrap_interval(each, absent_counts=domain.absent_counts),
        fwiou=fwiou(tally.counts),
        accuracy=accuracy(tally.counts),
        boundary_iou=float(mean_present(iou_of_parts(np.sum([image.boundary for image in images], 0)))),
        ece=expected_calibration_error(bins),
        seconds=round(tally.seconds, 3),
        iou={name: None if np.isnan(value) else float(value)
             for name, value in zip(domain.label_set.classes, iou(tally.counts, domain.absent_counts), strict=True)},
    )
    return Score(row, tally.counts, bins, [_image_score(image) for image in images], each, domain.view)


def _image_score(image: Seen) -> ImageScore:
    hit, truth, _ = image.parts
    if not truth.any():
        return ImageScore(name=image.name, miou=None, accuracy=None)
    mean = float(mean_present(iou_of_parts(image.parts)))
    return ImageScore(name=image.name, miou=mean, accuracy=float(hit.sum() / truth.sum()))


def results(
    scores: list[Score],
    *,
    model: str,
    seed: int,
    inference: Inference,
    backends: dict[str, str],
    missing: list[dict[str, str]] | None = None,
    protocol: str | None = None,
    **more: Any,
) -> Results:
    """The RESULTS object of ``results.json``; ``more``: fields that are a run's alone.

    ``protocol``: the name of a publication's, ``inference`` what counts without one. ``commit`` and the most memory
    that this process took are looked up here.
    """
    rows = [s.row for s in scores]
    how: dict[str, Any] = {**inference.as_record(), "scored_at": OWN_SIZE}
    if protocol:
        how = {"name": protocol, "domains": {s.row.name: s.view.as_record() for s in scores if s.view}}
    return Results(
        model=model,
        commit=commit(),
        seed=seed,
        protocol=how,
        backends=backends,
        domains=rows,
        missing=[Missing(**each) for each in missing or ()],
        mean_miou=float(np.mean([row.miou for row in rows])),
        **more,
        peak_memory_gb=round(peak_memory_gb(), 2),
    )
