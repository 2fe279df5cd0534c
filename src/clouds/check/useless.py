"""Runs that would learn nothing, found before they begin: no class in the labels, ignored pixels, too few steps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clouds.base.pick import evenly
from clouds.base.text import some
from clouds.config.label_sets import IGNORE
from clouds.config.recipe import Recipe
from clouds.data.datasets import Segmentation
from clouds.data.labels import train_ids
from clouds.errors import DataError

LOOKED_AT = 20  # label maps of a set, evenly spaced
MOSTLY = 0.5  # the share of ignored pixels that is worth a warning
LEAST_STEPS = 40  # with fewer even the demo's small network tells hardly two classes apart


def check_useful(sets: Sequence[Segmentation | None], recipe: Recipe) -> list[str]:
    """A few labels of each opened set are read; -> what to warn of, a line each.

    Raises DataError where none of them shows a class that the model can learn.
    """
    counts, looked = np.zeros(256, np.int64), 0
    lines = too_short(recipe)
    for data, chosen in zip(sets, recipe.data.source, strict=True):
        if data is None:  # rendered: every pixel of a scene has a label
            counts[0] += 1
            continue
        own, count = _counts(data)
        table = train_ids(data.label_set, recipe.model.label_set, chosen.fold)
        mine = np.bincount(table, weights=own, minlength=256).astype(np.int64)
        counts, looked = counts + mine, looked + count
        lines += mostly_ignored(data.name, mine)
    if looked and not counts[:IGNORE].any():
        raise DataError(f"data.source: {no_class(looked, recipe.model.label_set.classes)}")
    return lines


def no_class(looked: int, classes: Sequence[str]) -> str:
    """What is wrong where ``looked`` label maps show none of the model's classes."""
    return (
        f"no class to learn: every pixel of the {looked} label maps looked at is ignored. Expected some of "
        f"{some(list(classes), 6)}; say in the set's labels or label_map which values stand for them"
    )


def mostly_ignored(name: str, counts: NDArray[np.int64]) -> list[str]:
    """A warning where most label pixels say nothing. counts: of each class, int64 (256,), the last one ignored."""
    share = counts[IGNORE] / max(counts.sum(), 1)
    return [f"{name}: {100 * share:.0f} % of the label pixels looked at are ignored"] if share > MOSTLY else []


def too_short(recipe: Recipe) -> list[str]:
    """A warning where all steps there are teach nothing."""
    settings = recipe.train
    stages = {"warmup": settings.warmup_steps, "joint": settings.steps - settings.warmup_steps}
    steps = settings.steps if settings.stage == "both" else stages[settings.stage]
    if steps >= (least := max(LEAST_STEPS, 2 * settings.ramp_steps)):
        return []
    return [f"train.steps: {steps} steps are too few to learn anything; expected at least {least}, and far more for a "
            "model that is of use"]  # fmt: skip


def _counts(data: Segmentation) -> tuple[NDArray[np.int64], int]:
    """Pixels of each class in some label maps, int64 (256,), and how many maps could be read."""
    counts, looked = np.zeros(256, np.int64), 0
    for k in evenly(len(data), LOOKED_AT):
        try:
            counts += np.bincount(data.label(k).ravel(), minlength=256)
        except DataError:  # training names it when its turn comes
            continue
        looked += 1
    return counts, looked
