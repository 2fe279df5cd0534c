"""Tiny datasets in the layouts that the official sites hand out, fabricated: random images, labels of known classes.

``make(name)`` gives the files (path below the dataset's folder -> content) and, for each sample, the indices that its
label must read as. The paths here are written out anew, so that a slip in the package's own table shows.
"""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from clouds.data.datasets import Segmentation, open_dataset
from clouds.testing.dataset_contract import SIZE, jpg
from clouds.testing.dataset_contract import as_folder as as_folder
from clouds.testing.dataset_contract import as_zip as as_zip
from clouds.testing.dataset_contract import noise as picture

Files = dict[str, bytes]


class Fabricated(NamedTuple):
    files: Files
    labels: dict[str, np.ndarray]  # sample's id -> (H, W) uint8


def png(array: np.ndarray, palette: bool = False) -> bytes:
    """(H, W) or (H, W, 3) uint8 as PNG; ``palette``: (H, W) indices with colours, as BDD100K and GTA5 store labels."""
    image = Image.fromarray(array)
    if palette:
        image = Image.fromarray(array).convert("P")
        image.putdata(array.ravel().tolist())
        image.putpalette([(37 * i + 11) % 256 for i in range(768)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def png16(array: np.ndarray) -> bytes:
    """(H, W, 3) uint16 RGB as a 16-bit PNG, as SYNTHIA stores labels: class, instance, nothing."""
    return cv2.imencode(".png", np.ascontiguousarray(array[..., ::-1]))[1].tobytes()


def pick(seed: int, values: list[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) of some of ``values``, each of them at least once where they fit."""
    flat = np.resize(np.array(values), size[0] * size[1])
    return np.random.default_rng(seed).permutation(flat).reshape(size)


def polygons(rows: list[str], size: tuple[int, int] = SIZE) -> bytes:
    """A Cityscapes-style file in which row y of the image is a polygon of class ``rows[y]``; "" leaves it bare."""
    h, w = size
    shapes = [
        {"label": name, "polygon": [[0, y], [w - 1, y], [w - 1, y], [0, y]], "deleted": 0}
        for y, name in enumerate(rows)
        if name
    ]
    shapes.append({"label": "car", "polygon": [[0, 0], [w, 0], [w, h], [0, h]], "deleted": 1})
    return json.dumps({"imgHeight": h, "imgWidth": w, "objects": shapes}).encode()


class _Kind(NamedTuple):
    """How a fabricated dataset looks: its paths for sample k of a split's folder, and its label files."""

    image: str
    label: str
    parts: tuple[str, ...]
    keys: tuple[str, ...]
    pairs: dict[int, int]  # stored value -> index it must read as
    write: Callable[[np.ndarray], bytes] = lambda raw: png(raw.astype(np.uint8))
    extra: Mapping[str, bytes] = {}
    beside: tuple[str, ...] = ()  # what lies beside each sample and is no image or label of it


def _red(raw: np.ndarray) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (*raw.shape, 3), dtype=np.uint8)
    noise[..., 0] = raw
    return png(noise)


def _synthia(raw: np.ndarray) -> bytes:
    wide = np.random.default_rng(0).integers(0, 60000, (*raw.shape, 3)).astype(np.uint16)
    wide[..., 0] = raw
    return png16(wide)


def _palette(raw: np.ndarray) -> bytes:
    return png(raw.astype(np.uint8), palette=True)


_CAMVID_RGB = {0: (128, 128, 128), 1: (64, 192, 0), 2: (192, 192, 128), 3: (128, 0, 192), 4: (0, 0, 192),
               5: (192, 192, 0), 6: (0, 64, 64), 7: (64, 64, 128), 8: (192, 128, 192), 9: (192, 128, 64),
               10: (0, 128, 192), 11: (0, 0, 0)}  # fmt: skip


def _camvid_colors(raw: np.ndarray) -> bytes:
    return png(np.array([_CAMVID_RGB[i] for i in range(12)], np.uint8)[raw])


def _config(names: list[str]) -> bytes:
    return json.dumps({"labels": [{"name": n, "readable": n, "evaluate": True} for n in names]}).encode()


_IDS = {0: 255, 4: 255, 7: 0, 8: 1, 9: 255, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11,
        25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18, 34: 255}  # fmt: skip
_TRAIN = {i: i for i in range(19)} | {255: 255}
_CAMVID = {i: i for i in range(11)} | {11: 255}
_V2 = ["construction--barrier--curb", "human--person--individual", "marking--continuous--dashed",
       "marking--discrete--crosswalk-zebra", "object--traffic-light--cyclists", "object--traffic-sign--back",
       "object--vehicle--truck", "void--unlabeled"]  # fmt: skip
_SYNTHIA = {0: 255, 1: 9, 2: 2, 3: 0, 4: 1, 5: 4, 6: 8, 7: 5, 8: 12, 9: 7, 10: 10, 11: 15, 12: 14, 15: 6, 17: 11,
            19: 13, 21: 3, 22: 255}  # fmt: skip
_CARLA = {0: 255, 1: 2, 2: 4, 3: 255, 4: 11, 5: 5, 6: 0, 7: 0, 8: 1, 9: 8, 10: 12, 11: 3, 12: 7, 13: 10, 18: 6, 22: 9}
_ACDC = ("rgb_anon/{part}/{key}_rgb_anon.png", "gt/{part}/{key}_gt_labelTrainIds.png")
_WEATHER = ("fog", "night", "rain", "snow")
_ACDC_KEYS = ("GOPR0475/GOPR0475_frame_000041", "GP010476/GP010476_frame_000088")
_CITY_KEYS = ("frankfurt/frankfurt_000000_000294", "lindau/lindau_000001_000019")
_CITY = "leftImg8bit/{part}/{key}_leftImg8bit.png"
_VISTAS = ("{part}/images/{key}.jpg", ("-1Gtjcw9PzqUHnnHW0TAmA", "b_4x"))

_BDD_KEYS = ("00a360bd-27ccb1dd", "7d06fefd-f7be05a6")
_SIXTEEN = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18)  # train ids of SYNTHIA's classes

_KINDS: dict[str, _Kind] = {
    "gta5": _Kind(
        "images/{key}.png", "labels/{key}.png", ("",), ("00001", "24966"), _IDS, _palette,
        {"sample_class_stats.json": b"{}", "labels/15188_labelTrainIds.png": b""}, ("labels/{key}_labelTrainIds.png",),
    ),
    "gta5-prepared": _Kind("images/{key}.png", "labels/{key}_labelTrainIds.png", ("",), ("00001", "24966"), _TRAIN),
    "synthia": _Kind(
        "RAND_CITYSCAPES/RGB/{key}.png", "RAND_CITYSCAPES/GT/LABELS/{key}.png", ("",), ("0000000", "0009399"),
        _SYNTHIA, _synthia, {}, ("RAND_CITYSCAPES/GT/LABELS/{key}_labelTrainIds.png",
                                 "RAND_CITYSCAPES/GT/COLOR/{key}.png", "RAND_CITYSCAPES/Depth/Depth/{key}.png"),
    ),
    "synthia-prepared": _Kind(
        "RGB/{key}.png", "GT/LABELS/{key}_labelTrainIds.png", ("",), ("0000000",),
        dict(zip(_SIXTEEN, range(16), strict=True)) | {9: 255, 255: 255},
    ),
    "cityscapes": _Kind(
        _CITY, "gtFine/{part}/{key}_gtFine_labelIds.png", ("train", "val"), _CITY_KEYS, _IDS,
        beside=tuple("gtFine/{part}/{key}_gtFine_" + end
                     for end in ("color.png", "instanceIds.png", "labelTrainIds.png", "polygons.json")),
    ),
    "bdd100k": _Kind(
        "images/10k/{part}/{key}.jpg", "labels/sem_seg/masks/{part}/{key}.png", ("train", "val"), _BDD_KEYS, _TRAIN,
        _palette, {}, ("labels/sem_seg/colormaps/{part}/{key}.png",),
    ),
    "bdd100k-server": _Kind(
        "10k/{part}/{key}.jpg", "labels/{part}/{key}_train_id.png", ("train", "val"), _BDD_KEYS, _TRAIN,
        beside=("color_labels/{part}/{key}_train_color.png",),
    ),
    "bdd100k-seg": _Kind(
        "seg/images/{part}/{key}.jpg", "seg/labels/{part}/{key}_train_id.png", ("train", "val"), _BDD_KEYS, _TRAIN,
        beside=("seg/color_labels/{part}/{key}_train_color.png",),
    ),
    "mapillary-1.2": _Kind(
        _VISTAS[0], "{part}/labels/{key}.png", ("training", "validation"), _VISTAS[1],
        {0: 255, 2: 1, 13: 0, 17: 2, 23: 255, 24: 0, 27: 10, 45: 5, 49: 255, 50: 7, 61: 14, 65: 255}, _palette, {},
        ("{part}/labels/{key}_labelTrainIds.png", "{part}/instances/{key}.png", "{part}/panoptic/{key}.png"),
    ),
    "mapillary-prepared": _Kind(
        _VISTAS[0], "{part}/labels/{key}_labelTrainIds.png", ("training", "validation"), _VISTAS[1], _TRAIN
    ),
    "mapillary-2.0": _Kind(
        _VISTAS[0], "{part}/v2.0/labels/{key}.png", ("training", "validation"), _VISTAS[1],
        dict(enumerate([1, 11, 0, 255, 6, 255, 14, 255])), _palette, {"config_v2.0.json": _config(_V2)},
    ),
    "acdc": _Kind(*_ACDC, tuple(f"{c}/{s}" for s in ("train", "val") for c in _WEATHER), _ACDC_KEYS, _TRAIN, beside=(
        "gt/{part}/{key}_gt_labelColor.png", "gt/{part}/{key}_gt_labelIds.png", "gt/{part}/{key}_gt_invIds.png",
        "rgb_anon/{part}_ref/{key}_rgb_ref_anon.png",
    )),
    "urbansyn": _Kind("rgb/rgb_{key}.png", "ss/ss_{key}.png", ("",), ("0001", "7539"), _TRAIN),
    "dark-zurich": _Kind(*_ACDC, ("val/night",), ("GOPR0356/GOPR0356_frame_000321",), _TRAIN),
    "idd-png": _Kind(
        _CITY, "gtFine/{part}/{key}_gtFine_labelcsTrainIds.png", ("train", "val"), ("0/005506", "119/903127"), _TRAIN
    ),
    "idd-ids": _Kind(
        _CITY, "gtFine/{part}/{key}_gtFine_labelids.png", ("train", "val"), ("0/005506",),
        {0: 0, 3: 1, 5: 9, 11: 255, 12: 13, 17: 16, 24: 7, 29: 2, 33: 10, 39: 255, 255: 255},
    ),
    "idd-lite": _Kind(
        "leftImg8bit/{part}/{key}_image.jpg", "gtFine/{part}/{key}_label.png", ("train", "val"),
        ("3/004642", "119/frame58764"), {i: i for i in range(7)} | {255: 255},
        beside=("gtFine/{part}/{key}_inst_label.png",),
    ),
    "camvid": _Kind(
        "{part}/{key}.png", "{part}annot/{key}.png", ("train", "val", "test"),
        ("Seq05VD_f00000", "Seq05VD_f05100", "0001TP_008550"), _CAMVID,
    ),
    "carla": _Kind(
        "images/{key}.png", "labels/{key}.png", ("",), ("town_000", "town_001"),
        {0: 255, 1: 0, 11: 10, 12: 11, 14: 13, 19: 18, 20: 255, 24: 0, 29: 255}, _red,
    ),
    "carla-0.9.13": _Kind("images/{key}.png", "labels/{key}.png", ("",), ("town_000",), _CARLA, _red),
}  # fmt: skip
KINDS = (*_KINDS, "idd", "camvid-original")


def make(kind: str) -> Fabricated:
    """The files and expected labels of a tiny dataset; ids are the split's folder and the key."""
    if kind == "idd":
        return _idd()
    if kind == "camvid-original":
        return _camvid_original()
    image, label, parts, keys, pairs, write, extra, beside = _KINDS[kind]
    files, labels = dict(extra), {}
    table = np.zeros(256, np.uint8)
    table[list(pairs)] = list(pairs.values())
    for i, part in enumerate(parts):
        for k, key in enumerate(keys):
            seed, path = 100 * i + k, image.format(part=part, key=key)
            raw = pick(seed, list(pairs))
            files[path] = (jpg if path.endswith("jpg") else png)(picture(seed))
            files[label.format(part=part, key=key)] = write(raw)
            labels[f"{part}/{key}".lstrip("/")] = table[raw]
            # other label files only of later samples: whole, they would be labels as good as these
            more = [path for path in beside if k or not path.endswith(("TrainIds.png", "labelIds.png"))]
            files |= {path.format(part=part, key=key): png(picture(seed)) for path in more}
    return Fabricated(files, labels)


def _idd() -> Fabricated:
    """As downloaded: images and polygons, no label images; part I has PNG images, part II JPEG."""
    rows = ["road", "sidewalkgroup", "", "autorickshaw", "sky", "non-drivable fallback"]
    expected = np.repeat(np.array([[0], [1], [255], [255], [10], [9]], np.uint8), SIZE[1], axis=1)
    files: Files = {}
    for part in ("train", "val"):
        files[f"leftImg8bit/{part}/0/005506_leftImg8bit.png"] = png(picture(1))
        files[f"leftImg8bit/{part}/201/frame0299_leftImg8bit.jpg"] = jpg(picture(2))
        for key in ("0/005506", "201/frame0299"):
            files[f"gtFine/{part}/{key}_gtFine_polygons.json"] = polygons(rows)
    return Fabricated(files, {f"{p}/{k}": expected for p in ("train", "val") for k in ("0/005506", "201/frame0299")})


def _camvid_original() -> Fabricated:
    """As Cambridge hands it out: no split folders, 32 colours."""
    keys = {"0006R0_f00930": "train", "0016E5_07960": "train", "0016E5_07961": "val", "0001TP_008520": "train",
            "0001TP_008550": "test", "0001TP_010380": "test", "Seq05VD_f00000": "test"}  # fmt: skip
    files, labels = {}, {}
    for i, (key, split) in enumerate(keys.items()):
        raw = pick(i, list(range(12)))
        files[f"701_StillsRaw_full/{key}.png"] = png(picture(i))
        files[f"LabeledApproved_full/{key}_L.png"] = _camvid_colors(raw)
        labels[f"{split}/{key}"] = np.where(raw == 11, 255, raw).astype(np.uint8)
    return Fabricated(files, labels)


def as_tar(files: Mapping[str, bytes], path: Path, top: str = "") -> Path:
    """A tar, compressed if ``path`` ends in gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{top}{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


ALIASES = {"gta5-prepared": "gta5", "synthia-prepared": "synthia", "mapillary-prepared": "mapillary",
           "bdd100k-server": "bdd100k", "bdd100k-seg": "bdd100k", "mapillary-1.2": "mapillary",
           "mapillary-2.0": "mapillary", "idd-png": "idd", "idd-ids": "idd", "camvid-original": "camvid",
           "carla-0.9.13": "carla"}  # fmt: skip


def opened(kind: str, root: Path, split: str | None = None, **options: Any) -> Segmentation:
    """A fabricated set through the package, by its kind."""
    if kind == "carla-0.9.13":
        options["version"] = "0.9.13"
    return open_dataset(ALIASES.get(kind, kind), root, split, **options)
