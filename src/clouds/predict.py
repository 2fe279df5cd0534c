"""Images in, labels out: the predictor that ``clouds.load`` returns."""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clouds.data.loaders import read_image
from clouds.errors import DataError, UsageError
from clouds.files import whole_file
from clouds.model.checkpoint import load_model
from clouds.model.open_vocabulary import with_classes
from clouds.model.segmenter import Segmenter
from clouds.progress import track


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

    def save(self, path: str | Path, kind: str = "labels") -> Path:
        """Write a PNG: ``kind`` is "labels" (train ids), "color" or "overlay"."""
        kinds = {"labels": lambda: self.labels, "color": self.color, "overlay": self.overlay}
        if kind not in kinds:
            raise UsageError(f"save: unknown kind {kind!r}; allowed: {', '.join(kinds)}")
        picture, path = kinds[kind](), Path(path)
        ok, data = cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture)
        if not ok:
            raise DataError(f"{path}: OpenCV could not encode a PNG of shape {picture.shape}")
        with whole_file(path) as temporary:
            temporary.write_bytes(data.tobytes())
        return path


class Predictor:
    """A model ready for images: ``predict`` for one picture of any size, ``semantic`` for raw maps."""

    def __init__(self, model: Segmenter, device: str | torch.device = "cpu") -> None:
        self.model = model.eval().to(device)
        self.device = torch.device(device)
        self.shorter_side: int = model.settings["shorter_side"]
        self.classes = tuple(model.classes)
        self.colors = np.array(model.colors, np.uint8)
        self._renamed: dict[tuple[str, ...], Predictor] = {}

    def with_classes(self, classes: str | Sequence[str], weights: str | None = None) -> "Predictor":
        """This model asked for other names, as ``"scooter,road|street"`` or a list; ``head: text`` only.

        New names need the text tower: ``weights`` (a tag, hub id or path), by default those the model records.
        """
        twin = copy.copy(self)
        twin.model = with_classes(self.model, classes, weights)
        twin.classes, twin.colors = tuple(twin.model.classes), np.array(twin.model.colors, np.uint8)
        twin._renamed = {}
        return twin

    @torch.inference_mode()
    def semantic(self, images: Tensor, ensemble: bool = False) -> Tensor:
        """uint8 (B, 3, H, W) -> raw semantic map float32 (B, C, H, W) at the input's size, no resizing.

        ``ensemble`` needs dense CLIP features, which the backbone of this model may not have (UsageError).
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise UsageError(
                f"semantic: expected uint8 images (B, 3, H, W), got {images.dtype} of shape {tuple(images.shape)}"
            )
        return self.model.semantic(images.to(self.device), ensemble)

    @torch.inference_mode()
    def predict(self, image: Any, classes: Sequence[str] | None = None) -> Result:
        """A path, PIL image, or array uint8 (H, W, 3) RGB -> Result at the image's own size.

        The image is brought to the model's shorter side, and the map back to the image's size before the argmax.
        ``classes``: names to look for instead of the model's own (see ``with_classes``).
        """
        if classes is not None:
            if (key := tuple(classes)) not in self._renamed:
                self._renamed[key] = self.with_classes(key)
            return self._renamed[key].predict(image)
        pixels = as_rgb(image)
        height, width = pixels.shape[:2]
        small = resize_shorter_side(pixels, self.shorter_side)
        batch = torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))[None]
        scores = F.interpolate(self.semantic(batch), size=(height, width), mode="bilinear", align_corners=False)[0]
        best, labels = scores.max(0)
        share = best / scores.sum(0).clamp(min=1e-6)
        return Result(
            labels.to(torch.uint8).cpu().numpy(), share.float().cpu().numpy(), pixels, self.classes, self.colors
        )


def as_rgb(image: Any) -> NDArray[np.uint8]:
    """A path, PIL image or uint8 array -> uint8 (H, W, 3) RGB; raises DataError naming what is wrong."""
    if isinstance(image, str | Path):
        path = Path(image)
        if not path.is_file():
            raise DataError(f"{path}: no such image")
        return read_image(path)
    if isinstance(image, Image.Image):
        deep = image.mode.startswith("I;16")  # Pillow's own conversion clips at 255: nearly all white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if deep else image
        image = image if image.mode in ("I", "F") else image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise DataError(f"expected a path, a PIL image or a uint8 (H, W, 3) array, got {pixels.dtype} {pixels.shape}")
    return pixels


def resize_shorter_side(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(H, W, 3) -> the same picture with shorter side ``side``; 0 keeps its size."""
    height, width = image.shape[:2]
    if not side or min(height, width) == side:
        return image
    factor = side / min(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    resized: NDArray[np.uint8] = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    return resized


def load(path: str | Path, device: str | torch.device = "cpu") -> Predictor:
    """The predictor of a model folder, or of a run folder's final ``model/``; needs no hub, text tower or recipe."""
    folder = Path(path)
    if not (folder / "config.json").exists() and (folder / "model").is_dir():
        folder = folder / "model"
    return Predictor(load_model(folder), device)


IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")


def predict_files(
    path: Path, inputs: list[Path], out: Path, classes: str | None = None, weights: str | None = None
) -> list[Path]:
    """Segment images and folders of images; writes NAME.png (train ids) and NAME_overlay.png, folders kept.

    ``classes`` (and ``weights``) as in ``Predictor.with_classes``: ids are then positions in that list.
    """
    wanted: list[tuple[Path, Path]] = []
    for item in inputs:
        if item.is_dir():
            found = sorted(p for p in item.rglob("*") if _is_photo(p, out))
            if not found:
                raise UsageError(f"{item}: holds no {', '.join(IMAGE_ENDINGS)} image")
            wanted += [(image, image.relative_to(item).with_suffix("")) for image in found]
        elif item.is_file():
            wanted.append((item, Path(item.stem)))
        else:
            raise UsageError(f"{item}: no such image or folder")
    targets = [(out / f"{name}.png", out / f"{name}_overlay.png") for _, name in wanted]
    count = Counter(target for pair in targets for target in pair)
    if twice := sorted(str(target) for target, n in count.items() if n > 1):
        raise UsageError(f"{', '.join(twice)}: two inputs would be written there; give the folder that holds both")
    inside = {image.resolve() for image, _ in wanted}
    if lost := sorted(str(target) for target in count if target.resolve() in inside):
        raise UsageError(f"{', '.join(lost)}: an input would be overwritten; choose another --out")
    predictor = load(path)
    if classes is not None:
        predictor = predictor.with_classes(classes, weights)
    for (image, _), (labels, overlay) in track(
        zip(wanted, targets, strict=True), "segmenting", len(wanted), unit="images"
    ):
        result = predictor.predict(image)
        result.save(labels)
        result.save(overlay, "overlay")
    return [labels for labels, _ in targets]


def _is_photo(path: Path, out: Path) -> bool:
    """An image by its name; not a hidden one (half-written or a file manager's), nor an earlier prediction."""
    hidden = path.name.startswith(".")
    return path.suffix.lower() in IMAGE_ENDINGS and not hidden and out not in path.parents
