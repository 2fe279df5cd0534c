"""The teacher: an exponential moving average of everything that is trained; what is frozen it shares with the student.

It moves each step, and its decay ramps up as min(decay, (1 + t) / (10 + t)), so that a short run's teacher moves too.
Both are settings: the reference's moves every 100 steps and has no ramp (docs/design/pseudo-labels.md).
"""

import copy

import torch
from torch import Tensor

from clouds.config.recipe import SelfTrain
from clouds.model.segmenter import Segmenter


class Teacher:
    """Wraps a copy of the student that shares its frozen tensors; never trained, dropout off.

    decay: what a move keeps of its weights; every: steps from one move to the next; ramp: whether the first moves keep
    less. ``updates`` counts the steps, moved or not.
    """

    def __init__(self, student: Segmenter, decay: float, every: int = 1, ramp: bool = True) -> None:
        frozen = [p for p in student.parameters() if not p.requires_grad]
        shared = {id(t): t for t in (*frozen, *student.buffers())}
        self.model = copy.deepcopy(student, memo=shared).eval().requires_grad_(False)
        self.decay, self.every, self.ramp = decay, every, ramp
        self.updates = 0
        own = dict(self.model.named_parameters())
        pairs = [(own[name], p) for name, p in student.named_parameters() if p.requires_grad]
        self._own: list[Tensor] = [a for a, _ in pairs]
        self._student: list[Tensor] = [b for _, b in pairs]

    @torch.no_grad()
    def update(self) -> None:
        """Called behind each step of the student; each ``every``-th call moves towards it."""
        self.updates += 1
        if self.updates % self.every == 0:
            before = self.updates // self.every - 1  # moves so far
            decay = min(self.decay, (1 + before) / (10 + before)) if self.ramp else self.decay
            torch._foreach_lerp_(self._own, self._student, 1 - decay)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``predictions``."""
        return predictions(self.model, images)


def make_teacher(student: Segmenter, settings: SelfTrain) -> Teacher:
    """The teacher that a recipe's ``selftrain`` asks for."""
    return Teacher(student, settings.decay, settings.teacher_every, settings.teacher_ramp)


@torch.no_grad()
def predictions(model: Segmenter, images: Tensor) -> tuple[Tensor, Tensor]:
    """Clean images uint8 (B, 3, H, W) -> labels uint8 (B, H, W), confidence float32 (B, H, W) in 0..1.

    Confidence is the winner's share of the summed class scores of its pixel.
    """
    scores = model.semantic(images)
    best, labels = scores.max(1)
    return labels.to(torch.uint8), best / scores.sum(1).clamp(min=1e-6)
