"""COCO: one JSON file of many images, with polygons and run lengths, or with PNG files of segments (panoptic)."""

import posixpath
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

from clouds.base.text import some
from clouds.config.label_sets import Color, LabelSet
from clouds.data.formats import coco_segments, coco_shapes
from clouds.data.formats.coco_file import CocoFile, read_file
from clouds.data.formats.found import BACKGROUND, Finding, FoundSpec, split_in
from clouds.data.formats.tree import NothingFoundError, Tree, stem
from clouds.errors import DataError

FILES = (
    "a JSON file of images, annotations and categories for each split: annotations/instances_train.json, "
    "annotations/panoptic_train.json with the folder panoptic_train/, {split}/_annotations.coco.json, labels.json"
)

# files of COCO without classes of pixels
_OTHER = ("captions_*", "person_keypoints_*", "image_info_*", "dataset_meta*")
_RANK = ("panoptic", "instances", "")  # of several files of a split the one whose name has the first of these is read
MOST_LOOKED_AT = 20  # JSON files of a split that are opened to find the one with annotations


def read(tree: Tree, annotations: str = "") -> FoundSpec:
    """The set in ``tree``; ``annotations``: a pattern of the annotation files, as "annotations/stuff_*.json"."""
    found = Finding("coco", tree.root)
    files = _files(tree, annotations, found)
    label_set = _classes(files, found)
    if len({file.panoptic for file in files}) > 1:
        kinds = ", ".join(f"{file.name} ({'panoptic' if file.panoptic else 'not'})" for file in files)
        found.fault(str(tree.root), f"some annotation files are panoptic, some not: {kinds}; say which: annotations")
        found.stop()
    for file in files:
        _find_images(file, tree, found)
    found.stop()
    stamp = f"coco {tree.stamp(lambda name: name.endswith('.json'))}"
    if files[0].panoptic:
        return found.done(label_set, reader=coco_segments.read(files, label_set, tree, found, stamp))
    if BACKGROUND not in label_set.classes:
        colors = dict(zip(label_set.classes, label_set.colors, strict=True))
        label_set = found.classes([*label_set.classes, BACKGROUND], files[0].where, colors)
    return found.done(label_set, reader=coco_shapes.read(files, label_set, tree, found, stamp))


def _files(tree: Tree, pattern: str, found: Finding) -> list[CocoFile]:
    """The annotation files, one a split."""
    names = tree.ending(".json", deep=3)
    names = [name for name in names if not any(fnmatch(posixpath.basename(name), other) for other in _OTHER)]
    if pattern:
        names = [name for name in names if fnmatch(name, pattern.replace("{split}", "*"))]
        if not names:
            raise DataError(f"{tree.root}: coco: no JSON file is {pattern}; there is "
                            f"{some(tree.ending('.json', deep=3), 6) or tree.holds()}")  # fmt: skip
    by_split: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_split[split_in(stem(name).replace("_annotations.coco", ""))].append(name)
    files = []
    for split, own in by_split.items():
        ranked = [[name for name in own if _rank(name) == rank] for rank in range(len(_RANK))]
        read: list[CocoFile] = []
        for names in ranked:  # a file of a lower rank is not opened where there is one of a higher
            if not read:
                read = [f for name in names[:MOST_LOOKED_AT] if (f := read_file(tree, name, split)) is not None]
            elif names:
                found.notes.append(f"{read[0].name} is read, not {some(names, 3)}; annotations=PATTERN picks another")
        if len(read) > 1:
            found.fault(read[0].where, f"is one of {len(read)} annotation files of split {split!r} "
                        f"({some([file.name for file in read], 4)}); say which: annotations=PATTERN")  # fmt: skip
        files += read[:1]
    found.stop()
    if not files:
        raise NothingFoundError(tree, "coco", "annotation file", FILES)
    return files


def _rank(name: str) -> int:
    return next(k for k, word in enumerate(_RANK) if word in posixpath.basename(name))


def _classes(files: Sequence[CocoFile], found: Finding) -> LabelSet:
    """The classes of all files by name, in the order of their ids."""
    first: dict[str, int] = {}
    colors: dict[str, Color] = {}
    for file in files:
        for category in file.categories:
            key, name, color = category.get("id"), category.get("name"), category.get("color")
            if not isinstance(key, int) or not isinstance(name, str):
                found.fault(file.where, f"category {str(category)[:60]}: expected an id, a whole number, and a name")
                continue
            if file.ids.setdefault(key, name) != name:
                found.fault(file.where, f"category id {key} is given twice, to {file.ids[key]!r} and {name!r}")
            first[name] = min(key, first.get(name, key))
            if isinstance(color, list) and len(color) == 3 and all(isinstance(c, int) for c in color):
                colors[name] = (color[0], color[1], color[2])
    return found.classes(sorted(first, key=lambda name: first[name]), files[0].where, colors)


def _find_images(file: CocoFile, tree: Tree, found: Finding) -> None:
    """Fill in ``file.images``; problems for those that are not there."""
    home, split = posixpath.dirname(file.name), file.split
    parts = ("", "images", split, f"images/{split}", f"{split}/images", "data", "JPEGImages", "images/default")
    bases = dict.fromkeys((home, posixpath.dirname(home), ""))
    folders = [posixpath.join(base, part).rstrip("/") for base in bases for part in parts]
    besides = tuple(f"{folder}/" for folder in coco_segments.folders(file)[:2]) if file.panoptic else ()
    missing: list[tuple[Any, str]] = []
    samples: set[str] = set()
    for record in file.records:
        key, named = record.id, record.file_name
        what = f"{file.where}: image {key}"
        if not isinstance(named, str) or not isinstance(key, int | str):
            found.problem(split, what, "has no id or no file_name")
        elif key in file.listed:
            found.problem(split, what, f"its id is given twice, also to {named}")
        elif (sample := f"{split}/{stem(named)}") in samples:
            found.problem(split, what, f"is the second one of file_name {named}")
        elif (name := tree.find_image(named, folders, besides)) is None:
            missing.append((key, named))
        else:
            file.images[key] = sample, name, record
            samples.add(sample)
        file.listed.add(key if isinstance(key, int | str) else None)
    if missing and not file.images:
        found.fault(file.where, f"none of its {len(missing)} images is below {tree.root}, such as {missing[0][1]}; put "
                    f"them beside it, into images/ or into {split}/")  # fmt: skip
        return
    for key, named in missing:
        found.problem(split, f"{file.where}: image {key}", f"its file {named} is not below {tree.root}")
