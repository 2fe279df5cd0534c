"""How one label set folds into another, by table look-up.

A *label set* is a list of classes (``clouds.config.label_sets``): what a model tells apart, what a dataset's labels
show, what a benchmark scores. A map of the model's indices is the common language of a run; every other set says which
finer classes each of its own holds. 255 is the ignore index everywhere.

A class that the other set lacks folds to 255: it is outside that set's score, it is never counted as zero.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Labels, Pixels
from clouds.base.text import some
from clouds.config.label_sets import (
    CITYSCAPES,
    IGNORE,
    LABEL_SETS,
    MOST,
    NAMES,
    Color,
    LabelSet,
    find_label_set,
    make_label_set,
)
from clouds.errors import UsageError

__all__ = [
    "LABEL_SETS", "UNKNOWN", "Color", "LabelSet", "class_index", "colorize", "find_label_set", "folding",
    "make_label_set", "narrowed", "subset", "train_ids", "value_table",
]  # fmt: skip

UNKNOWN = MOST  # in a value table: a stored value that the dataset does not define, always an error where it occurs


def subset(label_set: LabelSet, kept: list[int], name: str) -> LabelSet:
    """The classes ``kept`` of a label set as a set of their own."""
    rows = (label_set.classes, label_set.colors, label_set.members, label_set.trains_as, label_set.synonyms)
    return LabelSet(name, *(tuple(row[k] for k in kept) for row in rows))  # type: ignore[arg-type]


def narrowed(label_set: LabelSet, target: LabelSet) -> LabelSet:
    """The label set without the classes of which ``target`` holds nothing: cityscapes19 by synthia16 is synthia16.

    A class that holds some of them stays as it is. UsageError where none is left.
    """
    held = {*target.classes, *(member for row in target.members for member in row)}
    kept = [k for k, row in enumerate(label_set.members) if held & {*row, label_set.classes[k]}]
    if not kept:
        raise UsageError(f"no class of {label_set.name} ({some(label_set.classes, 6)}) holds one of {target.name} "
                         f"({some(target.classes, 6)})")  # fmt: skip
    if len(kept) == len(label_set.classes):
        return label_set
    found = subset(label_set, kept, f"{label_set.name}-{target.name}")
    same = (found.classes, found.members) == (target.classes, target.members)
    return replace(found, name=target.name) if same else found


def folding(target: LabelSet, model: LabelSet = CITYSCAPES) -> NDArray[np.uint8]:
    """(256,) uint8: index in ``model`` -> index in ``target``; 255 where the target has no such class, and for all
    else.

    A class folds into the one that holds it, or that holds all it holds itself.
    UsageError for a target that holds a class that is neither the model's nor of Cityscapes: a wrong name.
    """
    table = np.full(256, IGNORE, np.uint8)
    _check_members(target, model)
    for index, (name, finer) in enumerate(zip(model.classes, model.members, strict=True)):
        holders = [k for k, row in enumerate(target.members) if name in row]
        holders = holders or [k for k, row in enumerate(target.members) if finer and {*finer} <= {*row}]
        if holders:
            table[index] = holders[0]
    return table


def _check_members(label_set: LabelSet, model: LabelSet) -> None:
    """UsageError for a set that holds a class that is neither the model's nor of Cityscapes: a wrong name."""
    known = {*NAMES, *model.classes, *label_set.classes}
    if strange := sorted({member for row in label_set.members for member in row} - known):
        raise UsageError(f"label set {label_set.name!r}: {', '.join(strange)} not among the {len(model.classes)} "
                         f"classes of the model ({', '.join(model.classes)})")  # fmt: skip


def train_ids(
    source: LabelSet, model: LabelSet = CITYSCAPES, fold: Mapping[str, str | None] | None = None
) -> NDArray[np.uint8]:
    """(256,) uint8: index in ``source`` -> the model's class to learn there; 255 where none is right, and for all else.

    That is the class that ``fold`` says (None: none); else the one it trains as, the one that holds this, or the one
    that holds all that it holds itself. UsageError for a name in ``fold`` that either set lacks.
    """
    _check_members(source, model)
    table = np.full(256, IGNORE, np.uint8)
    for index, (name, finer) in enumerate(zip(source.trains_as, source.members, strict=True)):
        found = [k for k, own in enumerate(model.classes) if own == name]
        found = found or [k for k, row in enumerate(model.members) if name in row]
        found = found or [k for k, row in enumerate(model.members) if finer and {*finer} <= {*row}]
        if found:
            table[index] = found[0]
    for own, target in (fold or {}).items():
        table[class_index(own, source)] = class_index(target or "", model)
    return table


def value_table(values: Mapping[int, str], target: LabelSet) -> NDArray[np.uint8]:
    """(256,) uint8: the value stored in a label file -> index in ``target``, 255 ignore, 254 a value nobody defined.

    ``values``: stored value -> class name in ``target``, or "" to ignore it. 255 is ignored unless named.
    """
    table = np.full(256, UNKNOWN, np.uint8)
    table[IGNORE] = IGNORE
    for value, name in values.items():
        if not 0 <= value <= 255:
            raise UsageError(f"label map: value {value} is outside 0..255")
        table[value] = class_index(name, target)
    return table


def class_index(name: str, target: LabelSet) -> int:
    """Index of the class ``name`` in ``target``, 255 for the empty name; UsageError for a name it lacks."""
    if not name:
        return IGNORE
    if name not in target.classes:
        raise UsageError(f"label map: {name!r} is not a class of {target.name}; it has {', '.join(target.classes)}")
    return target.classes.index(name)


def colorize(label: Labels, label_set: LabelSet = LABEL_SETS["cityscapes19"]) -> Pixels:
    """(H, W) uint8 indices in ``label_set`` -> (H, W, 3) uint8 RGB; ignored pixels are black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(label_set.colors)] = label_set.colors
    colored: Pixels = palette[label]
    return colored
