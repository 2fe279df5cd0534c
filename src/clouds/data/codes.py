"""What the numbers, colours and names stored in label files mean, as their publishers define them.

Every table maps a stored value to the name of a class in the dataset's label set; "" is a value the dataset defines but
no benchmark scores. A value that is in no table is an error where it occurs (``labels.value_table``).
"""

from clouds.config.label_sets import COLORS, NAMES

Color = tuple[int, int, int]

TRAIN_IDS: dict[int, str] = dict(enumerate(NAMES))

# Cityscapes "labelIds", also the palette indices of GTA5 and the ids of ACDC's labelIds
CITYSCAPES_IDS: dict[int, str] = dict.fromkeys(range(35), "") | {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip

# the same as colours; unscored classes that share a scored one's colour (polegroup, licence plate) go with it
CITYSCAPES_COLORS: dict[Color, str] = {
    (0, 0, 0): "", (111, 74, 0): "", (81, 0, 81): "", (250, 170, 160): "", (230, 150, 140): "", (180, 165, 180): "",
    (150, 100, 100): "", (150, 120, 90): "", (0, 0, 90): "", (0, 0, 110): "",
} | dict(zip(COLORS, NAMES, strict=True))  # fmt: skip

# SYNTHIA-RAND-CITYSCAPES, first channel; it never holds terrain (16), truck (18) and train (20)
SYNTHIA_IDS: dict[int, str] = dict.fromkeys(range(23), "") | {
    1: "sky", 2: "building", 3: "road", 4: "sidewalk", 5: "fence", 6: "vegetation", 7: "pole", 8: "car",
    9: "traffic sign", 10: "person", 11: "bicycle", 12: "motorcycle", 15: "traffic light", 17: "rider", 19: "bus",
    21: "wall",
}  # fmt: skip

# the 11 classes of the usual CamVid subset as indices, and the 32 colours of the original, grouped into them
CAMVID_IDS: dict[int, str] = {
    0: "sky", 1: "building", 2: "pole", 3: "road", 4: "sidewalk", 5: "vegetation", 6: "sign", 7: "fence", 8: "car",
    9: "person", 10: "bicyclist", 11: "",
}  # fmt: skip

CAMVID_COLORS: dict[Color, str] = {
    (128, 128, 128): "sky", (0, 128, 64): "building", (128, 0, 0): "building", (64, 192, 0): "building",
    (64, 0, 64): "building", (192, 0, 128): "building", (192, 192, 128): "pole", (0, 0, 64): "pole",
    (128, 64, 128): "road", (128, 0, 192): "road", (192, 0, 64): "road", (0, 0, 192): "sidewalk",
    (64, 192, 128): "sidewalk", (128, 128, 192): "sidewalk", (128, 128, 0): "vegetation", (192, 192, 0): "vegetation",
    (192, 128, 128): "sign", (128, 128, 64): "sign", (0, 64, 64): "sign", (64, 64, 128): "fence", (64, 0, 128): "car",
    (64, 128, 192): "car", (192, 128, 192): "car", (192, 64, 128): "car", (128, 64, 64): "car", (64, 64, 0): "person",
    (192, 128, 64): "person", (64, 0, 192): "person", (64, 128, 64): "person", (0, 128, 192): "bicyclist",
    (192, 0, 192): "bicyclist", (0, 0, 0): "",
}  # fmt: skip

IDD_LITE_IDS: dict[int, str] = {
    0: "drivable", 1: "non-drivable", 2: "living things", 3: "vehicles", 4: "roadside objects", 5: "far objects",
    6: "sky",
}  # fmt: skip

# CARLA's semantic camera up to 0.9.13, in its red channel (0.8 has 0 to 12, and leaves the sky unlabelled)
CARLA_TAGS: dict[int, str] = dict.fromkeys(range(23), "") | {
    1: "building", 2: "fence", 4: "person", 5: "pole", 6: "road", 7: "road", 8: "sidewalk", 9: "vegetation",
    10: "vehicle", 11: "wall", 12: "traffic sign", 13: "sky", 18: "traffic light", 22: "terrain",
}  # fmt: skip

# since 0.9.14: the Cityscapes train ids, shifted by one, then what CARLA adds (lane markings are road; on Unreal Engine
# 5 rock, 29, which no benchmark scores)
CARLA_TAGS_14: dict[int, str] = (
    dict.fromkeys(range(30), "") | {i + 1: name for i, name in enumerate(NAMES)} | {24: "road"}
)

# IDD: names in the polygon files, in the order of their ids; the Cityscapes train classes its makers give them
IDD_NAMES: dict[str, str] = {
    "road": "road", "parking": "", "drivable fallback": "", "sidewalk": "sidewalk", "rail track": "",
    "non-drivable fallback": "terrain", "person": "person", "animal": "", "rider": "rider", "motorcycle": "motorcycle",
    "bicycle": "bicycle", "autorickshaw": "", "car": "car", "truck": "truck", "bus": "bus", "caravan": "",
    "trailer": "", "train": "train", "vehicle fallback": "", "curb": "", "wall": "wall", "fence": "fence",
    "guard rail": "", "billboard": "", "traffic sign": "traffic sign", "traffic light": "traffic light",
    "pole": "pole", "polegroup": "", "obs-str-bar-fallback": "", "building": "building", "bridge": "", "tunnel": "",
    "vegetation": "vegetation", "sky": "sky", "fallback background": "", "unlabeled": "", "ego vehicle": "",
    "rectification border": "", "out of roi": "", "license plate": "",
}  # fmt: skip
IDD_IDS: dict[int, str] = dict(enumerate(IDD_NAMES.values()))

# Mapillary Vistas v1.2 by id, by the table that HRDA's code and the published CLOUDS share; what it lacks is ignored
VISTAS_IDS: dict[int, str] = dict.fromkeys(range(66), "") | {
    2: "sidewalk", 3: "fence", 6: "wall", 13: "road", 15: "sidewalk", 17: "building", 19: "person", 20: "rider",
    21: "rider", 22: "rider", 24: "road", 27: "sky", 29: "terrain", 30: "vegetation", 41: "road", 45: "pole",
    47: "pole", 48: "traffic light", 50: "traffic sign", 52: "bicycle", 54: "bus", 55: "car", 57: "motorcycle",
    58: "train", 61: "truck",
}  # fmt: skip
# by the table of Rein's code, which asks the names for words; it differs in 11 ids
_REIN: dict[int, tuple[str, str]] = {  # id -> name, class
    7: ("construction--flat--bike-lane", "road"), 8: ("construction--flat--crosswalk-plain", "road"),
    9: ("construction--flat--curb-cut", "sidewalk"), 10: ("construction--flat--parking", "road"),
    11: ("construction--flat--pedestrian-area", "sidewalk"), 14: ("construction--flat--service-lane", "road"),
    23: ("marking--crosswalk-zebra", "road"), 41: ("object--manhole", ""), 44: ("object--street-light", "pole"),
    46: ("object--support--traffic-sign-frame", "traffic sign"), 49: ("object--traffic-sign--back", "traffic sign"),
}  # fmt: skip
VISTAS_REIN_IDS: dict[int, str] = VISTAS_IDS | {k: own for k, (_, own) in _REIN.items()}
# the first table by name, for copies whose config lists the classes, and the names into which v2.0 splits them;
# a name that ends in "--" stands for all that start with it
VISTAS_NAMES: dict[str, str] = {
    "construction--barrier--curb": "sidewalk", "construction--barrier--fence": "fence",
    "construction--barrier--wall": "wall", "construction--flat--road": "road",
    "construction--flat--sidewalk": "sidewalk", "construction--structure--building": "building",
    "human--person": "person", "human--person--": "person", "human--rider--": "rider", "marking--general": "road",
    "marking--continuous--": "road", "marking--discrete--": "road", "marking--discrete--crosswalk-zebra": "",
    "nature--sky": "sky", "nature--terrain": "terrain", "nature--vegetation": "vegetation",
    "object--manhole": "road", "object--support--pole": "pole", "object--support--pole-group": "pole",
    "object--support--utility-pole": "pole", "object--traffic-light": "traffic light",
    "object--traffic-light--": "traffic light", "object--traffic-sign--front": "traffic sign",
    "object--traffic-sign--direction-front": "traffic sign", "object--traffic-sign--temporary-front": "traffic sign",
    "object--traffic-sign--information-parking": "traffic sign", "object--vehicle--bicycle": "bicycle",
    "object--vehicle--bus": "bus", "object--vehicle--car": "car", "object--vehicle--motorcycle": "motorcycle",
    "object--vehicle--on-rails": "train", "object--vehicle--truck": "truck",
}  # fmt: skip


def vistas_class(name: str) -> str:
    """The class of a Vistas name: its own entry, else that of the longest prefix, else ignored."""
    starts = [n for n in VISTAS_NAMES if n.endswith("--") and name.startswith(n)]
    return VISTAS_NAMES.get(name, VISTAS_NAMES[max(starts, key=len)] if starts else "")


def vistas_rein_class(name: str) -> str:
    """The same by the table of Rein's code."""
    return dict(_REIN.values()).get(name, vistas_class(name))
