"""Roboflow's exports: those for COCO and YOLO, and masks of class numbers with their names in _classes.csv."""

import csv
import posixpath

from clouds.data.formats import coco, yolo
from clouds.data.formats.found import Finding, FoundSpec, split_in
from clouds.data.formats.tree import NothingFoundError, Tree, stem
from clouds.data.layouts import Layout

FILES = "{split}/_annotations.coco.json; data.yaml; or {split}/_classes.csv and X_mask.png beside X.jpg"
_CLASSES, _MASK = "_classes.csv", "_mask"


def read(tree: Tree) -> FoundSpec:
    """The set in ``tree``, by the files that are there."""
    if tree.ending("_annotations.coco.json"):
        return coco.read(tree)
    lists = [name for name in tree.ending(_CLASSES) if posixpath.basename(name) == _CLASSES]
    if not lists and tree.ending(".yaml"):
        return yolo.read(tree)
    if not lists:
        raise NothingFoundError(tree, "roboflow", "export", FILES)
    found = Finding("roboflow", tree.root)
    classes = {name: _classes(tree, name, found) for name in lists}
    values = classes[lists[0]]
    for name in lists[1:]:
        if classes[name] != values:
            found.fault(tree.where(name), f"has other classes than {lists[0]}")
    label_set = found.classes([*values.values()], tree.where(lists[0]))
    for each in lists:
        folder = posixpath.dirname(each)
        split = split_in(folder)
        own = [name for name in tree.images(folder) if posixpath.dirname(name) == folder]
        masks = {stem(name).removesuffix(_MASK): name for name in own if stem(name).endswith(_MASK)}
        images = {stem(name): name for name in own if not stem(name).endswith(_MASK)}
        for key in sorted(images.keys() | masks.keys()):
            if key not in masks:
                place = tree.files[images[key]]
                found.without(split, place, str(place), f"has no label; expected {key}{_MASK}.png")
            elif key not in images:
                found.problem(split, tree.where(masks[key]), "is the label of no image")
            else:
                found.add(split, key, tree.files[images[key]], tree.files[masks[key]])
    return found.done(label_set, Layout("{key}.{ext}", "{key}_mask.png", values=values))


def _classes(tree: Tree, name: str, found: Finding) -> dict[int, str]:
    """Pixel value -> class."""
    values: dict[int, str] = {}
    text = tree.files[name].read().decode("utf-8-sig", "replace")
    for number, row in enumerate(csv.reader(text.splitlines(), skipinitialspace=True), 1):
        if number == 1 or not row:
            continue
        if len(row) < 2 or not row[0].strip().isdecimal() or int(row[0]) > 254:
            found.fault(f"{tree.where(name)} line {number}", f"is {','.join(row)[:60]!r}; expected 0..254 and a class")
        elif (value := int(row[0])) in values or row[1].strip() in values.values():
            found.fault(f"{tree.where(name)} line {number}", f"has {value} or {row[1].strip()} a second time")
        else:
            values[value] = row[1].strip()
    return values
