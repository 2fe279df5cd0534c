"""CVAT: "CVAT for images 1.1", one XML of all images; "segmentation mask 1.1" is Pascal VOC with a labelmap.txt."""

import math
import posixpath
import re
from collections import Counter
from io import BytesIO
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from clouds.config.label_sets import Color
from clouds.data.formats import voc
from clouds.data.formats.drawn import DrawnLabels
from clouds.data.formats.found import BACKGROUND, Finding, FoundSpec, counted
from clouds.data.formats.tree import NothingFoundError, Tree, stem
from clouds.data.shapes import Drawing, Runs, Shape
from clouds.errors import DataError

FILES = "annotations.xml and images/ (CVAT for images 1.1); or those of voc (segmentation mask 1.1)"
_PASSED = ("box", "polyline", "points", "cuboid", "tag", "skeleton")
_DRAWN = ("polygon", "mask", "ellipse")
ELLIPSE = 360  # corners of one that is turned


class _Image(NamedTuple):
    """An image element: its name, its subset, its size (height, width), and its elements that are drawn."""

    name: str
    subset: str
    size: tuple[int, int]
    drawn: list[tuple[int, str, dict[str, str]]]  # z_order, tag and attributes
    file: str


def read(tree: Tree) -> FoundSpec:
    """The set in ``tree``."""
    files = [name for name in tree.ending(".xml", deep=2) if b"<annotations" in tree.files[name].read()[:4096]]
    if not files and any("SegmentationClass/" in name for name in tree):
        return voc.read(tree, "cvat")
    if not files:
        raise NothingFoundError(tree, "cvat", "annotations", FILES)
    found = Finding("cvat", tree.root)
    colors: dict[str, Color | None] = {}
    passed: Counter[str] = Counter()
    images = [image for name in files for image in _images(tree, name, colors, passed)]
    listed = bool(colors)
    names = [*colors] if listed else sorted({each["label"] for image in images for *_, each in image.drawn})
    shades = {name: color for name, color in colors.items() if color}
    label_set = found.classes([*names, *[BACKGROUND] * (BACKGROUND not in names)], tree.where(files[0]), shades)
    index = {name: k for k, name in enumerate(label_set.classes)}
    drawings: dict[str, Drawing] = {}
    for image in images:
        split, where = image.subset or "train", f"{tree.where(image.file)}: image {image.name}"
        home = posixpath.dirname(image.file)
        folders = [posixpath.join(home, part).rstrip("/") for part in (f"images/{image.subset}", "images", "data", "")]
        name = tree.find_image(image.name, folders)
        key = f"{split}/{stem(image.name)}"
        if name is None:
            found.problem(split, where, f"its file is not below {tree.root}; export it with images")
            continue
        if key in drawings:
            found.problem(split, where, "is there twice")
            continue
        shapes, lost = [], False
        for number, (_, tag, each) in enumerate(sorted(image.drawn, key=lambda row: row[0]), 1):
            what = f"{tag} {number} ({each.get('label')})"
            if each.get("label") not in index:
                found.problem(split, f"{where}: {what}", "its label is not among the task's")
                lost = True
                continue
            try:
                shapes.append(_shape(tag, each, index[each["label"]], what))
            except (ValueError, KeyError, OverflowError) as error:
                found.problem(split, f"{where}: {what}", f"cannot be drawn ({error!r})")
                lost = True
        if lost:  # the image would teach background in place of a shape
            continue
        drawings[key] = Drawing(image.size, shapes)
        found.add(split, key, tree.files[name], tree.files[image.file])
    for tag, count in passed.items():
        found.notes.append(counted(count, f"elements <{tag}> have no outline and are passed over"))
    stamp = tree.stamp(lambda name: name.endswith(".xml"))
    return found.done(label_set, reader=DrawnLabels(drawings, index[BACKGROUND], f"cvat {stamp}"))


def _images(tree: Tree, name: str, colors: dict[str, Color | None], passed: Counter[str]) -> list[_Image]:
    """The images of an XML file; adds its classes to ``colors`` and what is not drawn to ``passed``."""
    where, images = tree.where(name), []
    try:
        for _, element in ElementTree.iterparse(BytesIO(tree.files[name].read())):
            if element.tag == "track":
                raise DataError(f"{where}: holds tracks of a video; export it as CVAT for images 1.1")
            if element.tag == "label" and (own := (element.findtext("name") or "").strip()):
                code = re.fullmatch("#?([0-9a-fA-F]{6})", element.findtext("color") or "")
                colors[own] = (int(code[1][:2], 16), int(code[1][2:4], 16), int(code[1][4:], 16)) if code else None
            if element.tag == "image":
                passed.update(each.tag for each in element if each.tag in _PASSED)
                drawn = [(int(each.get("z_order", 0)), each.tag, dict(each.attrib))
                         for each in element if each.tag in _DRAWN]  # fmt: skip
                size = int(element.attrib["height"]), int(element.attrib["width"])
                images.append(_Image(element.attrib["name"], element.get("subset", ""), size, drawn, name))
                element.clear()
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise DataError(f"{where}: not a complete XML file of CVAT ({error!r}); export it again") from error
    return images


def _shape(tag: str, each: dict[str, str], label: int, what: str) -> Shape:
    if tag == "polygon":
        points = [[float(value) for value in point.split(",")] for point in each["points"].split(";")]
        return Shape(label, what, [np.array(points, float).reshape(-1, 2)])
    if tag == "ellipse":
        x, y, across, down = (float(each[key]) for key in ("cx", "cy", "rx", "ry"))
        turn = math.radians(float(each.get("rotation") or 0))  # clockwise, as the picture is seen
        if turn:
            angles = np.linspace(0, 2 * np.pi, ELLIPSE, endpoint=False)
            dx, dy = across * np.cos(angles), down * np.sin(angles)
            sine, cosine = math.sin(turn), math.cos(turn)
            ring = np.stack([x + dx * cosine - dy * sine, y + dx * sine + dy * cosine], 1)
            return Shape(label, what, [ring])
        return Shape(label, what, ellipse=(x - across, y - down, x + across, y + down))
    left, top, width, height = (int(each[key]) for key in ("left", "top", "width", "height"))
    counts = np.array([int(run) for run in each["rle"].split(",")], np.int64)
    return Shape(label, what, runs=Runs(counts, (left, top, width, height), columns=False))
