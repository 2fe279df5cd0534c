"""Checking, training, scoring and drawing from Python: the very functions that the verbs of the command line call.

    from clouds import api

    api.check("camvid", root="data/camvid")["problems"]
    run = api.train("demo", {"train.steps": 200}, out="runs/a")
    run.model().predict("street.jpg").show()
    api.evaluate(run.folder, ["town", "night"])["mean_miou"]

What is wrong with a request is raised before torch is imported, as a ``clouds.errors.CloudsError`` with one message.
Dictionaries are what the verb prints with ``--json``.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clouds.base.files import read_json, write_json
from clouds.base.locks import one_writer
from clouds.base.processes import several
from clouds.base.progress import loading, say
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.config.runs import MODELS, RECIPE, REPORT, RESULTS, SPEED, load_run
from clouds.config.sizing import MINUTES, scaled
from clouds.errors import UsageError

if TYPE_CHECKING:
    from clouds.launch.graph import Needs
    from clouds.predict.predictor import Predictor

__all__ = ["Run", "check", "demo", "draw", "dry_run", "evaluate", "prompts", "report", "resume", "sweep", "train"]

Settings = Mapping[str, Any] | Sequence[str] | None
"""Settings over a recipe's own: {"train.steps": 200}, or as the command line has them, ["train.steps=200"]."""


@dataclass(frozen=True)
class Run:
    """A run folder, as training left it."""

    folder: Path

    @property
    def recipe(self) -> Recipe:
        """The settings it was made with."""
        return load_run(self.folder)

    @property
    def results(self) -> dict[str, Any] | None:
        """The scores of the joint model, as ``results.json`` has them; None where it was not scored."""
        path = self.folder / RESULTS["joint"]
        return dict(read_json(path)) if path.is_file() else None

    @property
    def report(self) -> Path | None:
        """The page of the run; None where none was written."""
        page = self.folder / REPORT / "index.html"
        return page if page.is_file() else None

    def model(self, stage: str = "", device: str = "cpu") -> "Predictor":
        """The model of a stage, "joint" or "warmup"; by default the last that there is. Errors as of ``clouds.load``,
        UsageError for another stage."""
        from clouds.predict.predictor import load

        if stage and stage not in MODELS:
            raise UsageError(f"stage: got {stage!r}; expected {' or '.join(MODELS)}")
        joint, warmup = (self.folder / MODELS[each] for each in ("joint", "warmup"))
        return load(self.folder / MODELS[stage] if stage else joint if joint.is_dir() else warmup, device)


def check(
    what: str, settings: Settings = None, root: str | Path | None = None, full: bool = False, out: str | Path = "check"
) -> dict[str, Any]:
    """Look through a recipe's data or a dataset at ``root`` before anything is trained; ``full`` decodes every pair.

    Contact sheets go into ``out``. -> {"dataset", "pairs", "problems": [{"path", "what"}], "histogram": {class: share},
    "warnings", "not_looked_at"}, of a recipe also "datasets", one such object each. Raises UsageError for a request
    that makes no sense; what is wrong with the data is in the result.
    """
    from clouds.check.data import check as look

    return look(what, words(settings), Path(root) if root is not None else None, full, Path(out))


def dry_run(recipe: str | Path | Recipe, settings: Settings = None) -> dict[str, Any]:
    """Two steps of a recipe on noise: {"hours", "seconds_per_step", "peak_memory_gb", "warnings", ...}. Writes and
    fetches nothing. Raises UsageError for settings that cannot be, DataError where labels hold no class to learn."""
    chosen = _recipe(recipe, settings)
    loading("PyTorch")
    from clouds.check.dry_run import dry_run as try_out

    return try_out(chosen)


def train(
    recipe: str | Path | Recipe,
    settings: Settings = None,
    out: str | Path | None = None,
    start: str | Path | None = None,
    allow_change: bool = False,
) -> Run:
    """Warm-up, then joint training of a recipe, in the folder ``out`` (runs/NAME); goes on where it was stopped.

    recipe: the name of a shipped one, a YAML file, or a ``Recipe``. start: a model to begin with, as of
    ``clouds.load``. allow_change: go on though settings differ from the run's. Errors as of ``clouds.pipeline.train``.
    """
    chosen = _recipe(recipe, settings)
    if start:
        chosen = chosen.model_copy(update={"train": chosen.train.model_copy(update={"start": str(start)})})
    return _train(chosen, Path(out) if out else Path("runs") / chosen.name, allow_change)


def resume(run: str | Path) -> Run:
    """Go on with the run in a folder, by its own settings. UsageError where there is none, else as ``train``."""
    return _train(load_run(Path(run)), Path(run), False)


def _train(recipe: Recipe, out: Path, allow_change: bool) -> Run:
    from clouds.check.training import check_training

    todo = check_training(recipe, out)
    loading("PyTorch")
    from clouds.pipeline import train as train_run

    train_run(recipe, out, allow_change, todo=todo)
    return Run(out)


def demo(settings: Settings = None, out: str | Path = "runs/demo", minutes: float | None = None) -> dict[str, Any]:
    """The whole method on the embedded default of every role, scored on unseen domains, with a report, in ``out``.

    minutes: 0.2 or more; the work is scaled to it by what a little of it takes on this machine, measured once a run.
    None: its own sizes, ten minutes on two idle cores. -> {"run", "report", "seconds", "backends", "warmup": RESULTS,
    "joint": RESULTS}. Raises what ``train`` raises.
    """
    if several():
        raise UsageError("the demo is for one process; with several: `clouds train demo`, then `clouds evaluate`")
    from clouds.check.training import check_training
    from clouds.evaluate.domains import unseen_domains
    from clouds.foundation.registry import backends

    began, out, given = time.monotonic(), Path(out), words(settings)
    recipe = scaled(load_recipe("demo", given), MINUTES if minutes is None else minutes, given)
    if recipe.train.stage == "warmup":
        raise UsageError(
            "train.stage=warmup: the demo compares warm-up with joint training and needs both; "
            "for warm-up alone use `clouds train demo train.stage=warmup`"
        )
    domains = unseen_domains(recipe)  # a wrong data.root is found before anything is made
    todo = check_training(recipe, out)
    loading("PyTorch")
    if minutes is not None:
        recipe = scaled(load_recipe("demo", given), _minutes_here(minutes, recipe, out, given), given)
        domains = unseen_domains(recipe)
    from clouds.pipeline import train as train_run

    scores = train_run(recipe, out, domains=domains, todo=todo)
    return {
        "run": str(out.resolve()),
        "report": str((out / REPORT / "index.html").resolve()),
        "seconds": round(time.monotonic() - began, 1),
        "backends": backends(recipe),
        **(scores or {}),
    }


def _minutes_here(minutes: float, recipe: Recipe, out: Path, given: list[str]) -> float:
    """The minutes to give to ``scaled`` so that the demo takes about ``minutes`` here. The machine is measured once a
    run, as a run that is resumed keeps its sizes; one from before machines were measured has those of ``scaled``."""
    from clouds.check.demo_size import fitting, measure

    path = out / SPEED
    if not path.is_file() and (out / RECIPE).is_file():
        return minutes
    if not path.is_file():
        say(f"measuring this machine, so that the demo takes about {minutes:g} minutes")
        with one_writer(out, "sizing the demo"):
            write_json(path, {"seconds": measure(recipe)})
    return fitting(minutes, read_json(path)["seconds"], given)


def sweep(
    recipe: str,
    values: Mapping[str, Sequence[Any]] | Sequence[str] = (),
    out: str | Path | None = None,
    seeds: str = "1",
    jobs: int = 1,
    minutes: float | None = None,
    shard: str | None = None,
    listing: bool = False,
    share_warmup: bool = False,
    on: str | None = None,
    needs: "Needs | None" = None,
    sbatch: Sequence[str] = (),
) -> dict[str, Any]:
    """Train and score a recipe over every combination of ``values``, {"train.learning_rate": [1e-3, 3e-4]}, and seeds.

    A run folder each, below ``out`` (runs/RECIPE-sweep). seeds: "3" are three from 0, "0,3,7" these. -> the object of
    ``sweep.json``. UsageError before any work.
    """
    from clouds.sweep import sweep as run_sweep

    if isinstance(values, Mapping):
        values = [f"{key}={','.join(map(_text, each))}" for key, each in values.items()]
    place = Path(out) if out else None
    return run_sweep(
        recipe, list(values), place, seeds, jobs, minutes, shard, listing, share_warmup, on, needs, list(sbatch)
    )


def evaluate(
    models: str | Path | Sequence[str | Path],
    domains: str | Sequence[str] = (),
    settings: Settings = None,
    out: str | Path | None = None,
    csv: str | Path | None = None,
    latex: str | Path | None = None,
) -> dict[str, Any] | None:
    """Score one model or compare several on ``domains``, ["town", "camvid-day"], or a recipe's name for all its own.

    models: runs, model folders or hub ids. out, csv, latex: also write the results there. -> RESULTS of one model
    ({"domains": [{"name", "miou", "ci95", "iou"}], "mean_miou", ...}), of several {"domains", "mean", "models"}; None
    in all processes of torchrun but the first. A run alone, without domains, is scored as ``demo`` does it, into its
    folder: {"warmup": RESULTS, "joint": RESULTS}. Raises UsageError, DataError and BackendError before anything is
    scored.
    """
    from clouds.evaluate.compare_models import evaluate_models
    from clouds.evaluate.run import is_run, score_whole_run

    named = [models] if isinstance(models, str | Path) else [*models]
    asked = [domains] if isinstance(domains, str) else [*domains]
    if len(named) == 1 and is_run(named[0]) and not (asked or settings or out or csv or latex):
        return score_whole_run(Path(named[0]))
    places = [Path(each) if each is not None else None for each in (out, csv, latex)]
    return evaluate_models([*map(str, named), *asked, *words(settings)], *places)


def report(run: str | Path, others: Sequence[str | Path] = (), out: str | Path | None = None) -> Path:
    """Write the page of a run or a sweep again, beside ``others``; -> the page. UsageError where there is no run."""
    from contextlib import nullcontext

    from clouds.report import write_report

    place = Path(run)
    folder = place if place.is_dir() else place.parent  # a sweep may be named by its file
    with one_writer(folder, "writing a report") if out is None and place.exists() else nullcontext():
        return write_report(place, [*map(Path, others)], Path(out) if out else None)


def prompts(
    recipe: str, settings: Settings = None, out: str | Path = "prompts.jsonl", fill: str | Path | None = None
) -> dict[str, Any]:
    """Write a recipe's scene prompts as JSON lines into ``out``; those that are there already are kept.

    fill: an ``audit.json``; prompts then ask for what it found too little of. -> {"prompts", "file", "coverage", ...}.
    """
    from clouds.generate.prompts import prompts_result
    from clouds.generate.requests import prompts_for

    written = prompts_for(recipe, words(settings), Path(out), Path(fill) if fill else None)
    return {"prompts": 0, "file": None} if written is None else prompts_result(written, Path(out))


def draw(
    recipe: str = "",
    settings: Settings = None,
    out: str | Path | None = None,
    shard: str | None = None,
    adopt: str | Path | None = None,
    prompts: str | Path | None = None,
    restyle_source: bool = False,
) -> dict[str, Any]:
    """Draw a recipe's images into ``out`` (generated), with a manifest; those that are there already are kept.

    shard: "i/n", part i of n. adopt: take over the images of a folder instead. prompts: a file of prompts to draw or
    adopt with. restyle_source: make the variants of ``data.restyle`` instead. -> {"images", "folder", ...}.
    """
    from clouds.generate.sets import generate

    folder, other, file = (Path(each) if each else None for each in (out, adopt, prompts))
    return generate(recipe, words(settings), folder, shard, other, file, restyle_source)


def words(settings: Settings) -> list[str]:
    """Settings as the command line has them. UsageError for one that is neither a mapping nor texts."""
    if settings is None:
        return []
    if isinstance(settings, Mapping):
        return [f"{key}={_text(value)}" for key, value in settings.items()]
    if isinstance(settings, str) or not all(isinstance(each, str) for each in settings):
        raise UsageError(f"settings: got {settings!r}; expected {{'train.steps': 200}} or ['train.steps=200']")
    return list(settings)


def _text(value: Any) -> str:
    return json.dumps(value, default=str)  # JSON is YAML too


def _recipe(recipe: str | Path | Recipe, settings: Settings) -> Recipe:
    if not isinstance(recipe, Recipe):
        return load_recipe(str(recipe), words(settings))
    if given := words(settings):
        raise UsageError(f"settings: got {', '.join(given)} beside a Recipe; put them into it, or name the recipe")
    return recipe
