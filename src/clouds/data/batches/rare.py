"""Rare-class sampling (DAFormer, CVPR 2022, section 3.2): learn more often from images that show rare classes.

A class is drawn with a chance that falls with its share of the source's pixels, then an image that shows it, then a
crop that does.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clouds.base.files import whole_file
from clouds.base.progress import track
from clouds.config.recipe import Recipe
from clouds.data.source import Source
from clouds.errors import DataError, UsageError

ENOUGH = 3000 / 512**2  # of a crop's pixels: an image shows a class from here on, a crop from half of it


def class_pixels(source: Source, file: Path, classes: int, workers: int) -> NDArray[np.int64]:
    """Pixels of each of C classes in every label of the source, (N, C), counted once and kept in ``file`` with what
    labels were read as.

    A label that cannot be read counts as empty: training meets it anyway, and says so.
    """
    names = np.array([f"{each.name} {name}" for each in source.sets for name in each.names])
    meaning = source.meaning()
    if file.exists():
        with np.load(file, allow_pickle=False) as stored:
            same = "meaning" in stored and str(stored["meaning"]) == meaning
            if same and np.array_equal(stored["names"], names) and stored["pixels"].shape[1] == classes:
                kept: NDArray[np.int64] = stored["pixels"]
                return kept

    def count(index: int) -> NDArray[np.int64]:
        try:
            return np.bincount(source.label(index).ravel(), minlength=256)[:classes]
        except DataError:
            return np.zeros(classes, np.int64)

    def rows() -> Iterator[NDArray[np.int64]]:
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            yield from pool.map(count, range(len(source)))

    pixels = np.stack(list(track(rows(), "counting classes", len(source), unit="labels")))
    with whole_file(file) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(opened, names=names, pixels=pixels, meaning=meaning)
    return pixels


def rare_classes(recipe: Recipe, source: Source, file: Path) -> "RareClasses | None":
    """How ``data.rare_classes`` draws images of the source; None where the recipe does not ask for it."""
    if not recipe.data.rare_classes:
        return None
    pixels = class_pixels(source, file, len(recipe.model.label_set.classes), recipe.train.workers)
    return RareClasses(pixels, recipe.data.rare_classes, recipe.augment.crop)


class RareClasses:
    """``draw(rng)`` -> (class, index of an image that shows it)."""

    def __init__(self, pixels: NDArray[np.int64], temperature: float, crop: tuple[int, int]) -> None:
        """pixels (N, C) as from ``class_pixels``; a low temperature favours rare classes more."""
        self.enough = ENOUGH * crop[0] * crop[1]
        total = pixels.sum(0)
        self.classes = np.flatnonzero(total)
        if not len(self.classes):
            raise UsageError("data.rare_classes: the source's labels show no class at all; `clouds check` tells why")
        self.images = []
        for c in self.classes:
            shown = np.flatnonzero(pixels[:, c] >= self.enough)
            self.images.append(shown if len(shown) else np.flatnonzero(pixels[:, c]))
        share = total[self.classes] / total.sum()
        weight = np.exp((share.min() - share) / temperature)  # the shift cancels, and keeps the exponential finite
        self.chances = weight / weight.sum()

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        k = int(rng.choice(len(self.classes), p=self.chances))
        return int(self.classes[k]), int(rng.choice(self.images[k]))
