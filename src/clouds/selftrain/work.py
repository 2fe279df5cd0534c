"""What self-training did, counted: of each image, over the run, and class by class."""

from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Labels
from clouds.data.classes import IGNORE
from clouds.errors import CloudsError
from clouds.selftrain.refine import Refinement


@dataclass
class Work:
    """Running totals of what self-training did; part of every checkpoint and of the report.

    Pixels by the class the teacher gave them: ``teacher``, of which ``kept`` got the same label, ``changed`` another,
    and the rest none; ``confidence``: the teacher's, summed over them. Lists of C numbers.
    """

    images: int = 0
    dropped: int = 0  # images that did not pass the gate
    components: int = 0
    rejected: int = 0  # masks thrown out by max_swallow
    pixels: int = 0
    pixels_decided: int = 0
    pixels_changed: int = 0
    teacher: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def add(self, counts: "Counts", refinement: Refinement, index: int, dropped: bool) -> None:
        """One more image's."""
        self.merge(
            Work(
                images=1,
                dropped=int(dropped),
                components=refinement.components,
                rejected=int(refinement.rejected.sum()),
                pixels=sum(counts.teacher),
                pixels_decided=counts.decided,
                pixels_changed=sum(counts.changed),
                teacher=counts.teacher,
                kept=counts.kept,
                changed=counts.changed,
                confidence=counts.confidence,
                seen={index},
            )
        )

    def merge(self, other: "Work") -> None:
        """Add another's totals to these."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, set):
                mine |= theirs
            elif not isinstance(mine, list):
                setattr(self, each.name, mine + theirs)
            elif theirs:
                setattr(self, each.name, [a + b for a, b in zip(mine or [0] * len(theirs), theirs, strict=True)])


class Counts(NamedTuple):
    """Pixels of one image by the teacher's class, each a list of C: see ``Work``; ``decided``: labelled in the end."""

    teacher: list[int]
    kept: list[int]
    changed: list[int]
    confidence: list[float]
    decided: int


def count(
    teacher: Labels, confidence: NDArray[np.float32], refined: Labels, classes: int
) -> Counts:
    """What became of the teacher's labels (H, W), class by class."""
    pairs = np.bincount(teacher.ravel().astype(np.intp) * 256 + refined.ravel(), minlength=classes * 256)
    pairs = pairs.reshape(classes, 256)  # (teacher's class, what is learned)
    seen, kept, ignored = pairs.sum(axis=1), pairs.diagonal(), pairs[:, IGNORE]
    sure = np.bincount(teacher.ravel(), weights=confidence.ravel(), minlength=classes)
    changed = seen - kept - ignored
    return Counts(seen.tolist(), kept.tolist(), changed.tolist(), sure.tolist(), int((seen - ignored).sum()))


def work_of(work: Work, names: list[str], prompts: int, images: int) -> dict[str, Any]:
    """What ``work.json`` holds: how many prompts and images there were, and the totals of self-training.

    Raises CloudsError where self-training did nothing.
    """
    if not work.images or not work.pixels_changed:
        raise CloudsError(
            f"joint training saw {work.images} generated images and refinement changed {work.pixels_changed} pixels: "
            "self-training did nothing. Check generate.count, selftrain.floor, selftrain.confidence and the warm-up's "
            "quality"
        )
    return {
        "prompts_written": prompts,
        "images_drawn": images,
        "images_trained_on": len(work.seen),
        "pseudo_labels_made": work.images,
        "components_refined": work.components,
        "pixels_seen": work.pixels,
        "pixels_decided": work.pixels_decided,
        "pixels_changed": work.pixels_changed,
        "images_dropped": work.dropped,
        "masks_rejected": work.rejected,
        "classes": by_class(work, names),
    }


def by_class(work: Work, names: list[str]) -> dict[str, dict[str, float]]:
    """What became of the teacher's pixels of each class it saw: shares kept, changed, ignored, and its confidence."""
    found = {}
    for name, seen, kept, changed, sure in zip(
        names, work.teacher, work.kept, work.changed, work.confidence, strict=True
    ):
        if seen:
            shares = {"kept": kept / seen, "changed": changed / seen, "ignored": (seen - kept - changed) / seen}
            found[name] = {"pixels": seen, **shares, "confidence": sure / seen}
    return found
