"""Label sets, and how one folds into another.

A *label set* is a list of classes a dataset or a benchmark scores. Inside CLOUDS a map of train ids is the common
language (0..18 in the order of ``clouds.data.classes``); every label set says which of those 19 classes each of its own
classes holds. Folding is then one table look-up: ``folding(target)[train_id_map]``. 255 is the ignore index everywhere.

A class that a label set lacks folds to 255: it is outside that set's score, it is never counted as zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Labels, Pixels
from clouds.data.classes import COLORS, IGNORE, NAMES
from clouds.errors import UsageError

UNKNOWN = 254  # in a value table: a stored value that the dataset does not define, always an error where it occurs

Color = tuple[int, int, int]
_INDEX = {name: i for i, name in enumerate(NAMES)}
_COLOR = dict(zip(NAMES, COLORS, strict=True))


@dataclass(frozen=True)
class LabelSet:
    """Classes in the order of their index; the ignore index is always 255.

    ``members[k]``: the Cityscapes classes that class k holds (what scoring folds into it).
    ``trains_as[k]``: the one Cityscapes class to train on where a label says k; empty where none is right because k
    mixes different things. Both default to "each class holds its own name".
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    members: tuple[tuple[str, ...], ...] = ()
    trains_as: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.classes)
        if not self.members:
            object.__setattr__(self, "members", tuple((c,) if c in _INDEX else () for c in self.classes))
        if not self.trains_as:
            object.__setattr__(self, "trains_as", tuple(m[0] if m else "" for m in self.members))
        if not 0 < count < UNKNOWN or len(set(self.classes)) != count:
            raise UsageError(
                f"label set {self.name!r}: expected 1 to {UNKNOWN - 1} different classes, got {self.classes}"
            )
        for field in ("colors", "members", "trains_as"):
            if len(getattr(self, field)) != count:
                raise UsageError(
                    f"label set {self.name!r}: {count} classes but {len(getattr(self, field))} {field}; give one each"
                )
        held = [member for row in self.members for member in row]
        if twice := sorted({m for m in held if held.count(m) > 1}):
            raise UsageError(f"label set {self.name!r}: {', '.join(twice)} would fold into two classes; pick one")
        if strange := sorted({m for m in (*held, *filter(None, self.trains_as)) if m not in _INDEX}):
            raise UsageError(
                f"label set {self.name!r}: {', '.join(strange)} not among the 19 classes ({', '.join(NAMES)})"
            )


def make_label_set(name: str, classes: Mapping[str, Sequence[str]]) -> LabelSet:
    """A user's own set: class -> the Cityscapes classes it holds (may be empty); it trains as the first of them."""
    rows = [(c, members[0] if members else "", tuple(members)) for c, members in classes.items()]
    return _from_rows(name, rows)


def _from_rows(name: str, rows: Sequence[tuple[str, str, tuple[str, ...]]]) -> LabelSet:
    """Rows (class, trains as, members); a class takes the colour of its first member, so overlays look alike."""
    spare = ((64, 64, 0), (0, 128, 128), (128, 0, 64), (192, 128, 0), (0, 192, 64), (96, 0, 192))
    colors = [_COLOR.get(row[2][0] if row[2] else "", spare[i % len(spare)]) for i, row in enumerate(rows)]
    classes, trains, members = zip(*rows, strict=True) if rows else ((), (), ())
    return LabelSet(name, classes, tuple(colors), members, trains)


def _subset(name: str, without: Iterable[str]) -> LabelSet:
    kept = tuple(c for c in NAMES if c not in set(without))
    return LabelSet(name, kept, tuple(_COLOR[c] for c in kept))


_VEHICLES = ("car", "truck", "bus", "train", "motorcycle", "bicycle")

_SETS = (
    LabelSet("cityscapes19", NAMES, COLORS),
    _subset("synthia16", ("terrain", "truck", "train")),
    _subset("synthia13", ("terrain", "truck", "train", "wall", "fence", "pole")),
    _from_rows("camvid11", (
        ("sky", "sky", ("sky",)),
        ("building", "building", ("building", "wall")),
        ("pole", "pole", ("pole",)),
        ("road", "road", ("road",)),
        ("sidewalk", "sidewalk", ("sidewalk",)),
        ("vegetation", "vegetation", ("vegetation", "terrain")),
        ("sign", "traffic sign", ("traffic sign", "traffic light")),
        ("fence", "fence", ("fence",)),
        ("car", "car", ("car", "truck", "bus", "train")),
        ("person", "person", ("person",)),
        ("bicyclist", "rider", ("rider", "bicycle", "motorcycle")),  # CamVid's own grouping of MotorcycleScooter
    )),
    _from_rows("idd-lite7", (
        ("drivable", "road", ("road",)),
        ("non-drivable", "", ("sidewalk", "terrain")),
        ("living things", "person", ("person", "rider")),
        ("vehicles", "car", _VEHICLES),
        ("roadside objects", "", ("wall", "fence", "pole", "traffic light", "traffic sign")),
        ("far objects", "", ("building", "vegetation")),
        ("sky", "sky", ("sky",)),
    )),
    _from_rows("carla13", (
        *((c, c, (c,)) for c in NAMES[:11]),  # road .. sky
        ("person", "person", ("person", "rider")),
        ("vehicle", "car", _VEHICLES),
    )),
)
LABEL_SETS: dict[str, LabelSet] = {each.name: each for each in _SETS}


def find_label_set(name: str | LabelSet) -> LabelSet:
    """The set of that name (a set is itself); UsageError listing the names there are."""
    if isinstance(name, LabelSet):
        return name
    if name not in LABEL_SETS:
        raise UsageError(f"unknown label set {name!r}; there are {', '.join(LABEL_SETS)}")
    return LABEL_SETS[name]


def narrowed(label_set: LabelSet, target: LabelSet) -> LabelSet:
    """The label set without the classes of which ``target`` holds nothing: cityscapes19 by synthia16 is synthia16.

    A class that holds some of them stays as it is. UsageError where none is left.
    """
    held = {member for row in target.members for member in row}
    kept = [k for k, members in enumerate(label_set.members) if held & set(members)]
    if len(kept) == len(label_set.classes):
        return label_set
    rows = (label_set.classes, label_set.colors, label_set.members, label_set.trains_as)
    classes, colors, members, trains = zip(*[[row[k] for row in rows] for k in kept], strict=True) if kept else [()] * 4
    same = (classes, members) == (target.classes, target.members)
    return LabelSet(target.name if same else f"{label_set.name}-{target.name}", classes, colors, members, trains)


def folding(target: LabelSet) -> NDArray[np.uint8]:
    """(256,) uint8: train id 0..18 -> index in ``target``; 255 where the target has no such class, and for all else."""
    table = np.full(256, IGNORE, np.uint8)
    for index, members in enumerate(target.members):
        for member in members:
            table[_INDEX[member]] = index
    return table


def train_ids(source: LabelSet) -> NDArray[np.uint8]:
    """(256,) uint8: index in ``source`` -> the train id to learn there; 255 where none is right, and for all else."""
    table = np.full(256, IGNORE, np.uint8)
    for index, name in enumerate(source.trains_as):
        if name:
            table[index] = _INDEX[name]
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
