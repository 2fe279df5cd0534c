"""Label sets as data: the classes a model tells apart or a dataset's labels show, and how they are named and coloured.

The order of a set is the index in every map; 255 is the ignore index everywhere. A recipe's ``model.classes`` names a
set of this table or gives its own; nothing else in the package knows what the classes are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from clouds.errors import UsageError

IGNORE = 255
MOST = 254  # classes of a set: maps are bytes, 255 is ignored and 254 marks a value that nobody defined

Color = tuple[int, int, int]

# the 19 train classes of Cityscapes, one row a class: name, the synonyms of the published CLOUDS checkpoints, colour
_CITYSCAPES: tuple[tuple[str, tuple[str, ...], Color], ...] = (
    ("road", ("road", "railroad"), (128, 64, 128)),
    ("sidewalk", ("sidewalk", "pavement"), (244, 35, 232)),
    ("building", ("building", "buildings", "edifice", "edifices", "house", "ceiling"), (70, 70, 70)),
    ("wall", ("wall", "walls", "brick wall", "stone wall", "tile wall", "wood wall"), (102, 102, 156)),
    ("fence", ("fence", "fences"), (190, 153, 153)),
    ("pole", ("pole", "poles"), (153, 153, 153)),
    ("traffic light", ("traffic light", "traffic lights"), (250, 170, 30)),
    ("traffic sign", ("traffic sign", "stop sign"), (220, 220, 0)),
    ("vegetation", ("vegetation", "tree", "trees", "palm tree", "bushes"), (107, 142, 35)),
    ("terrain", ("terrain", "river", "sand", "sea", "snow", "water", "mountain", "grass", "dirt", "rock"),
     (152, 251, 152)),
    ("sky", ("sky", "clouds"), (70, 130, 180)),
    ("person", ("person",), (220, 20, 60)),
    ("rider", ("rider",), (255, 0, 0)),
    ("car", ("car", "cars"), (0, 0, 142)),
    ("truck", ("truck", "trucks"), (0, 0, 70)),
    ("bus", ("bus", "buses"), (0, 60, 100)),
    ("train", ("train", "trains", "locomotive", "locomotives", "freight train"), (0, 80, 100)),
    ("motorcycle", ("motorcycle", "motorcycles"), (0, 0, 230)),
    ("bicycle", ("bicycle", "bicycles", "bike", "bikes"), (119, 11, 32)),
)

NAMES: tuple[str, ...] = tuple(name for name, _, _ in _CITYSCAPES)
SYNONYMS: tuple[tuple[str, ...], ...] = tuple(synonyms for _, synonyms, _ in _CITYSCAPES)
COLORS: tuple[Color, ...] = tuple(color for _, _, color in _CITYSCAPES)
MOTOR_VEHICLES = ("car", "truck", "bus", "train", "motorcycle")  # what a recording car's own bonnet is labelled as

_COLOR = dict(zip(NAMES, COLORS, strict=True))
_SYNONYMS = dict(zip(NAMES, SYNONYMS, strict=True))


@dataclass(frozen=True)
class LabelSet:
    """Classes in the order of their index; the ignore index is always 255.

    ``members[k]``: the classes of a finer set that class k holds, such as car and truck of "vehicle"; scoring folds
    them into it. ``trains_as[k]``: the one finer class to train on where a label says k; empty where none is right
    because k mixes different things. ``synonyms[k]``: the words that a text classifier knows the class by. Each
    defaults to the class's own name.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    members: tuple[tuple[str, ...], ...] = ()
    trains_as: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        count = len(self.classes)
        if not self.members:
            object.__setattr__(self, "members", tuple((name,) for name in self.classes))
        if not self.trains_as:
            object.__setattr__(self, "trains_as", tuple(row[0] if row else "" for row in self.members))
        if not self.synonyms:
            words = [[word for name in row for word in _SYNONYMS.get(name, (name,))] for row in self.members]
            own = zip(self.classes, words, strict=False)
            object.__setattr__(self, "synonyms", tuple(tuple(row) or (name,) for name, row in own))
        if not 0 < count <= MOST or len(set(self.classes)) != count:
            raise UsageError(f"label set {self.name!r}: expected 1 to {MOST} different classes, got {self.classes}")
        for field in ("colors", "members", "trains_as", "synonyms"):
            if len(getattr(self, field)) != count:
                raise UsageError(
                    f"label set {self.name!r}: {count} classes but {len(getattr(self, field))} {field}; give one each"
                )
        held = [member for row in self.members for member in row]
        if twice := sorted({m for m in held if held.count(m) > 1}):
            raise UsageError(f"label set {self.name!r}: {', '.join(twice)} would fold into two classes; pick one")


def make_label_set(name: str, classes: Mapping[str, Sequence[str]]) -> LabelSet:
    """A user's own set: class -> the finer classes it holds (may be empty); it trains as the first of them."""
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


_VEHICLES = (*MOTOR_VEHICLES, "bicycle")

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
CITYSCAPES = LABEL_SETS["cityscapes19"]


def find_label_set(name: str | LabelSet) -> LabelSet:
    """The set of that name (a set is itself); UsageError listing the names there are."""
    if isinstance(name, LabelSet):
        return name
    if name not in LABEL_SETS:
        raise UsageError(f"unknown label set {name!r}; there are {', '.join(LABEL_SETS)}")
    return LABEL_SETS[name]


def label_set_of(classes: Sequence[str]) -> LabelSet:
    """The set with these classes in this order: one of the table, with what it holds, or a set of its own."""
    known = next((each for each in _SETS if each.classes == tuple(classes)), None)
    return known or LabelSet("own", tuple(classes), tuple((r, g, b) for r, g, b in colors_of(classes)))


def colors_of(names: Sequence[str], known: Mapping[str, Sequence[int]] | None = None) -> list[list[int]]:
    """RGB triples: of known names (``known``, then those of Cityscapes) their own, else the farthest from all taken."""
    import numpy as np  # a recipe that names a shipped set needs none

    own = {**_COLOR, **(known or {})}
    grid = np.stack(np.meshgrid(*[np.linspace(0, 255, 8)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).round()
    taken = [np.zeros(3), np.full(3, 255.0)]  # black is what is ignored, and white is lost on a page
    taken += [np.array(own[name], float) for name in names if name in own]
    colors = []
    for name in names:
        if name not in own:
            distance = np.min([np.abs(grid - color).sum(1) for color in taken], axis=0)
            taken.append(grid[distance.argmax()])
        chosen = own[name] if name in own else taken[-1]
        colors.append([int(value) for value in chosen])
    return colors
