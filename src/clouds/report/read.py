"""What a run folder holds, read and checked: every file may be missing, none may be damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from clouds.errors import DataError
from clouds.report.records import (
    Confusion,
    Drawn,
    Evaluation,
    Example,
    Fate,
    Finite,
    Prompt,
    Recipe,
    Results,
    Step,
    Sweep,
    Work,
)  # fmt: skip

M = TypeVar("M", bound=BaseModel)


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
    evaluations: dict[str, dict[str, Confusion]]  # stage: domain: what it got right and wrong; no stage is empty

    @property
    def confused(self) -> str:
        """Whose confusions are shown: the joint model's where there are some, else the warm-up model's."""
        return next((stage for stage in ("joint", "warmup") if stage in self.evaluations), "")

    @property
    def confusions(self) -> dict[str, Confusion]:
        """The shown model's confusions, domain by domain."""
        return self.evaluations.get(self.confused, {})

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
    # results.json holds the final model: of a run that has trained, but never jointly, that is the warm-up model
    jointly = (folder / "model").is_dir() or any(step.stage == "joint" for step in steps)
    if steps and evaluations["joint"] is None and not jointly:
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
        evaluations={stage: each.domains for stage, each in evaluations.items() if each and each.domains},
    )
    if not any((run.recipe, run.prompts, run.generated, run.steps, run.warmup, run.joint, run.confusions, run.fates)):
        raise DataError(f"{folder}: not a run folder: neither recipe.yaml nor metrics.jsonl nor results.json is there")
    return run


def read_points(path: Path, classes: int) -> list[tuple[int, list[tuple[float, float]]]]:
    """The points that prompted the refinement, class by class; none where the file is missing."""
    adapter = TypeAdapter(list[tuple[Annotated[int, Field(ge=0, lt=classes)], list[tuple[Finite, Finite]]]])
    return _read(path, adapter.validate_json) or []


def read_example(folder: Path) -> Example:
    """Which image an example is; empty for examples of older versions."""
    return _json(folder / "example.json", Example) or Example()


def read_sweep(path: Path) -> Sweep:
    """A sweep's ``sweep.json``; DataError where it is damaged or not there."""
    sweep = _json(path, Sweep)
    if sweep is None:
        raise DataError(f"{path}: no such sweep")
    return sweep


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
