"""``clouds launch``: what is checked before any job, and the run of a recipe's stages."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from clouds.base.locks import one_writer
from clouds.base.processes import several
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.config.runs import open_run
from clouds.errors import UsageError
from clouds.launch.engines import executor_of
from clouds.launch.graph import Needs, graph_text, stages_of
from clouds.launch.run import Run
from clouds.launch.share import environment_on
from clouds.launch.stage import Stage

LAUNCH = "launch"  # a folder in the run's: jobs, how they ended, their logs


def launch(
    name: str, words: list[str], on: str = "local", shards: int = 1, out: Path | None = None, processes: int = 1,
    needs: Needs | None = None, sbatch: list[str] | None = None, cancel: bool = False, dry_run: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Do what is not done yet of all stages of a recipe; -> {"run", "on", "stages": [{"name", "shards", ...}]}.

    on: the engine. shards: of the stages that can be split. processes: of training, on all its nodes. cancel: a signal
    cancels the jobs, which else go on. dry_run: nothing is done, and stages have what they need and their commands.

    Raises UsageError, BackendError or DataError for what is found before any work, CloudsError where a task failed
    twice, Stopped when a signal ended the watch.
    """
    needs = needs or Needs()
    for option, number in (("shards", shards), ("processes", processes), ("nodes", needs.nodes)):
        if number < 1:
            raise UsageError(f"--{option}: got {number}; expected at least 1")
    if needs.nodes > 1 and on != "slurm":
        raise UsageError(f"--nodes: got {needs.nodes}; several machines train together with --on slurm, not {on}")
    if processes % needs.nodes:
        raise UsageError(f"--processes: got {processes}; {needs.nodes} nodes need a multiple of {needs.nodes}")
    if several():
        raise UsageError("launch starts processes by itself (--shards, --processes); leave the launcher out")
    recipe = load_recipe(name, words)
    split = processes * recipe.train.accumulate
    if recipe.train.batch_size % split:
        raise UsageError(f"--processes: got {processes}; train.batch_size={recipe.train.batch_size} with "
                         f"train.accumulate={recipe.train.accumulate} needs a divisor")  # fmt: skip
    out = out or Path("runs") / recipe.name
    folder = out / LAUNCH
    stages = stages_of(name, words, recipe, out, folder, shards, processes, needs)
    if dry_run:
        return {"run": str(out.resolve()), "on": on, "stages": [_planned(stage) for stage in stages]}
    executor = executor_of(on, folder, sbatch)
    _check(recipe, out, here=on == "local")
    open_run(recipe, out)
    with one_writer(folder, "launching"):
        rows = Run(stages, executor, folder.resolve(), environment=environment_on(on), cancel=cancel)()
    return {"run": str(out.resolve()), "on": on, "stages": rows}


def _check(recipe: Recipe, out: Path, here: bool) -> None:
    """All that can be found wrong before any job. Where others compute, this machine needs no GPU."""
    from clouds.check.training import check_training
    from clouds.evaluate.domains import unseen_domains

    if not here:
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"device": "cpu"})})
    check_training(recipe, out)
    if recipe.train.stage != "warmup":
        unseen_domains(recipe)


def _planned(stage: Stage) -> dict[str, Any]:
    tasks = [{"name": task.name, "command": task.command, "log": str(task.log)} for task in stage.tasks]
    return {**{key: value for key, value in asdict(stage).items() if key not in ("tasks", "makes")}, "tasks": tasks}


def launch_text(result: dict[str, Any]) -> str:
    """For a terminal: the plan of a dry run, or where the run is."""
    if "tasks" in result["stages"][0]:
        return graph_text(result["stages"])
    seconds = sum(row["seconds"] for row in result["stages"])
    return f"{len(result['stages'])} stages done, {seconds / 3600:.2f} hours of work: {result['run']}"
