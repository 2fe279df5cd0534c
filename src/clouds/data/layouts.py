"""The table of datasets: how each lies on disk as its site hands it out, what its labels mean, and where to get it.

A pattern is a path below the dataset's own folder: ``{split}`` is the folder of a split, ``{key}`` the rest that names
a sample (folders included), ``{ext}`` png, jpg or jpeg. An image and a label belong together when their keys agree.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from clouds.data import codes
from clouds.data.codes import Color
from clouds.data.labels import LabelSet, find_label_set, make_label_set
from clouds.errors import UsageError

K = TypeVar("K")


@dataclass(frozen=True)
class Layout:
    """One way a dataset is handed out."""

    images: str
    labels: str  # "" where there are none
    encoding: str = "index"  # one of encodings.ENCODINGS
    values: Mapping[int, str] = field(default_factory=dict)  # stored value -> class of the label set, "" ignored
    colors: Mapping[codes.Color, str] = field(default_factory=dict)  # for labels in colour
    names: Mapping[str, str] = field(default_factory=dict)  # for polygons
    config: str = ""  # a JSON file listing the classes of this very copy; it then replaces ``values`` ...
    config_class: Callable[[str], str] | None = None  # ... through this: its name -> class of the label set
    manifest: str = ""  # a JSON Lines file that lists the images
    split_keys: Mapping[str, str] = field(default_factory=dict)  # folderless splits: what its keys match
    label_set: str = ""  # where it differs from the dataset's
    version: str = ""  # the option that picks this layout


@dataclass(frozen=True)
class Spec:
    """A dataset: its folder's name under ``data.root``, the classes of its labels, its splits and its layouts."""

    folder: str
    label_set: str | LabelSet
    layouts: tuple[Layout, ...]
    splits: Mapping[str, tuple[str, ...]]  # name -> what {split} stands for; "" where the layout has none
    scored: str  # the split that benchmarks score: the default
    licence: str
    home: str
    keys: str = ""  # regular expression a key's last part starts with, to make a domain of a part
    unusable: frozenset[str] = frozenset()  # keys that the field leaves out


_TRAIN_VAL = {"train": ("train",), "val": ("val",), "all": ("train", "val")}
_TRAIN = {"train": ("",)}

_CAMVID_TEST = r"Seq05VD_|0001TP_(0085[5-9]|008[6-9]|009|01)"
_CAMVID_VAL = r"0016E5_0(7959|79[6-9][13579]|80\d[13579]|81[0-5][13579])"
_CAMVID = (
    Layout("{split}/{key}.{ext}", "{split}annot/{key}.png", values=codes.CAMVID_IDS),
    Layout(
        "701_StillsRaw_full/{key}.png", "LabeledApproved_full/{key}_L.png", "colour", colors=codes.CAMVID_COLORS,
        split_keys={"train": rf"(?!{_CAMVID_VAL}|{_CAMVID_TEST})", "val": _CAMVID_VAL, "test": _CAMVID_TEST},
    ),
)  # fmt: skip
_CAMVID_SPLITS = {"train": ("train",), "val": ("val",), "test": ("test",)}
_CAMVID_TERMS = ("research; cite Brostow et al.", "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/")

_ACDC = (
    Layout("rgb_anon/{split}/{key}_rgb_anon.png", "gt/{split}/{key}_gt_labelTrainIds.png", values=codes.TRAIN_IDS),
    Layout("rgb_anon/{split}/{key}_rgb_anon.png", "gt/{split}/{key}_gt_labelIds.png", values=codes.CITYSCAPES_IDS),
)
_ACDC_TERMS = ("non-commercial, after registration", "https://acdc.vision.ee.ethz.ch")


def _acdc(*conditions: str) -> Spec:
    splits = {split: tuple(f"{c}/{split}" for c in conditions) for split in ("train", "val")}
    return Spec("acdc", "cityscapes19", _ACDC, splits, "val", *_ACDC_TERMS)


def _vistas(labels: str, config: str, version: str, values: Mapping[int, str]) -> Layout:
    return Layout(
        "{split}/images/{key}.jpg", "{split}/" + labels + "/{key}.png", values=values, config=config,
        config_class=codes.vistas_class, version=version,
    )  # fmt: skip


_IDD_IMAGES = "leftImg8bit/{split}/{key}_leftImg8bit.{ext}"

DATASETS: dict[str, Spec] = {
    "gta5": Spec(
        "gta5", "cityscapes19",
        (Layout("images/{key}.png", "labels/{key}.png", values=codes.CITYSCAPES_IDS, colors=codes.CITYSCAPES_COLORS),),
        _TRAIN, "train", "research and education, non-commercial", "https://download.visinf.tu-darmstadt.de/data/from_games/",
        # two blank pictures, and sixty whose label maps do not have their image's size
        unusable=frozenset(f"{n:05d}" for n in (15188, 17705, *range(20801, 20861))),
    ),
    "synthia": Spec(
        "synthia", "synthia16",
        (
            Layout("RAND_CITYSCAPES/RGB/{key}.png", "RAND_CITYSCAPES/GT/LABELS/{key}.png", "red", codes.SYNTHIA_IDS),
            Layout("RGB/{key}.png", "GT/LABELS/{key}.png", "red", codes.SYNTHIA_IDS),
        ),
        _TRAIN, "train", "CC BY-NC-SA 3.0", "https://synthia-dataset.net (SYNTHIA-RAND-CITYSCAPES)",
    ),
    "cityscapes": Spec(
        "cityscapes", "cityscapes19",
        (
            Layout(
                "leftImg8bit/{split}/{key}_leftImg8bit.png", "gtFine/{split}/{key}_gtFine_labelIds.png",
                values=codes.CITYSCAPES_IDS,
            ),
            Layout(
                "leftImg8bit/{split}/{key}_leftImg8bit.png", "gtFine/{split}/{key}_gtFine_labelTrainIds.png",
                values=codes.TRAIN_IDS,
            ),
        ),
        _TRAIN_VAL, "val", "non-commercial, after registration", "https://www.cityscapes-dataset.com",
    ),
    "bdd100k": Spec(
        "bdd100k", "cityscapes19",
        (
            Layout("images/10k/{split}/{key}.jpg", "labels/sem_seg/masks/{split}/{key}.png", values=codes.TRAIN_IDS),
            Layout("seg/images/{split}/{key}.jpg", "seg/labels/{split}/{key}_train_id.png", values=codes.TRAIN_IDS),
        ),
        _TRAIN_VAL, "val", "see the BDD100K licence", "https://bdd-data.berkeley.edu",
    ),
    "mapillary": Spec(
        "mapillary", "cityscapes19",
        (
            _vistas("labels", "config.json", "1.2", codes.VISTAS_IDS),
            _vistas("v1.2/labels", "config_v1.2.json", "1.2", codes.VISTAS_IDS),
            _vistas("v2.0/labels", "config_v2.0.json", "2.0", {}),
        ),
        {"train": ("training",), "val": ("validation",)}, "val", "CC BY-NC-SA 4.0, after registration",
        "https://www.mapillary.com/dataset/vistas",
    ),
    "acdc": _acdc("fog", "night", "rain", "snow"),
    "acdc-fog": _acdc("fog"),
    "acdc-night": _acdc("night"),
    "acdc-rain": _acdc("rain"),
    "acdc-snow": _acdc("snow"),
    "urbansyn": Spec(
        "urbansyn", "cityscapes19",
        (Layout("rgb/rgb_{key}.png", "ss/ss_{key}.png", values=codes.TRAIN_IDS | {19: ""}),),
        _TRAIN, "train", "CC BY-SA 4.0", "https://huggingface.co/datasets/UrbanSyn/UrbanSyn",
    ),
    "dark-zurich": Spec(
        "dark-zurich", "cityscapes19",
        (
            Layout(
                "rgb_anon/{split}/{key}_rgb_anon.png", "gt/{split}/{key}_gt_labelTrainIds.png", values=codes.TRAIN_IDS
            ),
        ),
        {"val": ("val/night",)}, "val", "non-commercial", "https://www.trace.ethz.ch/publications/2019/GCMA_UIoU",
    ),
    "idd": Spec(
        "idd", "cityscapes19",
        (
            Layout(_IDD_IMAGES, "gtFine/{split}/{key}_gtFine_labelcsTrainIds.png", values=codes.TRAIN_IDS),
            Layout(_IDD_IMAGES, "gtFine/{split}/{key}_gtFine_labelids.png", values=codes.IDD_IDS),
            Layout(_IDD_IMAGES, "gtFine/{split}/{key}_gtFine_polygons.json", "polygons", names=codes.IDD_NAMES),
        ),
        _TRAIN_VAL, "val", "research, after registration", "https://idd.insaan.iiit.ac.in",
    ),
    "idd-lite": Spec(
        "idd20k_lite", "idd-lite7",
        (
            Layout(
                "leftImg8bit/{split}/{key}_image.{ext}", "gtFine/{split}/{key}_label.png", values=codes.IDD_LITE_IDS
            ),
        ),
        _TRAIN_VAL, "val", "research, after registration", "https://idd.insaan.iiit.ac.in",
    ),
    "camvid": Spec("camvid", "camvid11", _CAMVID, _CAMVID_SPLITS, "test", *_CAMVID_TERMS),
    "camvid-day": Spec("camvid", "camvid11", _CAMVID, {"test": ("test",)}, "test", *_CAMVID_TERMS, keys="Seq05VD_"),
    "camvid-dusk": Spec("camvid", "camvid11", _CAMVID, {"test": ("test",)}, "test", *_CAMVID_TERMS, keys="0001TP_"),
    "carla": Spec(
        "carla", "carla13",
        (
            Layout("images/{key}.{ext}", "labels/{key}.png", "red", codes.CARLA_TAGS, version="0.9.13"),
            Layout(
                "images/{key}.{ext}", "labels/{key}.png", "red", codes.CARLA_TAGS_14, version="0.9.14",
                label_set="cityscapes19",
            ),
        ),
        _TRAIN, "train", "your own captures", "https://carla.org",
    ),
    "generated": Spec(
        "generated", "cityscapes19", (Layout("{key}.{ext}", "", manifest="metadata.jsonl"),),
        _TRAIN, "train", "that of its generator", "clouds generate",
    ),
}  # fmt: skip


ENCODINGS = ("index", "red", "colour", "polygons")


def folder_spec(
    split: str | None = None,
    *,
    images: str = "images/{key}.{ext}",
    labels: str = "labels/{key}.png",
    label_map: Mapping[int | str, int | str | None] | None = None,
    label_set: str | LabelSet | Mapping[str, Sequence[str]] = "cityscapes19",
    encoding: str = "index",
) -> Spec:
    """A row for the table of datasets.

    ``images``, ``labels``: patterns as in ``layouts``; ``labels=""`` for none. ``label_map``: what a label file stores
    -> class name (or index) in ``label_set``, None to ignore; without it the files store indices of ``label_set``, and
    255. Keys are values 0..255, for ``encoding="colour"`` "#rrggbb" or "r, g, b", for "polygons" names.
    ``label_set``: the name of one, or class -> the Cityscapes classes it holds.
    """
    own = make_label_set("own", label_set) if isinstance(label_set, Mapping) else find_label_set(label_set)
    for what, pattern in (("images", images), ("labels", labels)):
        if (pattern or what == "images") and pattern.count("{key}") != 1:
            raise UsageError(f"{what}={pattern!r}: expected a path with one {{key}}, as 'images/{{key}}.{{ext}}'")
        if set(re.findall(r"\{.*?\}", pattern)) - {"{key}", "{ext}", "{split}"} or ".." in pattern.split("/"):
            raise UsageError(f"{what}={pattern!r}: expected a path below the folder, of {{split}}, {{key}}, {{ext}}")
    if encoding not in ENCODINGS:
        raise UsageError(f"encoding={encoding!r}: expected one of {', '.join(ENCODINGS)}")
    meanings = {key: _class(value, own) for key, value in (label_map or dict(enumerate(own.classes))).items()}
    values: dict[int, str] = {}
    colors: dict[Color, str] = {}
    if encoding == "colour":
        if label_map is None:
            colors = dict(zip(own.colors, own.classes, strict=True)) | {(0, 0, 0): ""}
        else:
            colors = _converted(meanings, _color)
    elif encoding != "polygons":
        values = _converted(meanings, _value)
    names = _converted(meanings, str) if encoding == "polygons" else {}
    if encoding == "polygons" and label_map is None:
        names = {name: name for name in own.classes}
    layout = Layout(images, labels, encoding, values, colors, names)
    chosen = split or ("val" if "{split}" in images else "train")
    parts = (chosen if "{split}" in images else "",)
    return Spec("folder", own, (layout,), {chosen: parts}, chosen, "your own", "any folder")


def _converted(meanings: Mapping[int | str, str], convert: Callable[[int | str], K]) -> dict[K, str]:
    """A label map with its keys as label files store them; UsageError for two keys that are one there."""
    written: dict[K, int | str] = {}
    for key in meanings:
        if (stored := convert(key)) in written:
            raise UsageError(f"label map: the keys {written[stored]!r} and {key!r} are the same; keep one")
        written[stored] = key
    return {stored: meanings[key] for stored, key in written.items()}


def _class(value: int | str | None, own: LabelSet) -> str:
    if value is None or value in ("", 255):
        return ""
    if isinstance(value, int) and 0 <= value < len(own.classes):
        return own.classes[value]
    if isinstance(value, str) and value in own.classes:
        return value
    raise UsageError(f"label map: {value!r} is not a class of {own.name}; it has {', '.join(own.classes)}")


def _value(key: int | str) -> int:
    if isinstance(key, int) or str(key).isdecimal():
        return int(key)
    raise UsageError(f"label map: key {key!r}; expected a value 0..255 (colours need encoding: colour)")


def _color(key: int | str) -> Color:
    text = str(key)
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    parts = [int(p) for p in re.findall(r"\d+", text)]
    if len(parts) != 3 or max(parts) > 255:
        raise UsageError(f"label map: key {key!r}; expected a colour as '#rrggbb' or 'r, g, b'")
    return parts[0], parts[1], parts[2]
