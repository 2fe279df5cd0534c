"""The regions of one image: what a segmenter proposes, or the good and distinct ones among its masks of a grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Pixels
from clouds.config.label_sets import IGNORE
from clouds.foundation.segmenter import PromptableSegmenter
from clouds.selftrain.refine import MASK_BYTES
from clouds.selftrain.regions import Regions, nested, overlay

LEAST = 2e-4  # of the image: smaller masks are specks; 118 pixels of 768 x 768
SAME = 0.7  # masks of at least this intersection over union are one thing; SAM's own value, which compares boxes
HELD_BYTES = 2**27  # what masks on hold may occupy, a bit a pixel

BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.int32)  # set in a byte


@dataclass(frozen=True)
class Mask:
    """A mask, a bit a pixel: bits (N,) uint8, area in pixels, box (top, bottom, left, right), its ends outside;
    ``of``: the class it was proposed for."""

    bits: NDArray[np.uint8]
    area: int
    box: tuple[int, int, int, int]
    quality: float
    of: int = IGNORE


def find_regions(
    image: Pixels, segmenter: PromptableSegmenter, grid: int, quality: float, stability: float,
    mask_bytes: int = MASK_BYTES,
) -> Regions:  # fmt: skip
    """The regions of ``image`` (H, W, 3) uint8.

    grid: points a side; quality and stability: least ones, for candidates of points. ``mask_bytes`` bounds the
    candidates held at once, not the result. Masks on hold take ``HELD_BYTES`` more.
    """
    shape = (image.shape[0], image.shape[1])
    if hasattr(segmenter, "propose"):
        proposals = (
            Mask(*_outline(mask), float(score), of)
            for mask, score, of in segmenter.propose(image)
            if mask.sum() >= LEAST * mask.size
        )
        return _regions(shape, _distinct(list(proposals)))
    embedding = segmenter.encode(image)
    if hasattr(segmenter, "levels"):
        return nested(segmenter.levels(embedding))
    most = max(16, HELD_BYTES // (image.shape[0] * image.shape[1] // 8 + 1))
    held: list[Mask] = []
    for mask, score in _candidates(shape, segmenter, embedding, grid, quality, stability, mask_bytes):
        held.append(Mask(*_outline(mask), score))
        if len(held) == most:
            held = _distinct(held)[: most // 2]
    return _regions(shape, _distinct(held))


def _regions(shape: tuple[int, int], kept: list[Mask]) -> Regions:
    return overlay(shape, _Unpacked(kept, shape), [m.quality for m in kept], [m.of for m in kept])


def grid_points(shape: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Points (side * side, 1, 2), x then y in pixels, in the middles of equal cells of an image of ``shape``."""
    middles = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(middles * shape[1] - 0.5, middles * shape[0] - 0.5)
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32)[:, None]


def _candidates(
    shape: tuple[int, int], segmenter: PromptableSegmenter, embedding: Any, grid: int, quality: float,
    stability: float, mask_bytes: int,
) -> Iterator[tuple[NDArray[np.bool_], float]]:
    """(mask, quality) of what passes, point by point."""
    points = grid_points(shape, grid)
    batch = max(1, mask_bytes // (3 * shape[0] * shape[1]))
    for start in range(0, len(points), batch):
        asked = points[start : start + batch]
        if hasattr(segmenter, "stable_masks"):
            masks, rated, stable = segmenter.stable_masks(embedding, asked)
        else:
            masks, rated = segmenter.masks(embedding, asked)
            stable = np.ones_like(rated)
        good = (rated >= quality) & (stable >= stability)  # NaN is not good
        for prompt, candidate in np.argwhere(good):
            mask = masks[prompt, candidate]
            if np.count_nonzero(mask) >= max(1, LEAST * mask.size):
                yield mask, float(rated[prompt, candidate])


def _outline(mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], int, tuple[int, int, int, int]]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    return np.packbits(mask), int(np.count_nonzero(mask)), box


def _distinct(masks: list[Mask]) -> list[Mask]:
    """The best of each group of masks that are one thing, by falling quality; of different classes nothing is one."""
    order = sorted(range(len(masks)), key=lambda i: -masks[i].quality)  # stable: of equals the first stays
    bits = [masks[i].bits for i in order]
    areas = np.array([masks[i].area for i in order])
    boxes = np.array([masks[i].box for i in order]).reshape(-1, 4)
    of = np.array([masks[i].of for i in order])
    left = np.ones(len(order), np.bool_)
    kept = []
    for place, i in enumerate(order):
        if not left[place]:
            continue
        kept.append(masks[i])
        top, bottom, west, east = boxes[place]
        # masks whose areas differ too much, or whose boxes do not meet, cannot be the same
        close = left & (of == of[place]) & (areas >= SAME * areas[place]) & (areas * SAME <= areas[place])
        close &= (boxes[:, 0] < bottom) & (boxes[:, 1] > top) & (boxes[:, 2] < east) & (boxes[:, 3] > west)
        close[: place + 1] = False
        rivals = np.flatnonzero(close)
        both = np.array([BITS[bits[place] & bits[rival]].sum() for rival in rivals], np.int64)
        left[rivals[both >= SAME * (areas[place] + areas[rivals] - both)]] = False
    return kept


class _Unpacked:
    """Masks (H, W) bool, one at a time, as often as they are asked for."""

    def __init__(self, masks: list[Mask], shape: tuple[int, int]) -> None:
        self.masks, self.shape = masks, shape

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        count = self.shape[0] * self.shape[1]
        for mask in self.masks:
            yield np.unpackbits(mask.bits, count=count).reshape(self.shape).view(np.bool_)
