"""The records of a run folder as checked data; what a record may carry beyond these is ignored."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Row(BaseModel):
    """A record that may carry more than the report needs."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Recipe(Row):
    """`recipe.yaml`: what was asked for, where and with what."""

    recipe: str = ""
    seed: int | None = None
    commit: str | None = None
    versions: dict[str, str] = {}
    settings: dict[str, Any] = {}
    hardware: dict[str, Any] = {}


class Prompt(Row):
    """A line of `prompts.jsonl`."""

    prompt: str
    attributes: dict[str, list[str] | str] = {}
    writer: str | None = None


class Drawn(Row):
    """A line of `generated/metadata.jsonl`."""

    file_name: str
    prompt: str = ""
    seed: int | None = None
    generator: str | None = None
    keep: bool | None = None
    why: str | list[str] | None = None

    @field_validator("file_name")
    @classmethod
    def _inside(cls, name: str) -> str:
        path = PurePosixPath(name)
        if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
            raise ValueError("expected a path inside the generated folder")
        return name

    @property
    def reason(self) -> str:
        """Why the audit dropped it, as one text."""
        return ", ".join(self.why) if isinstance(self.why, list) else self.why or ""


class Step(Row):
    """A line of `metrics.jsonl`; any number may be absent, a non-finite one is not drawn."""

    stage: str
    step: int
    loss: float | None = None
    loss_ce: float | None = None
    loss_mask: float | None = None
    loss_dice: float | None = None
    generated_loss: float | None = None
    teacher_confidence: float | None = None
    decided: float | None = None
    changed: float | None = None
    val_miou: float | None = None


class Domain(Row):
    """The score of one model on one domain."""

    name: str
    images: Annotated[int, Field(ge=0)]
    label_set: str
    miou: Share | None
    ci95: tuple[Share, Share] | None = None
    iou: dict[str, Share | None] = {}
    fwiou: Share | None = None
    accuracy: Share | None = None
    boundary_iou: Share | None = None
    ece: Share | None = None


class Fate(Row):
    """What became of the pixels that the teacher gave one class: shares, and its mean confidence in them."""

    pixels: Annotated[int, Field(ge=0)]
    kept: Share
    changed: Share
    ignored: Share
    confidence: Share


class Work(Row):
    """`work.json`, of which the counts stand in `results.json` too."""

    classes: dict[str, Fate] = {}


class Missing(Row):
    """A domain that was asked for and could not be scored."""

    name: str
    why: str = ""


class Results(Row):
    """`results.json` and `results-warmup.json`."""

    model: str = ""
    commit: str | None = None
    seed: int | None = None
    protocol: dict[str, Any] = {}
    backends: dict[str, str] = {}
    domains: list[Domain] = []
    missing: list[Missing] = []
    mean_miou: Share | None = None
    work: dict[str, Finite] = {}
    seconds: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    peak_memory_gb: Finite | None = None


class Calibration(Row):
    """Pixels, their summed confidence and how many of them are right, by equal bins of confidence from 0 to 1."""

    pixels: list[Positive]
    confidence: list[Positive]
    correct: list[Positive]

    @model_validator(mode="after")
    def _even(self) -> Calibration:
        if len({len(self.pixels), len(self.confidence), len(self.correct)}) != 1:
            raise ValueError("expected pixels, confidence and correct to have the same number of bins")
        return self


class Scored(Row):
    """An image of a domain; no score where nothing in it is labelled."""

    name: str
    miou: Share | None = None
    accuracy: Share | None = None


class Confusion(Row):
    """Pixels of one domain: rows are the truth, columns the prediction. Old runs hold no more than that."""

    label_set: str
    classes: list[str]
    confusion: list[list[Annotated[int, Field(ge=0)]]]
    calibration: Calibration | None = None
    per_image: list[Scored] = []

    @model_validator(mode="after")
    def _square(self) -> Confusion:
        sizes = {len(self.confusion), *(len(row) for row in self.confusion)}
        if sizes != {len(self.classes)}:
            raise ValueError(f"expected {len(self.classes)} rows and columns, one a class")
        return self


class Evaluation(Row):
    """`evaluation/warmup.json` and `evaluation/joint.json`."""

    domains: dict[str, Confusion] = {}


class Example(Row):
    """`example.json` beside an example's pictures: which image it is and what each model scored on it."""

    name: str = ""
    warmup: Share | None = None
    joint: Share | None = None


class Both(Row):
    """The results of a finished run of a sweep."""

    warmup: Results | None = None
    joint: Results | None = None


class Job(Row):
    """A run of a sweep: the settings that make it differ from the recipe, and what came of it."""

    name: str
    settings: dict[str, Any] = {}
    seed: int | None = None
    run: str | None = None
    state: str = ""
    error: str | None = None
    results: Both | None = None


class Sweep(Row):
    """`sweep.json`."""

    recipe: str = ""
    keys: list[str] = []
    seeds: list[int] = []
    jobs: list[Job]
