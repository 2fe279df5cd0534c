"""What a run folder holds, read and checked: every file may be missing, none may be damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from clouds.errors import DataError

M = TypeVar("M", bound=BaseModel)
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Row(BaseModel):
    """A record that may carry more than the report needs."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Recipe(_Row):
    """`recipe.yaml`: what was asked for, where and with what."""

    recipe: str = ""
    seed: int | None = None
    commit: str | None = None
    versions: dict[str, str] = {}
    settings: dict[str, Any] = {}
    hardware: dict[str, Any] = {}


class Prompt(_Row):
    """A line of `prompts.jsonl`."""

    prompt: str
    attributes: dict[str, list[str] | str] = {}
    writer: str | None = None


class Drawn(_Row):
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


class Step(_Row):
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


class Domain(_Row):
    """The score of one model on one domain."""

    name: str
    images: Annotated[int, Field(ge=0)]
    label_set: str
    miou: Share | None
    ci95: tuple[Share, Share] | None = None
    iou: dict[str, Share | None] = {}


class Fate(_Row):
    """What became of the pixels that the teacher gave one class: shares, and its mean confidence in them."""

    pixels: Annotated[int, Field(ge=0)]
    kept: Share
    changed: Share
    ignored: Share
    confidence: Share


class Work(_Row):
    """`work.json`, of which the counts stand in `results.json` too."""

    classes: dict[str, Fate] = {}


class Results(_Row):
    """`results.json` and `results-warmup.json`."""

    model: str = ""
    commit: str | None = None
    seed: int | None = None
    protocol: dict[str, Any] = {}
    backends: dict[str, str] = {}
    domains: list[Domain] = []
    mean_miou: Share | None = None
    work: dict[str, Finite] = {}
    seconds: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    peak_memory_gb: Finite | None = None


class Confusion(_Row):
    """Pixels of one domain: rows are the truth, columns the prediction."""

    label_set: str
    classes: list[str]
    confusion: list[list[Annotated[int, Field(ge=0)]]]

    @model_validator(mode="after")
    def _square(self) -> Confusion:
        sizes = {len(self.confusion), *(len(row) for row in self.confusion)}
        if sizes != {len(self.classes)}:
            raise ValueError(f"expected {len(self.classes)} rows and columns, one a class")
        return self


class Evaluation(_Row):
    """`evaluation/warmup.json` and `evaluation/joint.json`."""

    domains: dict[str, Confusion] = {}


@dataclass(frozen=True)
class Run:
    """A run folder's records; pictures stay on disk until a section wants them."""

    folder: Path
    recipe: Recipe | None
    prompts: list[Prompt]
    generated: list[Drawn]
    steps: list[Step]
    fates: dict[str, Fate]
    warmup: Results | None
    joint: Results | None
    confusions: dict[str, Confusion]
    confused: str  # whose confusions they are: the joint model's where there are some, else the warm-up model's

    def label_set(self, domain: str) -> str:
        """Name of the label set a domain is scored on."""
        for results in (self.joint, self.warmup):
            for each in results.domains if results else ():
                if each.name == domain:
                    return each.label_set
        return self.confusions[domain].label_set if domain in self.confusions else "cityscapes19"

    def classes(self, domain: str) -> list[str]:
        """The classes of a domain as the run names them, for a label set that is nobody's but the user's."""
        if domain in self.confusions:
            return self.confusions[domain].classes
        for results in (self.joint, self.warmup):
            for each in results.domains if results else ():
                if each.name == domain:
                    return list(each.iou)
        return []


def read_run(folder: Path) -> Run:
    """Every record of the run; DataError where the folder is no run or a file is damaged."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such run folder")
    recipe = _read(folder / "recipe.yaml", lambda data: Recipe.model_validate(yaml.safe_load(data)))
    steps = _rows(folder / "metrics.jsonl", Step, grows=True)
    final, warmup = _json(folder / "results.json", Results), _json(folder / "results-warmup.json", Results)
    evaluations = {stage: _json(folder / "evaluation" / f"{stage}.json", Evaluation) for stage in ("joint", "warmup")}
    confused = next((stage for stage, each in evaluations.items() if each and each.domains), "")
    confusions = evaluations[confused] if confused else None
    # results.json holds the final model: of a run that has trained, but never jointly, that is the warm-up model
    if steps and evaluations["joint"] is None and not any(step.stage == "joint" for step in steps):
        final, warmup = None, warmup or final
    work = _json(folder / "work.json", Work)
    run = Run(
        folder=folder,
        recipe=recipe,
        prompts=_rows(folder / "prompts.jsonl", Prompt),
        generated=_rows(folder / "generated" / "metadata.jsonl", Drawn, grows=True),
        steps=steps,
        fates=work.classes if work else {},
        warmup=warmup,
        joint=final,
        confusions=confusions.domains if confusions else {},
        confused=confused,
    )
    if not any((run.recipe, run.prompts, run.generated, run.steps, run.warmup, run.joint, run.confusions, run.fates)):
        raise DataError(f"{folder}: not a run folder: neither recipe.yaml nor metrics.jsonl nor results.json is there")
    return run


def read_points(path: Path, classes: int) -> list[tuple[int, list[tuple[float, float]]]]:
    """The points that prompted the refinement, class by class; none where the file is missing."""
    adapter = TypeAdapter(list[tuple[Annotated[int, Field(ge=0, lt=classes)], list[tuple[Finite, Finite]]]])
    return _read(path, adapter.validate_json) or []


def _json(path: Path, model: type[M]) -> M | None:
    return _read(path, model.model_validate_json)


def _rows(path: Path, model: type[M], grows: bool = False) -> list[M]:
    """A JSON-lines file; of one that grows as the run works, a last line that a kill cut short is no damage."""
    lines = _read(path, lambda data: data.split(b"\n")) or []
    if grows:
        lines = lines[:-1]  # nothing, or what a kill left without its newline
    return [row for number, line in enumerate(lines, 1) if line.strip()
            for row in [_checked(f"{path}, line {number}", model.model_validate_json, line)]]


R = TypeVar("R")


def _read(path: Path, parse: Callable[[bytes], R]) -> R | None:
    """The parsed file, None where there is none."""
    if not path.exists():
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return _checked(str(path), parse, data)


def _checked(where: str, parse: Callable[[bytes], R], data: bytes) -> R:
    """Parse, or say which file is damaged and how."""
    try:
        return parse(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{where}: damaged: {place + ': ' if place else ''}{first['msg']}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{where}: damaged: {' '.join(str(error).split())}") from error
