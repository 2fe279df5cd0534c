"""Datumaro's CommonSemanticSegmentation: images/, masks/ and the classes in dataset_meta.json."""

import json
import posixpath
import re

from clouds.base.text import some
from clouds.config.label_sets import Color, LabelSet
from clouds.data.formats.found import Finding, FoundSpec, split_in
from clouds.data.formats.tree import NothingFoundError, Tree, stem
from clouds.data.formats.voc import painted, voc_colors
from clouds.data.layouts import Layout
from clouds.errors import DataError

FILES = "dataset_meta.json, images/, masks/; or those in a folder of each split"
_META = "dataset_meta.json"


def read(tree: Tree) -> FoundSpec:
    """The set in ``tree``; several folders with the same classes are its splits."""
    metas = [name for name in tree.ending(_META, deep=4) if posixpath.basename(name) == _META]
    if not metas:
        raise NothingFoundError(tree, "datumaro", f"{_META}", FILES)
    found = Finding("datumaro", tree.root)
    classes = [_classes(tree, name, found) for name in metas]
    for name, other in zip(metas[1:], classes[1:], strict=True):
        if other != classes[0]:
            found.fault(tree.where(name), f"has other classes than {metas[0]}; give one of the folders as root")
    for name in metas:
        base = name.removesuffix(_META)
        _pair(tree, base, split_in(base.rstrip("/")) if len(metas) > 1 else "train", found)
    return found.done(*classes[0])


def _classes(tree: Tree, name: str, found: Finding) -> tuple[LabelSet, Layout]:
    where = tree.where(name)
    try:
        content = json.loads(tree.files[name].read())
        names = [str(each) for each in content.get("labels") or content.get("label_map", {}).values()]
        numbers = {str(own): int(number) for number, own in content.get("label_map", {}).items()}
        given = content.get("segmentation_colors") or []
        colors: dict[str, Color] = {}
        for own, number in numbers.items():
            if number < len(given) and given[number]:
                red, green, blue = (int(shade) for shade in given[number])
                colors[own] = (red, green, blue)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{where}: expected label_map and segmentation_colors ({error!r})") from error
    colors = colors or dict(zip(names, voc_colors(len(names)), strict=True))
    if len(set(colors.values())) < len(colors):
        twice = [own for own, color in colors.items() if [*colors.values()].count(color) > 1]
        found.fault(where, f"gives {' and '.join(twice)} one colour; their pixels cannot be distinguished")
    return painted(names, colors, where, found, {number: own for own, number in numbers.items()} or None)


def _pair(tree: Tree, base: str, split: str, found: Finding) -> None:
    images = {stem(name.removeprefix(f"{base}images/")): name for name in tree.images(f"{base}images")}
    masks = {stem(name.removeprefix(f"{base}masks/")): name for name in tree.images(f"{base}masks")}
    if not images.keys() & masks.keys():  # all have a prefix of their own: image_001 and mask_001
        images, masks = _without_prefix(images), _without_prefix(masks)
    for key in sorted(images.keys() | masks.keys()):
        if key not in masks:
            place, name = tree.files[images[key]], f"masks/{key}.png"
            others = [each for each in tree.called(posixpath.basename(name)) if "masks/" in each]
            hint = f"; there is {some(others, 2)}, of another split" if others else ""
            found.without(split, place, str(place), f"has no label; expected {base}{name}{hint}")
        elif key not in images:
            found.problem(split, tree.where(masks[key]), f"is the label of no image; expected {base}images/{key}.png")
        else:
            found.add(split, f"{base}{key}", tree.files[images[key]], tree.files[masks[key]])


def _without_prefix(names: dict[str, str]) -> dict[str, str]:
    prefix = re.match(r"[A-Za-z_\-]*", posixpath.commonprefix([*names])) if names else None
    return {key.removeprefix(prefix[0]): name for key, name in names.items()} if prefix else names
