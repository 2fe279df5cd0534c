"""What a run folder holds, read and checked: every file may be missing, none may be damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clouds.base.shards import MANIFEST
from clouds.config.label_sets import CITYSCAPES, Color, LabelSet
from clouds.config.network import Model
from clouds.config.records import (
    Drawn,
    Drift,
    Fate,
    Prompt,
    Provenance,
    Step,
    UnlabelledPhoto,
    WorkSummary,
    read_record,
    read_rows,
)
from clouds.config.runs import (
    DRIFT,
    EVALUATION,
    GENERATED,
    METRICS,
    MODELS,
    PHOTOGRAPHS,
    PROMPTS,
    RECIPE,
    RESULTS,
    WORK,
)  # fmt: skip
from clouds.config.score_records import Confusion, DomainScore, Evaluation, Results, Sweep
from clouds.errors import DataError
from clouds.report.templating import palette


@dataclass(frozen=True)
class Run:
    """A run folder's records; pictures stay on disk until a section wants them."""

    folder: Path
    recipe: Provenance | None
    prompts: list[Prompt]
    generated: list[Drawn]
    photographs: list[UnlabelledPhoto]  # that joint training learned from
    steps: list[Step]
    fates: dict[str, Fate]
    drift: Drift | None  # of joint training, from the warm-up's model
    warmup: Results | None
    joint: Results | None
    evaluations: dict[str, dict[str, Confusion]]  # stage: domain: what it got right and wrong; no stage is empty

    @property
    def learned_from(self) -> str:
        """What kind of images without labels joint training learned from."""
        if not self.photographs:
            return "generated images"
        drawn = self.generated or (self.joint and self.joint.work.get("images_trained_on"))
        return "generated images and photos" if drawn else "photos"

    @property
    def confused(self) -> str:
        """Whose confusions are shown: the joint model's where there are some, else the warm-up model's."""
        return next((stage for stage in ("joint", "warmup") if stage in self.evaluations), "")

    @property
    def confusions(self) -> dict[str, Confusion]:
        """The shown model's confusions, domain by domain."""
        return self.evaluations.get(self.confused, {})

    @property
    def model(self) -> LabelSet:
        """The classes that the run's models tell apart; Cityscapes' where no recipe says."""
        settings = self.recipe.settings.get("model") if self.recipe else None
        try:
            return Model(classes=settings["classes"]).label_set if settings else CITYSCAPES
        except (KeyError, TypeError, ValueError):  # a recipe of a version that had no such key
            return CITYSCAPES

    def palette(self, domain: str) -> tuple[Sequence[str], Sequence[Color]]:
        """Classes and colours of the label set that a domain is scored on."""
        return palette(self.label_set(domain), self.classes(domain), self.model)

    def scores(self, domain: str) -> DomainScore | None:
        """The joint model's score on a domain, else the warm-up model's."""
        every = [each for results in (self.joint, self.warmup) if results for each in results.domains]
        return next((each for each in every if each.name == domain), None)

    def label_set(self, domain: str) -> str:
        """Name of the label set a domain is scored on."""
        found = self.scores(domain) or self.confusions.get(domain)
        return found.label_set if found else "cityscapes19"

    def classes(self, domain: str) -> list[str]:
        """The classes of a domain as the run names them, for a label set that is nobody's but the user's."""
        if domain in self.confusions:
            return self.confusions[domain].classes
        found = self.scores(domain)
        return list(found.iou) if found else []


def read_run(folder: Path) -> Run:
    """Every record of the run; DataError where the folder is no run or a file is damaged."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such run folder")
    recipe = read_record(folder / RECIPE, Provenance)
    steps = read_rows(folder / METRICS, Step, grows=True)
    warmup, final = (read_record(folder / RESULTS[stage], Results) for stage in RESULTS)
    behind = {stage: read_record(folder / EVALUATION / f"{stage}.json", Evaluation) for stage in ("joint", "warmup")}
    # results.json holds the final model: of a run that has trained, but never jointly, that is the warm-up model
    jointly = (folder / MODELS["joint"]).is_dir() or any(step.stage == "joint" for step in steps)
    if steps and behind["joint"] is None and not jointly:
        final, warmup = None, warmup or final
    work = read_record(folder / WORK, WorkSummary)
    run = Run(
        folder=folder,
        recipe=recipe,
        prompts=read_rows(folder / PROMPTS, Prompt),
        generated=read_rows(folder / GENERATED / MANIFEST, Drawn, grows=True),
        photographs=[row for row in read_rows(folder / PHOTOGRAPHS, UnlabelledPhoto) if row.problem is None],
        steps=steps,
        fates=work.classes if work else {},
        drift=read_record(folder / DRIFT, Drift),
        warmup=warmup,
        joint=final,
        evaluations={stage: each.domains for stage, each in behind.items() if each and each.domains},
    )
    if not any((run.recipe, run.prompts, run.generated, run.steps, run.warmup, run.joint, run.confusions, run.fates)):
        raise DataError(f"{folder}: not a run folder: neither recipe.yaml nor metrics.jsonl nor results.json is there")
    return run


def read_sweep(path: Path) -> Sweep:
    """A sweep's ``sweep.json``; DataError where it is damaged or not there."""
    sweep = read_record(path, Sweep)
    if sweep is None:
        raise DataError(f"{path}: no such sweep")
    return sweep
