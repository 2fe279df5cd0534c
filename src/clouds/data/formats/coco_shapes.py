"""COCO's polygons and run lengths, read from the annotation file when a label is drawn."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clouds.config.label_sets import LabelSet
from clouds.data.formats.coco_file import Annotation, CocoFile, Part
from clouds.data.formats.drawn import DrawnLabels
from clouds.data.formats.found import BACKGROUND, Finding, counted
from clouds.data.formats.tree import Tree
from clouds.data.samples import Sample
from clouds.data.shapes import Drawing, Shape, area_of, uncompressed
from clouds.errors import DataError


class _Picture(NamedTuple):
    """An image: (height, width) in pixels, the number of its annotation file, and its rows of ``spans``."""

    size: tuple[int, int]
    part: int
    first: int
    end: int


class DrawnAnnotations(DrawnLabels):
    """Reads polygons and run lengths when they are drawn: crowds first, then from the largest down, so that what is
    small lies on top."""

    def __init__(
        self, parts: Sequence[Part], pictures: Mapping[str, _Picture], background: int, meaning: str
    ) -> None:
        super().__init__({}, background, meaning)
        self.parts, self.pictures = parts, pictures

    def drawing(self, sample: Sample, max_pixels: int) -> Drawing:  # noqa: ARG002 - as of all readers
        picture = self.pictures[sample.name]
        part = self.parts[picture.part]
        shapes: list[tuple[bool, float, Shape]] = []
        for each in part.read(picture.first, picture.end):
            shape = Shape(part.classes[each.category], f"annotation {each.id}", each.rings, runs=each.runs)
            shapes.append((not each.crowd, -_area(each), shape))
        shapes.sort(key=lambda row: row[:2])
        return Drawing(picture.size, [shape for *_, shape in shapes])


def _area(each: Annotation) -> float:
    """The area that the file gives, else that of the polygons or of the run lengths, in pixels."""
    if each.area or not each.runs:
        return each.area or sum(area_of(ring) for ring in each.rings)
    counts = each.runs.counts
    try:
        return float((uncompressed(counts, "") if isinstance(counts, str) else counts)[1::2].sum())
    except DataError:  # painting it says so
        return 0.0


def read(files: Sequence[CocoFile], label_set: LabelSet, tree: Tree, found: Finding, stamp: str) -> DrawnLabels:
    """Polygons and run lengths: their places in the files, by image."""
    pictures: dict[str, _Picture] = {}
    parts: list[Part] = []
    boxes, crowds, total = 0, 0, 0
    for file in files:
        notes, classes = file.annotations, {key: label_set.classes.index(name) for key, name in file.ids.items()}
        bad = _find_bad(file, classes, found)
        drawn, crowd = np.array(notes.drawn, bool), np.array(notes.crowd, bool)
        boxes += int((~drawn & ~bad).sum())
        crowds += int((drawn & crowd & ~bad).sum())
        total += len(notes)
        image, kept = np.array(notes.image), np.flatnonzero(drawn & ~bad)
        kept = kept[np.argsort(image[kept], kind="stable")]
        keys = [*notes.images]
        spoiled = {keys[k] for k in np.unique(image[bad]).tolist()}  # they would teach background in place of a shape
        first = np.searchsorted(image[kept], np.arange(len(notes.images) + 1)).tolist()
        for key, (sample, name, record) in file.images.items():
            if key in spoiled:
                continue
            if not isinstance(record.height, int) or not isinstance(record.width, int):
                what = f"has a size of {record.width}x{record.height}"
                found.problem(file.split, f"{file.where}: image {key}", what)
                continue
            k = notes.images.get(key)
            rows = (0, 0) if k is None else (first[k], first[k + 1])
            pictures[sample] = _Picture((record.height, record.width), len(parts), *rows)
            found.add(file.split, sample, tree.files[name], tree.files[file.name])
        parts.append(Part(notes.file, classes, notes.spans()[kept]))
    if total and boxes == total:
        found.fault(files[0].where, f"its {total} annotations are boxes without a segmentation; there are no masks")
    if boxes:
        found.notes.append(counted(boxes, f"of {total} annotations have no segmentation and are passed over"))
    if crowds:
        found.notes.append(counted(crowds, "annotations are crowds: each is a region of its class, below all others"))
    return DrawnAnnotations(parts, pictures, label_set.classes.index(BACKGROUND), stamp)


def _find_bad(file: CocoFile, classes: Mapping[Any, int], found: Finding) -> NDArray[np.bool_]:
    """(N,): which annotations cannot be drawn; a problem for each."""
    notes = file.annotations
    image, category, mask = np.array(notes.image), np.array(notes.category), np.array(notes.mask)
    bad: NDArray[np.bool_] = ~np.array([key in file.listed for key in notes.images])[image]
    bad |= ~np.array([key in classes for key in notes.categories])[category]
    sizes = {key: (record.width, record.height) for key, (_, _, record) in file.images.items()
             if isinstance(record.width, int) and isinstance(record.height, int)}  # fmt: skip
    # the number of the mask that an image's size asks for; -1: none is of its size, -2: its size is not given
    wanted = np.array([notes.masks.get(sizes[key], -1) if key in sizes else -2 for key in notes.images])[image]
    bad |= (mask > 0) & (wanted != -2) & (mask != wanted)
    bad[notes.faulty] = True
    named = Part(notes.file, {}, notes.spans()[bad])
    for each in named.read(0, len(named.spans)):
        if each.image not in file.listed:
            what = f"is of image {each.image}, which is not listed"
        elif each.category not in classes:
            what = f"has category {each.category}, which is not listed"
        elif each.runs:
            (width, height), (_, _, w, h) = sizes[each.image], each.runs.box
            what = f"its run lengths are of {w}x{h} pixels, its image is {width}x{height}"
        else:
            what = each.fault
        found.problem(file.split, f"{file.where}: annotation {each.id}", what)
    return bad
