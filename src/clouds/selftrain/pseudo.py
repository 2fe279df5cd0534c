"""Pseudo-labels for the generated images of a batch (paper section 3.4).

Teacher's map of the clean image -> refined by the promptable segmenter -> flipped like the student's view.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clouds.classes import IGNORE
from clouds.data.loaders import Batch
from clouds.foundation.embeddings import Recent
from clouds.foundation.sam import PromptableSegmenter
from clouds.selftrain.refine import Refinement, refine_map
from clouds.selftrain.regions import Regions, vote
from clouds.selftrain.teacher import Teacher
from clouds.settings import SelfTrain


@dataclass
class Work:
    """Running totals of what self-training did; part of every checkpoint and of the report."""

    images: int = 0
    components: int = 0
    pixels: int = 0
    pixels_decided: int = 0
    pixels_changed: int = 0
    seen: set[int] = field(default_factory=set)


@dataclass
class Panel:
    """One generated image on its way: clean image (3, H, W), teacher's map, refined map, and the points."""

    image: Tensor
    teacher: NDArray[np.uint8]
    refined: NDArray[np.uint8]
    refinement: Refinement


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
        self.regions = regions
        self.work = Work()
        self._embeddings = Recent(int(settings.memory_gb * 2**30))

    def __call__(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, float], Panel | None]:
        """-> labels uint8 (B, H, W) with every generated image's map filled in, what happened, one panel."""
        labels = batch["labels"].clone()
        if not len(batch["slots"]):
            return labels, {}, None
        maps, confidence = self.teacher.predict(batch["clean"].to(self.teacher.model.mean.device))
        panel, changed, decided, components = None, [], [], 0
        for g, (slot, index) in enumerate(zip(batch["slots"].tolist(), batch["ids"].tolist(), strict=True)):
            teacher_map = maps[g].cpu().numpy()
            refinement = self._refine(index, batch["clean"][g], teacher_map, step, slot)
            refined = refinement.labels
            if self.settings.undecided == "teacher":
                sure = confidence[g].cpu().numpy() >= self.settings.confidence
                refined = np.where((refined == IGNORE) & sure, teacher_map, refined)
            view = refined[:, ::-1] if batch["flipped"][g] else refined
            labels[slot] = torch.from_numpy(np.ascontiguousarray(view))
            panel = panel or Panel(batch["clean"][g], teacher_map, refined, refinement)
            changed.append(refinement.changed)
            decided.append(refinement.decided)
            components += refinement.components
            self.work.pixels += refined.size
            self.work.pixels_decided += round(refinement.decided * refined.size)
            self.work.pixels_changed += round(refinement.changed * refined.size)
            self.work.seen.add(index)
        self.work.images += len(changed)
        self.work.components += components
        told = {
            "teacher_confidence": float(confidence.mean()),
            "changed": float(np.mean(changed)),
            "decided": float(np.mean(decided)),
            "components": components / len(changed),
        }
        return labels, told, panel

    def _refine(self, index: int, image: Tensor, labels: NDArray[np.uint8], step: int, slot: int) -> Refinement:
        s, segmenter, regions = self.settings, self.segmenter, self.regions
        if regions:
            found = self._embeddings.get(index, lambda: regions(index))
            return vote(labels, found, floor=s.floor, max_swallow=s.max_swallow)
        assert segmenter is not None
        embedding = self._embeddings.get(index, lambda: segmenter.encode(image.permute(1, 2, 0).contiguous().numpy()))
        seed = int(np.random.SeedSequence((self.seed, step, slot)).generate_state(1)[0])
        return refine_map(
            labels,
            embedding,
            segmenter,
            seed=seed,
            points=s.points,
            floor=s.floor,
            strategy=s.strategy,
            max_swallow=s.max_swallow,
        )


def panel_points(refinement: Refinement) -> list[list[Any]]:
    """[[class, [[x, y], ...]], ...] of every component that was asked with points, for the report."""
    return [
        [int(class_), np.round(points, 1).tolist()]
        for class_, points in zip(refinement.classes, refinement.points, strict=True)
        if len(points)
    ]
