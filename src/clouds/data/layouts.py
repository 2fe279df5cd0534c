"""The table of datasets: how each lies on disk as its site hands it out, what its labels mean, and where to get it.

A pattern is a path below the dataset's own folder: ``{split}`` is the folder of a split, ``{key}`` the rest that names
a sample (folders included), ``{ext}`` the ending of an image file. An image and a label belong together when their
keys agree.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from clouds.data import codes
from clouds.data.codes import Color
from clouds.data.labels import LABEL_SETS, LabelSet, find_label_set, make_label_set
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
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # where they differ from the dataset's
    label_set: str = ""  # where it differs from the dataset's
    version: tuple[str, ...] = ()  # values of the option that pick this layout


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
    asked: frozenset[str] = frozenset()  # splits that are looked at only when they are named


_TRAIN_VAL = {"train": ("train",), "val": ("val",), "all": ("train", "val")}
_TRAIN = {"train": ("",)}

# what tools write beside a label X.png, or an image: X_labelTrainIds.png of mmsegmentation, DAFormer, HRDA and CLOUDS,
# X_inst_label.png of IDD-Lite, ...; such a file is no label of its own where X is there
BESIDE = ("_labelTrainIds", "_labelIds", "_instanceIds", "_instanceTrainIds", "_inst", "_color", "_colour")

_CAMVID_TEST = r"Seq05VD_|0001TP_(0085[5-9]|008[6-9]|009|01)"
_CAMVID_VAL = r"0016E5_0(7959|79[6-9][13579]|80\d[13579]|81[0-5][13579])"
_CAMVID = (
    Layout("{split}/{key}.{ext}", "{split}annot/{key}.png", values=codes.CAMVID_IDS),
    *(
        Layout(  # its zips have no folder of their own: unpacked in one place, their files lie side by side
            images, labels, "colour", colors=codes.CAMVID_COLORS,
            split_keys={
                "train": rf"(?!{_CAMVID_VAL}|{_CAMVID_TEST})(0001TP|0006R0|0016E5|Seq05VD)_",
                "val": _CAMVID_VAL, "test": _CAMVID_TEST,
            },
        )
        for images in ("701_StillsRaw_full/{key}.png", "{key}.png")
        for labels in ("LabeledApproved_full/{key}_L.png", "{key}_L.png")
    ),
)  # fmt: skip
_CAMVID_SPLITS = {"train": ("train",), "val": ("val",), "test": ("test",)}
_CAMVID_TERMS = ("research; cite Brostow et al.", "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/")

_ACDC = (
    Layout("rgb_anon/{split}/{key}_rgb_anon.png", "gt/{split}/{key}_gt_labelTrainIds.png", values=codes.TRAIN_IDS),
    Layout("rgb_anon/{split}/{key}_rgb_anon.png", "gt/{split}/{key}_gt_labelIds.png", values=codes.CITYSCAPES_IDS),
)
_ACDC_TERMS = ("non-commercial, after registration", "https://acdc.vision.ee.ethz.ch")


_ACDC_REF = Layout(  # the same places in good weather
    "rgb_anon/{split}/{key}_rgb_ref_anon.png", "gt/{split}/{key}_gt_ref_labelTrainIds.png", values=codes.TRAIN_IDS
)
_FLAT = {"train": ("train",), "val": ("val",)}  # as DAFormer and HRDA have ACDC and Dark Zurich rearranged


def _acdc(*conditions: str) -> Spec:
    splits = {split: tuple(f"{c}/{split}" for c in conditions) for split in ("train", "val", "val_ref")}
    flat = (replace(_ACDC[0], splits=_FLAT),) if len(conditions) > 1 else ()
    layouts = (*_ACDC, _ACDC_REF, *flat)
    return Spec("acdc", "cityscapes19", layouts, splits, "val", *_ACDC_TERMS, asked=frozenset({"val_ref"}))


_VISTAS_SPLITS = {"train": ("training",), "val": ("validation",)}
_VISTAS_TERMS = ("CC BY-NC-SA 4.0, after registration", "https://www.mapillary.com/dataset/vistas")


def _vistas(
    labels: str, config: str, version: str, values: Mapping[int, str], rule: Callable[[str], str] = codes.vistas_class
) -> Layout:
    return Layout(
        "{split}/images/{key}.jpg", "{split}/" + labels + "/{key}.png", values=values, config=config,
        config_class=rule, version=(version,),
    )  # fmt: skip


_CARLA_TO_13 = ("0.9.13", "0.9.12", "0.9.11", "0.9.10", "0.8")
_CARLA_FROM_14 = ("0.9.14", "0.9.15", "0.9.16")
_SYNTHIA_TRAIN_IDS = {  # of the 19 classes, SYNTHIA has 16
    value: name if name in LABEL_SETS["synthia16"].classes else "" for value, name in codes.TRAIN_IDS.items()
}
_CITYSCAPES_IMAGES = "leftImg8bit/{split}/{key}_leftImg8bit.png"
_IDD_IMAGES = "leftImg8bit/{split}/{key}_leftImg8bit.{ext}"

DATASETS: dict[str, Spec] = {
    "gta5": Spec(
        "gta5", "cityscapes19",
        (
            Layout("images/{key}.png", "labels/{key}.png", values=codes.CITYSCAPES_IDS, colors=codes.CITYSCAPES_COLORS),
            Layout("images/{key}.png", "labels/{key}_labelTrainIds.png", values=codes.TRAIN_IDS),
        ),
        _TRAIN, "train", "research and education, non-commercial", "https://download.visinf.tu-darmstadt.de/data/from_games/",
        # two blank pictures, and sixty whose label maps do not have their image's size
        unusable=frozenset(f"{n:05d}" for n in (15188, 17705, *range(20801, 20861))),
    ),
    "synthia": Spec(
        "synthia", "synthia16",
        tuple(
            Layout(f"{top}RGB/{{key}}.png", f"{top}GT/LABELS/{{key}}{end}.png", encoding, values)
            for end, encoding, values in (
                ("", "red", codes.SYNTHIA_IDS), ("_labelTrainIds", "index", _SYNTHIA_TRAIN_IDS),
            )
            for top in ("RAND_CITYSCAPES/", "")
        ),
        _TRAIN, "train", "CC BY-NC-SA 3.0", "https://synthia-dataset.net (SYNTHIA-RAND-CITYSCAPES)",
    ),
    "cityscapes": Spec(
        "cityscapes", "cityscapes19",
        (
            Layout(_CITYSCAPES_IMAGES, "gtFine/{split}/{key}_gtFine_labelIds.png", values=codes.CITYSCAPES_IDS),
            Layout(_CITYSCAPES_IMAGES, "gtFine/{split}/{key}_gtFine_labelTrainIds.png", values=codes.TRAIN_IDS),
        ),
        _TRAIN_VAL, "val", "non-commercial, after registration", "https://www.cityscapes-dataset.com",
    ),
    "bdd100k": Spec(
        "bdd100k", "cityscapes19",
        tuple(
            Layout(images, labels, values=codes.TRAIN_IDS)
            for images in ("images/10k/{split}/{key}.jpg", "seg/images/{split}/{key}.jpg", "10k/{split}/{key}.jpg")
            for labels in (
                "labels/sem_seg/masks/{split}/{key}.png", "seg/labels/{split}/{key}_train_id.png",
                "labels/{split}/{key}_train_id.png",
            )
        ),
        _TRAIN_VAL, "val", "see the BDD100K licence", "https://bdd-data.berkeley.edu",
    ),
    "mapillary": Spec(
        "mapillary", "cityscapes19",
        (
            _vistas("labels", "config.json", "1.2", codes.VISTAS_IDS),
            _vistas("v1.2/labels", "config_v1.2.json", "1.2", codes.VISTAS_IDS),
            _vistas("v2.0/labels", "config_v2.0.json", "2.0", {}),
            Layout(
                "{split}/images/{key}.jpg", "{split}/labels/{key}_labelTrainIds.png", values=codes.TRAIN_IDS,
                version=("1.2",),
            ),
        ),
        _VISTAS_SPLITS, "val", *_VISTAS_TERMS,
    ),
    "mapillary-rein": Spec(
        "mapillary", "cityscapes19",
        (
            _vistas("labels", "config.json", "1.2", codes.VISTAS_REIN_IDS, codes.vistas_rein_class),
            _vistas("v1.2/labels", "config_v1.2.json", "1.2", codes.VISTAS_REIN_IDS, codes.vistas_rein_class),
        ),
        _VISTAS_SPLITS, "val", *_VISTAS_TERMS,
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
        (_ACDC[0], replace(_ACDC[0], splits=_FLAT)),
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
            Layout("images/{key}.{ext}", "labels/{key}.png", "red", codes.CARLA_TAGS, version=_CARLA_TO_13),
            Layout(
                "images/{key}.{ext}", "labels/{key}.png", "red", codes.CARLA_TAGS_14, version=_CARLA_FROM_14,
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
            raise UsageError(f"{what}={pattern!r}: expected a path with one {{key}}, such as 'images/{{key}}.{{ext}}'")
        if set(re.findall(r"\{.*?\}", pattern)) - {"{key}", "{ext}", "{split}"} or ".." in pattern.split("/"):
            raise UsageError(f"{what}={pattern!r}: expected a path below the folder, of {{split}}, {{key}}, {{ext}}")
    if encoding not in ENCODINGS:
        raise UsageError(f"encoding={encoding!r}: expected one of {', '.join(ENCODINGS)}")
    meanings = {key: _class(value, own) for key, value in (label_map or dict(enumerate(own.classes))).items()}
    layout = Layout(images, labels, encoding)
    if encoding == "polygons":
        names = {name: name for name in own.classes}
        layout = replace(layout, names=names if label_map is None else _converted(meanings, str))
    elif encoding != "colour":
        layout = replace(layout, values=_converted(meanings, _value))
    elif label_map is None:
        layout = replace(layout, colors=dict(zip(own.colors, own.classes, strict=True)) | {(0, 0, 0): ""})
    else:
        layout = replace(layout, colors=_converted(meanings, _color))
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
