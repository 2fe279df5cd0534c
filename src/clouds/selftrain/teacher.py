"""The teacher: an exponential moving average of everything that is trained; what is frozen it shares with the student.

It moves each step, and its decay ramps up as min(decay, (1 + t) / (10 + t)), so that a short run's teacher moves too.
docs/design/pseudo-labels.md compares the reference's, which moves every 100 steps.
"""

import copy

import torch
from torch import Tensor

from clouds.model.segmenter import Segmenter


class Teacher:
    """Wraps a copy of the student that shares its frozen tensors; never trained, dropout off."""

    def __init__(self, student: Segmenter, decay: float) -> None:
        frozen = [p for p in student.parameters() if not p.requires_grad]
        shared = {id(t): t for t in (*frozen, *student.buffers())}
        self.model = copy.deepcopy(student, memo=shared).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        own = dict(self.model.named_parameters())
        pairs = [(own[name], p) for name, p in student.named_parameters() if p.requires_grad]
        self._own: list[Tensor] = [a for a, _ in pairs]
        self._student: list[Tensor] = [b for _, b in pairs]

    @torch.no_grad()
    def update(self) -> None:
        """One step towards the student."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._own, self._student, 1 - decay)
        self.updates += 1

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``predictions``."""
        return predictions(self.model, images)


@torch.no_grad()
def predictions(model: Segmenter, images: Tensor) -> tuple[Tensor, Tensor]:
    """Clean images uint8 (B, 3, H, W) -> labels uint8 (B, H, W), confidence float32 (B, H, W) in 0..1.

    Confidence is the winner's share of the summed class scores of its pixel.
    """
    scores = model.semantic(images)
    best, labels = scores.max(1)
    return labels.to(torch.uint8), best / scores.sum(1).clamp(min=1e-6)
