"""What self-training did, counted: of each image, over the run, and class by class."""

from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Labels
from clouds.config.label_sets import IGNORE
from clouds.config.records import Fate, WorkSummary, read_record
from clouds.data.batches.unlabelled import Unlabelled
from clouds.errors import CloudsError, DataError
from clouds.selftrain.refine import Refinement


@dataclass
class Work:
    """Running totals of what self-training did; part of every checkpoint and of the report. ``seen``: the looks.

    Pixels by the class the teacher gave them: ``teacher``, of which ``kept`` got the same label, ``changed`` another,
    and the rest none; ``confidence``: the teacher's, summed over them. Lists of C numbers.
    """

    images: int = 0
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


def count(
    teacher: Labels,
    confidence: NDArray[np.float32],
    refinement: Refinement,
    learned: Labels,
    index: int,
    classes: int,
) -> Work:
    """What became of the teacher's labels (H, W), of ``confidence`` (H, W), of look ``index`` at an image; ``learned``
    (H, W): what is learned from, 255 for none."""
    pairs = np.bincount(teacher.ravel().astype(np.intp) * 256 + learned.ravel(), minlength=classes * 256)
    pairs = pairs.reshape(classes, 256)  # (teacher's class, what is learned)
    seen, kept, ignored = pairs.sum(axis=1), pairs.diagonal(), pairs[:, IGNORE]
    changed = seen - kept - ignored
    return Work(
        images=1,
        components=refinement.components,
        rejected=int(refinement.rejected.sum()),
        pixels=int(seen.sum()),
        pixels_decided=int((seen - ignored).sum()),
        pixels_changed=int(changed.sum()),
        teacher=seen.tolist(),
        kept=kept.tolist(),
        changed=changed.tolist(),
        confidence=np.bincount(teacher.ravel(), weights=confidence.ravel(), minlength=classes).tolist(),
        seen={index},
    )


def work_of(work: Work, names: list[str], prompts: int, images: int, unlabelled: Unlabelled) -> WorkSummary:
    """What ``work.json`` holds: how many prompts and images there were, and the totals of self-training.

    images: how many were drawn; ``unlabelled``: what they and the photographs, if there are any, are part of.
    """
    drawn, photographs = unlabelled.counts(work.seen)
    counted = {"photographs": unlabelled.photographs, "photographs_trained_on": photographs}
    return WorkSummary(
        prompts_written=prompts,
        images_drawn=images,
        images_trained_on=drawn,
        **(counted if unlabelled.photographs else {}),
        pseudo_labels_made=work.images,
        components_refined=work.components,
        pixels_seen=work.pixels,
        pixels_decided=work.pixels_decided,
        pixels_changed=work.pixels_changed,
        masks_rejected=work.rejected,
        classes=by_class(work, names),
    )


def check_work(path: Path) -> None:
    """Raises CloudsError where self-training did nothing, as the run's ``work.json`` says."""
    work = read_record(path, WorkSummary)
    if work is None:
        raise DataError(f"{path}: not there")
    if not work.pseudo_labels_made or not work.pixels_changed:
        kind = "images without labels" if work.photographs else "generated images"
        raise CloudsError(
            f"joint training saw {kind} {work.pseudo_labels_made} times and refinement changed "
            f"{work.pixels_changed} pixels: self-training did nothing. The model is kept, but it is no better than "
            "the warm-up's. Check generate.count or data.unlabelled, selftrain.floor, selftrain.confidence and the "
            "warm-up's quality"
        )


def by_class(work: Work, names: list[str]) -> dict[str, Fate]:
    """What became of the teacher's pixels of each class it saw: shares kept, changed, ignored, and its confidence."""
    found: dict[str, Fate] = {}
    if not work.images:
        return found
    for name, seen, kept, changed, sure in zip(
        names, work.teacher, work.kept, work.changed, work.confidence, strict=True
    ):
        if seen:
            found[name] = Fate(
                pixels=seen, kept=kept / seen, changed=changed / seen, ignored=(seen - kept - changed) / seen,
                confidence=min(sure / seen, 1.0),  # summed in float64, it may end a rounding above
            )  # fmt: skip
    return found
