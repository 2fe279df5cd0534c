"""The geometric ensemble: the head's opinion of a mask and frozen CLIP's own, multiplied (paper's "geometric ensemble",
after FC-CLIP, arXiv 2308.02487, section 3.3).

The head knows the classes it was trained on; CLIP knows the others. So CLIP's share is larger on unseen classes.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clouds.config.recipe import Model
from clouds.errors import UsageError
from clouds.foundation.backbone import build_vision
from clouds.foundation.backbones.adapters import adapt
from clouds.foundation.backbones.openclip import OpenClipVision
from clouds.model.vocabulary import max_over_synonyms

SEEN, UNSEEN = 0.4, 0.8  # CLIP's share, the exponent a


def clip_of(backbone: nn.Module, settings: Mapping[str, Any]) -> OpenClipVision:
    """The backbone as a CLIP whose text tower made the vocabulary, or UsageError."""
    if not isinstance(backbone, OpenClipVision) or settings["text"] != settings["vision"]:
        raise UsageError(
            f"ensemble=True: backbone {settings['vision']} has no dense CLIP features; use ensemble=False"
            if not isinstance(backbone, OpenClipVision)
            else f"ensemble=True: the class names were embedded by {settings['text']}, not by the backbone "
            f"{settings['vision']}; use ensemble=False"
        )
    if backbone.adapted:
        raise UsageError("ensemble=True: the backbone is adapted and no longer sees what CLIP saw; use ensemble=False")
    return backbone


def check_ensemble(model: Model) -> None:
    """Raises UsageError where the network of a recipe's ``model`` has no dense CLIP features; loads no weights."""
    with torch.device("meta"):
        backbone = build_vision(model.vision, pretrained=False)
        if model.adapter:
            adapt(backbone, model.adapter, model.hidden)
    clip_of(backbone, {"vision": model.vision, "text": model.text})


def geometric_ensemble(
    logits: Tensor,
    masks: Tensor,
    features: dict[int, Tensor],
    clip: OpenClipVision,
    vocabulary: Tensor,
    synonyms: Tensor,
    seen: Tensor,
) -> Tensor:
    """Per query p_in^(1-a) p_out^a, renormalised, times 1 - p_void; void keeps its own share: log of (B, Q, C + 1).

    logits (B, Q, C + 1), void last; mask logits (B, Q, h, w); the backbone's features; vocabulary (N, D) unit rows;
    synonyms (C, S) from ``synonym_index``; seen bool (C,). For ResNets a = 0 where a mask, resized to CLIP's last map,
    is empty: their attention pool has nothing to look at there.
    """
    small = F.interpolate(masks, size=features[32].shape[-2:], mode="bilinear", align_corners=False)
    inside = small > 0  # (B, Q, h, w)
    embedded = F.normalize(clip.regions(features, inside), dim=-1)
    scale = clip.logit_scale.exp().clamp(max=100)
    theirs = max_over_synonyms(scale * embedded @ vocabulary.T, synonyms).log_softmax(-1)  # (B, Q, C)
    share = torch.where(seen, SEEN, UNSEEN).to(logits.dtype).expand_as(theirs)
    if clip.is_resnet:
        share = share * inside.any(-1).any(-1)[..., None]
    ours = logits[..., :-1].log_softmax(-1)
    classes = ((1 - share) * ours + share * theirs).log_softmax(-1)
    void = logits.log_softmax(-1)[..., -1:]
    rest = logits[..., :-1].logsumexp(-1, keepdim=True) - logits.logsumexp(-1, keepdim=True)  # log(1 - p_void)
    return torch.cat((classes + rest, void), dim=-1)
