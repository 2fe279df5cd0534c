"""The training loop: warm-up on the labelled source, then joint training on source and generated images."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clouds.base.progress import say, track
from clouds.config.recipe import Recipe
from clouds.config.records import Drift, NotFinite, write_record
from clouds.config.runs import BEST, CHECKPOINTS, DRIFT, METRICS, NOT_FINITE, PSEUDO, add_seconds
from clouds.data.batches.batches import Batch, Batches, batches
from clouds.errors import CloudsError, Stopped, cause
from clouds.foundation.backbones.adapters import Rein
from clouds.model.decoder import Prediction
from clouds.model.loss import Apart, Totals, criterion, targets_in, totals
from clouds.model.segmenter import Segmenter
from clouds.selftrain.pseudo import Lesson, PseudoLabeller
from clouds.selftrain.work import Work
from clouds.train.engine import Engine
from clouds.train.harm import Watch, summary
from clouds.train.log import MetricsLog, Panels
from clouds.train.state import load_state, save_state, sum_work
from clouds.train.validate import Validation

BETAS = (0.9, 0.999)
PARTS = ("loss", "loss_ce", "loss_mask", "loss_dice")
LOSSES = (*PARTS, "generated_loss")


def build_optimizer(model: Segmenter, recipe: Recipe, learning_rate: float) -> torch.optim.AdamW:
    """AdamW; no weight decay on norms and embeddings, and in the backbone its own share of the rate."""
    plain: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    inside = {id(p) for p in model.backbone.parameters()}
    for module in model.modules():
        bare = isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._BatchNorm | nn.Embedding)
        bare = bare or isinstance(module, Rein)  # its tokens and scale; its linear maps are modules of their own
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                (plain if bare or name in ("level_embed", "void", "logit_scale") else decayed).append(parameter)
    groups = []
    for parameters, bare in ((decayed, False), (plain, True)):
        shares = {1.0: parameters}
        if (share := recipe.train.backbone_rate) != 1:
            shares = {1.0: [p for p in parameters if id(p) not in inside],
                      share: [p for p in parameters if id(p) in inside]}  # fmt: skip
        decay = 0.0 if bare else recipe.train.weight_decay
        groups += [{"params": own, "weight_decay": decay, "bare": bare, "share": share}
                   for share, own in shares.items() if own]  # fmt: skip
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS)


def weight_decay(recipe: Recipe, step: int, steps: int) -> float:
    """The weight decay of a stage's step: constant, or half a cosine down to ``train.weight_decay_end``."""
    first, last = recipe.train.weight_decay, recipe.train.weight_decay_end
    return first if last is None else last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


def learning_rate(recipe: Recipe, base: float, step: int, steps: int, stage: str = "warmup") -> float:
    """The rate of a stage's step: a linear ramp, then constant or polynomial decay (power 0.9), of stage or run."""
    settings = recipe.train
    ramp = min(1.0, (step + 1) / (settings.ramp_steps + 1))
    if settings.schedule == "poly-run":  # joint training goes on where the warm-up's rate ended
        before = settings.warmup_steps if stage == "joint" else 0
        done: float = (before + step) / settings.steps
    elif settings.schedule == "poly-ramp":
        done = max(step - settings.ramp_steps, 0) / max(steps - settings.ramp_steps, 1)
    else:
        done = step / steps if settings.schedule == "poly" else 0.0
    return base * ramp * float((1 - done) ** 0.9)


def train_stage(
    model: Segmenter, stage: str, recipe: Recipe, data: Batches, run: Path, pseudo: PseudoLabeller | None = None,
    engine: Engine | None = None, validation: Validation | None = None, watch: Watch | None = None
) -> Work:
    """Train ``model`` in place for one stage, going on from the run's last checkpoint of this stage if there is one.

    ``pseudo`` makes the labels of generated images and holds the teacher, which follows the student each step.
    ``watch`` looks for harm in the middle and at the end, and writes `drift.json`.
    Raises Stopped after saving when a signal asked for it, CloudsError for a loss that is not finite.
    """
    engine, settings = engine or Engine(recipe.train, run), recipe.train
    base = settings.learning_rate * engine.learning_rate_scale
    optimizer = build_optimizer(model, recipe, base)
    trained = [p for p in model.parameters() if p.requires_grad]
    if pseudo:
        pseudo.sets = data.unlabelled.sizes
    progress = load_state(run / CHECKPOINTS, stage, model, optimizer, pseudo, engine)
    every, unlogged = settings.log_every, progress.unlogged
    log = MetricsLog(run / METRICS, stage, progress.step, data.steps, every, unlogged, engine.main)
    panels = Panels(run / PSEUDO, recipe.selftrain.panels, data.steps, progress.step)
    student, queries = engine.wrap(model), model.head.decoder.query_embed.num_embeddings
    if engine.main and progress.step < data.steps:
        say(f"{stage}: {data.steps} steps, {engine.batch_text()}, learning rate {base:g}, {settings.precision}"
            + (f"; going on from step {progress.step}" if progress.step else ""))  # fmt: skip
    model.train()
    began = time.monotonic()

    def save() -> None:
        nonlocal began
        progress.unlogged = log.unlogged
        log.flush()
        save_state(run / CHECKPOINTS, stage, model, optimizer, pseudo, progress, engine)
        if engine.main:  # with the checkpoint: steps that a kill takes back are not counted either
            add_seconds(run, stage, time.monotonic() - began)
        began = time.monotonic()

    with engine.signals(), out_of_memory(recipe, engine):
        for step, batch in _steps(data, progress.step, settings.workers, stage, engine.main, log.latest):
            rate = learning_rate(recipe, base, step, data.steps, stage)
            decay = weight_decay(recipe, step, data.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
                group["weight_decay"] = 0.0 if group["bare"] else decay
            lesson = pseudo(batch, step) if pseudo else Lesson(batch["labels"], {}, None)
            optimizer.zero_grad(set_to_none=True)
            losses = forward_backward(student, batch, lesson, queries, recipe, step, engine, data.lacks(batch))
            norm = engine.clip(optimizer, trained, settings.clip)
            *losses, stop = engine.sum([*losses, engine.stopped])
            if finite(losses[0], norm, engine):
                engine.step(optimizer)
                if pseudo:
                    pseudo.teacher.update()
            else:
                engine.skip()
                not_finite(stage, step, losses[0], norm, [data.name(i) for i in batch["numbers"].tolist()], run, engine)
            numbers = dict(zip(LOSSES, losses, strict=True)) | {"lr": rate, "gradient_norm": norm} | lesson.numbers
            if len(data.bad):
                numbers["bad_files"] = float(len(data.bad))
            row = log.add(step, numbers)
            if row:
                engine.log({f"{stage}/{key}": value for key, value in row.items()}, step + 1)
            if lesson.panel and engine.main and panels.due(step):
                engine.log_images(panels.save(lesson.panel, step, model.colors), step + 1)
            progress.step = step + 1
            if validation and progress.step % validation.every == 0:
                scores = validation(model, progress, run / BEST / stage, engine)
                log.note(step, scores)
                engine.log({f"{stage}/{key}": value for key, value in scores.items()}, step + 1)
            last = progress.step == data.steps
            if watch and (last or progress.step == data.steps // 2):
                drift = watch(model, progress.step)
                if engine.main:
                    note_drift(drift, run, data.steps)
            if progress.step % settings.checkpoint_every == 0 or last or stop:
                save()
            if stop:
                break
        if signal := max(engine.gather(engine.stopped)):  # also one that came in the last step
            where = f"{stage} stopped by a signal after step {progress.step} of {data.steps}"
            raise Stopped(signal, f"{where}; all is saved. To resume: clouds train {run} --resume")
    model.eval()
    return sum_work(engine.gather(pseudo.work if pseudo else Work()))


def forward_backward(
    student: nn.Module, batch: Batch, lesson: Lesson, queries: int, recipe: Recipe, step: int, engine: Engine,
    lacks: Tensor | None = None,
) -> list[float]:
    """Gradients of this process's share of a batch, in ``engine.parts`` parts; -> its share of the losses."""
    images, labels = batch["images"], lesson.labels
    targets, slots = targets_in(labels), batch["slots"]
    generated = [targets[slot] for slot in slots.tolist()]
    sums = engine.sum([*totals(targets, queries), *totals(generated, queries)])
    whole, drawn = Totals(*sums[:2]), Totals(*sums[2:])
    found = torch.zeros(len(LOSSES))
    if not drawn.classes:
        found[-1] = torch.nan  # nothing was drawn for this batch, on any process
    size = len(images) // engine.parts
    for part in range(engine.parts):
        mine = slice(part * size, (part + 1) * size)
        here = slots[(slots >= mine.start) & (slots < mine.stop)] - mine.start
        with engine.only_last_synchronises(student, part + 1 == engine.parts):
            with engine.autocast():
                prediction = student(images[mine].to(engine.device))
            losses = criterion(
                _float(prediction),
                labels[mine],
                recipe.loss,
                generators(recipe.seed, step, batch["places"][mine].tolist()),
                whole,
                Apart(here, drawn) if drawn.classes else None,
                None if lacks is None else lacks[mine],
            )
            engine.backward(losses["loss"])
        found[: len(PARTS)] += torch.stack([losses[name].detach() for name in PARTS]).cpu()
        found[-1] += losses["loss_apart"].cpu() if "loss_apart" in losses else 0.0
    return [float(value) for value in found]


def generators(seed: int, step: int, places: list[int]) -> list[torch.Generator]:
    """Random points of the loss, from (seed, step, sample)."""
    states = (np.random.SeedSequence((seed, step, place)).generate_state(1, np.uint64)[0] for place in places)
    return [torch.Generator().manual_seed(int(state >> 1)) for state in states]


def finite(loss: float, norm: float, engine: Engine) -> bool:
    """Whether the optimiser may step; with fp16 the loss scaler sees to gradients that overflow."""
    return math.isfinite(loss) and (math.isfinite(norm) or engine.accelerator.scaler is not None)


def not_finite(stage: str, step: int, loss: float, norm: float, names: list[str], run: Path, engine: Engine) -> None:
    """Keep what there is to know of a step whose loss or gradient is not finite; CloudsError unless it is skipped."""
    samples = [name for theirs in engine.gather(names) for name in theirs]
    path = run / NOT_FINITE / f"{stage}-{step:06d}.json"
    what = f"{stage} step {step}: loss {loss} with gradient norm {norm}; "
    if engine.main:
        write_record(path, NotFinite(stage=stage, step=step, loss=str(loss), gradient_norm=str(norm), samples=samples))
        if engine.settings.on_nonfinite == "skip":
            say(f"{what}this step is skipped; its files are in {path}")
    if engine.settings.on_nonfinite == "abort":
        raise CloudsError(
            f"{what}stopped before the optimiser step; its files are in {path}. The last checkpoint is intact: lower "
            "train.learning_rate and start again, or skip such steps with train.on_nonfinite=skip"
        )


def note_drift(drift: Drift, run: Path, steps: int) -> None:
    """Write it down; say so where it looks like harm."""
    write_record(run / DRIFT, drift)
    if drift.harm:
        say(f"joint step {drift.step} of {steps}: joint training may harm this model: {summary(drift)}. Compare both "
            "models before you use one; train.choose=safe keeps the warm-up's in such a case")  # fmt: skip


@contextmanager
def out_of_memory(recipe: Recipe, engine: Engine) -> Iterator[None]:
    """What to lower, and to what, where the memory does not suffice."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not (isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)):
            raise
        settings = recipe.train
        each = settings.batch_size // (engine.world * engine.parts)
        height, width = recipe.augment.crop
        hints = []
        if each > 1:
            factor = next(k for k in range(2, each + 1) if each % k == 0)  # 3 images cannot be halved
            hints.append(f"train.accumulate={factor * engine.parts} (the same steps, {each // factor} at a time)")
        if not settings.checkpointing:
            hints.append("train.checkpointing=true")
        if settings.precision == "fp32" and engine.device.type != "cpu":
            hints.append("train.precision=bf16")
        less = [max(side * 3 // 4 // 32 * 32, 32) for side in (height, width)]
        hints.append(f"augment.crop={less} and the same generate.size".replace(", ", ","))
        raise CloudsError(f"out of memory on {engine.device} ({cause(error)}); try, in this order: "
                          + "; ".join(hints)) from error  # fmt: skip


def _steps(
    data: Batches, start: int, workers: int, stage: str, shown: bool, note: Callable[[], str]
) -> Iterator[tuple[int, Any]]:
    """(step, batch) from ``start`` on, with progress."""
    steps = enumerate(batches(data, start, workers), start)
    return track(steps, f"training: {stage}", data.steps, start, "steps", note) if shown else iter(steps)


def _float(prediction: Prediction) -> Prediction:
    """Losses are computed in full precision."""
    logits, embeddings = ([each.float() for each in some] for some in (prediction.logits, prediction.mask_embeddings))
    return Prediction(logits, embeddings, prediction.mask_features.float())
