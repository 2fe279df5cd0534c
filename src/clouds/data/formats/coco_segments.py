"""COCO's panoptic PNG files: the number of a segment in each pixel, its class in the JSON file."""

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Labels
from clouds.base.text import some
from clouds.config.label_sets import IGNORE, LabelSet
from clouds.data.encodings import decode_label
from clouds.data.formats.coco_file import Annotations, CocoFile, Part
from clouds.data.formats.found import Finding
from clouds.data.formats.tree import Tree, stem, within
from clouds.data.samples import Sample
from clouds.errors import DataError


class SegmentPictures:
    """Reads them: a pixel's red + 256 green + 65536 blue is the id of its segment, 0 none."""

    def __init__(self, parts: Sequence[Part], rows: dict[str, tuple[int, int]], meaning: str) -> None:
        """rows: of each sample's name, the number of its part and the row of its annotation there."""
        self.parts, self.rows, self.meaning = parts, rows, meaning

    def __call__(self, sample: Sample, max_pixels: int) -> Labels:
        assert sample.label
        where = str(sample.label)
        raw = decode_label(sample.label.read(), where, max_pixels, palette=False)
        if raw.ndim != 3:
            raise DataError(f"{where}: one channel; expected RGB, the number of the segment in each pixel")
        numbers = raw.astype(np.int64) @ np.array([1, 256, 65536])  # (H, W)
        present, inverse = np.unique(numbers, return_inverse=True)
        number, row = self.rows[sample.name]
        part = self.parts[number]
        (each,) = part.read(row, row + 1)
        known = {segment: part.classes[category] for segment, category in each.segments} | {0: IGNORE}
        if strange := [str(number) for number in present.tolist() if number not in known]:
            raise DataError(f"{where}: segments {some(strange, 6)} are not in its segments_info")
        table = np.array([known[number] for number in present.tolist()], np.uint8)
        label: Labels = table[inverse].reshape(numbers.shape)
        return label

    def notes(self) -> list[str]:
        """None: each pixel has one segment."""
        return []


def folders(file: CocoFile) -> list[str]:
    """Where the PNG files of an annotation file may lie: panoptic_val/ beside panoptic_val.json first."""
    home, own = posixpath.dirname(file.name), stem(posixpath.basename(file.name))
    parts = (own, f"{own}/{own}", "masks", f"masks/{file.split}", "")
    return [folder for part in parts if (folder := within(home, part)) is not None]


def read(files: Sequence[CocoFile], label_set: LabelSet, tree: Tree, found: Finding, stamp: str) -> SegmentPictures:
    """Pair the images with their PNG files."""
    parts: list[Part] = []
    rows: dict[str, tuple[int, int]] = {}
    for file in files:
        notes, classes = file.annotations, {key: label_set.classes.index(name) for key, name in file.ids.items()}
        faulty, images = _faulty(notes, classes), [*notes.images]
        for row, (number, named) in enumerate(zip(notes.image, notes.files, strict=True)):
            key = images[number]
            what = f"{file.where}: image {key}"
            if key not in file.listed:
                what = f"{file.where}: annotation {named}"
                found.problem(file.split, what, f"is of image {key}, which is not listed")
            elif faulty[row]:
                found.problem(file.split, what, "has a segment without an id, or of a category that is not listed")
            elif key in file.images:
                sample, name, _ = file.images[key]
                picture = tree.find_image(named, folders(file))
                if picture is None or picture == name:
                    found.problem(file.split, what, f"its segments' file {named} is not in {folders(file)[0]}/")
                elif sample in rows:
                    found.problem(file.split, what, "has two annotations; expected one")
                else:
                    rows[sample] = len(parts), row
                    found.add(file.split, sample, tree.files[name], tree.files[picture])
        parts.append(Part(notes.file, classes, notes.spans()))
        for key in sorted(file.images.keys() - notes.images.keys(), key=str):
            image = tree.files[file.images[key][1]]
            found.without(file.split, image, f"{file.where}: image {key}", "has no annotation")
    return SegmentPictures(parts, rows, stamp)


def _faulty(notes: Annotations, classes: Mapping[Any, int]) -> NDArray[np.bool_]:
    """(N,): which annotations have a segment without an id, or of a category that is not listed."""
    strange = ~np.array([key in classes for key in notes.categories])[np.array(notes.segment_categories, np.int64)]
    own = np.repeat(np.arange(len(notes)), np.array(notes.segments))
    faulty = np.zeros(len(notes), bool)
    faulty[own[strange]] = True
    faulty[notes.faulty] = True
    return faulty
