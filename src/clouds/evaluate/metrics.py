"""The numbers of an evaluation, from label maps: confusion, IoU, accuracy, calibration, boundaries, intervals.

Counts are summed over images before anything is divided, so a big image counts for more than a small one, as in
Cityscapes' own evaluation. Only numpy and OpenCV: no file, no model.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Labels
from clouds.config.label_sets import IGNORE
from clouds.errors import DataError

BINS = 15  # of confidence, equally wide, as in Guo et al. 2017
BOUNDARY = 0.02  # of an image's diagonal: how far its boundaries reach, as in Cheng et al. 2021
DRAWS = 1000  # of the bootstrap
BLOCK = 50  # draws at a time
EXACT = 2**24  # pixels: float32 counts no further
LEVELS = 4368 * BINS  # of confidence; 16 bits hold them, and a value above

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def confusion(truth: Labels, prediction: Labels, classes: int) -> Counts:
    """Counts int64 (K, K + 1), rows truth, columns prediction, of two (H, W) maps where truth is not ignored (255).

    A pixel predicted outside the label set counts in the extra last column: a miss for its true class. DataError where
    truth holds a value that is neither a class nor 255.
    """
    pairs = _histogram((truth, prediction), (256, 256))
    if (strange := pairs[classes:IGNORE].any(1)).any():
        value = classes + int(strange.argmax())
        raise DataError(f"label value {value}; expected 0 to {classes - 1}, or {IGNORE} where ignored")
    return np.column_stack([pairs[:classes, :classes], pairs[:classes, classes:].sum(1)])


def _histogram(maps: tuple[NDArray[Any], ...], bins: tuple[int, ...]) -> Counts:
    """How often each combination of the maps' values occurs; a value above its bins counts nowhere.

    OpenCV's, at about a nanosecond a pixel (its masks would cost ten times that). It returns float32, which is exact up
    to 2^24 pixels a call.
    """
    rows = [each.reshape(1, -1) for each in maps]
    ranges = [edge for size in bins for edge in (0.0, float(size))]
    counts = np.zeros(bins, np.int64)
    for start in range(0, rows[0].size, EXACT):
        some = [row[:, start : start + EXACT] for row in rows]
        found = cv2.calcHist(some, list(range(len(bins))), None, list(bins), ranges)
        counts += found.reshape(bins).astype(np.int64)
    return counts


def parts(counts: NDArray[Any]) -> Counts:
    """(..., K, K + 1) counts -> (..., 3, K): pixels that are hit, true and predicted, by class. All that IoU needs."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.stack([hit, counts.sum(-1), counts[..., :-1].sum(-2)], -2)


def iou(counts: NDArray[Any], absent_counts: bool = False) -> Floats:
    """(..., K, K + 1) counts -> IoU (..., K) in 0..1; NaN for a class that the truth never shows, with
    ``absent_counts`` 0 where it is predicted all the same."""
    return iou_of_parts(parts(counts), absent_counts)


def iou_of_parts(parts: NDArray[Any], absent_counts: bool = False) -> Floats:
    """(..., 3, K) -> IoU (..., K), as ``iou``."""
    hit, truth, predicted = np.moveaxis(parts.astype(np.float64), -2, 0)
    shown = truth + predicted if absent_counts else truth
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(shown > 0, hit / (truth + predicted - hit), np.nan)


def mean_present(values: Floats) -> Floats:
    """(..., K) -> mean (...) over the classes that are not NaN; 0 where all are."""
    present = ~np.isnan(values)
    mean: Floats = np.where(present, values, 0).sum(-1) / present.sum(-1).clip(min=1)
    return mean


def mean_iou(counts: NDArray[Any], absent_counts: bool = False) -> Floats:
    """(..., K, K + 1) -> mean IoU (...) over the classes that have one."""
    return mean_present(iou(counts, absent_counts))


def fwiou(counts: NDArray[Any]) -> float:
    """(K, K + 1) -> IoU weighted by how often the truth shows each class."""
    truth = counts.sum(-1)
    return float(np.nansum(iou(counts) * truth) / max(truth.sum(), 1))


def accuracy(counts: NDArray[Any]) -> float:
    """(K, K + 1) -> share of the labelled pixels that are right."""
    return float(np.trace(counts) / max(counts.sum(), 1))


def calibration(truth: Labels, prediction: Labels, confidence: NDArray[np.float32]) -> Floats:
    """float64 (3, 15): pixels, summed confidence and correct pixels, by 15 equal bins of confidence in 0..1.

    Over the pixels whose truth is not ignored. Bin k holds confidences from k/15 to below (k + 1)/15, the
    last also 1. Confidence is rounded to 1/65520.
    """
    level = (confidence * np.float32(LEVELS) + np.float32(0.5)).astype(np.uint16)
    out = np.uint16(2**16 - 1)  # above all bins
    level = np.maximum(level, (truth == IGNORE) * out)
    pixels = _histogram((level,), (LEVELS + 1,))
    right = _histogram((np.maximum(level, (truth != prediction) * out),), (LEVELS + 1,))
    rows = [pixels, pixels * np.arange(LEVELS + 1) / LEVELS, right]
    bins = np.stack([row[:LEVELS].reshape(BINS, -1).sum(1) for row in rows])
    bins[:, -1] += [row[LEVELS] for row in rows]
    return bins


def expected_calibration_error(bins: Floats) -> float:
    """(3, 15) -> mean distance of confidence and accuracy over the bins, weighted by pixels, in 0..1."""
    pixels, confidence, correct = bins
    return float(np.abs(confidence - correct).sum() / max(pixels.sum(), 1))


def boundary_parts(truth: Labels, prediction: Labels, classes: int) -> Counts:
    """int64 (3, K): as ``parts``, of the pixels that lie within d of their own class's contour, d 2 % of the diagonal.

    Boundary IoU of Cheng et al. 2021 (arXiv 2103.16562), for every class of a label map at once: a mask minus its
    erosion by a square of side 2 d + 1. The image's border is a contour, as in the original. An ignored region
    counts as outside of the image, for both maps.
    """
    seen = np.where(truth == IGNORE, truth, prediction)
    reach = max(round(BOUNDARY * float(np.hypot(*truth.shape))), 1)
    of_truth, of_seen = _near_contour(truth, reach), _near_contour(seen, reach)
    hit = of_truth & of_seen & (truth == seen)
    chosen = ((truth, hit), (truth, of_truth), (seen, of_seen))
    return np.stack([_histogram((np.where(near, each, np.uint8(IGNORE)),), (classes,)) for each, near in chosen])


def _near_contour(labels: Labels, reach: int) -> NDArray[np.bool_]:
    """(H, W): whether another label, or the outside, lies within ``reach`` pixels, along both axes and diagonally.

    One step away some neighbour differs; within d steps lies a pixel with such a neighbour, at most d - 1 steps off.
    """
    side = np.ones((3, 3), np.uint8)
    edge = (cv2.dilate(labels, side) != cv2.erode(labels, side)).astype(np.uint8)
    edge[[0, -1]] = edge[:, [0, -1]] = 1
    window = 2 * reach - 1
    near = cv2.boxFilter(edge, cv2.CV_32S, (window, window), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(near > 0)


def bootstrap_means(
    images: NDArray[Any], seed: int = 0, draws: int = DRAWS, absent_counts: bool = False
) -> Floats:
    """Mean IoU (draws,) of the N images, as ``parts`` (N, 3, K), drawn again with replacement.

    The draws follow from N and the seed alone, so two models' draws on the same images are pairs.
    """
    n, rng, means = len(images), np.random.default_rng(seed), []
    flat = images.reshape(n, -1).astype(np.float64)
    for start in range(0, draws, BLOCK):  # so that 10 000 images take megabytes
        drawn = [rng.integers(n, size=n) for _ in range(min(BLOCK, draws - start))]
        picks = np.stack([np.bincount(each, minlength=n) for each in drawn]).astype(np.float64)
        drawn_parts = (picks @ flat).reshape(len(picks), *images.shape[1:])
        means.append(mean_present(iou_of_parts(drawn_parts, absent_counts)))
    return np.concatenate(means)


def bootstrap_interval(images: NDArray[Any], seed: int = 0, absent_counts: bool = False) -> tuple[float, float]:
    """95 % interval of mean IoU over images, of their ``parts`` (N, 3, K)."""
    low, high = np.percentile(bootstrap_means(images, seed, absent_counts=absent_counts), (2.5, 97.5))
    return float(low), float(high)
