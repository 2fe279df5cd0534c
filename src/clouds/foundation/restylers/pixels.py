"""What restylers do with pixels: working sizes, and what changed there added to the whole image."""

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.foundation.restyler import Image

LEAST = 32  # pixels of a side that a working size does not go below


def at_most(image: Image, longest: int, step: int = 1) -> Image:
    """The image with its longer side at most ``longest``, no side below LEAST, sides multiples of ``step``."""
    height, width = image.shape[:2]
    scale = min(longest / max(height, width), 1)
    size = [max(round(scale * side / step) * step, LEAST) for side in (width, height)]
    return resized(image, size[1], size[0])


def resized(image: Image, height: int, width: int) -> Image:
    """The image at a size; borders stay on borders, so that nothing moves."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    found: Image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return found


def add_change(image: Image, small: Image, changed: NDArray[np.float32], strength: float) -> Image:
    """``image`` plus what changed from ``small`` to ``changed``, (h, w, 3) in 0..255, enlarged and times ``strength``.

    What is finer than the working size is the image's own, so that edges stay as sharp and where they were.
    """
    height, width = image.shape[:2]
    change = np.multiply(changed - small, strength, dtype=np.float32)
    if change.shape[:2] != (height, width):
        change = cv2.resize(change, (width, height), interpolation=cv2.INTER_LINEAR)
    change += image
    return as_pixels(change)


def as_pixels(values: NDArray[np.float32]) -> Image:
    """Values in 0..255 as uint8, rounded; computed in place."""
    np.rint(values, out=values)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)
