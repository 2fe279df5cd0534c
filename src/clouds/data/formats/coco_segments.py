"""COCO's panoptic PNG files: the number of a segment in each pixel, its class in the JSON file."""

import posixpath
from collections.abc import Sequence

import numpy as np

from clouds.base.arrays import Labels
from clouds.base.text import some
from clouds.config.label_sets import IGNORE, LabelSet
from clouds.data.encodings import decode_label
from clouds.data.formats.coco_file import CocoFile
from clouds.data.formats.found import Finding
from clouds.data.formats.tree import Tree, stem, within
from clouds.data.pairing import Sample
from clouds.errors import DataError


class SegmentPictures:
    """Reads them: a pixel's red + 256 green + 65536 blue is the id of its segment, 0 none."""

    def __init__(self, segments: dict[str, dict[int, int]], meaning: str) -> None:
        """segments: of each sample's name, segment id -> index of its class."""
        self.segments, self.meaning = segments, meaning

    def __call__(self, sample: Sample, max_pixels: int) -> Labels:
        assert sample.label
        where = str(sample.label)
        raw = decode_label(sample.label.read(), where, max_pixels, palette=False)
        if raw.ndim != 3:
            raise DataError(f"{where}: one channel; expected RGB, the number of the segment in each pixel")
        numbers = raw.astype(np.int64) @ np.array([1, 256, 65536])  # (H, W)
        present, inverse = np.unique(numbers, return_inverse=True)
        known = self.segments[sample.name] | {0: IGNORE}
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


def read(
    files: Sequence[CocoFile], label_set: LabelSet, tree: Tree, found: Finding, stamp: str
) -> SegmentPictures:
    """Pair the images with their PNG files."""
    segments: dict[str, dict[int, int]] = {}
    for file in files:
        index = {key: label_set.classes.index(name) for key, name in file.ids.items()}
        for each in file.annotations:
            what = f"{file.where}: image {each.image}"
            if each.image not in file.listed:
                what = f"{file.where}: annotation {each.file}"
                found.problem(file.split, what, f"is of image {each.image}, which is not listed")
            elif each.fault or any(c not in index or not isinstance(s, int) for s, c in each.segments):
                found.problem(file.split, what, "has a segment without an id, or of a category that is not listed")
            elif each.image in file.images:
                sample, name, _ = file.images[each.image]
                picture = tree.find_image(each.file, folders(file))
                if picture is None or picture == name:
                    found.problem(file.split, what, f"its segments' file {each.file} is not in {folders(file)[0]}/")
                elif sample in segments:
                    found.problem(file.split, what, "has two annotations; expected one")
                else:
                    segments[sample] = {number: index[category] for number, category in each.segments}
                    found.add(file.split, sample, tree.files[name], tree.files[picture])
        without = file.images.keys() - {each.image for each in file.annotations}
        for key in sorted(without, key=str):
            image = tree.files[file.images[key][1]]
            found.without(file.split, image, f"{file.where}: image {key}", "has no annotation")
    return SegmentPictures(segments, stamp)
