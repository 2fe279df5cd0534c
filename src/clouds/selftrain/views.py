"""What the student sees of a generated image beyond colour jitter: pasted source objects, hidden patches."""

import numpy as np
import torch
from torch import Tensor

from clouds.classes import IGNORE


def paste(
    image: Tensor, label: Tensor, source: Tensor, truth: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """ClassMix (Olsson et al. 2021), from a labelled image: half of its classes are pasted over the generated one.

    image, source uint8 (3, H, W); label, truth uint8 (H, W) -> the mixed image and label, and what was pasted (H, W)
    bool.
    """
    present = truth.unique()
    present = present[present != IGNORE].numpy()
    chosen = rng.choice(present, size=(len(present) + 1) // 2, replace=False)
    pasted = torch.isin(truth, torch.from_numpy(chosen))
    return torch.where(pasted, source, image), torch.where(pasted, truth, label), pasted


def hide(image: Tensor, share: float, patch: float, fill: Tensor, rng: np.random.Generator) -> Tensor:
    """Masked image consistency (MIC, Hoyer et al. 2023): the student must name what it does not see, from context.

    image uint8 (3, H, W); ``share`` of its square patches, whose side is ``patch`` of the shorter side, become
    ``fill`` (3,) uint8.
    """
    height, width = image.shape[-2:]
    side = max(round(patch * min(height, width)), 1)
    hidden = torch.from_numpy(rng.random((-(-height // side), -(-width // side))) < share)
    full = hidden.repeat_interleave(side, 0).repeat_interleave(side, 1)[:height, :width]
    return torch.where(full, fill[:, None, None], image)
