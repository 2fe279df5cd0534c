"""Predictions as data sets of the tools in which people see and correct labels: VOC, CVAT, labelme, YOLO and COCO.

Each is a folder of images and labels below ``--out`` that its tool opens, and that training reads again
(``data.source={dataset: voc, root: predictions/voc}``): predict, correct, train.
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from clouds.base.arrays import Labels
from clouds.base.files import whole_file, write_json, write_text
from clouds.config.label_sets import IGNORE, colors_of
from clouds.data.exif import orientation
from clouds.data.images import read_file, write_png
from clouds.data.label_files import write_labels
from clouds.predict.annotations import polygons

BACKGROUND = "background"


class Classes(NamedTuple):
    """Names and RGB colours in the order of a model's indices."""

    names: Sequence[str]
    colors: Sequence[Sequence[int]]


class PredictedImage(NamedTuple):
    """Its name below a folder, its label map (H, W), and where its image is, as a file or as pixels."""

    name: Path
    labels: Labels
    image: Any
    source: Path | None


class SetFormat(NamedTuple):
    """``folder``: of the set, below ``--out``. ``file``: of a label in it, for a name. ``write``: one label, and its
    image where the set has some. ``finish``: what the whole set has, from the label files there are."""

    folder: str
    file: Callable[[Path], Path]
    write: Callable[[Path, PredictedImage, Classes], None]
    finish: Callable[[Path, list[Path], Classes], None]


def image_beside(folder: Path, predicted: PredictedImage) -> Path:
    """The image as a file NAME.* of ``folder``: the very bytes of a PNG or JPEG that stands upright, else a PNG."""
    if predicted.source and predicted.source.suffix.lower() in (".png", ".jpg", ".jpeg"):
        data = read_file(predicted.source)
        if orientation(data) == 1:
            path = (folder / predicted.name).with_name(predicted.name.name + predicted.source.suffix.lower())
            with whole_file(path) as temporary:
                temporary.write_bytes(data)
            return path
    path = (folder / predicted.name).with_name(predicted.name.name + ".png")
    write_png(path, predicted.image)
    return path


def voc_rows(classes: Classes) -> list[tuple[str, tuple[int, int, int]]]:
    """(name, colour) by the value that a mask stores: 0 is background and black, as VOC and CVAT have it.

    A class called background is that one; all others follow in their order. No other one is black.
    """
    known = {name: color for name, color in zip(classes.names, classes.colors, strict=True) if any(color)}
    others = [name for name in classes.names if name != BACKGROUND]
    colors = colors_of(others, {name: known[name] for name in others if name in known})
    return [(BACKGROUND, (0, 0, 0)), *((name, (r, g, b)) for name, (r, g, b) in zip(others, colors, strict=True))]


def _write_mask(path: Path, labels: Labels, classes: Classes) -> None:
    """A palette PNG; a value stands for the class of ``voc_rows``, 255 for none."""
    rows = voc_rows(classes)
    places = {name: value for value, (name, _) in enumerate(rows)}
    table = np.full(256, IGNORE, np.uint8)
    table[: len(classes.names)] = [places[name] for name in classes.names]
    write_labels(path, cv2.LUT(labels, table), [color for _, color in rows])


def _write_voc(folder: Path, predicted: PredictedImage, classes: Classes) -> None:
    image_beside(folder / "JPEGImages", predicted)
    _write_mask(folder / _voc_file(predicted.name), predicted.labels, classes)


def _voc_file(name: Path) -> Path:
    return Path("SegmentationClass") / name.with_name(f"{name.name}.png")


def _finish_voc(folder: Path, labels: list[Path], classes: Classes) -> None:
    lines = [f"{name}:{r},{g},{b}::" for name, (r, g, b) in voc_rows(classes)]
    write_text(folder / "labelmap.txt", "\n".join(["# label:color_rgb:parts:actions", *lines]) + "\n")
    names = [path.relative_to(folder / "SegmentationClass").with_suffix("").as_posix() for path in labels]
    write_text(folder / "ImageSets" / "Segmentation" / "default.txt", "".join(f"{name}\n" for name in sorted(names)))


def _write_cvat(folder: Path, predicted: PredictedImage, classes: Classes) -> None:
    _write_mask(folder / _voc_file(predicted.name), predicted.labels, classes)


def _finish_cvat(folder: Path, labels: list[Path], classes: Classes) -> None:
    """An archive that CVAT imports as "Segmentation mask 1.1" beside the folder; it has the images already."""
    _finish_voc(folder, labels, classes)
    files = [folder / "labelmap.txt", folder / "ImageSets" / "Segmentation" / "default.txt", *sorted(labels)]
    with whole_file(folder.with_suffix(".zip")) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path in files:
            archive.write(path, path.relative_to(folder).as_posix())


def _write_labelme(folder: Path, predicted: PredictedImage, classes: Classes) -> None:
    image = image_beside(folder, predicted)
    found = polygons(predicted.labels, classes.names)
    shapes = [
        {"label": each["label"], "points": [[float(x), float(y)] for x, y in each["polygon"]], "group_id": None,
         "shape_type": "polygon", "flags": {}, "description": ""}
        for each in found["objects"]
    ]  # fmt: skip
    write_json(folder / _beside(predicted.name, ".json"), {
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image.name, "imageData": None,
        "imageHeight": found["imgHeight"], "imageWidth": found["imgWidth"],
    })  # fmt: skip


def _beside(name: Path, ending: str) -> Path:
    return name.with_name(name.name + ending)


def _write_yolo(folder: Path, predicted: PredictedImage, classes: Classes) -> None:
    image_beside(folder / "images", predicted)
    height, width = predicted.labels.shape
    index = {name: k for k, name in enumerate(classes.names)}
    lines = []
    for each in polygons(predicted.labels, classes.names)["objects"]:
        corners = (f"{min(x / width, 1):.6f} {min(y / height, 1):.6f}" for x, y in each["polygon"])
        lines.append(f"{index[each['label']]} {' '.join(corners)}\n")
    write_text(folder / "labels" / _beside(predicted.name, ".txt"), "".join(lines))


def _finish_yolo(folder: Path, _labels: list[Path], classes: Classes) -> None:
    names = "".join(f"  {k}: {json.dumps(name)}\n" for k, name in enumerate(classes.names))
    write_text(folder / "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names}")


def _write_panoptic(folder: Path, predicted: PredictedImage, _classes: Classes) -> None:
    """The segment of class k has the id k + 1; a PNG stores an id as R + 256 G + 65536 B."""
    image_beside(folder / "images", predicted)
    ids = np.where(predicted.labels == IGNORE, 0, predicted.labels + np.uint8(1)).astype(np.uint8)
    nothing = np.zeros_like(ids)
    write_png(folder / "panoptic" / _beside(predicted.name, ".png"), np.dstack([ids, nothing, nothing]))


def _finish_panoptic(folder: Path, labels: list[Path], classes: Classes) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, path in enumerate(sorted(labels), 1):
        with Image.open(path) as opened:
            ids = np.asarray(opened.convert("RGB"))[..., 0]
        name = path.relative_to(folder / "panoptic")
        beside = (folder / "images" / name.parent).glob(f"{_escaped(name.stem)}.*")
        image = next(path for path in sorted(beside) if path.stem == name.stem)
        images.append({"id": number, "file_name": image.relative_to(folder / "images").as_posix(),
                       "height": ids.shape[0], "width": ids.shape[1]})  # fmt: skip
        segments = [_segment(ids == k, k) for k in np.unique(ids[ids > 0]).tolist()]
        annotations.append({"image_id": number, "file_name": name.as_posix(), "segments_info": segments})
    categories = [
        {"id": 1 + k, "name": name, "supercategory": name, "isthing": 0, "color": [int(c) for c in color]}
        for k, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True))
    ]
    write_json(folder / "panoptic.json", {"images": images, "annotations": annotations, "categories": categories})


def _escaped(stem: str) -> str:
    return "".join(f"[{c}]" if c in "[]*?" else c for c in stem)


def _segment(mask: Any, number: int) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    box = [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
    return {"id": number, "category_id": number, "area": int(mask.sum()), "bbox": box, "iscrowd": 0}


def _nothing(_folder: Path, _labels: list[Path], _classes: Classes) -> None: ...


SETS: dict[str, SetFormat] = {
    "voc": SetFormat("voc", _voc_file, _write_voc, _finish_voc),
    "cvat": SetFormat("cvat", _voc_file, _write_cvat, _finish_cvat),
    "labelme": SetFormat("labelme", lambda name: _beside(name, ".json"), _write_labelme, _nothing),
    "yolo": SetFormat("yolo", lambda name: Path("labels") / _beside(name, ".txt"), _write_yolo, _finish_yolo),
    "coco-panoptic": SetFormat(
        "coco-panoptic", lambda name: Path("panoptic") / _beside(name, ".png"), _write_panoptic, _finish_panoptic
    ),
}


def finish_sets(out: Path, made: Mapping[str, Iterable[Path]], classes: Classes) -> None:
    """Write what the whole of each set has; ``made``: the label files of each format, all that belong to it."""
    for kind, labels in made.items():
        SETS[kind].finish(out / SETS[kind].folder, list(labels), classes)
