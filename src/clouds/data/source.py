"""The labelled source: one or several datasets as one list of images, labelled with the model's classes.

The embedded one is rendered: street scenes of one clean town, drawn once into the run folder and read like any other.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds import streets
from clouds.base.arrays import Labels, Pixels
from clouds.base.files import as_written, sha256
from clouds.base.journal import Journal
from clouds.base.pick import evenly
from clouds.base.progress import say, track
from clouds.base.text import some
from clouds.config.label_sets import CITYSCAPES, COLORS, IGNORE, MOTOR_VEHICLES, LabelSet
from clouds.config.recipe import Labelled, Recipe
from clouds.data.archives import Folder
from clouds.data.cache import DecodedCache, identity
from clouds.data.datasets import Segmentation, dataset_spec, folder_of, is_dataset
from clouds.data.formats.found import FoundSpec
from clouds.data.formats.table import FORMATS
from clouds.data.images import LazyImage, decode_image, read_file, write_png
from clouds.data.label_files import write_labels
from clouds.data.labels import train_ids
from clouds.data.layouts import Spec
from clouds.data.pairing import Place, say_once
from clouds.errors import DataError, UsageError

Picture = Pixels | LazyImage
DIGESTS = "sha256.jsonl"  # in the rendered source's folder: a line a file, {"file_name", "sha256"}


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


def motor_vehicles(label_set: LabelSet) -> list[int]:
    """The classes of a set that hold a motor vehicle."""
    return [k for k, row in enumerate(label_set.members) if {*MOTOR_VEHICLES} & {*row}]


def open_sets(recipe: Recipe) -> list[Segmentation | None]:
    """The recipe's labelled sets, None for the rendered one; nothing is made.

    Raises UsageError for an unknown dataset or one without a folder, DataError where a set is not whole.
    """
    sets = [None if each.dataset == "streets" else open_set(each, recipe) for each in recipe.data.source]
    for chosen, data in zip(recipe.data.source, sets, strict=True):
        if data:
            data.samples = data.samples[:: chosen.every]
        label_set, model = data.label_set if data else CITYSCAPES, recipe.model.label_set
        if (train_ids(label_set, model, chosen.fold) == IGNORE).all():
            raise UsageError(
                f"data.source: {chosen.dataset} teaches none of the model's classes ({', '.join(model.classes)}): its "
                f"own are {', '.join(label_set.classes)}; map those that are the same in its label_map"
            )
        if chosen.dataset in FORMATS and (line := unmatched(label_set, chosen.fold, model)):
            say_once(f"data.source: {chosen.dataset}: {line}")
    return sets


def unmatched(label_set: LabelSet, fold: Mapping[str, str | None], model: LabelSet) -> str:
    """A line that names the classes of a set that are none of the model's and are ignored; "" where there are none."""
    table = train_ids(label_set, model, fold)
    left = [name for k, name in enumerate(label_set.classes) if table[k] == IGNORE and name not in fold]
    folded = {name.casefold(): name for name in model.classes}
    alike = [f"{name}: {folded[name.casefold()]}" for name in left if name.casefold() in folded]
    hint = f"; names must be the same, so write label_map: {{{', '.join(alike)}}}" if alike else ""
    text = f"{some(left, 8)}: not among the model's classes, ignored unless a label_map names them{hint}"
    return text if left else ""


def make_source(recipe: Recipe, opened: list[Segmentation | None], rendered: Path) -> Source:
    """The opened sets as one source; renders into ``rendered`` what is missing of the embedded one."""
    cache = DecodedCache(recipe.data.cache, int(recipe.data.cache_gb * 2**30)) if recipe.data.cache else None
    sets = [each or render_source(recipe, rendered) for each in opened]
    source = Source(sets, cache, recipe.model.label_set, [each.fold for each in recipe.data.source])
    for which, chosen in enumerate(recipe.data.source):
        if chosen.own_car == "ignore":
            source.ignore_own_car(which)
    return source


def open_set(chosen: Labelled, recipe: Recipe, split: str | None = None) -> Segmentation:
    """One labelled dataset of a recipe; ``split`` in place of the one that is learned from.

    Errors as of ``learned_from`` and ``Segmentation``.
    """
    split = split or learned_from(chosen, recipe)[1]
    layout = chosen.layout(recipe.model.label_set)
    options = {"version": chosen.version, "partial": chosen.partial, "exif": recipe.data.exif, **layout}
    return Segmentation(chosen.dataset, set_root(chosen, recipe), split, **options)


def learned_from(chosen: Labelled, recipe: Recipe) -> tuple[Spec, str]:
    """The row of the table of datasets and the split: "train" where there is one, unless the recipe says.

    UsageError for an unknown dataset, an option or split that it lacks, and one without labels.
    """
    name = chosen.dataset
    try:
        spec = spec_of(chosen, recipe)
    except UsageError as error:
        text = str(error).removeprefix("data.source: ")
        raise UsageError(f"data.source: {text}" + ("" if is_dataset(name) else ", streets")) from None
    split = chosen.split or ("train" if "train" in spec.splits else spec.scored)
    if isinstance(spec, FoundSpec) and not chosen.split and split in ("val", "test"):
        raise UsageError(f"data.source: {name} has no split 'train'; it has {', '.join(spec.splits)}, say which: split")
    if split not in spec.splits:
        raise UsageError(f"data.source: {name} has no split {split!r}; it has {', '.join(spec.splits)}")
    if not any(layout.labels for layout in spec.layouts):
        raise UsageError(f"data.source: {name} has no labels to learn from")
    return spec, split


def spec_of(chosen: Labelled, recipe: Recipe) -> Spec:
    """The row of the table of datasets for a set of a recipe; of a format, what lies in its root."""
    root = set_root(chosen, recipe) if chosen.dataset in FORMATS else None
    return dataset_spec(chosen.dataset, chosen.split, chosen.layout(recipe.model.label_set), root)


def set_root(chosen: Labelled, recipe: Recipe) -> Path:
    """Where a set of the recipe lies; UsageError where the recipe does not say."""
    if chosen.root:
        return chosen.root
    if recipe.data.root is None:
        raise UsageError(f"data.source: {chosen.dataset} needs data.root=PATH, the folder that holds "
                         f"{folder_of(chosen.dataset)}/, or a root of its own")  # fmt: skip
    return recipe.data.root / folder_of(chosen.dataset)


def draw_source(recipe: Recipe, k: int) -> tuple[Pixels, Labels]:
    """Scene k of the embedded source: image (H, W, 3), label (H, W)."""
    return streets.render(streets.sample("source", recipe.seed * 100_000 + k), recipe.data.source_size)


def render_source(recipe: Recipe, folder: Path) -> Segmentation:
    """Render what is missing or damaged of the embedded source into images/ and labels/. Scene k depends on (recipe, k)
    only; ``DIGESTS`` notes what was written."""
    count = recipe.data.source_count
    paths = [(folder / "images" / f"{k:06d}.png", folder / "labels" / f"{k:06d}.png") for k in range(count)]
    journal = Journal(folder / DIGESTS, skip_damaged=True)
    rows = [row for row in journal.rows if isinstance(row, dict) and row.keys() >= {"file_name", "sha256"}]
    known = {str(row["file_name"]): str(row["sha256"]) for row in rows}
    names = {path: path.relative_to(folder).as_posix() for pair in paths for path in pair}
    missing = [k for k, pair in enumerate(paths) if not all(_as_rendered(p, known.get(names[p])) for p in pair)]

    def make() -> Iterator[None]:
        for k in missing:
            (photo, drawing), (image, label) = paths[k], draw_source(recipe, k)
            for path, digest in ((photo, write_png(photo, image)), (drawing, write_labels(drawing, label, COLORS))):
                known[names[path]] = digest
                journal.add({"file_name": names[path], "sha256": digest})
            yield

    for _ in track(make(), "rendering the source", count, count - len(missing), "scenes"):
        pass
    whole = [{"file_name": name, "sha256": known.get(name) or sha256(path)} for path, name in names.items()]
    if journal.rows != whole:
        journal.rewrite(whole)
    return Segmentation("folder", folder, images="images/{key}.png", labels="labels/{key}.png")


def _as_rendered(path: Path, digest: str | None) -> bool:
    """Whether a rendered file is there and whole; one that is not is said."""
    if not path.exists():
        return False
    try:
        if digest is None:  # written by an older CLOUDS, or just before a kill
            decode_image(read_file(path), str(path))
        if as_written(path, digest):
            return True
        say(f"{path}: is not what was written (damaged or replaced); it is rendered again")
    except DataError as error:
        say(f"{error}; it is rendered again")
    return False


LOOKED_AT = 60  # label maps of a set, evenly spaced
ALWAYS = 0.9  # the share of them that shows a vehicle at the pixel


def find_own_car(labels: list[Labels], vehicles: NDArray[np.integer[Any]]) -> NDArray[np.bool_] | None:
    """Label maps (H, W) of one recording -> where its own car is, bool (H, W); None where none is seen.

    vehicles: the indices of motor vehicles. It is what is a vehicle in nearly all of them and touches the bottom edge,
    with a rim of 1 % of the height. A few images, or such of different sizes, tell nothing.
    """
    if len(labels) < 5 or len({label.shape for label in labels}) > 1:
        return None
    share = np.mean([np.isin(label, vehicles) for label in labels], axis=0)
    _, pieces = cv2.connectedComponents((share >= ALWAYS).astype(np.uint8))
    own = np.isin(pieces, np.setdiff1d(pieces[-1], 0))
    if not own.any():
        return None
    rim = 2 * max(round(0.01 * len(own)), 1) + 1
    grown: NDArray[np.bool_] = cv2.dilate(own.astype(np.uint8), np.ones((rim, rim), np.uint8)).astype(np.bool_)
    return grown


def without(label: Labels, own: NDArray[np.bool_] | None) -> Labels:
    """The label (H, W) with 255 where the own car is; as it is where that has another size."""
    if own is None or own.shape != label.shape:
        return label
    return np.where(own, np.uint8(IGNORE), label)


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
