"""Images in, labels out: the predictor that ``clouds.load`` returns."""

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
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
from clouds.model.checkpoint import load_model
from clouds.model.inference import Inference, Size, look
from clouds.model.open_vocabulary import with_classes
from clouds.model.segmenter import Segmenter
from clouds.result import Result

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB


class Predictor:
    """A model ready for images: ``predict`` for pictures of any size, ``semantic`` for raw maps.

    ``inference`` says how it looks at a picture: by default whole, at the model's own shorter side.
    """

    def __init__(self, model: Segmenter, device: str | torch.device = "cpu") -> None:
        self.model = model.eval().to(device)
        self.device = torch.device(device)
        self.inference = Inference(model.settings["shorter_side"])
        self.classes = tuple(model.classes)
        self.colors = np.array(model.colors, np.uint8)
        self._renamed: dict[str | tuple[str, ...], Predictor] = {}

    def with_classes(self, classes: str | Sequence[str], weights: str | None = None) -> "Predictor":
        """This model asked for other names, as ``"scooter,road|street"`` or a list; ``head: text`` only.

        New names need the text tower: ``weights`` (a tag, hub id or path), by default those the model records.
        """
        twin = copy.copy(self)
        twin.model = with_classes(self.model, classes, weights)
        twin.classes, twin.colors = tuple(twin.model.classes), np.array(twin.model.colors, np.uint8)
        twin._renamed = {}
        return twin

    def with_inference(self, **changes: Any) -> "Predictor":
        """This model looking otherwise, such as ``window=768, flip=True``: fields of ``Inference``; UsageError for
        values that cannot be. The weights are shared."""
        twin = copy.copy(self)
        twin.inference = replace(self.inference, **changes)
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

    def predict(self, image: Any, classes: str | Sequence[str] | None = None) -> Result:
        """A path, PIL image, or array uint8 (H, W, 3) RGB -> Result at the image's own size.

        The image is brought to the model's shorter side, and the map back to the image's size before the argmax
        (``with_inference`` for windows, scales and flip).
        ``classes``: names to look for instead of the model's own (see ``with_classes``).
        """
        if classes is not None:
            key = classes if isinstance(classes, str) else tuple(classes)
            if key not in self._renamed:  # so that many images load the text tower once
                self._renamed[key] = self.with_classes(key)
            return self._renamed[key].predict(image)
        return self._segment([as_rgb(image)])[0]

    def predict_batch(self, images: Sequence[Any], batch_size: int = 8) -> list[Result]:
        """Images as ``predict`` takes them, of any sizes -> their Results, in order.

        Those of equal resized sizes go through the network together, at most ``batch_size`` at a time.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size: got {batch_size}; expected at least 1")
        pixels = [as_rgb(image) for image in images]
        alike: defaultdict[tuple[Size, ...], list[int]] = defaultdict(list)
        for i, each in enumerate(pixels):
            alike[tuple(self.inference.sizes(_size(each)))].append(i)
        results: dict[int, Result] = {}
        for group in alike.values():
            for start in range(0, len(group), batch_size):
                batch = group[start : start + batch_size]
                results |= zip(batch, self._segment([pixels[i] for i in batch]), strict=True)
        return [results[i] for i in range(len(pixels))]

    @torch.inference_mode()
    def _segment(self, pixels: list[Pixels]) -> list[Result]:
        """Images of equal resized sizes -> Results."""
        raw = [self._look(pixels, size) for size in self.inference.sizes(_size(pixels[0]))]
        results = []
        for i, each in enumerate(pixels):  # one at a time: an image's own size may be far above the resized one
            scores = _enlarge(raw[0][i], _size(each))
            for maps in raw[1:]:
                scores += _enlarge(maps[i], _size(each))
            results.append(self._result(scores, each))  # a sum has its mean's winner and shares
        return results

    def _look(self, pixels: list[Pixels], size: Size) -> Tensor:
        """Images at one scale -> raw semantic maps (B, C, h, w)."""
        images = np.stack([_resize(each, size) for each in pixels]).transpose(0, 3, 1, 2)
        return look(self.semantic, torch.from_numpy(np.ascontiguousarray(images)), self.inference)

    def _result(self, scores: Tensor, pixels: Pixels) -> Result:
        """Semantic map (C, H, W) and its image -> Result."""
        best, labels = scores.max(0)
        share = best / scores.sum(0).clamp(min=1e-6)
        return Result(
            labels.to(torch.uint8).cpu().numpy(), share.float().cpu().numpy(), pixels, self.classes, self.colors
        )


def as_rgb(image: Any) -> Pixels:
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


def _resize(image: Pixels, size: Size) -> Pixels:
    if _size(image) == size:
        return image
    smaller = size[0] < image.shape[0] or size[1] < image.shape[1]
    changed: Pixels = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return changed


def _enlarge(scores: Tensor, size: Size) -> Tensor:
    """(C, h, w) -> (C, H, W); the map itself where it has that size already, sparing a copy."""
    if scores.shape[1:] == size:
        return scores
    return F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]


def _size(image: Pixels) -> Size:
    height, width = image.shape[:2]
    return height, width


def load(path: str | Path, device: str | torch.device = "cpu") -> Predictor:
    """The predictor of a model folder, or of a run folder's final ``model/``; needs no hub, text tower or recipe."""
    folder = Path(path)
    if not (folder / "config.json").exists() and (folder / "model").is_dir():
        folder = folder / "model"
    return Predictor(load_model(folder), device)
