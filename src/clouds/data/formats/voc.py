"""Pascal VOC, and CVAT's "segmentation mask 1.1": a PNG of class colours for each image."""

import posixpath
import re

import numpy as np

from clouds.base.text import some
from clouds.config.label_sets import Color, LabelSet
from clouds.data.formats.found import Finding, FoundSpec
from clouds.data.formats.tree import NothingFoundError, Tree, stem
from clouds.data.layouts import Layout
from clouds.errors import DataError

FILES = "JPEGImages/, SegmentationClass/, ImageSets/Segmentation/{split}.txt, labelmap.txt"

VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
BORDER: Color = (224, 224, 192)  # index 255 of its palette: between things, no class
_CLASSES, _LISTS = "SegmentationClass", "ImageSets/Segmentation"


def voc_colors(count: int) -> list[Color]:
    """The colours of VOC's palette: the bits of an index dealt out to red, green and blue from the highest down."""
    index = np.arange(count)
    shades = [sum((((index >> (3 * k + c)) & 1) << (7 - k)) for k in range(8)) for c in range(3)]
    return [(int(r), int(g), int(b)) for r, g, b in np.stack(shades, 1)]


def read(tree: Tree, name: str = "voc") -> FoundSpec:
    """The set in ``tree``."""
    bases = sorted({match[1] for each in tree if (match := re.match(rf"((?:[^/]+/){{0,4}}?){_CLASSES}/", each))})
    if not bases:
        raise NothingFoundError(tree, name, f"{_CLASSES}/", FILES)
    if len(bases) > 1:
        raise DataError(f"{tree.root}: {name}: {_CLASSES}/ lies in {some([b or './' for b in bases], 4)}; give one of "
                        "them as root")  # fmt: skip
    base = bases[0]
    found = Finding(name, tree.root)
    label_set, layout = _classes(tree, base, found)
    masks = {stem(each.removeprefix(f"{base}{_CLASSES}/")): each for each in tree
             if each.startswith(f"{base}{_CLASSES}/") and each.lower().endswith(".png")}  # fmt: skip
    beside = tuple(f"{base}{folder}/" for folder in (_CLASSES, "SegmentationObject"))
    lists = _lists(tree, base)
    for split, keys in (lists or {"train": [*masks]}).items():
        for key in dict.fromkeys(keys):
            where = tree.where(f"{base}{_LISTS}/{split}.txt") if lists else str(tree.root)
            image = tree.find_image(key, [f"{base}JPEGImages", f"{base}images"], beside)
            if key not in masks:
                what = f"lists {key}, which has no label; expected {_CLASSES}/{key}.png"
                if image is None:
                    found.problem(split, where, what)
                else:
                    found.without(split, tree.files[image], where, what)
            elif image is None:
                found.problem(split, tree.where(masks[key]), f"is the label of no image; expected JPEGImages/{key}.jpg")
            else:
                found.add(split, f"{split}/{key}" if len(lists) > 1 else key, tree.files[image], tree.files[masks[key]])
    if both := {*lists.get("train", ())} & {*lists.get("val", ())}:
        where = tree.where(f"{base}{_LISTS}/val.txt")
        found.problem("val", where, f"lists {some(sorted(both), 3)} too, which train.txt lists; keep each in one")
    return found.done(label_set, layout, asked=[split for split in lists if split not in ("train", "val", "test")])


def _lists(tree: Tree, base: str) -> dict[str, list[str]]:
    """Split -> the names that its list has."""
    lists = {}
    for each in tree.ending(".txt"):
        if posixpath.dirname(each) == f"{base}{_LISTS}":
            lines = tree.files[each].read().decode("utf-8-sig", "replace").splitlines()
            lists[stem(posixpath.basename(each))] = [line.strip() for line in lines if line.strip()]
    order = {"train": 0, "val": 1, "test": 2}
    return dict(sorted(lists.items(), key=lambda item: order.get(item[0], 3)))


def _classes(tree: Tree, base: str, found: Finding) -> tuple[LabelSet, Layout]:
    """Of labelmap.txt beside the folders, without one those of VOC; one channel stores the number of the line."""
    name = next((each for each in (f"{base}labelmap.txt", f"{base}labelmap.txt".lower()) if each in tree.files), None)
    if name is None:
        return painted([*VOC], dict(zip(VOC, voc_colors(21), strict=True)), str(tree.root), found)
    colors: dict[str, Color] = {}
    homes: dict[Color, str] = {}
    where = tree.where(name)
    for number, line in enumerate(tree.files[name].read().decode("utf-8-sig", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(":")
        shade = [int(c) for c in re.findall(r"\d+", parts[1])] if len(parts) > 1 else []
        if len(shade) != 3 or max(shade) > 255 or not parts[0].strip():
            found.fault(f"{where} line {number}", f"is {line[:60]!r}; expected name:red,green,blue::")
            continue
        own, color = parts[0].strip(), (shade[0], shade[1], shade[2])
        if own in colors:
            found.fault(f"{where} line {number}", f"has {own} a second time; keep one")
        elif color in homes:
            found.fault(f"{where} line {number}", f"gives {own} the colour {color} of {homes[color]}; their pixels "
                        "cannot be distinguished")  # fmt: skip
        colors[own] = color
        homes.setdefault(color, own)
    return painted([*colors], colors, where, found)


def painted(
    names: list[str], colors: dict[str, Color], where: str, found: Finding, numbers: dict[int, str] | None = None
) -> tuple[LabelSet, Layout]:
    """Labels in the classes' colours, or in one channel their ``numbers``, by default in the order of the names; VOC's
    border is no class."""
    label_set = found.classes(names, where, colors)
    own = {BORDER: ""} | {color: name for name, color in colors.items()}
    return label_set, Layout("{key}.{ext}", "{key}.png", "colour", values=numbers or dict(enumerate(names)), colors=own)
