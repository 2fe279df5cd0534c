"""What a prediction holds, and the files it can be written as."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.classes import NAMES
from clouds.data.codes import CITYSCAPES_IDS
from clouds.errors import DataError, UsageError
from clouds.files import whole_file

PHOTO_ENDINGS = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Result:
    """Prediction for one image.

    labels: uint8 (H, W), index into ``classes``. scores: float32 (H, W), the winner's share of its pixel's scores, in
    0..1. image: uint8 (H, W, 3) RGB. colors: uint8 (C, 3).
    """

    labels: NDArray[np.uint8]
    scores: NDArray[np.float32]
    image: NDArray[np.uint8]
    classes: tuple[str, ...]
    colors: NDArray[np.uint8]

    def color(self) -> NDArray[np.uint8]:
        """The label map in the classes' colours, uint8 (H, W, 3)."""
        painted: NDArray[np.uint8] = self.colors[self.labels]
        return painted

    def overlay(self, opacity: float = 0.55) -> NDArray[np.uint8]:
        """Colours over the image, uint8 (H, W, 3)."""
        mixed = self.color() * opacity + self.image * (1 - opacity)
        return mixed.round().astype(np.uint8)

    def ids(self) -> NDArray[np.uint8]:
        """Cityscapes label ids (7 road, 8 sidewalk, 11 building, ...), uint8 (H, W); UsageError for other classes."""
        check_kinds(["ids"], self.classes)
        ids: NDArray[np.uint8] = ID_OF_TRAIN_ID[self.labels]
        return ids

    def save(self, path: str | Path, kind: str = "labels") -> Path:
        """Write one file.

        kind: "labels" (train ids), "ids" (Cityscapes label ids) and "scores" (confidence, 0..255 for 0..1) as grey PNG;
        "color" and "overlay" as PNG or, where the name says so, JPEG. UsageError for any other kind or name.
        """
        path = Path(path)
        check_kinds([kind], self.classes)
        ending = path.suffix.lower()
        allowed = (".png", *PHOTO_ENDINGS) if kind in ("color", "overlay") else (".png",)
        if ending not in allowed:
            why = "; JPEG would change its values" if ending in PHOTO_ENDINGS else ""
            raise UsageError(f"{path}: {kind} is saved as {' or '.join(allowed)}{why}; name it {path.stem}.png")
        picture = KINDS[kind](self)
        ok, data = cv2.imencode(ending, picture[..., ::-1] if picture.ndim == 3 else picture)
        if not ok:
            raise DataError(f"{path}: OpenCV could not encode a {ending} of shape {picture.shape}")
        with whole_file(path) as temporary:
            temporary.write_bytes(data.tobytes())
        return path


KINDS: dict[str, Callable[[Result], NDArray[np.uint8]]] = {
    "labels": lambda result: result.labels,
    "color": Result.color,
    "overlay": Result.overlay,
    "ids": Result.ids,
    "scores": lambda result: (result.scores * 255).round().astype(np.uint8),
}


def check_kinds(kinds: Sequence[str], classes: Sequence[str] | None = None) -> None:
    """Raises UsageError for a kind that is not in ``KINDS``, or that a model of these classes cannot be saved as."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"format: unknown kind {', '.join(map(repr, unknown))}; allowed: {', '.join(KINDS)}")
    if "ids" in kinds and classes is not None and tuple(classes) != NAMES:
        raise UsageError(
            f"format: 'ids' are the ids of the 19 Cityscapes classes, but this model has {len(classes)} others "
            f"({', '.join(classes[:3])}, ...); save 'labels', positions in its own list"
        )


def _label_ids() -> NDArray[np.uint8]:
    """Train id -> Cityscapes label id; what is no class (255) -> 0, "unlabeled"."""
    table = np.zeros(256, np.uint8)
    for stored, name in CITYSCAPES_IDS.items():
        if name:
            table[NAMES.index(name)] = stored
    return table


ID_OF_TRAIN_ID = _label_ids()
