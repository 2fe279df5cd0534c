"""Replace the noisy masks of a pseudo-label map by a promptable segmenter's crisp ones (paper, self-training with SAM).

components -> points -> three masks each, the best by predicted quality -> pixels that components of different classes
claim become undecided -> union per class. Pure functions on arrays; the segmenter comes in from outside.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from clouds.base.arrays import Labels, Pixels
from clouds.config.label_sets import IGNORE
from clouds.errors import DataError, UsageError
from clouds.foundation.segmenter import PromptableSegmenter
from clouds.selftrain.points import FLOOR, Prompts, Strategy, components, draw

Overlaps = Literal["ignore", "reference"]

MASK_BYTES = 64 * 2**20  # what the candidate masks of one request may occupy
# The noise guard of training: a mask goes when more than this share of it is other classes' by the teacher. Chosen with
# superpixels on damaged truths of rendered towns and CARLA: 0.2 and 0.3 beat 0.4, 0.5 and no guard.
SWALLOW = 0.3


@dataclass(frozen=True)
class Refinement:
    """A refined map and what happened to it.

    labels (H, W) uint8, 255 undecided; components: how many passed the floor; points (P, K, 2) float32 x, y pixels;
    classes (P,) uint8; quality (P,) float32: predicted quality of each chosen mask; rejected (P,) bool: thrown out by
    ``max_swallow``; masks (H, W) int32: which mask claims the pixel, the last of several, p + 1, or which piece of the
    regions it is in, 0 for none. Shares of the image in [0, 1]: changed (decided, and not what the input said),
    decided, disputed (claimed by different classes).
    """

    labels: Labels
    components: int
    points: npt.NDArray[np.float32]
    classes: npt.NDArray[np.uint8]
    quality: npt.NDArray[np.float32]
    rejected: npt.NDArray[np.bool_]
    masks: npt.NDArray[np.int32]
    changed: float
    decided: float
    disputed: float


def refine(
    image: Pixels, labels: npt.NDArray[Any], segmenter: PromptableSegmenter, seed: int = 0
) -> Labels:
    """Refine anybody's label map by the paper's procedure, without the noise guard of training.

    image (H, W, 3) uint8; labels (H, W) integers, class ids 0 to 254, 255 = no label; ``segmenter`` is anything with
    ``encode(image)`` and ``masks(embedding, points)``. Returns (H, W) uint8, 255 where undecided. Raises DataError on
    wrong shapes or types.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise DataError(f"refine: image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    labels = checked(labels)
    if labels.shape != image.shape[:2]:
        raise DataError(f"refine: labels are {labels.shape} but the image is {image.shape[:2]}: sizes must be equal")
    return refine_map(labels, segmenter.encode(image), segmenter, seed=seed, max_swallow=None).labels


def refine_map(
    labels: npt.NDArray[Any],
    embedding: Any,
    segmenter: PromptableSegmenter,
    *,
    seed: int,
    points: int = 5,
    floor: float = FLOOR,
    strategy: Strategy = "random",
    overlaps: Overlaps = "ignore",
    max_swallow: float | None = SWALLOW,
    mask_bytes: int = MASK_BYTES,
) -> Refinement:
    """Refine ``labels`` (H, W), integers 0..255 with 255 = none, with the embedding of the image they belong to, as
    ``segmenter.encode`` made it.

    points: per component; floor: least component, a share of the image; strategy: see ``points.draw``.
    overlaps: "ignore" leaves pixels undecided that *different* classes claim; "reference" those that more than one
    component claims, even of the same class, as the reference code does.
    max_swallow: throw out a mask of which more than this share, among its labelled pixels, belongs to other classes in
    the input map; None keeps every mask, as the paper and ``refine`` do.
    mask_bytes bounds the candidate masks held at once, not the result: any value gives the same map.

    Raises DataError for labels of other shapes or types and for a segmenter that answers in other shapes than it
    promises, UsageError for an unknown strategy or treatment of overlaps.
    """
    labels = checked(labels)
    if overlaps not in get_args(Overlaps):
        raise UsageError(f"overlaps {overlaps!r} is not known; use one of: {', '.join(get_args(Overlaps))}")
    found = components(labels, floor)
    prompts = draw(found, points, strategy, seed)
    quality = np.zeros(len(prompts), np.float32)
    rejected = np.zeros(len(prompts), np.bool_)
    claims = _Claims(labels.shape)
    for index, mask, score in _best_masks(prompts, embedding, segmenter, labels.shape, mask_bytes):
        quality[index] = score
        if max_swallow is not None and _swallowed(mask, labels, prompts.classes[index]) > max_swallow:
            rejected[index] = True
        else:
            claims.add(mask, int(prompts.classes[index]), index)
    refined = claims.decide(alone=overlaps == "reference")
    decided = refined != IGNORE
    return Refinement(
        labels=refined,
        components=len(found),
        points=prompts.points,
        classes=prompts.classes,
        quality=quality,
        rejected=rejected,
        masks=claims.by,
        changed=float((decided & (refined != labels)).mean()),
        decided=float(decided.mean()),
        disputed=float(claims.disputed.mean()),
    )


def check_options(
    points: int, floor: float, strategy: str, overlaps: str, max_swallow: float | None = None
) -> None:
    """Raises UsageError for options of ``refine_map`` that cannot be."""
    for what, value, allowed in (("strategy", strategy, Strategy), ("overlaps", overlaps, Overlaps)):
        if value not in get_args(allowed):
            raise UsageError(f"{what} {value!r} is not known; use one of: {', '.join(get_args(allowed))}")
    if points < 1:
        raise UsageError(f"points per component must be at least 1, got {points}")
    for what, share in (("floor", floor), ("max-swallow", max_swallow)):
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"{what}: got {share:g}; expected a share, 0 to 1")


class _Claims:
    """Who claims each pixel, in four maps however many masks come: 500 components need the memory of one."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.owner = np.full(shape, IGNORE, np.uint8)  # a class that claims the pixel
        self.by = np.zeros(shape, np.int32)  # the mask that did so last
        self.disputed = np.zeros(shape, np.bool_)  # claimed by different classes
        self.shared = np.zeros(shape, np.bool_)  # claimed by more than one component

    def add(self, mask: npt.NDArray[np.bool_], owner: int, index: int) -> None:
        """Claim the pixels of mask number ``index``, (H, W), for class ``owner``."""
        taken = self.owner != IGNORE
        taken &= mask
        self.shared |= taken
        taken &= self.owner != owner
        self.disputed |= taken
        np.copyto(self.owner, np.uint8(owner), where=mask)
        np.copyto(self.by, np.int32(index + 1), where=mask)

    def decide(self, alone: bool) -> Labels:
        """The classes, 255 where nobody claims or different classes do; ``alone``: where two components do."""
        return np.where(self.shared if alone else self.disputed, np.uint8(IGNORE), self.owner)


def _best_masks(
    prompts: Prompts, embedding: Any, segmenter: PromptableSegmenter, shape: tuple[int, ...], mask_bytes: int
) -> Iterator[tuple[int, npt.NDArray[np.bool_], np.float32]]:
    """(prompt index, mask (H, W) bool, quality) of each prompt's best candidate, asked for in bounded batches."""
    batch = max(1, mask_bytes // (3 * int(np.prod(shape))))
    for start in range(0, len(prompts), batch):
        points = prompts.points[start : start + batch]
        masks, quality = (np.asarray(part) for part in segmenter.masks(embedding, points))
        if masks.ndim != 4 or (len(masks), *masks.shape[2:]) != (len(points), *shape):
            raise DataError(
                f"the segmenter returned masks {masks.shape} for {len(points)} prompts on a map of {shape}: "
                f"expected ({len(points)}, 3, {shape[0]}, {shape[1]})"
            )
        if quality.shape != masks.shape[:2]:
            raise DataError(f"the segmenter returned quality {quality.shape} for masks {masks.shape}")
        best = np.argmax(np.nan_to_num(quality, nan=-np.inf), axis=1)
        for offset, choice in enumerate(best):
            yield start + offset, masks[offset, choice].astype(np.bool_, copy=False), quality[offset, choice]


def _swallowed(mask: npt.NDArray[np.bool_], labels: Labels, owner: np.uint8) -> float:
    """Share of ``mask``'s labelled pixels that ``labels`` (H, W) gives to classes other than ``owner``."""
    under = np.bincount(labels[mask], minlength=IGNORE + 1)
    labelled = under[:IGNORE].sum()
    return float(1 - under[owner] / labelled) if labelled else 0.0


def checked(labels: npt.NDArray[Any]) -> Labels:
    """``labels`` as uint8 (H, W), or DataError naming what is wrong."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.size == 0:
        raise DataError(f"refine: labels must be (H, W), got {labels.shape}")
    if labels.dtype == np.uint8:
        return labels
    if labels.dtype.kind not in "iu":
        raise DataError(f"refine: labels must be integers (class ids, 255 = none), got {labels.dtype}")
    if labels.min() < 0 or labels.max() > IGNORE:
        raise DataError(f"refine: labels must lie in 0..255, got {labels.min()}..{labels.max()}")
    return labels.astype(np.uint8)
