"""Restyling without weights: the colours of an image, or its coarse light and shade, made like those of another.

Both keep every edge: one is the same function of colour at every pixel, the other adds a smooth field.
"""

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.config.backends import Backend
from clouds.config.recipe import Restyle
from clouds.foundation.restyler import Image, Restyler, Style
from clouds.foundation.restylers.pixels import add_change, as_pixels, at_most, resized

BACKENDS = (
    Backend("restyler", "colour-statistics", "colour statistics in Lab (after Reinhard)", takes=("image",)),
    Backend("restyler", "amplitude-mixing", "Fourier amplitude mixing (FDA)", takes=("image",)),
)
LOOK = 256  # pixels of the longer side at which an image's colours are measured
WORK = 256  # pixels of the longer side at which spectra are mixed
CONTRAST = 3.0  # a style changes the spread of a channel by this factor at most
CYCLES = 5  # an image, across and down: amplitudes are mixed up to here, as beta 0.01 does at FDA's 1024 x 512


class _Pixelwise:
    """A restyler that is a function of one image, one style image and the strength."""

    takes: Literal["image", "prompt"] = "image"
    name = ""

    def __init__(self, settings: Restyle) -> None:
        self.strength = settings.strength
        self.record: dict[str, Any] = {"restyler": self.name, "revision": "1", "strength": self.strength}

    def restyle(self, images: Sequence[Image], styles: Sequence[Style], seeds: Sequence[int]) -> list[Image]:
        del seeds
        return [self._one(image, np.asarray(style)) for image, style in zip(images, styles, strict=True)]

    def _one(self, image: Image, style: Image) -> Image:
        raise NotImplementedError


class ColourStatistics(_Pixelwise):
    """Mean and spread of each channel of CIE Lab as in the style (Reinhard et al., "Color Transfer between Images",
    2001, who used another Lab). The spread changes threefold at most: a flat style must not wipe out what is seen."""

    name = "colour statistics"

    def _one(self, image: Image, style: Image) -> Image:
        (mean, spread), (wanted, wide) = (_statistics(at_most(each, LOOK)) for each in (image, style))
        scale = np.clip(wide / np.maximum(spread, 1e-3), 1 / CONTRAST, CONTRAST)
        scale = np.where(spread < 1e-3, 1, scale).astype(np.float32)
        lab = _lab(image)
        lab -= mean
        lab *= scale
        lab += wanted
        changed = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)  # clipped to 0..1
        changed *= 255 * self.strength
        changed += np.multiply(image, np.float32(1 - self.strength), dtype=np.float32)
        return as_pixels(changed)


class AmplitudeMixing(_Pixelwise):
    """Low-frequency amplitudes of the style, phases of the image (Yang and Soatto, "FDA", CVPR 2020)."""

    name = "amplitude mixing"

    def _one(self, image: Image, style: Image) -> Image:
        small = at_most(image, WORK)
        height, width = small.shape[:2]
        own, other = (
            np.fft.rfft2(each.astype(np.float32), axes=(0, 1)) for each in (small, resized(style, height, width))
        )
        down = np.abs(np.fft.fftfreq(height, 1 / height))
        low = (down[:, None] <= CYCLES) & (np.arange(own.shape[1]) <= CYCLES)
        own[low] *= np.abs(other[low]) / np.maximum(np.abs(own[low]), 1e-6)
        changed = np.fft.irfft2(own, s=(height, width), axes=(0, 1)).astype(np.float32)
        return add_change(image, small, changed, self.strength)


def _lab(image: Image) -> NDArray[np.float32]:
    found: NDArray[np.float32] = cv2.cvtColor(np.multiply(image, np.float32(1 / 255)), cv2.COLOR_RGB2Lab)
    return found


def _statistics(image: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of L, a and b, (3,) each."""
    lab = _lab(image).reshape(-1, 3)
    return lab.mean(0, dtype=np.float64).astype(np.float32), lab.std(0, dtype=np.float64).astype(np.float32)


def build(settings: Restyle, _key: str) -> Restyler:
    """The restyler that ``settings.backend`` names."""
    return ColourStatistics(settings) if settings.backend == "colour-statistics" else AmplitudeMixing(settings)
