"""A label map as text that other tools read: COCO's run lengths, and polygons as Cityscapes has them."""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Labels

TOLERANCE = 1.0  # pixels a polygon may leave its border


def rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """(H, W) bool -> COCO's compressed run lengths, {"size": [H, W], "counts": text}: what pycocotools' encode gives.

    Runs go down the columns and begin with one of zeros. From the third on, a run is written as its difference to the
    one before the last, in groups of five bits from the lowest, a sixth bit saying that more follow.
    """
    flat = mask.T.ravel()
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], borders, [flat.size])))
    if flat[0]:
        runs = np.concatenate(([0], runs))
    runs[3:] -= runs[1:-2].copy()
    text = bytearray()
    for value in runs.tolist():
        more = True
        while more:
            low, value = value & 31, value >> 5
            more = value != (-1 if low & 16 else 0)
            text.append(48 + (low | 32 if more else low))
    return {"size": list(mask.shape), "counts": text.decode()}


def coco_categories(classes: Sequence[str], colors: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """A category a class; ids are positions from 1, as COCO's: train id 0 is category 1."""
    return [
        {"id": 1 + i, "name": name, "supercategory": "stuff", "isthing": 0, "color": [int(c) for c in color]}
        for i, (name, color) in enumerate(zip(classes, colors, strict=True))
    ]


def coco_annotations(labels: Labels, scores: NDArray[np.float32], classes: int) -> list[dict[str, Any]]:
    """Label map and confidence (H, W) -> an annotation for each class that is there, as COCO's stuff has them.

    bbox: [x, y, width, height] in pixels. area: pixels. score: the mean confidence. ``image_id`` is 1.
    """
    found: list[dict[str, Any]] = []
    for label in np.unique(labels[labels < classes]).tolist():
        mask = labels == label
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = int(columns[0]), int(rows[0])
        found.append({
            "id": len(found) + 1,
            "image_id": 1,
            "category_id": 1 + label,
            "segmentation": rle(mask),
            "area": int(mask.sum()),
            "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
            "iscrowd": 0,
            "score": round(float(scores[mask].mean()), 4),
        })  # fmt: skip
    return found


def join_coco(parts: Iterable[dict[str, Any]], file: io.TextIOBase, dump: Callable[[Any], str]) -> int:
    """Write many images' COCO objects as one, numbered anew; holds one image at a time. -> images.

    ``dump``: a JSON writer, as ``json.dumps``.
    """
    images: list[dict[str, Any]] = []
    categories: list[dict[str, Any]] = []
    count = 0
    file.write('{"annotations": [')
    for part in parts:
        images.append({**part["images"][0], "id": len(images) + 1})
        categories = part["categories"]
        for annotation in part["annotations"]:
            file.write(",\n" if count else "\n")
            count += 1
            file.write(dump({**annotation, "id": count, "image_id": len(images)}))
    file.write(f'],\n"images": {dump(images)},\n"categories": {dump(categories)}}}\n')
    return len(images)


def polygons(labels: Labels, classes: Sequence[str], tolerance: float = TOLERANCE) -> dict[str, Any]:
    """Label map (H, W) -> a polygon file as Cityscapes has it: {"imgHeight", "imgWidth", "objects": [{"label",
    "polygon": [[x, y], ...]}]}, to be painted in order.

    Each connected piece of a class is one polygon of its outer border, within ``tolerance`` pixels; larger ones come
    first, so what lies in a piece's hole is painted over it. Pieces too small for a polygon (three corners) are left
    out: who paints the file sees what is around them.
    """
    pieces: list[tuple[float, str, list[list[int]]]] = []
    for label in np.unique(labels[labels < len(classes)]).tolist():
        mask = (labels == label).astype(np.uint8)
        borders, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for border, (_, _, _, outer) in zip(borders, tree.reshape(-1, 4), strict=True):
            if outer < 0:  # otherwise the border of a hole
                corners = cv2.approxPolyDP(border, tolerance, closed=True).reshape(-1, 2).tolist()
                if len(corners) > 2:
                    pieces.append((float(cv2.contourArea(border)), classes[label], corners))
    pieces.sort(key=lambda piece: -piece[0])
    height, width = labels.shape
    objects = [{"label": name, "polygon": corners} for _, name, corners in pieces]
    return {"imgHeight": height, "imgWidth": width, "objects": objects}
