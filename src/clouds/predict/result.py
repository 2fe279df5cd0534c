"""What a prediction holds, and the files it can be written as."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clouds.base.arrays import Labels, Pixels
from clouds.base.files import whole_file, write_json
from clouds.config.label_sets import CITYSCAPES
from clouds.data.codes import CITYSCAPES_IDS
from clouds.data.images import encode_image
from clouds.data.label_files import encode_labels
from clouds.data.legend import draw_legend
from clouds.errors import BackendError, UsageError
from clouds.predict.annotations import coco_annotations, coco_categories, polygons
from clouds.predict.tool_sets import SETS

PHOTO_ENDINGS = (".jpg", ".jpeg")
NOTEBOOK_SIDE = 1024  # pixels: the longer side of what a notebook shows


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """Prediction for one image.

    labels: uint8 (H, W), index into ``classes``. scores: float32 (H, W), the winner's share of its pixel's scores, in
    0..1. image: uint8 (H, W, 3) RGB, upright. colors: uint8 (C, 3). A notebook shows the overlay.
    """

    labels: Labels
    scores: NDArray[np.float32]
    image: Pixels
    classes: tuple[str, ...]
    colors: NDArray[np.uint8]

    def color(self) -> Pixels:
        """The label map in the classes' colours, uint8 (H, W, 3)."""
        painted: Pixels = self.colors[self.labels]
        return painted

    def overlay(self, opacity: float = 0.55, legend: bool = False) -> Pixels:
        """Colours over the image, uint8 (H, W, 3); ``opacity`` of the colours, 0..1. ``legend`` adds rows below it that
        name the classes that are there."""
        mixed = (self.color() * opacity + self.image * (1 - opacity)).round().astype(np.uint8)
        if not legend:
            return mixed
        return np.vstack([mixed, legend_of(self.classes, self.colors, mixed.shape[1], np.unique(self.labels).tolist())])

    def ids(self) -> Labels:
        """Cityscapes label ids (7 road, 8 sidewalk, 11 building, ...), uint8 (H, W); UsageError for other classes."""
        check_kinds(["ids"], self.classes)
        ids: Labels = ID_OF_TRAIN_ID[self.labels]
        return ids

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Where a class is, bool (H, W); UsageError for a name that is none of ``classes``."""
        if name not in self.classes:
            raise UsageError(f"{name!r} is not a class of this model; there are {', '.join(self.classes)}")
        found: NDArray[np.bool_] = self.labels == self.classes.index(name)
        return found

    def show(self) -> None:
        """Open the overlay in the system's picture viewer; a notebook shows a result by itself."""
        Image.fromarray(self.overlay()).show()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The labels, so that ``np.asarray(result)`` is the map."""
        return np.array(self.labels, dtype=dtype, copy=copy)

    def shares(self) -> dict[str, float]:
        """Classes that are there -> their share of the pixels, the largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))[: len(self.classes)]
        order = np.argsort(-counts, kind="stable")
        return {self.classes[i]: float(counts[i] / self.labels.size) for i in order if counts[i]}

    def coco(self, file_name: str = "") -> dict[str, Any]:
        """A COCO object of this one image: "images", "annotations" (a class each, compressed RLE), "categories".

        Category ids are train ids + 1. What ``pycocotools.coco.COCO`` reads.
        """
        height, width = self.labels.shape
        return {
            "images": [{"id": 1, "file_name": file_name, "height": height, "width": width}],
            "annotations": coco_annotations(self.labels, self.scores, len(self.classes)),
            "categories": coco_categories(self.classes, self.colors.tolist()),
        }

    def polygons(self) -> dict[str, Any]:
        """Cityscapes' layout: {"imgHeight", "imgWidth", "objects": [{"label", "polygon"}]}, to be painted in order;
        corners are [x, y] in pixels. Pieces with fewer than three corners are left out."""
        return polygons(self.labels, self.classes)

    def to_supervision(self) -> Any:
        """``supervision.Detections``: a mask a class that is there, its id, name and mean confidence.

        BackendError where the package is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise BackendError("to_supervision needs a package that is not here: pip install supervision") from error
        there = [k for k in np.unique(self.labels).tolist() if k < len(self.classes)]
        masks = np.stack([self.labels == k for k in there])
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks).astype(np.float32), mask=masks, class_id=np.array(there),
            confidence=np.array([self.scores[mask].mean() for mask in masks], np.float32),
            data={"class_name": np.array([self.classes[k] for k in there])},
        )  # fmt: skip

    def to_hf(self) -> list[dict[str, Any]]:
        """What the ``image-segmentation`` pipeline of transformers returns: {"label", "score", "mask"} for each class
        that is there; a mask is a PIL image of mode L, 255 where the class is."""
        found = []
        for k in np.unique(self.labels).tolist():
            if k < len(self.classes):
                mask = self.labels == k
                picture = Image.fromarray(mask.astype(np.uint8) * 255)
                found.append({"label": self.classes[k], "score": float(self.scores[mask].mean()), "mask": picture})
        return found

    def __repr__(self) -> str:
        height, width = self.labels.shape
        some = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(self.shares().items())[:4])
        return f"<Result {width}x{height}: {some}>"

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay, no larger than a page."""
        picture = self.overlay()
        factor = NOTEBOOK_SIDE / max(picture.shape)
        if factor < 1:
            picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        return encode_image(picture, "overlay")

    def save(self, path: str | Path, kind: str = "labels", legend: bool = False) -> Path:
        """Write one file.

        kind: "labels" (train ids) as PNG with a palette of the classes' colours; "ids" (Cityscapes label ids) and
        "scores" (confidence, 0..255 for 0..1) as grey PNG; "color" and "overlay" as PNG or, where the name says so,
        JPEG; "coco" and "polygons" as JSON. ``legend``: below an overlay. UsageError for any other kind or name.
        """
        path = Path(path)
        check_kinds([kind], self.classes, KINDS)
        ending = path.suffix.lower()
        own = ending_of(kind)
        allowed = (own, *PHOTO_ENDINGS) if kind in ("color", "overlay") else (own,)
        if ending not in allowed:
            why = "; JPEG would change its values" if ending in PHOTO_ENDINGS and own == ".png" else ""
            raise UsageError(f"{path}: {kind} is saved as {' or '.join(allowed)}{why}; name it {path.stem}{own}")
        if kind in TEXTS:
            write_json(path, TEXTS[kind](self, path))
            return path
        with whole_file(path) as temporary:
            temporary.write_bytes(encoded(self, kind, path, legend))
        return path


def encoded(result: Result, kind: str, where: str | Path = "", legend: bool = False) -> bytes:
    """A picture of a result as the bytes of a PNG, or of a JPEG where ``where`` has its ending."""
    if kind == "labels":
        return encode_labels(result.labels, result.colors.tolist(), where)
    picture = result.overlay(legend=legend) if kind == "overlay" else PICTURES[kind](result)
    ending = Path(where).suffix.lower()
    return encode_image(picture, where, ending if ending in PHOTO_ENDINGS else ".png")


PICTURES: dict[str, Callable[[Result], Pixels]] = {
    "labels": lambda result: result.labels,
    "color": Result.color,
    "overlay": Result.overlay,
    "ids": Result.ids,
    "scores": lambda result: (result.scores * 255).round().astype(np.uint8),
}
TEXTS: dict[str, Callable[[Result, Path], dict[str, Any]]] = {
    "coco": lambda result, path: result.coco(path.stem.removesuffix("_coco")),
    "polygons": lambda result, _: result.polygons(),
}
KINDS = (*PICTURES, *TEXTS)


def legend_of(
    classes: Sequence[str], colors: NDArray[np.uint8], width: int, shown: Sequence[int] | None = None
) -> Pixels:
    """A strip (h, ``width``, 3) that names the classes ``shown``, by default all."""
    every = range(len(classes))
    entries = [(classes[k], (r, g, b)) for k, (r, g, b) in enumerate(colors.tolist()) if k in (shown or every)]
    size = min(max(12, width // 55), 28)
    return draw_legend(entries, width, size, margin=size // 2)


def ending_of(kind: str) -> str:
    """The ending of a kind's file."""
    return ".json" if kind in TEXTS else ".png"


def check_kinds(
    kinds: Sequence[str], classes: Sequence[str] | None = None, allowed: Sequence[str] = (*KINDS, *SETS)
) -> None:
    """Raises UsageError for a kind that is not allowed, or that a model of these classes cannot be saved as."""
    if unknown := [kind for kind in kinds if kind not in allowed]:
        raise UsageError(f"format: unknown kind {', '.join(map(repr, unknown))}; allowed: {', '.join(allowed)}")
    if "ids" in kinds and classes is not None and tuple(classes) != CITYSCAPES.classes:
        raise UsageError(
            f"format: 'ids' are those of Cityscapes' classes, but this model has {len(classes)} others "
            f"({', '.join(classes[:3])}, ...); save 'labels', positions in its own list"
        )


def _label_ids() -> Labels:
    """Train id -> Cityscapes label id; what is no class (255) -> 0, "unlabeled"."""
    table = np.zeros(256, np.uint8)
    for stored, name in CITYSCAPES_IDS.items():
        if name:
            table[CITYSCAPES.classes.index(name)] = stored
    return table


ID_OF_TRAIN_ID = _label_ids()
