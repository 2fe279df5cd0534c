"""What the student learns from the generated images of a batch (paper section 3.3).

Teacher's map of the clean image -> what of it is trusted -> refined by the promptable segmenter -> flipped
like the student's view, and written wherever no source object was pasted into it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clouds.base.arrays import Labels
from clouds.config.label_sets import IGNORE
from clouds.config.recipe import SelfTrain
from clouds.config.records import Points
from clouds.data.batches.batches import Batch
from clouds.foundation.embeddings import Recent
from clouds.foundation.segmenter import PromptableSegmenter
from clouds.selftrain.refine import Refinement, refine_map
from clouds.selftrain.regions import Regions, smooth, vote
from clouds.selftrain.teacher import Teacher
from clouds.selftrain.work import Work, count


@dataclass
class Panel:
    """One generated image on its way: clean image (3, H, W), teacher's map, what is learned from, the refinement."""

    image: Tensor
    teacher: Labels
    refined: Labels
    refinement: Refinement


class Lesson(NamedTuple):
    """What the student learns: labels uint8 (B, H, W); what happened, as numbers for the log; one panel."""

    labels: Tensor
    numbers: dict[str, float]
    panel: Panel | None


class PseudoLabeller:
    """Fills the labels of a batch's generated images. These never change: embeddings are kept, as many as fit.

    With ``regions``, those of a generated image by its index, ``segmenter`` is not used.
    """

    def __init__(
        self,
        teacher: Teacher,
        segmenter: PromptableSegmenter | None,
        settings: SelfTrain,
        seed: int,
        regions: Callable[[int], Regions] | None = None,
    ) -> None:
        self.teacher, self.segmenter, self.settings, self.seed = teacher, segmenter, settings, seed
        self.classes: list[str] = teacher.model.classes
        self.regions = regions
        self.every_step = False  # whether the teacher looks in each step: others that hold its weights wait for it
        self.work = Work()
        self.sets: list[int] = []  # how many images each set without labels has: what ``work.seen`` counts through
        self._embeddings = Recent(int(settings.memory_gb * 2**30))

    def __call__(self, batch: Batch, step: int) -> Lesson:
        """The labels of ``batch``, every generated image's filled in."""
        labels = batch["labels"].clone()
        if not len(batch["slots"]):
            if self.every_step:
                self.teacher.predict(batch["images"][:1].to(self.teacher.model.mean.device))
            return Lesson(labels, {}, None)
        maps, sure = self.teacher.predict(batch["clean"].to(self.teacher.model.mean.device))
        panel, rows = None, []
        for g, (slot, index) in enumerate(zip(batch["slots"].tolist(), batch["ids"].tolist(), strict=True)):
            teacher, confidence = maps[g].cpu().numpy(), sure[g].cpu().numpy()
            trusted = trust(teacher, confidence, self.settings.confidence)
            refinement = self._refine(index, batch["clean"][g], trusted, step, int(batch["places"][slot]))
            refined = refinement.labels
            if self.settings.undecided == "teacher":
                refined = np.where(refined == IGNORE, trusted, refined)
            work = count(teacher, confidence, refinement, refined, index, len(self.classes))
            self.work.merge(work)
            rows.append(self._numbers(work))
            panel = panel or Panel(batch["clean"][g], teacher, refined, refinement)
            view = refined[:, ::-1] if batch["flipped"][g] else refined
            pasted = labels[slot] != IGNORE
            labels[slot] = torch.where(pasted, labels[slot], torch.from_numpy(np.ascontiguousarray(view)))
        means = {key: float(np.mean([row[key] for row in rows if key in row])) for key in sorted(set().union(*rows))}
        return Lesson(labels, means, panel)

    def _refine(self, index: int, image: Tensor, labels: Labels, step: int, place: int) -> Refinement:
        s, segmenter, regions = self.settings, self.segmenter, self.regions
        if regions:
            found = self._embeddings.get(index, lambda: regions(index))
            if s.refinement == "smooth":
                return smooth(labels, found)
            return vote(labels, found, floor=s.floor, max_swallow=s.max_swallow)
        assert segmenter is not None
        embedding = self._embeddings.get(index, lambda: segmenter.encode(image.permute(1, 2, 0).contiguous().numpy()))
        seed = int(np.random.SeedSequence((self.seed, step, place)).generate_state(1)[0])
        return refine_map(
            labels,
            embedding,
            segmenter,
            seed=seed,
            points=s.points,
            floor=s.floor,
            strategy=s.strategy,
            overlaps=s.overlaps,
            max_swallow=s.max_swallow,
        )

    def _numbers(self, work: Work) -> dict[str, float]:
        """Shares of the image for a row of the log; of each class, shares of the pixels the teacher gave it."""
        numbers = {
            "teacher_confidence": sum(work.confidence) / work.pixels,
            "changed": work.pixels_changed / work.pixels,
            "decided": work.pixels_decided / work.pixels,
            "components": float(work.components),
        }
        for name, seen, kept, changed in zip(self.classes, work.teacher, work.kept, work.changed, strict=True):
            if seen:
                numbers |= {f"kept/{name}": kept / seen, f"changed/{name}": changed / seen}
                numbers[f"ignored/{name}"] = (seen - kept - changed) / seen
        return numbers


def trust(labels: Labels, confidence: NDArray[np.float32], least: float) -> Labels:
    """Labels (H, W) where the teacher's confidence (H, W) in [0, 1] is at least ``least``, 255 elsewhere."""
    return np.where(confidence >= least, labels, np.uint8(IGNORE)) if least else labels


def panel_points(refinement: Refinement) -> Points:
    """(class, [[x, y], ...]) of every component that was asked with points, for the report."""
    return [
        (int(class_), np.round(points, 1).tolist())
        for class_, points in zip(refinement.classes, refinement.points, strict=True)
        if len(points)
    ]
