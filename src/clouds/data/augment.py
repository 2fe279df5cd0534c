"""Training augmentation on uint8: random scale and crop, SSD-style colour jitter, horizontal flip.

All draws come from a numpy Generator, so that a sample depends on (seed, step, slot) and on nothing else.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.classes import IGNORE

Image = NDArray[np.uint8]


def scale_crop(
    image: Image, label: Image, crop: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator
) -> tuple[Image, Image]:
    """Image (H, W, 3) and label (H, W), scaled by a random factor, cut to ``crop`` (h, w).

    The window is cut from the unscaled image first and then resized: the same picture for a fraction of the work.
    Where the scaled image is smaller than the crop, it is padded at the right and bottom (image 0, label ignored).
    """
    factor = rng.uniform(*scale)
    height, width = label.shape
    h, w = crop
    window_h, window_w = min(round(h / factor), height), min(round(w / factor), width)
    top, left = int(rng.integers(height - window_h + 1)), int(rng.integers(width - window_w + 1))
    image, label = (a[top : top + window_h, left : left + window_w] for a in (image, label))
    # from the image's size, not the window's: rounding must not leave a padded line where the image goes on
    size = min(round(width * factor), w), min(round(height * factor), h)
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT)
    bottom, right = h - size[1], w - size[0]
    if bottom or right:
        image = np.pad(image, ((0, bottom), (0, right), (0, 0)))
        label = np.pad(label, ((0, bottom), (0, right)), constant_values=IGNORE)
    return image, label


def jitter(image: Image, rng: np.random.Generator) -> Image:
    """SSD's photometric distortion: brightness +-32, contrast and saturation 0.5..1.5, hue +-18 degrees, each with
    probability 1/2; contrast comes before or after the colour changes by a coin."""
    brightness, first, second, saturate, turn, early = rng.random(6) < 0.5
    delta, contrast = rng.uniform(-32, 32), rng.uniform(0.5, 1.5)
    saturation, hue = rng.uniform(0.5, 1.5), rng.uniform(-18, 18)
    x = image.astype(np.float32)
    if brightness:
        x += delta
    if first and early:
        x *= contrast
    if saturate or turn:
        hsv = cv2.cvtColor(np.clip(x, 0, 255) / 255, cv2.COLOR_RGB2HSV)  # H in 0..360, S and V in 0..1
        if saturate:
            hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 1)
        if turn:
            hsv[..., 0] = (hsv[..., 0] + hue) % 360
        x = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
    if second and not early:
        x *= contrast
    return np.clip(x, 0, 255).round().astype(np.uint8)
