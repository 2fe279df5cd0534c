"""Whole images as vectors: for the diversity of a set, and with CLIP for how well an image fits its prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from clouds.base.arrays import Pixels
from clouds.errors import CloudsError, UsageError
from clouds.foundation.backbone import build_text, build_vision, weights_record
from clouds.foundation.backbones.clip import CLIP, clip_config
from clouds.foundation.backbones.openclip import OpenClipVision
from clouds.foundation.registry import backend_name

VISION = "efficientnet-lite0"
SIDE = 224  # what ImageNet networks are shown
Vector = NDArray[np.float32]  # (D,), of unit length


class Embedded:
    """The embedded backbone: mean of its last map. Stands in for CLIP where none is given."""

    def __init__(self) -> None:
        self.name, self.settings = backend_name(VISION), {"vision": VISION}
        self._network: Any = None

    @torch.inference_mode()
    def embed(self, pixels: Pixels) -> Vector:
        """(H, W, 3) uint8 RGB -> unit vector; the image is brought to 224 x 224."""
        self._network = self._network or build_vision(VISION)
        small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        image = _normalised(small, self._network.mean, self._network.std)
        return _unit(self._network.features(image)[32].mean((-2, -1))[0])


class Clip:
    """An open_clip model with both towers: images and texts as vectors of one space."""

    def __init__(self, name: str, weights: str | None = None) -> None:
        """name: ``open_clip/MODEL``; weights: a tag, ``hf-hub:org/name`` or a file. UsageError or BackendError, naming
        ``--clip``, where there are none."""
        if not name.startswith(CLIP):
            raise UsageError(f"--clip: got {name!r}; expected open_clip/MODEL, such as open_clip/RN50-quickgelu")
        try:
            config = clip_config(name, "--clip")
            record: Mapping[str, Any] | None = weights_record(name, weights)
            vision = build_vision(name, weights=record)
            self._text = build_text(name, record)
        except CloudsError as error:
            text = str(error).replace("model.weights", "--weights").removeprefix("--clip: ")
            raise type(error)(f"--clip {name}: {text}") from error
        assert isinstance(vision, OpenClipVision)
        self._vision, self._texts = vision, dict[str, Vector]()
        self._side = int(config["vision_cfg"]["image_size"])
        self.name = backend_name(name, weights or (record or {}).get("source"))
        self.settings = {"clip": name, "sha256": (record or {}).get("sha256")}

    @torch.inference_mode()
    def embed(self, pixels: Pixels) -> Vector:
        """(H, W, 3) uint8 RGB -> unit vector of the joint space, as open_clip prepares and encodes it: shorter side to
        the model's, centre cut out."""
        image = _normalised(_centre(pixels, self._side), self._vision.mean, self._vision.std)
        return _unit(self._vision.visual(image)[0])

    def score(self, picture: Vector, prompt: str) -> float:
        """CLIP score 0..100: 100 max(0, cosine) (Hessel et al. 2021, arXiv 2104.08718, as torchmetrics scales it)."""
        if prompt not in self._texts:
            self._texts[prompt] = _unit(self._text.embed([prompt])[0])
        return round(100 * max(float(picture @ self._texts[prompt]), 0.0), 2)


def _centre(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    size = max(int(width * scale), side), max(int(height * scale), side)  # torchvision cuts the longer side off so
    image = Image.fromarray(pixels)
    resized = image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def _normalised(pixels: Pixels, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """-> float (1, 3, H, W)."""
    values = (pixels.astype(np.float32) - np.array(mean, np.float32)) / np.array(std, np.float32)
    return torch.from_numpy(values.transpose(2, 0, 1)[None].copy())


def _unit(vector: torch.Tensor) -> Vector:
    unit: Vector = F.normalize(vector.float(), dim=-1).numpy()
    return unit
