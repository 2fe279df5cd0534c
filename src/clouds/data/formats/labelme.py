"""labelme: a JSON file of shapes for each image."""

import base64
import json
import math
import posixpath
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from clouds.config.label_sets import IGNORE
from clouds.data.archives import Files
from clouds.data.formats.drawn import DrawnLabels, upright_size
from clouds.data.formats.found import BACKGROUND, Finding, FoundSpec, counted, split_in
from clouds.data.formats.tree import NothingFoundError, Tree, stem
from clouds.data.images import BROKEN
from clouds.data.samples import Place, Sample
from clouds.data.shapes import Drawing, Shape
from clouds.errors import DataError

FILES = "one JSON an image, beside it or with the image inside; labels.txt for the order of the classes"
_UNDER, _IGNORED = "_background_", "__ignore__"  # names that labelme's own tools use


class _Kind(NamedTuple):
    """What a shape is, as far as finding the set needs it."""

    label: str
    fault: str  # why it cannot be drawn
    passed: str  # its type, of one without an inside


class _File(NamedTuple):
    """What is kept of a JSON file until all are read."""

    image: str  # the path that it names
    held: bool  # whether the picture is inside
    sized: bool  # whether it says the picture's size
    shapes: list[_Kind]


def read(tree: Tree) -> FoundSpec:
    """The set in ``tree``. All its JSON files are read: they alone say what is labelled."""
    found = Finding("labelme", tree.root)
    kinds: dict[_Kind, _Kind] = {}  # one object for all shapes that are alike
    files = {name: _file(content, kinds) for name in tree.ending(".json") if (content := _content(tree.files[name]))}
    if not files:
        raise NothingFoundError(tree, "labelme", "shapes", FILES)
    lists = [name for name in tree.ending("labels.txt") if posixpath.basename(name) == "labels.txt"]
    used = sorted({kind.label for kind in kinds})
    listed = tree.files[lists[0]].read().decode("utf-8-sig", "replace").splitlines() if lists else used
    names = [name.strip() for name in listed if name.strip() not in ("", _IGNORED)]
    names = [BACKGROUND if name == _UNDER else name for name in names]
    label_set = found.classes([*names, *[BACKGROUND] * (BACKGROUND not in names)], tree.where((lists or [*files])[0]))
    index = {name: k for k, name in enumerate(label_set.classes)} | {_IGNORED: IGNORE}
    index[_UNDER] = index[BACKGROUND]
    splits = {name: split_in(posixpath.dirname(name), "") for name in files}
    passed: Counter[str] = Counter()
    for name, file in files.items():
        split = splits[name] if all(splits.values()) else "train"
        image = _image(tree, name, file)
        if image is None:
            found.problem(split, tree.where(name), f"its image {file.image} is not there, nor inside it")
            continue
        for k, (label, fault, kind) in enumerate(file.shapes, 1):
            where = f"{tree.where(name)}: shape {k} ({label})"
            if label not in index:
                found.problem(split, where, "its label is not in labels.txt")
            elif fault:
                found.problem(split, where, fault)
            elif kind:
                passed[kind] += 1
        if not file.sized:
            upright_size(image.read(), str(image))  # an image without a size is found now
        found.add(split, stem(name), image, tree.files[name])
    for kind, count in passed.items():
        found.notes.append(counted(count, f"shapes of type {kind} have no inside and are passed over"))
    stamp = tree.stamp(lambda name: name.endswith((".json", "labels.txt")))
    return found.done(label_set, reader=ShapeFiles(index, f"labelme {stamp}"))


class ShapeFiles(DrawnLabels):
    """Reads the shapes of a JSON file when its label is asked for."""

    def __init__(self, index: dict[str, int], meaning: str) -> None:
        """index: label -> class."""
        super().__init__({}, index[BACKGROUND], meaning)
        self.index = index

    def drawing(self, sample: Sample, max_pixels: int) -> Drawing:
        assert sample.label
        content = _content(sample.label)
        if content is None:
            raise DataError(f"{sample.label}: was changed while it was in use; start again")
        shapes = []
        for k, shape in enumerate(content["shapes"], 1):
            label = _label(shape)
            drawn = _drawn(shape, self.index[label], f"shape {k} ({label})") if label in self.index else ""
            if isinstance(drawn, Shape):
                shapes.append(drawn)
        size = _size(content) or upright_size(sample.image.read(), str(sample.image), max_pixels)
        return Drawing(size, shapes)


def _content(place: Place) -> dict[str, Any] | None:
    """The JSON object; None where it is no file of labelme."""
    try:
        content = json.loads(place.read())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not a complete JSON file ({error}); save it again") from error
    if not isinstance(content, dict):
        return None
    shapes = content.get("shapes")
    return content if isinstance(shapes, list) and all(isinstance(shape, dict) for shape in shapes) else None


def _size(content: dict[str, Any]) -> tuple[int, int] | None:
    """(height, width) where the file says it."""
    height, width = content.get("imageHeight"), content.get("imageWidth")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _file(content: dict[str, Any], kinds: dict[_Kind, _Kind]) -> _File:
    shapes = []
    for shape in content["shapes"]:
        label, drawn = _label(shape), _drawn(shape, IGNORE, "")
        fault, passed = (drawn, "") if isinstance(drawn, str) else ("", "")
        if drawn is None:
            passed = str(shape.get("shape_type"))
        kind = _Kind(label, fault, passed)
        shapes.append(kinds.setdefault(kind, kind))
    path = str(content.get("imagePath") or "")
    return _File(path, bool(content.get("imageData")), _size(content) is not None, shapes)


def _image(tree: Tree, name: str, file: _File) -> Place | None:
    """The file that it names, else one of its own name, else the picture inside."""
    folder, path = posixpath.dirname(name), file.image.replace("\\", "/")
    near = list(dict.fromkeys((folder, posixpath.join(posixpath.dirname(folder), "images"), "images", "")))
    for named in (path, posixpath.basename(path), posixpath.basename(stem(name))):
        if named and (image := tree.find_image(named, near)) is not None:
            return tree.files[image]
    return Place(Inside(tree.files[name].files), tree.files[name].name) if file.held else None


class Inside(Files):
    """The pictures that labelme's files hold, under the names of those files."""

    def __init__(self, files: Files) -> None:
        self.files, self.path = files, Path(files.path)

    def names(self, under: str = "") -> Iterator[str]:
        return self.files.names(under)

    def read(self, name: str) -> bytes:
        try:
            return base64.b64decode(json.loads(self.files.read(name))["imageData"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.where(name)}: is not whole ({error!r})") from error

    def size(self, name: str) -> int:
        return self.files.size(name)

    def where(self, name: str) -> str:
        return f"{self.files.where(name)}: imageData"


def _label(shape: dict[str, Any]) -> str:
    """Its class; "" where that is no text."""
    label = shape.get("label")
    return label if isinstance(label, str) else ""


def _drawn(shape: dict[str, Any], label: int, what: str) -> Shape | str | None:
    """The shape, None for one without an inside, or why it cannot be drawn."""
    try:
        return _shape(shape, label, what)
    except (ValueError, TypeError, KeyError, IndexError, *BROKEN, Image.DecompressionBombError) as error:
        return f"cannot be drawn ({error!r})"


def _shape(shape: dict[str, Any], label: int, what: str) -> Shape | None:
    """As labelme draws it; None for one without an inside."""
    kind = shape.get("shape_type") or "polygon"
    points = np.array(shape["points"], float).reshape(-1, 2)
    if kind == "mask":
        mask = np.array(Image.open(BytesIO(base64.b64decode(shape["mask"])), formats=["PNG"])) > 0
        if mask.ndim != 2:
            raise ValueError("a mask in colours")
        return Shape(label, what, mask=mask, at=(int(points[0, 0]), int(points[0, 1])))
    if kind == "circle":
        (x, y), rim = points[0], math.dist(points[0], points[1])
        return Shape(label, what, ellipse=(x - rim, y - rim, x + rim, y + rim))
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points.min(0), points.max(0)
        return Shape(label, what, [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])])
    if kind in ("polygon", "rectangle", "oriented_rectangle"):
        return Shape(label, what, [points])
    return None
