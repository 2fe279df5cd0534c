"""Everything that evolves in a stage, to and from a checkpoint.

Draws need no state: they follow from (seed, step, sample). What one process knows alone, its log rows and counts,
is kept by process.
"""

import hashlib
import json
import re
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clouds.base.files import read_json, sha256, whole_folder, write_json
from clouds.base.progress import say
from clouds.errors import DataError
from clouds.model.folder import _said_plainly
from clouds.model.segmenter import Segmenter
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.work import Work
from clouds.train.engine import Engine

KEEP = 2  # checkpoints of a stage that stay: the last one, and one before it should that be damaged


@dataclass
class Progress:
    """How far a stage is: the next step, log values that no row holds yet, the best validation."""

    step: int = 0
    unlogged: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    best_step: int = 0


def save_state(
    folder: Path, stage: str, model: Segmenter, optimizer: torch.optim.Optimizer, pseudo: PseudoLabeller | None,
    progress: Progress, engine: Engine
) -> None:
    """Write the checkpoint: trained weights, optimiser moments, loss scaler, teacher; of every process its random
    numbers, counts and unlogged values. All processes call it, the main one writes."""
    mine: dict[str, Any] = {"unlogged": progress.unlogged}
    own = {"random": torch.get_rng_state()}
    if engine.device.type == "cuda":
        own["random_cuda"] = torch.cuda.get_rng_state(engine.device)
    if pseudo:
        mine["work"] = {**asdict(pseudo.work), "seen": sorted(pseudo.work.seen)}
        mine["sets"] = pseudo.sets
    processes = engine.gather((mine, own))
    if engine.main:
        names = {id(p): name for name, p in model.named_parameters()}
        student = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        moments = {
            f"{names[id(parameter)]}:{key}": value
            for parameter, state in optimizer.state.items()
            for key, value in state.items()
        }
        tensors: dict[str, dict[str, Tensor]] = {"student": student, "optimizer": moments}
        scaler = engine.accelerator.scaler
        counts: dict[str, Any] = {
            "processes": [counts for counts, _ in processes],
            "best": [progress.best, progress.best_step],
            "threads": torch.get_num_threads(),
            "scaler": scaler.state_dict() if scaler else None,
        }
        for rank, (_, theirs) in enumerate(processes):
            tensors[f"process-{rank}"] = theirs
        if pseudo:
            wanted = dict(pseudo.teacher.model.named_parameters())
            tensors["teacher"] = {name: wanted[name] for name in student}
            counts["updates"] = pseudo.teacher.updates
        save_checkpoint(folder, Checkpoint(stage, progress.step, tensors, counts))
    engine.wait()


def load_state(
    folder: Path, stage: str, model: Segmenter, optimizer: torch.optim.Optimizer, pseudo: PseudoLabeller | None,
    engine: Engine
) -> Progress:
    """Put the last whole checkpoint of the stage into everything that evolves; where there is none, a new beginning.

    Raises DataError for a checkpoint of another model.
    """
    checkpoint = latest_checkpoint(folder, stage)
    if checkpoint is None:
        return Progress()
    if "processes" not in checkpoint.counts:
        raise DataError(
            f"{folder}: its checkpoints are of an older CLOUDS and cannot be resumed; delete that folder to begin "
            "the stage again, or resume with the version that wrote them (recipe.yaml has its commit)"
        )
    parameters = dict(model.named_parameters())
    saved = checkpoint.tensors["student"]
    trained = {name for name, p in parameters.items() if p.requires_grad}
    unlike = [name for name in saved if name not in trained or saved[name].shape != parameters[name].shape]
    if unlike or trained - saved.keys():
        raise DataError(
            f"{folder}: the checkpoint of step {checkpoint.step} is of another model ({len(trained - saved.keys())} "
            f"trained tensors are not in it, {len(unlike)} of its own do not fit, such as "
            f"{(unlike or sorted(trained - saved.keys()))[0]}); resume with the run's own recipe or start a new run"
        )
    with torch.no_grad():
        for name, value in saved.items():
            parameters[name].copy_(value)
        if pseudo:
            theirs = dict(pseudo.teacher.model.named_parameters())
            for name, value in checkpoint.tensors["teacher"].items():
                theirs[name].copy_(value)
    for key, value in checkpoint.tensors["optimizer"].items():
        name, _, part = key.rpartition(":")
        place = value.device if part == "step" else parameters[name].device  # AdamW counts its steps on the CPU
        optimizer.state[parameters[name]][part] = value.to(place)
    counts = checkpoint.counts
    if engine.accelerator.scaler and counts["scaler"]:
        engine.accelerator.scaler.load_state_dict(counts["scaler"])
    processes = counts["processes"]
    same = len(processes) == engine.world
    if not same and engine.main:
        say(
            f"{folder}: the run used {len(processes)} processes and now uses {engine.world}: every sample is the "
            "same, results are so up to rounding, not bit for bit"
        )
    threads, now = counts.get("threads"), torch.get_num_threads()  # older checkpoints do not say
    if engine.main and threads not in (None, now):
        say(f"{folder}: the run used {threads} threads per process and now uses {now}: results are the same up to "
            f"rounding, not bit for bit (OMP_NUM_THREADS={threads} keeps them so)")  # fmt: skip
    mine = processes[engine.rank] if same else {"unlogged": []}
    own = checkpoint.tensors[f"process-{engine.rank if same else 0}"]
    if same:
        torch.set_rng_state(own["random"])
        if engine.device.type == "cuda" and "random_cuda" in own:
            torch.cuda.set_rng_state(own["random_cuda"], engine.device)
    if pseudo:
        pseudo.teacher.updates = counts["updates"]
        known = {each.name for each in fields(Work)}  # older checkpoints count images that a gate dropped, too
        works = [Work(**{k: v for k, v in each["work"].items() if k in known}) for each in processes]
        renumbered = processes[0].get("sets", pseudo.sets) != pseudo.sets  # older checkpoints do not say
        if renumbered and engine.main:
            say(f"{folder}: the run has other images without labels now; how many were trained on is counted from here")
        for work in works:
            work.seen = set() if renumbered else set(work.seen)
        pseudo.work = works[engine.rank] if same else (sum_work(works) if engine.main else Work())
    best, best_step, *_ = counts["best"]  # older checkpoints go on with the early stop
    return Progress(checkpoint.step, mine["unlogged"], best, best_step)


def sum_work(works: list[Work]) -> Work:
    """What all processes did."""
    total = Work()
    for work in works:
        total.merge(work)
    return total


@dataclass
class Checkpoint:
    """What evolves at a step: ``tensors`` by group ("student", "optimizer", "teacher"), and plain ``counts``."""

    stage: str
    step: int
    tensors: dict[str, dict[str, Tensor]]
    counts: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write ``folder/STAGE-STEP`` whole, then drop all but the last ``KEEP`` of the stage."""
    path = folder / f"{checkpoint.stage}-{checkpoint.step:06d}"
    with whole_folder(path) as temporary, _said_plainly(path):
        digests = {}
        for group, tensors in checkpoint.tensors.items():
            file = temporary / f"{group}.safetensors"
            save_file({name: t.contiguous() for name, t in tensors.items()}, file)
            digests[group] = sha256(file)
        state = {"stage": checkpoint.stage, "step": checkpoint.step, "sha256": digests, "counts": checkpoint.counts}
        write_json(temporary / "state.json", {**state, "digest": _digest(state)})
    for old in _of_stage(folder, checkpoint.stage)[:-KEEP]:
        shutil.rmtree(old)
    return path


def latest_checkpoint(folder: Path, stage: str) -> Checkpoint | None:
    """The newest whole checkpoint of a stage; a damaged one is named and the one before it taken."""
    for path in reversed(_of_stage(folder, stage)):
        try:
            state = read_json(path / "state.json")
            if state.pop("digest") != _digest(state):
                raise DataError(f"{path / 'state.json'}: its content is not what was written")
            tensors = {}
            for group, digest in state["sha256"].items():
                file = path / f"{group}.safetensors"
                if sha256(file) != digest:
                    raise DataError(f"{file}: its content is not what was written")
                tensors[group] = load_file(file)
            return Checkpoint(state["stage"], state["step"], tensors, state["counts"])
        except (DataError, OSError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            say(f"checkpoint {path} is damaged ({error}); trying the one before it")
    return None


def _of_stage(folder: Path, stage: str) -> list[Path]:
    """The stage's checkpoints, oldest first; folders of other names, as copies by hand, are none."""
    own = [path for path in folder.glob(f"{stage}-*") if re.fullmatch(r"\d{6,}", path.name.removeprefix(f"{stage}-"))]
    return sorted(own, key=lambda path: int(path.name.rpartition("-")[2]))


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
