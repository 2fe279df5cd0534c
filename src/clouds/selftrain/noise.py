"""What self-training does about noise, which the paper leaves as future work: each idea a switch of ``selftrain``.

All maps are uint8 (H, W) with train ids, 255 = none; confidences float32 (H, W) in [0, 1]. Before refinement,
``Thresholds`` decide which of the teacher's pixels speak at all. After it, ``without_borders`` drops the band where
masks meet, ``passes_gate`` judges the whole image, and ``class_weights`` say how much each class's mask counts in the
loss. The masks themselves are judged in ``refine`` (``max_swallow``).
"""

import cv2
import numpy as np
import numpy.typing as npt

from clouds.base.arrays import Labels
from clouds.config.recipe import SelfTrain
from clouds.data.classes import IGNORE

Confidence = npt.NDArray[np.float32]

BINS = 64  # of the running histograms of confidence
MEMORY = 0.99  # what an image leaves of the histograms before it


class Thresholds:
    """Which of the teacher's pixels are trusted.

    fixed: those of at least ``confidence``. class: of each class its most confident ``portion`` (CBST, Zou et al.
    2018), over the images of late. adaptive: at least the mean confidence of late, less for a class whose own mean
    is lower (after FreeMatch, Wang et al. 2023, with the mean over a class's pixels in place of its mean probability,
    which in street scenes would be how often it occurs).

    ``histogram`` (C, BINS) float64, the confidences of each class of late, is the state, and part of a checkpoint.
    """

    def __init__(self, settings: SelfTrain, classes: int) -> None:
        self.settings = settings
        self.histogram = np.zeros((classes, BINS))

    def trusted(self, labels: Labels, confidence: Confidence) -> Labels:
        """``labels`` where they are trusted, 255 elsewhere; learns from the image first."""
        s = self.settings
        if s.threshold == "fixed":
            return np.where(confidence >= s.confidence, labels, np.uint8(IGNORE)) if s.confidence else labels
        bins = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
        seen = np.bincount(labels.ravel() * np.intp(BINS) + bins.ravel(), minlength=self.histogram.size)
        self.histogram = MEMORY * self.histogram + seen.reshape(self.histogram.shape)
        least = self._portions() if s.threshold == "class" else self._adaptive()
        return np.where(bins >= least[labels], labels, np.uint8(IGNORE))

    def _portions(self) -> npt.NDArray[np.intp]:
        """Per class the highest bin from which on at least ``portion`` of its pixels lie: (C,)."""
        above = np.cumsum(self.histogram[:, ::-1], axis=1)[:, ::-1]  # (C, BINS) pixels in this bin or a higher one
        enough = above >= self.settings.portion * above[:, :1]
        return np.asarray(BINS - 1 - enough[:, ::-1].argmax(axis=1), dtype=np.intp)

    def _adaptive(self) -> npt.NDArray[np.intp]:
        centres = (np.arange(BINS) + 0.5) / BINS
        pixels = self.histogram.sum(axis=1)
        means = self.histogram @ centres / np.maximum(pixels, 1e-9)  # (C,)
        overall = self.histogram.sum(axis=0) @ centres / max(pixels.sum(), 1e-9)
        return np.asarray(overall * means / max(means.max(), 1e-9) * BINS, dtype=np.intp)


def without_borders(labels: Labels, share: float) -> Labels:
    """``labels`` with 255 in the band of ``share`` of the shorter side on both sides of where two classes meet.

    Borders with undecided pixels stay: those are left out already.
    """
    width = round(share * min(labels.shape))
    if not width:
        return labels
    border = np.zeros(labels.shape, np.uint8)
    for a, b, one, other in (
        (labels[:, 1:], labels[:, :-1], border[:, 1:], border[:, :-1]),
        (labels[1:], labels[:-1], border[1:], border[:-1]),
    ):
        meet = (a != b) & (a != IGNORE) & (b != IGNORE)
        one |= meet
        other |= meet
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width - 1, 2 * width - 1))
    return np.where(cv2.dilate(border, disc) > 0, np.uint8(IGNORE), labels)


def passes_gate(teacher: Labels, confidence: Confidence, refined: Labels, settings: SelfTrain) -> bool:
    """Whether the image is good enough to learn from: the teacher sure enough of it on average, and refinement
    agreeing with the teacher on a large enough share of what it decided."""
    decided = refined != IGNORE
    agreed = (refined == teacher).sum() / max(decided.sum(), 1)
    return bool(confidence.mean() >= settings.gate_confidence and agreed >= settings.gate_agreement)


def class_weights(
    teacher: Labels, confidence: Confidence, refined: Labels, classes: int, settings: SelfTrain
) -> Confidence:
    """How much each class of ``refined`` counts: (C,) float32 in [0, 1], 1 without any of ``weight_by``.

    confidence: the teacher's mean on the class's refined pixels, 0 where it saw another class. agreement: IoU of the
    teacher's and the refined mask, over decided pixels.
    """
    weights = np.ones(classes)
    decided = refined != IGNORE
    both = teacher[decided], refined[decided]
    refined_pixels = np.bincount(both[1], minlength=classes)[:classes]
    agreed = decided & (teacher == refined)
    if "confidence" in settings.weight_by:
        sure = np.bincount(refined[agreed], weights=confidence[agreed], minlength=classes)[:classes]
        weights *= sure / np.maximum(refined_pixels, 1)
    if "agreement" in settings.weight_by:
        common = np.bincount(refined[agreed], minlength=classes)[:classes]
        seen = np.bincount(both[0], minlength=classes)[:classes]
        weights *= common / np.maximum(seen + refined_pixels - common, 1)
    return weights.astype(np.float32)
