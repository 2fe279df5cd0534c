"""The embedded promptable segmenter: a hierarchy of superpixels, united under the points. No weights, CPU only.

A stand-in for SAM: it knows edges and colours, not objects. Encoding floods the image from a grid of seeds put on the
flattest pixels ("Waterpixels", Machairas et al. 2015), then merges regions in rounds along their cheapest edges
("Superpixel Hierarchy", Wei et al. 2018: Borůvka's algorithm), and keeps the partition at four scales, each nested in
the next. Against skimage's felzenszwalb at equal numbers of regions it is as pure (share of a region's pixels that are
of its main class: 94 to 97 % on rendered towns and CARLA, within 0.6 points of each other below 1000 regions), and all
four scales take a third of the time of that at one. Scales are contrasts, not numbers of regions: a flat sky is one
region long before a crowd is, so a few points cover more of it.
"""

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from clouds.config.backends import Backend

BACKEND = Backend(
    "segmenter",
    "superpixels",
    "superpixels",
    stand_in="superpixels grown from the points; embedded default, not SAM",
    better="SAM: selftrain.segmenter=sam/facebook/sam-vit-huge, or a small one as edgetam/ORGANISATION/NAME",
    takes=("points",),
    build="Superpixels",
)

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# merging stops at these costs: the fine, middle and coarse candidate's, and one more to judge the coarse by
SCALES = (33.0, 50.0, 75.0, 112.0)  # about 1500, 990, 570 and 290 regions of a street scene at 512x256
CELL = 6  # pixels: side of the grid cell that holds one seed, so about the width of the thinnest thing kept apart
MOST_SEEDS = 20000  # cells grow on larger images: encoding stays linear in pixels
SHRINK = 0.6  # least share of the regions left after a round of merging: smaller is faster and greedier
COLOR = 1.5  # weight of Lab's a and b against lightness, which shadows move most
EDGE = 3.0  # weight of the contrast along the common border against that of the mean colours
SIZE = 0.2  # exponent of the smaller region's area in an edge's cost: small regions merge first


class Superpixels:
    """Unions of the superpixels under the points, at a fine, a middle and a coarse scale."""

    name = "superpixels"
    identity = f"superpixels {SCALES} {CELL} {MOST_SEEDS} {SHRINK} {COLOR} {EDGE} {SIZE}"  # what embeddings depend on

    def __init__(self, device: str = "cpu") -> None:
        del device  # they run on the CPU

    def encode(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
        """Region ids (4, H, W) uint16 of ``image`` (H, W, 3) uint8 RGB, finest scale first: a plain array to cache."""
        smooth = cv2.GaussianBlur(image, (3, 3), 0)
        lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB).astype(np.float32)
        lab[..., 1:] *= COLOR
        across = np.abs(lab[:, 1:] - lab[:, :-1]).sum(axis=-1)  # (H, W-1) contrast with the pixel to the right
        down = np.abs(lab[1:] - lab[:-1]).sum(axis=-1)  # (H-1, W) with the pixel below
        return _merge(_flood(smooth, across, down), lab, across, down)

    def levels(self, embedding: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
        """Everything there is on the image: nested partitions (L, H, W), the finest first."""
        return embedding

    def masks(
        self, embedding: npt.NDArray[np.uint16], points: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        """Candidates for points (P, K, 2) x, y: masks (P, 3, H, W) bool, fine to coarse, and quality (P, 3) in [0, 1].

        The quality is stability, SAM's and MSER's idea: the share of the next coarser mask that this one already
        fills. A prompt's answer does not depend on the prompts beside it. Memory: P * 3 * H * W bytes.
        """
        scales, height, width = embedding.shape
        x = np.clip(np.rint(points[..., 0]), 0, width - 1).astype(np.intp)
        y = np.clip(np.rint(points[..., 1]), 0, height - 1).astype(np.intp)
        hits = np.sort(embedding[:, y, x], axis=-1)  # (4, P, K) regions under the points
        fresh = np.ones(hits.shape, np.bool_)  # first of its kind among the prompt's points
        fresh[..., 1:] = hits[..., 1:] != hits[..., :-1]
        sizes = [np.bincount(embedding[level].ravel())[hits[level]] for level in range(scales)]
        areas = np.where(fresh, sizes, 0).sum(axis=-1).T  # (P, 4) pixels
        masks = np.empty((len(points), scales - 1, height, width), np.bool_)
        for prompt in range(len(points)):
            for level in range(scales - 1):
                # comparing uint16 maps runs at memory speed: faster than gathering from a table of regions
                regions = hits[level, prompt][fresh[level, prompt]]
                out = masks[prompt, level]
                np.equal(embedding[level], regions[0], out=out)
                for region in regions[1:]:
                    out |= embedding[level] == region
        return masks, (areas[:, :-1] / areas[:, 1:]).astype(np.float32)


def _flood(smooth: npt.NDArray[np.uint8], across: F32, down: F32) -> Ints:
    """Region ids (H, W), 0 to N - 1: a watershed from the flattest pixel of every grid cell."""
    height, width = smooth.shape[:2]
    gradient = np.zeros((height, width), np.float32)
    gradient[:, :-1] += across
    gradient[:-1] += down
    cell = max(CELL, int(np.ceil(np.sqrt(height * width / MOST_SEEDS))))
    tall, wide = min(cell, height), min(cell, width)
    rows, columns = height // tall, width // wide
    cells = gradient[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide).swapaxes(1, 2)
    dy, dx = np.divmod(cells.reshape(rows, columns, -1).argmin(axis=-1), wide)  # (rows, columns)
    seeds = np.zeros((height + 2, width + 2), np.int32)  # cv2 leaves the frame undecided: give it one to spare
    y, x = np.arange(rows)[:, None] * tall + dy, np.arange(columns) * wide + dx
    seeds[y + 1, x + 1] = np.arange(1, rows * columns + 1).reshape(rows, columns)
    flooded = cv2.watershed(cv2.copyMakeBorder(smooth, 1, 1, 1, 1, cv2.BORDER_REPLICATE), seeds)
    regions = np.maximum(flooded[1:-1, 1:-1], 0).astype(np.float32)  # 0 on the lines between regions (cv2 says -1)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    while not regions.all():  # a line's pixel joins a neighbour; two rounds do it, as lines are thin
        regions = np.where(regions > 0, regions, cv2.dilate(regions, cross))
    ids = regions.astype(np.int64) - 1
    present = np.bincount(ids.ravel()) > 0
    return np.asarray((np.cumsum(present) - 1)[ids], dtype=np.int64)


def _merge(regions: Ints, lab: F32, across: F32, down: F32) -> npt.NDArray[np.uint16]:
    """Merge ``regions`` (H, W) until no edge costs less than the scale, for each of ``SCALES``: ids (4, H, W).

    lab (H, W, 3) is the smooth image; across (H, W-1) and down (H-1, W) its contrasts between neighbours.
    """
    flat = regions.ravel()
    count = int(flat.max()) + 1
    size = np.bincount(flat).astype(np.float64)  # (N,)
    color = np.stack([np.bincount(flat, lab[..., channel].ravel()) for channel in range(3)], axis=-1)  # (N, 3) sums
    sides = ((regions[:, :-1], regions[:-1]), (regions[:, 1:], regions[1:]))
    ends = np.stack([np.concatenate([a.ravel(), b.ravel()]) for a, b in sides])  # (2, E): the regions at a pixel border
    contrast = np.concatenate([across.ravel(), down.ravel()]).astype(np.float64)  # (E,) sums along the border
    crossing = ends[0] != ends[1]
    contrast = contrast[crossing]
    ends, length, contrast = _join(ends[:, crossing], np.ones_like(contrast), contrast, count)
    current = np.arange(count)  # the merged region of each flooded one
    levels = []
    for limit in SCALES:
        while ends.size:
            mean = color / size[:, None]
            apart = np.linalg.norm(mean[ends[0]] - mean[ends[1]], axis=-1) + EDGE * contrast / length
            cost = apart * np.minimum(size[ends[0]], size[ends[1]]) ** SIZE
            chosen = _cheapest(ends, cost, count, count - int(SHRINK * count))
            chosen = chosen[cost[chosen] <= limit]
            if not chosen.size:
                break
            links = coo_array((np.ones(len(chosen)), (ends[0, chosen], ends[1, chosen])), shape=(count, count))
            count, merged = connected_components(links, directed=False)
            current = merged[current]
            size = np.bincount(merged, size).astype(np.float64)
            color = np.stack([np.bincount(merged, color[:, channel]) for channel in range(3)], axis=-1)
            ends = merged[ends].astype(np.int64)
            outer = ends[0] != ends[1]
            ends, length, contrast = _join(ends[:, outer], length[outer], contrast[outer], count)
        levels.append(current[regions].astype(np.uint16))
    return np.stack(levels)


def _join(ends: Ints, length: F64, contrast: F64, count: int) -> tuple[Ints, F64, F64]:
    """One edge for each pair of regions: ends (2, E') lower id first, summed border lengths and contrasts (E',)."""
    keys, inverse = np.unique(ends.min(axis=0) * count + ends.max(axis=0), return_inverse=True)
    joined = np.stack(np.divmod(keys, count))
    sums = [np.bincount(inverse, values, len(keys)).astype(np.float64) for values in (length, contrast)]
    return joined.astype(np.int64), sums[0], sums[1]


def _cheapest(ends: Ints, cost: F64, count: int, most: int) -> Ints:
    """Edges that are the cheapest of a region on either side, the ``most`` cheapest of them: indices."""
    dear_first = np.argsort(-cost, kind="stable")
    best = np.full(count, -1, np.int64)
    best[ends[:, dear_first].T.ravel()] = np.repeat(dear_first, 2)  # the last write wins: the cheapest
    edges = np.unique(best[best >= 0])
    return np.asarray(edges[np.argsort(cost[edges], kind="stable")[:most]], dtype=np.int64)
