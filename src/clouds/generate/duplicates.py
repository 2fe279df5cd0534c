"""Images that are nearly one: a 64-bit perceptual hash, and an exact search by Hamming distance that is not quadratic.

The hash is the usual one of the discrete cosine transform (Zauner 2010, "Implementation and benchmarking of perceptual
image hash functions"); the search is multi-index hashing (Norouzi, Punjani, Fleet, CVPR 2012, arXiv 1307.2982).
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BANDS, BAND_BITS = 4, 16
MOST_CANDIDATES = 1 << 22  # compared at once: what bounds the memory of a search
_ONES = np.array([bin(value).count("1") for value in range(1 << BAND_BITS)], np.uint8)

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
    words = np.ascontiguousarray(one ^ two).view(np.uint16).reshape(*np.broadcast(one, two).shape, BANDS)
    counted: NDArray[np.uint8] = _ONES[words].sum(-1, dtype=np.uint8)
    return counted


def near_pairs(hashes: Hashes, radius: int) -> NDArray[np.int64]:
    """Every pair i < j whose hashes differ in at most ``radius`` bits: int64 (P, 2), sorted.

    Of four bands of 16 bits, two such hashes agree in one within radius // 4 bits; and since the bands' differences add
    up to the radius at most, only the first radius % 4 + 1 bands must be looked at so widely, the others within one
    bit less. Buckets stay small as long as hashes spread over 2^16 values a band: the time grows with their number, not
    with its square, up to some 10^5.
    """
    wide, extra = divmod(radius, BANDS)
    words = np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, BANDS)
    found = [np.empty((0, 2), np.int64)]
    for band in range(BANDS):
        reach = wide if band <= extra else wide - 1
        keys = words[:, band]
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for flip in _flips(reach):
            first = np.searchsorted(ordered, keys ^ flip, "left")
            last = np.searchsorted(ordered, keys ^ flip, "right")
            found += _within(hashes, order, first, last, radius)
    pairs: NDArray[np.int64] = np.unique(np.concatenate(found), axis=0)
    return pairs


def _flips(reach: int) -> NDArray[np.uint16]:
    """All 16-bit words with at most ``reach`` ones; none for a negative reach."""
    chosen = (bits for n in range(reach + 1) for bits in combinations(range(BAND_BITS), n))
    return np.array([sum(1 << bit for bit in bits) for bits in chosen], np.uint16)


def _within(
    hashes: Hashes, order: NDArray[np.intp], first: NDArray[np.intp], last: NDArray[np.intp], radius: int
) -> list[NDArray[np.int64]]:
    """Hash i against those at ``order[first[i]:last[i]]``: the pairs i < j that are within the radius."""
    sizes = last - first
    ends = np.cumsum(sizes)
    found, start = [], 0
    while start < len(hashes):
        behind = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, behind + MOST_CANDIDATES, "right")), start + 1)
        mine = np.repeat(np.arange(start, stop), sizes[start:stop])
        places = np.arange(len(mine)) - np.repeat(ends[start:stop] - sizes[start:stop] - behind, sizes[start:stop])
        other = order[np.repeat(first[start:stop], sizes[start:stop]) + places]
        once = mine < other
        mine, other = mine[once], other[once]
        near = distances(hashes[mine], hashes[other]) <= radius
        found.append(np.stack([mine[near], other[near]], 1).astype(np.int64))
        start = stop
    return found


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
            closest = min(kept_ones, key=lambda other: (bin(hashes[k] ^ hashes[other]).count("1"), rank[other]))
            dropped[k] = (closest, bin(hashes[k] ^ hashes[closest]).count("1"))
    for k, (kept, _) in list(dropped.items()):
        if kept in dropped:  # of equal hashes the best one went: so does this one, for the same image
            dropped[k] = dropped[kept]
    return dropped
