"""The training loop: warm-up on the labelled source, then joint training on source and generated images."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clouds.data.loaders import Batches, batches
from clouds.errors import CloudsError
from clouds.files import write_json, write_jsonl
from clouds.foundation.adapt import Rein
from clouds.generate.images import write_png
from clouds.model.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint
from clouds.model.loss import criterion
from clouds.model.segmenter import Segmenter
from clouds.progress import track
from clouds.selftrain.pseudo import Lesson, Panel, PseudoLabeller, panel_points
from clouds.selftrain.work import Work
from clouds.settings import Recipe

BETAS = (0.9, 0.999)


def build_optimizer(model: Segmenter, recipe: Recipe, learning_rate: float) -> torch.optim.AdamW:
    """AdamW; no weight decay on norms and embeddings."""
    plain: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for module in model.modules():
        bare = isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._BatchNorm | nn.Embedding)
        bare = bare or isinstance(module, Rein)  # its tokens and scale; its linear maps are modules of their own
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                (plain if bare or name in ("level_embed", "void", "logit_scale") else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.train.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS)


def learning_rate(recipe: Recipe, base: float, step: int, steps: int) -> float:
    """The rate of a step: a linear ramp, then constant or polynomial decay (power 0.9)."""
    ramp = min(1.0, (step + 1) / (recipe.train.ramp_steps + 1))
    fade = (1 - step / steps) ** 0.9 if recipe.train.schedule == "poly" else 1.0
    return base * ramp * fade


def generators(seed: int, step: int, count: int) -> list[torch.Generator]:
    """Random points of the loss, from (seed, step, sample)."""
    states = np.random.SeedSequence((seed, step)).generate_state(count, np.uint64)
    return [torch.Generator().manual_seed(int(state >> 1)) for state in states]


def train_stage(
    model: Segmenter, stage: str, recipe: Recipe, data: Batches, run: Path, pseudo: PseudoLabeller | None = None
) -> Work | None:
    """Train ``model`` in place for one stage, going on from the run's last checkpoint of this stage if there is one.

    ``pseudo`` makes the labels of generated images and holds the teacher, which follows the student each step.
    """
    settings = recipe.train
    base = settings.joint_learning_rate if stage == "joint" and settings.joint_learning_rate else settings.learning_rate
    optimizer = build_optimizer(model, recipe, base)
    trained = [p for p in model.parameters() if p.requires_grad]
    start, unlogged = _resume(model, optimizer, pseudo, run, stage)
    log = MetricsLog(run / "metrics.jsonl", stage, start, settings.log_every, unlogged)
    panel_every = max(data.steps // max(recipe.selftrain.panels, 1), 1)
    device = model.mean.device
    model.train()

    for step, batch in _steps(data, start, settings.workers, stage):
        rate = learning_rate(recipe, base, step, data.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        labels, weights, told, panel = pseudo(batch, step) if pseudo else Lesson(batch["labels"], None, {}, None)
        points = generators(recipe.seed, step, len(labels))
        losses = criterion(model(batch["images"].to(device)), labels.to(device), recipe.loss, points, weights)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(trained, settings.clip)
        if not math.isfinite(float(norm)) or not math.isfinite(losses["loss"].item()):
            raise CloudsError(
                f"{stage} step {step}: loss {losses['loss'].item()} with gradient norm {float(norm)}; stopped before "
                "the optimiser step. The last checkpoint is intact: lower train.learning_rate and start again"
            )
        optimizer.step()
        if pseudo:
            pseudo.teacher.update()
        if len(data.bad):
            told = {**told, "bad_files": float(len(data.bad))}
        log.add(step, {**{k: v.item() for k, v in losses.items()}, "lr": rate, "gradient_norm": float(norm), **told})
        if panel and step % panel_every == 0 and recipe.selftrain.panels:
            save_panel(panel, run / "pseudo" / f"{step:06d}-0")
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == data.steps:
            log.flush()
            save_checkpoint(run / "checkpoints", _state(model, optimizer, pseudo, log, step + 1))
    model.eval()
    return pseudo.work if pseudo else None


def _steps(data: Batches, start: int, workers: int, stage: str) -> Iterator[tuple[int, Any]]:
    """(step, batch) from ``start`` on, with progress."""
    return track(enumerate(batches(data, start, workers), start), f"training: {stage}", data.steps, start, "steps")


def _state(
    model: Segmenter, optimizer: torch.optim.AdamW, pseudo: PseudoLabeller | None, log: "MetricsLog", step: int
) -> Checkpoint:
    """Everything that evolves: trained weights, optimiser moments, teacher and its counts, the metrics of a row that is
    not full yet. Draws need no state: they follow from (seed, step)."""
    names = {id(p): name for name, p in model.named_parameters()}
    student = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    moments: dict[str, Tensor] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            moments[f"{names[id(parameter)]}:{key}"] = value
    tensors = {"student": student, "optimizer": moments}
    counts: dict[str, Any] = {"unlogged": log.unlogged}
    if pseudo:
        wanted = dict(pseudo.teacher.model.named_parameters())
        tensors["teacher"] = {name: wanted[name] for name in student}
        work = {**asdict(pseudo.work), "seen": sorted(pseudo.work.seen)}
        counts |= {"work": work, "updates": pseudo.teacher.updates}
        tensors["thresholds"] = {"histogram": torch.from_numpy(pseudo.thresholds.histogram)}
    return Checkpoint(log.stage, step, tensors, counts)


def _resume(
    model: Segmenter, optimizer: torch.optim.AdamW, pseudo: PseudoLabeller | None, run: Path, stage: str
) -> tuple[int, list[dict[str, float]]]:
    """Load the run's last whole checkpoint of ``stage`` into everything that evolves; returns the next step, and the
    metrics of the steps before it that no row holds yet."""
    checkpoint = latest_checkpoint(run / "checkpoints", stage)
    if checkpoint is None:
        return 0, []
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in checkpoint.tensors["student"].items():
            parameters[name].copy_(value)
        if pseudo:
            theirs = dict(pseudo.teacher.model.named_parameters())
            for name, value in checkpoint.tensors["teacher"].items():
                theirs[name].copy_(value)
    for key, value in checkpoint.tensors["optimizer"].items():
        name, _, part = key.rpartition(":")
        place = value.device if part == "step" else parameters[name].device  # AdamW counts its steps on the CPU
        optimizer.state[parameters[name]][part] = value.to(place)
    if pseudo:
        pseudo.teacher.updates = checkpoint.counts["updates"]
        work = checkpoint.counts["work"]
        pseudo.work = Work(**{**work, "seen": set(work["seen"])})
        pseudo.thresholds.histogram = checkpoint.tensors["thresholds"]["histogram"].numpy()
    return checkpoint.step, checkpoint.counts["unlogged"]


class MetricsLog:
    """Means over ``every`` steps as rows of ``metrics.jsonl``; on resume, rows past the checkpoint are dropped."""

    def __init__(
        self, path: Path, stage: str, start: int, every: int, unlogged: list[dict[str, float]] | None = None
    ) -> None:
        self.path, self.stage, self.every = path, stage, every
        self._rows: list[str] = []
        self.unlogged = unlogged or []  # steps of a row that is not full yet
        self._began, self._untimed = time.monotonic(), len(self.unlogged)
        if path.exists():
            rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
            kept = [r for r in rows if r["stage"] != stage or r["step"] <= start]
            write_jsonl(path, kept)

    def add(self, step: int, values: dict[str, float]) -> None:
        self.unlogged.append(values)
        if (step + 1) % self.every == 0:
            keys = {key for row in self.unlogged for key in row}
            means = {key: float(np.mean([row[key] for row in self.unlogged if key in row])) for key in sorted(keys)}
            seconds = (time.monotonic() - self._began) / (len(self.unlogged) - self._untimed)
            row = {"stage": self.stage, "step": step + 1, **means, "seconds": round(seconds, 4)}
            self._rows.append(json.dumps(row) + "\n")
            self.unlogged, self._untimed, self._began = [], 0, time.monotonic()

    def flush(self) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(self._rows)
        self._rows = []


def save_panel(panel: Panel, folder: Path) -> None:
    """Image, teacher's map, refined map (train ids), points and masks of one generated image, for the report.

    In masks.png a pixel's number tells the masks apart, 0 where there is none; after 255 they start again from 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_png(folder / "image.png", panel.image.permute(1, 2, 0).numpy())
    write_png(folder / "teacher.png", panel.teacher)
    write_png(folder / "refined.png", panel.refined)
    masks = panel.refinement.masks
    write_png(folder / "masks.png", np.where(masks, (masks - 1) % 255 + 1, 0).astype(np.uint8))
    write_json(folder / "points.json", panel_points(panel.refinement))
