"""A recipe as stages: which of the verbs, in which order, in how many shards, with what each needs."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clouds.base.text import columns
from clouds.config.recipe import Recipe
from clouds.config.runs import GENERATED, MODELS, PROMPTS, REGIONS, REPORT, RESULTS
from clouds.launch.stage import CLOUDS, Stage, Task


@dataclass(frozen=True)
class Needs:
    """What the tasks of a launch are given: of each shard and each process of training. 0: the engine's default.

    gpus: None for one where the recipe computes on a GPU. nodes: of training.
    """

    cpus: int = 0
    gpus: int | None = None
    memory_gb: float = 0
    hours: float = 24
    nodes: int = 1


def stages_of(
    name: str, words: list[str], recipe: Recipe, out: Path, logs: Path, shards: int, processes: int, needs: Needs
) -> list[Stage]:
    """The stages of ``clouds launch``: prompts, images, audit, regions, training, scores and report of one run.

    name, words: the recipe and its settings, as they were named. out: the run folder. processes: of training.
    """
    joint = recipe.train.stage != "warmup"
    folder = recipe.generate.folder or out / GENERATED
    stages: list[Stage] = []

    def add(
        stage: str, command: Callable[[int], list[str]], makes: tuple[Path, ...], device: str = "cpu", count: int = 1,
        several: int = 1, nodes: int = 1,
    ) -> None:
        gpus = needs.gpus if needs.gpus is not None else 1
        tasks = [Task(stage if count == 1 else f"{stage} {k}/{count}", command(k), logs / f"{stage}-{k}.txt")
                 for k in range(count)]  # fmt: skip
        stages.append(Stage(
            stage, tasks, tuple(each.name for each in stages[-1:]), makes, needs.cpus * several, needs.cpus,
            0 if device == "cpu" else gpus * several, needs.memory_gb * several, needs.hours,
            nodes=nodes, processes=several,
        ))  # fmt: skip

    drawn = joint and recipe.generate.folder is None and recipe.generate.count > 0
    if drawn:
        add("prompts", lambda _: clouds("prompts", name, *words, "--out", str(out / PROMPTS)), (out / PROMPTS,))
        add(
            "generate",
            lambda k: clouds("generate", name, *words, "--out", str(folder), "--prompts", str(out / PROMPTS),
                             "--shard", f"{k}/{shards}"),
            (folder,), recipe.generate.device, shards,
        )  # fmt: skip
    if joint and recipe.draws and recipe.generate.audit:
        add("audit", lambda _: clouds("audit", str(folder), name, *words), (folder / "audit" / "audit.json",),
            recipe.train.device)  # fmt: skip
    if joint and recipe.draws and recipe.selftrain.refinement != "points":
        regions = recipe.selftrain.regions_folder or out / REGIONS
        more = [f"generate.folder={folder}", f"selftrain.refinement={recipe.selftrain.refinement}"]
        add(
            "regions",
            lambda k: clouds("regions", name, *words, *more, "--out", str(regions), "--shard", f"{k}/{shards}"),
            (regions,), recipe.train.device, shards,
        )  # fmt: skip
    model = out / MODELS["joint" if joint else "warmup"]
    torchrun = processes if needs.nodes == 1 else 1
    add("train", lambda _: clouds("train", str(out), "--resume", processes=torchrun), (model,), recipe.train.device,
        several=processes, nodes=needs.nodes)  # fmt: skip
    if joint:  # without joint training there is one model alone, and nothing to compare it with
        add("evaluate", lambda _: clouds("evaluate", str(out)), (out / RESULTS["joint"],), recipe.train.device)
    add("report", lambda _: clouds("report", str(out)), (out / REPORT / "index.html",))
    return stages


def clouds(*words: str, processes: int = 1) -> list[str]:
    """A command of ours, under torchrun for several processes."""
    if processes == 1:
        return [*CLOUDS, *words]
    python, *module = CLOUDS
    return [python, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *module, *words]


def graph_text(stages: list[dict[str, Any]]) -> str:
    """What would be run, from ``Stage`` as objects: a line a stage, then a command of each, for a terminal."""
    rows = [["stage", "after", "shards", "CPUs", "GPUs", "GB", "hours", "tries"]]
    lines = []
    for stage in stages:
        numbers = (stage[key] for key in ("cpus", "gpus", "memory_gb", "hours"))
        tasks = stage["tasks"]
        rows.append([stage["name"], ", ".join(stage["after"]) or "-", str(len(tasks)),
                     *(f"{number:g}" if number else "-" for number in numbers), str(1 + stage["retries"])])  # fmt: skip
        more = f"    (and {len(tasks) - 1} more shards)" if len(tasks) > 1 else ""
        lines.append(f"{shlex.join(tasks[0]['command']).replace(shlex.join(CLOUDS), 'clouds')}{more}")
    return "\n".join([*columns(rows, left=2), "", *lines])
