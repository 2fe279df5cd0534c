"""Look through a dataset before long work: pair its files, decode them, count its classes, list all that is wrong."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Labels, Pixels
from clouds.base.pick import evenly
from clouds.base.progress import track
from clouds.config.label_sets import IGNORE
from clouds.data.datasets import Segmentation, find_spec, scan_split
from clouds.data.exif import orientation
from clouds.data.formats.found import FormatError
from clouds.data.labels import LabelSet, find_label_set
from clouds.data.layouts import Spec
from clouds.data.levels import MissingSplitError, NoFilesError, fill
from clouds.data.own_car import find_own_car, motor_vehicles
from clouds.data.samples import DataProblem
from clouds.errors import DataError

SAMPLE = 100  # pairs of a split that are decoded unless all are
EXAMPLES = 12
THUMBNAIL = 300  # pixels of its longer side


@dataclass
class Example:
    """A pair, small: image (h, w, 3), label (h, w), no side longer than THUMBNAIL."""

    name: str
    image: Pixels
    label: Labels


@dataclass
class Inspection:
    """What a look through a dataset found. counts: pixels of each class of ``label_set``, among ``decoded`` pairs."""

    name: str
    root: str
    label_set: LabelSet
    labelled: bool = True
    splits: dict[str, int] = field(default_factory=dict)  # pairs of each split that is there
    decoded: int = 0
    problems: list[DataProblem] = field(default_factory=list)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    smallest: tuple[int, int] | None = None  # (height, width) of the image with the shortest side
    examples: list[Example] = field(default_factory=list)
    shown: set[str] | None = None  # the classes of ``label_set`` that labels can show; None: all
    fold: dict[str, str | None] = field(default_factory=dict)  # its classes -> the model's, where a recipe says so
    turned: list[tuple[str, int]] = field(default_factory=list)  # (path, EXIF orientation) of images with labels
    notes: list[str] = field(default_factory=list)  # what is lost or passed over, a line each
    opened: bool = True  # whether its classes are known
    unseen: int = 0  # pairs that were not decoded, being more than a sample
    own_car: float = 0.0  # the share of the picture that the car under the camera takes, where labels show one

    @property
    def pairs(self) -> int:
        return sum(self.splits.values())


def inspect_set(
    name: str, root: Path, spec: Spec | None = None, splits: Sequence[str] | None = None, full: bool = False,
    version: str = "", exif: str = "refuse"
) -> Inspection:
    """Everything that is there of a dataset, or of some of its ``splits``; an absent split is no problem.

    ``spec``: the row of a "folder"; ``version``, ``exif``: as for ``Segmentation``, but that what is refused for its
    EXIF orientation is looked at too. Nothing is raised for the data's sake.
    """
    spec = spec or find_spec(name)
    found = Inspection(name, str(root), find_label_set(spec.label_set))
    for split in splits or _disjoint(spec):
        try:
            paired = scan_split(name, spec, root, split, version)
        except NoFilesError as error:
            if empty := _empty_folder(spec, root, split):
                found.problems.append(empty)
            elif splits or not (isinstance(error, MissingSplitError) or found.problems):
                found.problems.append(_problem(error, str(root)))
            continue
        except DataError as error:
            found.problems.append(_problem(error, str(root)))
            break
        found.problems += paired.problems
        found.notes += [note for note in paired.notes if note not in found.notes]
        found.splits[split] = len(paired.samples)
        if paired.samples:
            shown = "ignore" if exif == "refuse" else exif
            data = Segmentation.of(name, spec, split, paired, shown)
            _look(data, split, full, found)
            found.notes += [note for note in data.notes() if note not in found.notes]
    if exif == "refuse" and found.turned:
        path, how = found.turned[0]
        found.problems.append(DataProblem(path, (
            f"its EXIF orientation is {how}, and {len(found.turned)} of the images looked at have one; training and "
            "scoring refuse them until data.exif=ignore (labels are drawn on the stored pixels) or data.exif=apply "
            "(on the turned picture) says how their labels lie"
        )))  # fmt: skip
    return found


def unopened(name: str, root: Path, error: DataError, label_set: LabelSet) -> Inspection:
    """Of a set that cannot be read at all; ``label_set`` stands in for its classes."""
    faults = error.faults if isinstance(error, FormatError) else [_problem(error, str(root))]
    return Inspection(name, str(root), label_set, shown=set(), problems=list(faults), opened=False)


def _disjoint(spec: Spec) -> list[str]:
    """The splits, without those that only gather others."""
    own: list[str] = []
    for split, parts in spec.splits.items():
        if split not in spec.asked and not all(any(part in spec.splits[other] for other in own) for part in parts):
            own.append(split)
    return own


def _empty_folder(spec: Spec, root: Path, split: str) -> DataProblem | None:
    """The folder of a split that is there without an image in it."""
    for layout in spec.layouts:
        for part in spec.splits[split]:
            start = layout.images.replace("{split}", part).partition("{key}")[0].rpartition("/")[0]
            # what several splits share is no split's own folder
            if start and (len(spec.splits) == 1 or "{split}" in layout.images) and (root / start).is_dir():
                what = f"holds no image of split {split!r}; expected {fill(layout.images, part, '*')}"
                return DataProblem(str(root / start), what)
    return None


def _problem(error: DataError, path: str) -> DataProblem:
    """The error's message begins with the path of what is wrong: ``path`` itself, or what lies below it."""
    text = str(error)
    below, sign, what = text.removeprefix(path).partition(": ")
    return DataProblem(path + below, what) if sign and text.startswith(path) else DataProblem(path, text)


def _look(data: Segmentation, split: str, full: bool, found: Inspection) -> None:
    """Decode the pairs, or evenly spaced ones of them, and add what they show."""
    chosen = evenly(len(data), len(data) if full else SAMPLE)
    kept = {chosen[k] for k in evenly(len(chosen), EXAMPLES)}
    small: list[Labels] = []
    found.unseen += len(data) - len(chosen)
    found.label_set, found.labelled, found.shown = data.label_set, data.labelled, data.shown

    def rows() -> Iterator[_Look]:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            yield from pool.map(lambda i: _decode(data, i, i in kept), chosen)

    for look in track(rows(), f"checking {found.name} {split}", len(chosen), unit="pairs"):
        found.problems += look.problems
        found.turned += look.turned
        found.decoded += not look.problems
        found.counts += look.counts
        if look.size and (found.smallest is None or min(look.size) < min(found.smallest)):
            found.smallest = look.size
        if look.example:
            small.append(look.example.label)
            if look.kept:
                found.examples.append(look.example)
    if data.labelled and (own := find_own_car(small, np.array(motor_vehicles(data.label_set)))) is not None:
        found.own_car = max(found.own_car, float(own.mean()))


@dataclass
class _Look:
    problems: list[DataProblem]
    counts: NDArray[np.int64]
    size: tuple[int, int] | None = None
    example: Example | None = None
    kept: bool = False  # on the contact sheet
    turned: list[tuple[str, int]] = field(default_factory=list)


def _decode(data: Segmentation, index: int, keep: bool) -> _Look:
    """One pair; what is wrong with its image and with its label are kept apart."""
    sample = data.samples[index]
    look = _Look([], np.zeros(256, np.int64))
    image = label = None
    try:
        image = data.image(index)
        look.size = (image.shape[0], image.shape[1])
    except DataError as error:
        look.problems.append(_problem(error, str(sample.image)))
    if data.labelled:
        if image is not None and 2 <= (how := orientation(sample.image.read())) <= 8:
            look.turned.append((str(sample.image), how))
        try:
            label = data.label(index)
            if image is not None:
                data.check_pair(index, image.shape, label.shape)
        except DataError as error:
            look.problems.append(_problem(error, str(sample.label)))
    if look.problems or image is None:
        return look
    if label is None:
        label = np.full(image.shape[:2], IGNORE, np.uint8)
    look.counts = np.bincount(label.ravel(), minlength=256)
    look.example, look.kept = shrunk(sample.name, image, label), keep
    return look


def shrunk(name: str, image: Pixels, label: Labels) -> Example:
    """Image (H, W, 3) and label (H, W) as an example whose longer side is THUMBNAIL."""
    scale = THUMBNAIL / max(label.shape)
    size = max(round(scale * label.shape[1]), 1), max(round(scale * label.shape[0]), 1)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return Example(name, small, cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT))
