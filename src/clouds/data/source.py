"""The labelled source: one or several datasets as one list of images, labelled with the model's classes."""

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Labels, Pixels
from clouds.base.pick import evenly
from clouds.config.label_sets import CITYSCAPES, IGNORE, LabelSet
from clouds.data.archives import Folder
from clouds.data.cache import DecodedCache, identity
from clouds.data.datasets import Segmentation
from clouds.data.images import LazyImage
from clouds.data.labels import train_ids
from clouds.data.own_car import LOOKED_AT, find_own_car, motor_vehicles, without
from clouds.data.samples import Place
from clouds.errors import DataError

Picture = Pixels | LazyImage


class Source:
    """Labelled samples of several datasets, counted through; ``[i]``: image (H, W, 3) RGB, label (H, W) of the model's
    indices.

    Both are uint8. The image is decoded as far as it is sliced, or it and the label are read-only views of a cache.
    DataError names a file that cannot be read, and a pair whose sizes differ.
    """

    def __init__(
        self, sets: Sequence[Segmentation], cache: DecodedCache | None = None, model: LabelSet = CITYSCAPES,
        folds: Sequence[Mapping[str, str | None]] | None = None,
    ) -> None:  # fmt: skip
        """model: the classes to learn; folds: of each set its classes -> the model's, where names do not say it."""
        self.sets, self.cache = list(sets), cache
        tables = [
            train_ids(each.label_set, model, fold)
            for each, fold in zip(self.sets, folds or [{}] * len(self.sets), strict=True)
        ]
        self.lacks = lacking([taught(each, table) for each, table in zip(self.sets, tables, strict=True)],
                             len(model.classes))  # fmt: skip
        self.sizes = [len(each) for each in self.sets]
        self._ends = list(accumulate(self.sizes))
        self._tables = [_unless_equal(table, each) for table, each in zip(tables, self.sets, strict=True)]
        self._vehicles = [table[motor_vehicles(each.label_set)] for table, each in zip(tables, self.sets, strict=True)]
        self.own_cars: list[NDArray[np.bool_] | None] = [None] * len(self.sets)

    def ignore_own_car(self, which: int) -> None:
        """From now on the own car in set ``which`` is no label; DataError where its labels show none."""
        start = self._ends[which] - self.sizes[which]
        chosen = evenly(self.sizes[which], LOOKED_AT)
        labels = [self.label(start + k) for k in chosen]
        self.own_cars[which] = find_own_car(labels, np.setdiff1d(self._vehicles[which], IGNORE))
        if self.own_cars[which] is None:
            raise DataError(
                f"data.source: {self.sets[which].name}: own_car=ignore, but no vehicle stands at the bottom of nearly "
                f"all of {len(chosen)} label maps of one size; leave own_car out"
            )

    def __len__(self) -> int:
        return self._ends[-1]

    def set_of(self, index: int) -> int:
        """The number of the set that image ``index`` is in; that after the last for what is no image of the source."""
        return bisect_right(self._ends, index)

    def _find(self, index: int) -> tuple[int, int]:
        which = bisect_right(self._ends, index)
        return which, index - (self._ends[which] - self.sizes[which])

    def label(self, index: int) -> Labels:
        """(H, W) uint8 indices of the model's classes, 255 ignored."""
        which, k = self._find(index)
        data, table = self.sets[which], self._tables[which]
        sample = data.samples[k]

        def read() -> Labels:
            label = data.label(k)
            ids: Labels = label if table is None else cv2.LUT(label, table)
            return ids

        cache, own_car = self.cache, self.own_cars[which]
        if cache is None or sample.label is None:
            return without(read(), own_car)
        return without(cache.get(identity(sample.label, *data.label_identity(k)), read), own_car)

    def meaning(self) -> str:
        """A digest of how labels are read, which is another one where any label map could be another."""
        digest = hashlib.sha256()
        for data, table, own_car in zip(self.sets, self._tables, self.own_cars, strict=True):
            for part in (data.label_meaning, table, own_car):
                digest.update(repr(part).encode() if not isinstance(part, np.ndarray) else part.tobytes())
                digest.update(b"\0")
        return digest.hexdigest()

    def name(self, index: int) -> str:
        """The file of an image."""
        which, k = self._find(index)
        return str(self.sets[which].samples[k].image)

    def image(self, index: int) -> Picture:
        """(H, W, 3) uint8 RGB, to be sliced."""
        which, k = self._find(index)
        data = self.sets[which]
        if self.cache is None:
            return data.lazy_image(k)
        return self.cache.get(identity(data.samples[k].image, data.exif), lambda: data.image(k))

    def shorter_side(self) -> int:
        """Pixels, of the first image that can be read; DataError where none can."""
        for index in range(len(self)):
            try:
                return int(min(self.image(index).shape[:2]))
            except DataError as error:
                last = error
        raise last

    def __getitem__(self, index: int) -> tuple[Picture, Labels]:
        image, label = self.image(index), self.label(index)
        if image.shape[:2] != label.shape:
            which, k = self._find(index)
            self.sets[which].check_pair(k, image.shape, label.shape)
        return image, label


def _unless_equal(table: NDArray[np.uint8], data: Segmentation) -> NDArray[np.uint8] | None:
    """The table; None where it changes no index of the set, which saves a look-up a pixel."""
    own = np.arange(len(data.label_set.classes))
    return None if np.array_equal(table[own], own) else table


def taught(data: Segmentation, table: NDArray[np.uint8]) -> set[int]:
    """The model's classes that a set can teach; ``table``: its index -> the model's class."""
    shown = [k for k, name in enumerate(data.label_set.classes) if name in data.shown]
    return {*table[shown].tolist()} - {IGNORE}


def lacking(taught: Sequence[set[int]], classes: int) -> NDArray[np.bool_] | None:
    """(sets, C) bool: classes that a set cannot teach and another set does; None where there are none."""
    teaches = np.array([np.isin(np.arange(classes), list(own)) for own in taught])
    found: NDArray[np.bool_] = teaches.any(0) & ~teaches
    return found if found.any() else None


class Restyled:
    """The variants of a source's images. ``pair(index, rng)`` is a sample of the source, restyled or not."""

    def __init__(self, source: Source, folder: Path, variants: Mapping[int, list[str]], share: float) -> None:
        """variants: index in the source -> files in ``folder``; share: how often a draw shows one of them."""
        self.source, self.folder, self.variants, self.share = source, Folder(folder), variants, share

    def pair(self, index: int, rng: np.random.Generator) -> tuple[Picture, Labels]:
        """Image (H, W, 3) to be sliced, and label (H, W), uint8, as ``Source`` gives them.

        An image without variants is shown as it is. DataError names a file that cannot be read or has another size.
        """
        chosen = rng.random() < self.share
        names = self.variants.get(index)
        if not (chosen and names):
            return self.source[index]
        place, label = Place(self.folder, names[int(rng.integers(len(names)))]), self.source.label(index)
        image = self._image(place)
        if image.shape[:2] != label.shape:
            (h, w), (lh, lw) = image.shape[:2], label.shape
            raise DataError(f"{place}: is {w}x{h} but the label of its source {lw}x{lh}; delete it, then train again")
        return image, label

    def _image(self, place: Place) -> Picture:
        cache = self.source.cache
        if cache is None:
            return LazyImage(place.read(), str(place))
        return cache.get(identity(place), lambda: np.asarray(LazyImage(place.read(), str(place))))
