"""labelme: a JSON file of shapes for each image."""

import base64
import json
import math
import posixpath
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clouds.config.label_sets import IGNORE
from clouds.data.archives import Files
from clouds.data.formats.drawn import DrawnLabels, upright_size
from clouds.data.formats.found import BACKGROUND, Finding, FoundSpec, counted, split_in
from clouds.data.formats.tree import NothingFoundError, Tree, stem
from clouds.data.images import BROKEN
from clouds.data.pairing import Place
from clouds.data.shapes import Drawing, Shape
from clouds.errors import DataError

FILES = "one JSON an image, beside it or with the image inside; labels.txt for the order of the classes"
_UNDER, _IGNORED = "_background_", "__ignore__"  # names that labelme's own tools use


def read(tree: Tree) -> FoundSpec:
    """The set in ``tree``. All its JSON files are read: they alone say what is labelled."""
    found = Finding("labelme", tree.root)
    files = {name: content for name in tree.ending(".json") if (content := _content(tree, name)) is not None}
    if not files:
        raise NothingFoundError(tree, "labelme", "shapes", FILES)
    lists = [name for name in tree.ending("labels.txt") if posixpath.basename(name) == "labels.txt"]
    used = Counter(str(shape.get("label")) for content in files.values() for shape in content["shapes"])
    listed = tree.files[lists[0]].read().decode("utf-8-sig", "replace").splitlines() if lists else sorted(used)
    names = [name.strip() for name in listed if name.strip() not in ("", _IGNORED)]
    names = [BACKGROUND if name == _UNDER else name for name in names]
    label_set = found.classes([*names, *[BACKGROUND] * (BACKGROUND not in names)], tree.where((lists or [*files])[0]))
    index = {name: k for k, name in enumerate(label_set.classes)} | {_IGNORED: IGNORE}
    index[_UNDER] = index[BACKGROUND]
    splits = {name: split_in(posixpath.dirname(name), "") for name in files}
    drawings: dict[str, Drawing] = {}
    passed: Counter[str] = Counter()
    for name, content in files.items():
        split = splits[name] if all(splits.values()) else "train"
        image = _image(tree, name, content)
        if image is None:
            found.problem(split, tree.where(name), f"its image {content.get('imagePath')} is not there, nor inside it")
            continue
        shapes = []
        for k, shape in enumerate(content["shapes"]):
            what = f"shape {k + 1} ({shape.get('label')})"
            if shape.get("label") not in index:
                found.problem(split, f"{tree.where(name)}: {what}", "its label is not in labels.txt")
                continue
            try:
                drawn = _shape(shape, index[shape["label"]], what)
            except (ValueError, TypeError, KeyError, IndexError, *BROKEN, Image.DecompressionBombError) as error:
                found.problem(split, f"{tree.where(name)}: {what}", f"cannot be drawn ({error!r})")
                continue
            if drawn is None:
                passed[str(shape.get("shape_type"))] += 1
            else:
                shapes.append(drawn)
        height, width = content.get("imageHeight"), content.get("imageWidth")
        if not isinstance(height, int) or not isinstance(width, int):
            height, width = upright_size(image.read(), str(image))
        drawings[stem(name)] = Drawing((height, width), shapes)
        found.add(split, stem(name), image, tree.files[name])
    for kind, count in passed.items():
        found.notes.append(counted(count, f"shapes of type {kind} have no inside and are passed over"))
    stamp = tree.stamp(lambda name: name.endswith((".json", "labels.txt")))
    return found.done(label_set, reader=DrawnLabels(drawings, index[BACKGROUND], f"labelme {stamp}"))


def _content(tree: Tree, name: str) -> dict[str, Any] | None:
    """The JSON object without the picture in it, but whether there is one; None where it is no file of labelme."""
    try:
        content = json.loads(tree.files[name].read())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{tree.where(name)}: not a whole JSON file ({error}); save it again") from error
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        return None
    return {**content, "imageData": None, "held": bool(content.get("imageData"))}


def _image(tree: Tree, name: str, content: dict[str, Any]) -> Place | None:
    """The file that it names, else one of its own name, else the picture inside."""
    folder, path = posixpath.dirname(name), str(content.get("imagePath") or "").replace("\\", "/")
    near = list(dict.fromkeys((folder, posixpath.join(posixpath.dirname(folder), "images"), "images", "")))
    for named in (path, posixpath.basename(path), posixpath.basename(stem(name))):
        if named and (image := tree.find_image(named, near)) is not None:
            return tree.files[image]
    return Place(Inside(tree.files[name].files), tree.files[name].name) if content["held"] else None


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
