"""Images that are nearly one: a 64-bit perceptual hash, and an exact search by Hamming distance.

The hash is the usual one of the discrete cosine transform (Zauner 2010, "Implementation and benchmarking of perceptual
image hash functions").
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # pairs compared at once

Hashes = NDArray[np.uint64]


def perceptual_hash(grey: NDArray[np.uint8]) -> int:
    """Grey (H, W) uint8 -> 64 bits: which of 8 x 8 low frequencies of its 32 x 32 thumbnail lie above their median.

    Rows and columns of frequency zero are left out: streets have the same horizon. Brightness, contrast, size,
    compression and noise move few bits.
    """
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[1:9, 1:9].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def distances(one: Hashes, two: Hashes) -> NDArray[np.uint8]:
    """Bits that differ, of hashes uint64 of shapes that go together."""
    counted: NDArray[np.uint8] = np.bitwise_count(one ^ two)
    return counted


def near_pairs(hashes: Hashes, radius: int) -> NDArray[np.int64]:
    """Every pair i < j whose hashes differ in at most ``radius`` bits: int64 (P, 2), sorted.

    All pairs are compared, in blocks of rows that fit a processor's cache.
    """
    found = [np.empty((0, 2), np.int64)]
    rows = max(BLOCK // max(len(hashes), 1), 1)
    for start in range(0, len(hashes), rows):
        near = distances(hashes[start : start + rows, None], hashes[start:]) <= radius
        pairs = np.argwhere(near)
        found.append(pairs[pairs[:, 0] < pairs[:, 1]] + start)
    return np.concatenate(found)


def twins(hashes: Sequence[int], better: Sequence[Any], radius: int) -> dict[int, tuple[int, int]]:
    """Which images to drop for which: {place: (place of the one kept, bits that differ)}.

    better: a sort key an image, the best one lowest. Images are kept from the best on, unless one within the radius is
    kept already. So each one dropped names a kept one that it resembles itself, and none is dropped at the end of a
    chain of likenesses.
    """
    order = sorted(range(len(hashes)), key=lambda k: (better[k], k))
    best: dict[int, int] = {}
    dropped = {}
    for k in order:
        if (kept := best.setdefault(hashes[k], k)) != k:
            dropped[k] = (kept, 0)
    unique = sorted(best.values())
    values = np.array([hashes[k] for k in unique], np.uint64)
    near: dict[int, list[int]] = {}
    for i, j in near_pairs(values, radius).tolist():
        near.setdefault(unique[i], []).append(unique[j])
        near.setdefault(unique[j], []).append(unique[i])
    rank = {k: place for place, k in enumerate(order)}
    for k in sorted(near, key=rank.__getitem__):
        if kept_ones := [other for other in near[k] if rank[other] < rank[k] and other not in dropped]:
            closest = min(kept_ones, key=lambda other: ((hashes[k] ^ hashes[other]).bit_count(), rank[other]))
            dropped[k] = (closest, (hashes[k] ^ hashes[closest]).bit_count())
    for k, (kept, _) in list(dropped.items()):
        if kept in dropped:  # of equal hashes the best one went: so does this one, for the same image
            dropped[k] = dropped[kept]
    return dropped
