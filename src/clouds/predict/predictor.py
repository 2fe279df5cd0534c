"""Images in, labels out: the predictor that ``clouds.load`` returns."""

import copy
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from torch import Tensor

from clouds.base.arrays import Pixels
from clouds.base.machine import usable_device
from clouds.base.text import did_you_mean, some
from clouds.data.batches.augment import resized_window
from clouds.errors import UsageError
from clouds.model.ensemble import clip_of
from clouds.model.folder import load_model
from clouds.model.inference import Inference, Size, look
from clouds.model.open_vocabulary import with_classes
from clouds.model.place import model_folder
from clouds.model.segmenter import Segmenter, backends_of
from clouds.predict.enlarge import Enlarged
from clouds.predict.image_predictor import ImagePredictor
from clouds.predict.result import Result

BAND = 2**20  # pixels that are brought to an image's own size at a time


class Predictor(ImagePredictor):
    """A model ready for images: ``predict`` for pictures of any size, ``semantic`` for raw maps.

    ``inference`` says how it looks at a picture: by default whole, at the model's own shorter side. Pictures are
    resized as in training, by Pillow's bilinear filter.
    """

    def __init__(self, model: Segmenter, device: str | torch.device = "cpu") -> None:
        self.model = model.eval().to(device)
        self.device = torch.device(device)
        self.inference = Inference(model.settings["shorter_side"])
        self.classes = tuple(model.classes)
        self.colors = np.array(model.colors, np.uint8)
        self._renamed = {}

    @property
    def backends(self) -> dict[str, str]:
        """What results call the backbone and the text tower, {"vision", "text"}."""
        return backends_of(self.model.settings)

    @property
    def trained_on(self) -> frozenset[str] | None:
        return getattr(self.model, "trained_on", None)

    def __repr__(self) -> str:
        vision, side = self.model.settings["vision"], self.inference.shorter_side
        size = f"at a shorter side of {side}" if side else "at their own size"
        return (f"<Predictor on {self.device}: {vision}, {len(self.classes)} classes ({some(self.classes, 4)}), "
                f"looks at images {size}>")  # fmt: skip

    def with_classes(self, classes: str | Sequence[str], weights: str | None = None) -> Self:
        """This model asked for other names, as ``"scooter,road|street"`` or a list; ``head: text`` only.

        New names need the text tower: ``weights`` (a tag, hub id or path), by default those the model records. Raises
        UsageError for a linear head and for no names, BackendError where the tower is not here or another one.
        """
        twin = copy.copy(self)
        twin.model = with_classes(self.model, classes, weights)
        twin.classes, twin.colors = tuple(twin.model.classes), np.array(twin.model.colors, np.uint8)
        twin._renamed = {}
        return twin

    def with_inference(self, **changes: Any) -> Self:
        """This model looking otherwise, such as ``window=768, flip=True``: fields of ``Inference``; UsageError for
        values that cannot be, and for ``ensemble=True`` where the backbone has no dense CLIP features. The weights are
        shared."""
        known = [field.name for field in fields(Inference)]
        if unknown := next((name for name in changes if name not in known), None):
            hint = did_you_mean(unknown, known)
            raise UsageError(f"with_inference: unknown {unknown!r}; {hint}there are {', '.join(known)}")
        twin = copy.copy(self)
        twin.inference = replace(self.inference, **changes)
        if twin.inference.ensemble:
            clip_of(self.model.backbone, self.model.settings)
        twin._renamed = {}
        return twin

    @torch.inference_mode()
    def semantic(self, images: Tensor, ensemble: bool = False) -> Tensor:
        """RGB uint8 (B, 3, H, W) -> raw semantic map float32 (B, C, H, W) on the model's device, no resizing.

        A score is a sum over the queries, 0 and above, and not normalised: its share of a pixel's sum is what
        ``Result.scores`` has. ``ensemble`` weighs CLIP's own opinion in. Raises UsageError for images of other kinds,
        and for an ensemble where the backbone has no dense CLIP features.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise UsageError(
                f"semantic: expected uint8 images (B, 3, H, W), got {images.dtype} of shape {tuple(images.shape)}"
            )
        return self.model.semantic(images.to(self.device), ensemble)

    def alike(self, image: Pixels) -> tuple[Size, ...]:
        """The sizes that the image is resized to, scale by scale."""
        return tuple(self.inference.sizes(_size(image)))

    @torch.inference_mode()
    def _segment(self, pixels: list[Pixels]) -> list[Result]:
        """Images of equal resized sizes -> Results."""
        raw = [self._look(pixels, size) for size in self.inference.sizes(_size(pixels[0]))]
        return [self._result([maps[i] for maps in raw], each) for i, each in enumerate(pixels)]

    def _look(self, pixels: list[Pixels], size: Size) -> Tensor:
        """Images at one scale -> raw semantic maps (B, C, h, w)."""
        shrink = _resized if self.inference.smooth else _sampled
        images = np.stack([shrink(each, size) for each in pixels]).transpose(0, 3, 1, 2)
        see = partial(self.semantic, ensemble=True) if self.inference.ensemble else self.semantic
        return look(see, torch.from_numpy(np.ascontiguousarray(images)), self.inference)

    def _result(self, maps: list[Tensor], pixels: Pixels) -> Result:
        """An image's semantic maps (C, h, w), one a scale -> Result, made a band of rows at a time, as an image's own
        size may be far above the resized one."""
        size = _size(pixels)
        enlarged = Enlarged(maps, size)
        labels, scores = np.empty(size, np.uint8), np.empty(size, np.float32)
        rows = max(BAND // size[1], 1)
        for top in range(0, size[0], rows):
            for left in range(0, size[1], BAND):  # one step, unless a strip is longer than that
                band = slice(top, min(top + rows, size[0])), slice(left, min(left + BAND, size[1]))
                winners, best, total = enlarged.band(*band)
                labels[band] = winners.cpu().numpy()
                scores[band] = (best / total.clamp(min=1e-6)).float().cpu().numpy()
        return Result(labels, scores, pixels, self.classes, self.colors)


def _resized(image: Pixels, size: Size) -> Pixels:
    return resized_window(image, size, (0, 0), size)


def _sampled(image: Pixels, size: Size) -> Pixels:
    """OpenCV's bilinear resizing, which looks at four pixels however much it shrinks, as mmsegmentation has it."""
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR))


def _size(image: Pixels) -> Size:
    height, width = image.shape[:2]
    return height, width


def load(path: str | Path, device: str | torch.device = "cpu") -> Predictor:
    """The predictor of a model folder, or of a run folder's final ``model/``; needs no hub, text tower or recipe.

    A string that is no folder here may be a hub id, ``"owner/name"`` or ``"owner/name@revision"`` (see
    ``model.folder``): its files are downloaded once, and kept in the hub's cache. ``device`` is torch's, as "cuda".

    Raises DataError naming the file that is missing, damaged or does not fit, BackendError where the hub has no such
    model or cannot be reached, UsageError for a device that this machine does not have.
    """
    usable_device(str(device), "device")
    return Predictor(load_model(model_folder(path)), device)
