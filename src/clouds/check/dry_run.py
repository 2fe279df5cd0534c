"""A recipe tried out before anything is at hand: its true networks take two steps on noise, and are timed.

Time and memory of a step do not depend on what weights and pictures are, so weights are random and nothing is fetched;
the result names whatever stood in for the recipe's own. Everything is written to a temporary folder that goes away.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clouds.base.arrays import Labels
from clouds.base.files import read_jsonl
from clouds.base.machine import peak_memory_gb, usable_device
from clouds.base.pick import evenly
from clouds.base.processes import several
from clouds.check.memory import memory_by_processes, memory_text
from clouds.check.useless import check_useful, too_short
from clouds.config.load import as_recipe
from clouds.config.recipe import Recipe
from clouds.data.batches.batches import Batch, Batches
from clouds.data.datasets import open_dataset
from clouds.data.images import write_png
from clouds.data.labelled import open_sets
from clouds.data.photographs import find_photographs, look_at
from clouds.data.source import Source
from clouds.errors import CloudsError, UsageError
from clouds.evaluate.domains import Domain
from clouds.evaluate.scores import evaluate
from clouds.foundation.backbones.clip import CLIP, clip_config
from clouds.foundation.segmenter import PromptableSegmenter, load_segmenter, segmenter_place
from clouds.model.inference import Inference
from clouds.model.segmenter import Segmenter
from clouds.predict.predictor import Predictor
from clouds.selftrain.pseudo import Lesson, PseudoLabeller
from clouds.selftrain.region_files import make_regions, read_regions
from clouds.selftrain.teacher import make_teacher
from clouds.train.engine import Engine
from clouds.train.loop import train_stage

STEPS = 2
LOOKED_AT = 20  # photographs of a set
IDLE = 0.6  # of its threads a step keeps at least so many busy, where nothing else runs


def dry_run(recipe: Recipe) -> dict[str, Any]:
    """Two steps and a validation of one image; the object that ``clouds train RECIPE --dry-run --json`` prints.

    On a CPU images go one at a time, two a step; on another device a step has the recipe's batch. Half of a step's
    images are generated ones, unless the recipe asks for the warm-up alone. With ``train.shard_backbone`` memory is
    counted instead, by the number of processes. Raises UsageError for several processes.
    """
    if several():
        raise UsageError("--dry-run runs in one process; leave the launcher out")
    if recipe.train.shard_backbone:
        with torch.device("meta"):
            return memory_by_processes(recipe, random_model(recipe))
    stand_ins = [
        f"random weights in place of {recipe.model.vision}'s",
        f"images of noise at the crop's size in place of {', '.join(each.dataset for each in recipe.data.source)}",
    ]
    warnings = _warnings(recipe)
    photographs = _photographs(recipe, stand_ins) if recipe.train.stage != "warmup" else []
    device = _device(recipe, stand_ins)
    with tempfile.TemporaryDirectory(prefix="clouds-dry-run-") as name:
        folder = Path(name)
        small = _small(recipe, device, folder)
        model = random_model(small).to(device)
        busy, began = time.process_time(), time.monotonic()
        rows, asked, labelled = _train(model, small, folder, stand_ins)
        cores = (time.process_time() - busy) / (time.monotonic() - began)
        checkpoint = next((folder / "checkpoints").glob("[!.]*"))
        stored = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
        predictor = Predictor(model, device)
        predictor.inference = Inference.of(recipe.evaluate)
        data, began = open_dataset("folder", folder / "source", label_set=recipe.model.label_set), time.monotonic()
        evaluate(predictor, [Domain("noise", data.label_set, 1, data, (0,))], "noise")
        seen = time.monotonic() - began
    lines = _extrapolated(small, whole := recipe.train.batch_size, labelled)
    if device == "cpu" and cores < IDLE * torch.get_num_threads():
        lines.append(f"{torch.get_num_threads()} threads got {cores:.1f} cores; other work is running here")
    images = small.train.batch_size
    joint = rows[-1]["seconds"]
    warmup = max(joint - asked, 0.0)  # without a teacher
    steps = {"warmup": recipe.train.warmup_steps, "joint": recipe.train.steps - recipe.train.warmup_steps}
    if recipe.train.stage != "both":
        steps = {recipe.train.stage: steps[recipe.train.stage]}
    each = {stage: (joint if stage == "joint" else warmup) * whole / images for stage in steps}
    hours = {stage: count * each[stage] / 3600 for stage, count in steps.items()}
    return {
        "recipe": recipe.name,
        "device": device,
        "threads": torch.get_num_threads(),
        "cores_used": round(cores, 2),
        "images_per_step_measured": images,
        "seconds_per_step_measured": round(joint, 3),
        "seconds_of_first_step": round(rows[0]["seconds"], 3),
        "seconds_of_pseudo_labels": round(asked, 3),
        "batch_size": whole,
        "seconds_per_step": round(each[list(steps)[-1]], 3),
        "steps": steps,
        "hours": round(sum(hours.values()), 2),
        "hours_by_stage": {stage: round(value, 2) for stage, value in hours.items()},
        "peak_memory_gb": round(peak_memory_gb(device), 2),
        "checkpoint_gb": round(stored / 2**30, 3),
        "validation_seconds_per_image": round(seen, 2),
        "photographs": photographs,
        "stand_ins": stand_ins,
        "warnings": warnings,
        "extrapolated": lines,
    }


def dry_run_text(result: dict[str, Any]) -> str:
    """The same for a person."""
    if result["device"] == "meta":
        return memory_text(result)
    r = result
    stages = " + ".join(f"{count} {stage} ({r['hours_by_stage'][stage]:g} h)" for stage, count in r["steps"].items())
    return "\n".join([
        f"{r['recipe']}: dry run on {r['device']}, {r['threads']} threads, {r['cores_used']:g} cores busy",
        f"  a step of {r['images_per_step_measured']} images   {r['seconds_per_step_measured']:.2f} s, of which "
        f"pseudo-labels {r['seconds_of_pseudo_labels']:.2f} s (the first step {r['seconds_of_first_step']:.2f} s)",
        f"  a step of {r['batch_size']} images   {r['seconds_per_step']:.2f} s",
        f"  the recipe's steps   {stages}: {r['hours']:g} hours here",
        f"  peak memory   {r['peak_memory_gb']:.2f} GB; a checkpoint {r['checkpoint_gb']:.2f} GB",
        f"  validation   {r['validation_seconds_per_image']:.2f} s an image",
        *(f"  photos   {each['set']}: {each['pictures']} pictures, {each['videos']} videos"
          + (f"; smallest looked at {each['smallest'][1]}x{each['smallest'][0]}" if each["smallest"] else "")
          for each in r["photographs"]),
        *(f"  stand-in: {each}" for each in r["stand_ins"]),
        *(f"  extrapolated: {each}" for each in r["extrapolated"]),
        *(f"  warning: {each}" for each in r["warnings"]),
    ])  # fmt: skip


def _warnings(recipe: Recipe) -> list[str]:
    """What to warn of before training; of the labels where the sets are at hand. DataError for no class to learn."""
    try:
        sets = open_sets(recipe)
    except CloudsError:  # they need not be at hand yet
        return too_short(recipe)
    return check_useful(sets, recipe)


def _photographs(recipe: Recipe, stand_ins: list[str]) -> list[dict[str, Any]]:
    """What there is of ``data.unlabelled``: {"set", "pictures", "videos", "smallest": [height, width] or None}."""
    names = [each.dataset or str(each.folder) for each in recipe.data.unlabelled]
    try:
        found = find_photographs(recipe.data)
    except CloudsError as error:  # they need not be at hand yet
        stand_ins.append(f"images of noise in place of the photos of {', '.join(names)} ({error})")
        return []
    if names:
        stand_ins.append(f"images of noise at the crop's size in place of the photos of {', '.join(names)}")
    shown = []
    for each in found:
        looks = look_at([each.places[k] for k in evenly(len(each.places), LOOKED_AT)])
        sizes = [look.size for look in looks if look.size]
        shown.append({"set": each.name, "pictures": len(each.places), "videos": len(each.videos),
                      "smallest": min(sizes, key=min, default=None)})  # fmt: skip
    return shown


def _device(recipe: Recipe, stand_ins: list[str]) -> str:
    try:
        return usable_device(recipe.train.device)
    except UsageError:
        stand_ins.append(f"the CPU in place of {recipe.train.device}, which is not here")
        return "cpu"


def _small(recipe: Recipe, device: str, folder: Path) -> Recipe:
    """The recipe of the measured steps."""
    values = recipe.model_dump()
    alone = device == "cpu" or recipe.train.batch_size == 1
    values["data"] = {"source": [{"dataset": "folder", "root": folder / "source"}]}
    values["generate"] |= {"count": 1, "folder": None, "size": recipe.augment.crop}
    values["train"] |= {
        "device": device, "log_every": 1, "workers": 0, "checkpoint_every": STEPS, "trackers": (),
        "validate_every": None, "choose": "last", "generated_repeat": 1, "generated_weight": None,
    } | ({"batch_size": 2, "accumulate": 2} if alone else {})  # fmt: skip
    # all labels are trusted: an untrained teacher is sure of nothing, and refinement would have nothing to do
    values["selftrain"] |= {"panels": 0, "cache": None, "confidence": 0.0}
    return as_recipe(values, recipe.name)


def _train(
    model: Segmenter, recipe: Recipe, folder: Path, stand_ins: list[str]
) -> tuple[list[dict[str, Any]], float, bool]:
    """Rows of the log, seconds of the last step's pseudo-labels, and whether there were any."""
    joint, images = recipe.train.stage != "warmup", recipe.train.batch_size
    rng, squares = np.random.default_rng(recipe.seed), label_squares(recipe.augment.crop, len(model.classes))
    made = images // 2 if joint else 0
    paths = [folder / "generated" / f"{k}.png" for k in range(made)]
    for path in [*(folder / "source" / "images" / f"{k}.png" for k in range(images - made)), *paths]:
        write_png(path, rng.integers(0, 256, (*squares.shape, 3), np.uint8))
        if path not in paths:
            write_png(folder / "source" / "labels" / path.name, squares)
    classes = recipe.model.label_set
    source = Source([open_dataset("folder", folder / "source", label_set=classes)], model=classes)
    pseudo = _labeller(model, recipe, paths, folder, stand_ins) if joint else None
    if pseudo:
        pseudo.prepare(squares)
    data = Batches(source, paths, recipe, STEPS, recipe.seed)
    train_stage(model, "joint" if joint else "warmup", recipe, data, folder, pseudo, Engine(recipe.train, folder))
    return read_jsonl(folder / "metrics.jsonl"), pseudo.seconds[-1] if pseudo else 0.0, joint


def _labeller(
    model: Segmenter, recipe: Recipe, images: list[Path], folder: Path, stand_ins: list[str]
) -> "TimedLabeller":
    chosen, regions = recipe.selftrain, None
    stand_ins.append(f"a map of {SQUARES} x {SQUARES} squares in place of the teacher's (the teacher runs too)")
    segmenter = local_segmenter(recipe, stand_ins)
    if chosen.refinement != "points":
        files, _ = make_regions(images, segmenter, chosen, folder / "regions")
        found = [file for file in files if file]
        regions = lambda index: read_regions(found[index])  # noqa: E731
    return TimedLabeller(make_teacher(model, chosen), segmenter, chosen, recipe.seed, regions)


def _extrapolated(small: Recipe, whole: int, labelled: bool) -> list[str]:
    """What was not measured but reckoned."""
    lines = ["hours are the steps times the second step's seconds; validation, checkpoints and slow decoding of real "
            "images come on top"]  # fmt: skip
    if labelled:
        lines.append("half of the measured joint step's images are without labels, whatever the weights of the sets; a "
                     "warm-up step is a joint step without pseudo-labels; hours are without the segmenter's work on "
                     "each new image, of which a photo gives four")
    if small.train.batch_size != whole:
        lines.append(f"a step of {whole} images is {whole}/{small.train.batch_size} of the measured one; memory is "
                     "that of one image at a time")  # fmt: skip
    return lines


SQUARES = 6  # a side, each a component of the stand-in for the teacher's map
MINILM = 384  # numbers of an embedding of the text tower that is no CLIP's


class TimedLabeller(PseudoLabeller):
    """Pseudo-labels as always, by a teacher whose map is replaced by squares: a random one sees no component."""

    def prepare(self, squares: Labels) -> None:
        self.seconds: list[float] = []
        predict, fixed = self.teacher.predict, torch.from_numpy(squares)

        def see(images: Tensor) -> tuple[Tensor, Tensor]:
            maps, sure = predict(images)
            return fixed.to(maps.device).expand_as(maps), sure

        self.teacher.predict = see  # type: ignore[method-assign]

    def __call__(self, batch: Batch, step: int) -> Lesson:
        began = time.monotonic()
        lesson = super().__call__(batch, step)
        self.seconds.append(time.monotonic() - began)
        return lesson


def random_model(recipe: Recipe) -> Segmenter:
    """The recipe's network at a random start; its class names are random vectors."""
    chosen, classes = recipe.model, recipe.model.label_set
    text_dim = clip_config(chosen.text)["embed_dim"] if chosen.text.startswith(CLIP) else MINILM
    model = Segmenter(
        **chosen.model_dump(exclude={"weights", "revision", "adapt", "lora", "soma", "rein", "classes"}),
        adapt=chosen.adapter,
        text_dim=text_dim,
        classes=list(classes.classes),
        synonyms=[list(group) for group in classes.synonyms],
        colors=[list(color) for color in classes.colors],
        shorter_side=recipe.evaluate.shorter_side,
    )
    model.vocabulary.copy_(F.normalize(torch.randn(model.vocabulary.shape), dim=-1))
    return model


def local_segmenter(recipe: Recipe, stand_ins: list[str]) -> PromptableSegmenter:
    """The recipe's own if it is a local file, or needs none; else superpixels."""
    chosen = recipe.selftrain
    try:
        place = segmenter_place(chosen.segmenter, chosen.segmenter_revision)
    except UsageError:
        place = "nowhere"
    if not isinstance(place, str):
        return load_segmenter(chosen.segmenter, recipe.train.device, chosen.segmenter_dtype,
                              second_pass=chosen.second_pass)  # fmt: skip
    stand_ins.append(f"superpixels in place of {chosen.segmenter}, which is not a local file")
    return load_segmenter("superpixels")


def label_squares(size: tuple[int, int], classes: int) -> Labels:
    """(H, W) uint8: squares of which neighbours have different classes."""
    rows, columns = (np.arange(side) * SQUARES // side for side in size)
    return ((rows[:, None] * 5 + columns * 2) % classes).astype(np.uint8)
