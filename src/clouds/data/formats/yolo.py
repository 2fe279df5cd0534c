"""Ultralytics' layouts: data.yaml, images/ and, beside it, labels/ of text polygons or a folder of masks."""

import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from clouds.base.pick import evenly
from clouds.base.strict_yaml import parse_yaml
from clouds.base.text import some
from clouds.config.label_sets import LabelSet
from clouds.data.formats.drawn import DrawnLabels, upright_size
from clouds.data.formats.found import BACKGROUND, Finding, FoundSpec
from clouds.data.formats.tree import NothingFoundError, Tree, stem, within
from clouds.data.images import ENDINGS
from clouds.data.layouts import Layout
from clouds.data.samples import Sample
from clouds.data.shapes import Drawing, Shape, area_of
from clouds.errors import DataError

FILES = "data.yaml with names, images/ and labels/ (or masks/, named as masks_dir)"
LOOKED_AT = 20  # label files, evenly spaced, to tell boxes from polygons by
_LABELS = "labels/"
FAR_SHARE = 3.0  # a coordinate beyond is no share of a side that a tool drew over the border


class _Config(NamedTuple):
    """What data.yaml says."""

    name: str
    names: dict[int, str]  # index -> class
    splits: dict[str, list[str]]  # train, val, test -> folders or lists of images
    path: str
    masks: str


def read(tree: Tree) -> FoundSpec:
    """The set in ``tree``."""
    found = Finding("yolo", tree.root)
    config = _config(tree, found)
    order = sorted(config.names)
    names = [config.names[k] for k in order]
    under = [BACKGROUND] * (BACKGROUND not in names and not config.masks)
    label_set = found.classes([*names, *under], tree.where(config.name))
    for split, image in _images(tree, config, found):
        label = _label_of(tree, image, config.masks)
        key = stem(image)
        if label in tree.files:
            found.add(split, key, tree.files[image], tree.files[label])
        else:
            found.without(split, tree.files[image], tree.where(image), _missing(tree, label))
    known = {stem(posixpath.basename(str(s.image))) for own in found.samples.values() for s in own}
    for name in tree.ending(".txt") if not config.masks else ():
        own = stem(posixpath.basename(name))
        if f"/{_LABELS}" in f"/{name}" and own not in known and not _has_image(tree, name):
            found.problem(next(iter(found.samples), "train"), tree.where(name), "is the label of no image")
    if config.masks:
        values = {k: config.names[k] for k in order}
        return found.done(label_set, Layout("{key}.{ext}", "{key}.png", "index", values=values))
    index = {k: label_set.classes.index(config.names[k]) for k in order}
    reader = TextLabels(index, label_set, f"yolo {sorted(config.names.items())}")
    for samples in found.samples.values():
        for k in evenly(len(samples), LOOKED_AT):
            place = samples[k].label
            assert place
            rows = place.read().split(b"\n")
            if any(row.strip() for row in rows) and all(len(row.split()) == 5 for row in rows if row.strip()):
                found.fault(str(place), "holds boxes alone, class x y width height: a detection set, without masks; "
                            "export it for segmentation")  # fmt: skip
                found.stop()
    return found.done(label_set, reader=reader)


def _config(tree: Tree, found: Finding) -> _Config:
    """The YAML file that has the names of the classes; faults of it."""
    for name in tree.ending(".yaml", ".yml", deep=2):
        try:
            content = parse_yaml(tree.files[name].read().decode("utf-8-sig", "replace"))
        except ValueError as error:
            raise DataError(f"{tree.where(name)}: {error}") from error
        if isinstance(content, dict) and "names" in content:
            break
    else:
        raise NothingFoundError(tree, "yolo", "YAML file with names", FILES)
    where, given = tree.where(name), content["names"]
    rows: list[tuple[Any, Any]] = [*given.items()] if isinstance(given, dict) else [*enumerate(given or [])]
    names: dict[int, str] = {}
    for key, own in rows:
        if not str(key).isdecimal() or own is None or isinstance(own, dict | list):
            found.fault(where, f"names: {key}: {own}; expected a number and the name of its class")
        elif str(own) in names.values():
            found.fault(where, f"names: {own} is given twice; rename one")
        else:
            names[int(key)] = str(own)
    if (count := content.get("nc")) is not None and count != len(rows):
        found.fault(where, f"nc is {count}, but names has {len(rows)} classes")
    found.stop()
    splits = {}
    for split in ("train", "val", "valid", "test"):
        if entry := content.get(split):
            splits[split] = [str(each) for each in (entry if isinstance(entry, list) else [entry])]
    masks = str(content.get("masks_dir") or "").strip("/")
    return _Config(name, names, splits, str(content.get("path") or ""), masks)


def _images(tree: Tree, config: _Config, found: Finding) -> Iterator[tuple[str, str]]:
    """(split, image) of all there is. Paths are below data.yaml's folder, or ``path`` there; a path of another machine
    counts from its last folders."""
    home = posixpath.dirname(config.name)
    if not config.splits:
        start = posixpath.join(home, "images")
        yield from ((_folder_split(name, start), name) for name in tree.images(start))
        return
    for split, entries in config.splits.items():
        count = 0
        for entry in entries:
            lost: list[str] = []
            for name in _entry(tree, entry, config, home, lost):
                count += 1
                yield split, name
            for line in lost:
                found.problem(split, tree.where(config.name), f"{split}: {entry} lists {line}, which is not here")
        if not count and split != "test":
            found.problem(split, tree.where(config.name), f"{split}: {', '.join(entries)} holds no image here")


def _folder_split(name: str, start: str) -> str:
    below = name.removeprefix(f"{start}/").split("/")
    return below[0] if len(below) > 1 and below[0] in ("train", "val", "valid", "test") else "train"


def _entry(tree: Tree, entry: str, config: _Config, home: str, lost: list[str]) -> list[str]:
    """The images of a folder or of a list of images, whose lines that name none are ``lost``; none where neither is
    there."""
    entry = entry.replace("\\", "/").rstrip("/")
    parts = [part for part in entry.split("/") if part not in ("", ".", "..")]
    bases = [home, within(home, config.path) or home]
    candidates = [path for base in bases if not entry.startswith("/") and (path := within(base, entry)) is not None]
    candidates += [posixpath.join(base, *parts[k:]) for base in bases for k in range(len(parts))]
    for path in candidates:
        path = "" if path == "." else path
        if path in tree.files and path.lower().endswith(".txt"):
            lines = tree.files[path].read().decode("utf-8-sig", "replace").splitlines()
            folders = [posixpath.dirname(path), home]
            named = {line.strip(): _listed(tree, line.strip(), folders) for line in lines if line.strip()}
            lost += [line for line, name in named.items() if name is None]
            return [name for name in named.values() if name]
        if path in tree.files and path.lower().endswith(ENDINGS):
            return [path]
        if images := [name for name in tree.images(path) if not _is_mask(name, config.masks)]:
            return images
    return []


def _listed(tree: Tree, line: str, folders: list[str]) -> str | None:
    """The image that a line names; of a path of another machine by its last folders."""
    parts = [part for part in line.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    tails = ("/".join(parts[k:]) for k in range(len(parts) - 1))
    below = (path for tail in tails for folder in folders if (path := posixpath.join(folder, tail)) in tree.files)
    return next(below, None) or tree.find_image(line, folders)


def _is_mask(name: str, masks: str) -> bool:
    return bool(masks) and f"/{masks}/" in f"/{name}"


def _label_of(tree: Tree, image: str, masks: str) -> str:
    """The label file of an image: its path with the last images/ replaced; else the file beside it."""
    before, found, after = f"/{image}".rpartition("/images/")
    folder = masks or "labels"
    ends = (".png", ".PNG") if masks else (".txt",)
    path = stem(f"{before}/{folder}/{after}".removeprefix("/")) if found else stem(image)
    candidates = [path + end for end in ends] + ([] if masks else [stem(image) + ".txt"])
    return next((name for name in candidates if name in tree.files), candidates[0])


def _missing(tree: Tree, expected: str) -> str:
    """What to say of an image without a label, and where one of its name lies."""
    others = tree.called(posixpath.basename(expected))
    hint = f"there is {some(others, 2)}, of another split" if others else "an image without objects has an empty one"
    return f"has no label; expected {expected}; {hint}"


def _has_image(tree: Tree, label: str) -> bool:
    before, _, after = f"/{label}".rpartition(f"/{_LABELS}")
    folder = f"{before}/images/{posixpath.dirname(after)}".strip("/")
    return tree.find_image(posixpath.basename(stem(label)), [folder]) is not None


def whole(text: str) -> int:
    """The number of a class, as 1 or 1.0."""
    if not (value := float(text)).is_integer():
        raise ValueError(f"{text} is no whole number")
    return int(value)


class TextLabels(DrawnLabels):
    """Reads text files: a polygon a line, its class's index and x y pairs as shares of the width and the height.

    Small polygons are painted over large ones, as Ultralytics does.
    """

    def __init__(self, index: dict[int, int], label_set: LabelSet, meaning: str) -> None:
        """index: class in the files -> in ``label_set``."""
        super().__init__({}, label_set.classes.index(BACKGROUND), meaning)
        self.index = index

    def drawing(self, sample: Sample, max_pixels: int) -> Drawing:
        assert sample.label
        height, width = upright_size(sample.image.read(), str(sample.image), max_pixels)
        shapes = []
        for number, line in enumerate(sample.label.read().decode("utf-8-sig", "replace").splitlines(), 1):
            where, words = f"{sample.label} line {number}", line.split()
            if not words:
                continue
            try:
                label, values = whole(words[0]), [float(word) for word in words[1:]]
            except (ValueError, OverflowError) as error:
                raise DataError(f"{where}: {line[:40]!r}; expected a class and shares of width and height") from error
            if label not in self.index:
                raise DataError(f"{where}: class {label}; data.yaml names {len(self.index)}, 0 to {max(self.index)}")
            if len(values) == 4:
                raise DataError(f"{where}: is a box, class x y width height; detection labels have no masks")
            if len(values) < 6 or len(values) % 2:
                raise DataError(f"{where}: {len(values)} numbers; expected three or more x y pairs")
            if max(map(abs, values)) > FAR_SHARE:
                far = max(values, key=abs)
                raise DataError(f"{where}: {far:g}; expected shares of width and height, 0 to 1, and no pixels")
            ring = (np.array(values).reshape(-1, 2) * (width, height)).round(2)  # five digits just miss a whole pixel
            shapes.append(Shape(self.index[label], f"line {number}", [ring]))
        shapes.sort(key=lambda shape: -area_of(shape.rings[0]))
        return Drawing((height, width), shapes)
