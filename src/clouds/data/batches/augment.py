"""Training augmentation on uint8: random scale and crop, SSD-style colour jitter, horizontal flip; and the
pasting of source objects into the student's view of a generated image.

All draws come from a numpy Generator, so that a sample depends on (seed, step, slot) and on nothing else.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from clouds.base.arrays import Labels, Pixels
from clouds.config.label_sets import IGNORE
from clouds.data.images import LazyImage

Picture = Pixels | LazyImage


def scale_crop(
    image: Picture, label: Labels, crop: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator,
    shorter_side: int | None = None
) -> tuple[Pixels, Labels]:
    """Image (H, W, 3) and label (H, W), scaled by a random factor, cut to ``crop`` (h, w).

    The factor is of the image's own size, or of the size at which its shorter side has ``shorter_side`` pixels.

    The pixels are those of scaling the whole image (bilinear with antialiasing; labels nearest) and cutting then, but
    only what the crop shows is touched. Where the scaled image is smaller than the crop, it is padded at the right and
    bottom (image 0, label ignored).
    """
    height, width = label.shape
    factor = rng.uniform(*scale) * (shorter_side / min(height, width) if shorter_side else 1.0)
    scaled = max(round(height * factor), 1), max(round(width * factor), 1)
    size = min(scaled[0], crop[0]), min(scaled[1], crop[1])
    corner = int(rng.integers(scaled[0] - size[0] + 1)), int(rng.integers(scaled[1] - size[1] + 1))
    cut = resized_window(image, scaled, corner, size)
    rows, columns = (
        (2 * (start + np.arange(count)) + 1) * own // (2 * whole)
        for own, whole, start, count in zip((height, width), scaled, corner, size, strict=True)
    )
    label = label[rows].take(columns, axis=1)
    bottom, right = crop[0] - size[0], crop[1] - size[1]
    if bottom or right:
        cut = np.pad(cut, ((0, bottom), (0, right), (0, 0)))
        label = np.pad(label, ((0, bottom), (0, right)), constant_values=IGNORE)
    return cut, label


def resized_window(image: Picture, scaled: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]) -> Pixels:
    """The window at ``corner`` (top, left) of ``size`` (h, w) of the image (H, W, 3) resized to ``scaled`` (H', W').

    Pillow's bilinear filter, which widens when it shrinks a picture. Its box may begin between pixels, so a window
    resized alone has the pixels it has in the whole, within the rounding of its two passes (two grey levels at most).
    """
    if scaled == image.shape[:2]:
        return np.ascontiguousarray(image[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]])
    spans = []
    for own, whole, start, count in zip(image.shape, scaled, corner, size, strict=False):
        ratio = own / whole
        low, high, reach = start * ratio, (start + count) * ratio, math.ceil(max(ratio, 1)) + 1
        first, last = max(math.floor(low) - reach, 0), min(math.ceil(high) + reach, own)
        spans.append((first, last, low - first, min(high - first, last - first)))
    (top, bottom, y0, y1), (left, right, x0, x1) = spans
    window = Pillow.fromarray(np.ascontiguousarray(image[top:bottom, left:right]))
    return np.asarray(window.resize((size[1], size[0]), Pillow.Resampling.BILINEAR, box=(x0, y0, x1, y1)))


def jitter(image: Pixels, rng: np.random.Generator) -> Pixels:
    """SSD's photometric distortion, as the paper has it from Mask2Former: brightness +-32, contrast and saturation
    0.5..1.5, hue +-18 of OpenCV's 180, each with probability 1/2; contrast before or after the colours by a coin.

    (H, W, 3) uint8 -> the same. Everything is a table look-up on 8 bits, as in the reference, for it is a third of a
    sample's time otherwise.
    """
    brightness, first, second, saturate, turn, early = rng.random(6) < 0.5
    delta, contrast = rng.uniform(-32, 32), rng.uniform(0.5, 1.5)
    saturation, hue = rng.uniform(0.5, 1.5), int(rng.integers(-18, 19))
    levels = np.arange(256, dtype=np.float32)

    def table(values: NDArray[np.float32]) -> Pixels:
        clipped: Pixels = values.clip(0, 255).round().astype(np.uint8)
        return clipped

    tone = table(levels + delta) if brightness else table(levels)
    if first and early:
        tone = table(tone * np.float32(contrast))
    if brightness or (first and early):
        image = cv2.LUT(image, tone)
    if saturate or turn:
        channels = np.stack([levels] * 3, axis=-1)
        if turn:
            channels[:, 0] = (levels + hue) % 180
        if saturate:
            channels[:, 1] = levels * saturation
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table(channels)[:, None])
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if second and not early:
        image = cv2.LUT(image, table(levels * np.float32(contrast)))
    return image


def distort(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Strong change of look: a random linear map of the colours, gamma, blur or noise; for sources that all look alike.

    (H, W, 3) uint8 -> the same. The map turns, mixes and fades colours around grey: identity plus noise of standard
    deviation 0.25, wholly grey with probability 0.1; contrast 0.4..1.4 and brightness +-40; gamma 0.5..2 by its
    logarithm; Gaussian blur of up to 1.5 pixels, and Gaussian noise of up to 12 grey levels, each with probability 1/3.
    """
    mixing = np.eye(3) + rng.normal(0, 0.25, (3, 3))
    mixing /= mixing.sum(1, keepdims=True).clip(0.3, None)  # grey stays near grey
    tint = rng.uniform(0.85, 1.15, 3)
    if rng.random() < 0.1:
        mixing = np.full((3, 3), 1 / 3)
    contrast, brightness = rng.uniform(0.4, 1.4), rng.uniform(-40, 40)
    mixing = mixing * tint[:, None] * contrast
    offset = 128 * (1 - contrast) + brightness
    found = cv2.transform(image, np.column_stack([mixing, np.full(3, offset)]))
    gamma = float(np.exp(rng.uniform(-np.log(2), np.log(2))))
    levels = (np.linspace(0, 1, 256) ** gamma * 255).round().astype(np.uint8)
    found = cv2.LUT(found, levels)
    if rng.random() < 1 / 3:
        found = cv2.GaussianBlur(found, (0, 0), rng.uniform(0.3, 1.5))
    if rng.random() < 1 / 3:
        noise = rng.standard_normal(found.shape[:2], np.float32)[..., None] * np.float32(rng.uniform(2, 12))
        found = (found + noise).clip(0, 255).astype(np.uint8)
    return np.asarray(found, np.uint8)


def paste(
    image: Pixels, label: Labels, source: Pixels, truth: Labels, rng: np.random.Generator
) -> tuple[Pixels, Labels]:
    """ClassMix (Olsson et al. 2021) with a labelled image: half of its classes are pasted over the other.

    image, source (H, W, 3), label, truth (H, W) -> the mixed image and label.
    """
    present = np.unique(truth)
    present = present[present != IGNORE]
    chosen = np.zeros(256, np.bool_)
    chosen[rng.choice(present, size=(len(present) + 1) // 2, replace=False)] = True
    pasted = chosen[truth]
    return np.where(pasted[..., None], source, image), np.where(pasted, truth, label)
