"""What scoring and sweeps leave in their folders, as ``records``: results, confusion, examples, the runs of a sweep."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from clouds.config.records import Count, Finite, Positive, Record, Seconds, Share


class DomainScore(Record):
    """What one model scored on one domain; ``seconds`` it took. A class that the domain never shows is null.

    ``trained_on_unlabelled``: how many of the images the model was trained on without labels, where there are any.
    """

    name: str
    images: Count
    label_set: str
    miou: Share | None
    ci95: tuple[Share, Share] | None = None
    fwiou: Share | None = None
    accuracy: Share | None = None
    boundary_iou: Share | None = None
    ece: Share | None = None
    seconds: Positive | None = None
    trained_on_unlabelled: Count = 0
    iou: dict[str, Share | None] = {}


class Missing(Record):
    """A domain that was asked for and could not be scored."""

    name: str
    why: str = ""


class Results(Record):
    """`results.json` and `results-warmup.json`. ``seconds``: what each part of the run took, over all sessions."""

    model: str = ""
    commit: str | None = None
    seed: int | None = None
    protocol: dict[str, Any] = {}
    backends: dict[str, str] = {}
    domains: list[DomainScore] = []
    missing: list[Missing] = []
    mean_miou: Share | None = None
    work: dict[str, int | Finite] = {}
    seconds: Seconds = {}
    peak_memory_gb: Finite | None = None


class Calibration(Record):
    """Pixels, their summed confidence and how many of them are right, by equal bins of confidence from 0 to 1."""

    pixels: list[Positive]
    confidence: list[Positive]
    correct: list[Positive]

    @model_validator(mode="after")
    def _even(self) -> Calibration:
        if len({len(self.pixels), len(self.confidence), len(self.correct)}) != 1:
            raise ValueError("expected pixels, confidence and correct to have the same number of bins")
        return self


class ImageScore(Record):
    """An image of a domain; no score where nothing in it is labelled."""

    name: str
    miou: Share | None = None
    accuracy: Share | None = None


class Confusion(Record):
    """Pixels of one domain: rows are the truth, columns the prediction. Old runs hold no more than that."""

    label_set: str
    classes: list[str]
    confusion: list[list[Count]]
    calibration: Calibration | None = None
    per_image: list[ImageScore] = []

    @model_validator(mode="after")
    def _square(self) -> Confusion:
        sizes = {len(self.confusion), *(len(row) for row in self.confusion)}
        if sizes != {len(self.classes)}:
            raise ValueError(f"expected {len(self.classes)} rows and columns, one per class")
        return self


class Evaluation(Record):
    """`evaluation/warmup.json` and `evaluation/joint.json`."""

    domains: dict[str, Confusion] = {}


class Example(Record):
    """`example.json` beside an example's pictures: which image it is and what each model scored on it."""

    name: str = ""
    warmup: Share | None = None
    joint: Share | None = None


class BothResults(Record):
    """The results of a finished run of a sweep."""

    warmup: Results | None = None
    joint: Results | None = None


class SweepJob(Record):
    """A run of a sweep, a row of `sweep.json`: the settings that make it differ from the recipe, and what came of it.

    `job.json` in the run's folder holds the same but for ``run`` and ``results``. ``seconds``: of all attempts.
    """

    name: str
    settings: dict[str, Any] = {}
    seed: int | None = None
    run: str | None = None
    state: str = ""
    error: str | None = None
    seconds: Positive = 0.0
    results: BothResults | None = None


class Sweep(Record):
    """`sweep.json`."""

    recipe: str = ""
    keys: list[str] = []
    seeds: list[int] = []
    jobs: list[SweepJob]
