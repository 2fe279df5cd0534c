"""What a teacher makes of one generated image, and whether the promptable segmenter agrees: for the audit of a set."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clouds.foundation.sam import PromptableSegmenter
from clouds.model.segmenter import Segmenter
from clouds.selftrain.refine import refine_map
from clouds.selftrain.teacher import predictions
from clouds.settings import SelfTrain

SEED = 0  # of the prompt points: an audit that is run again sees the same


def judge(
    model: Segmenter, segmenter: PromptableSegmenter, settings: SelfTrain
) -> Callable[[NDArray[np.uint8]], dict[str, Any]]:
    """-> see(image (H, W, 3) uint8): {"classes": share of the pixels of each of the model's classes,
    "confidence": mean over the pixels, "decided": share of pixels that refinement decided, "agreement": share of those
    that it gave the teacher's class, None where it decided none}."""

    def see(image: NDArray[np.uint8]) -> dict[str, Any]:
        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[None]).to(model.mean.device)
        labels, confidence = (found[0].cpu().numpy() for found in predictions(model, batch))
        refined = refine_map(
            labels,
            segmenter.encode(image),
            segmenter,
            seed=SEED,
            points=settings.points,
            floor=settings.floor,
            strategy=settings.strategy,
            max_swallow=settings.max_swallow,
        )
        shares = np.bincount(labels.ravel(), minlength=len(model.classes)) / labels.size
        return {
            "classes": [round(float(share), 5) for share in shares],
            "confidence": round(float(confidence.mean()), 4),
            "decided": round(refined.decided, 4),
            "agreement": round(1 - refined.changed / refined.decided, 4) if refined.decided else None,
        }

    return see
