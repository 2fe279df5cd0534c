"""SoMA: tuning of a layer's minor singular components (Yun et al., CVPR 2025, arXiv 2412.04077).

Of a weight W = U S V^T the r smallest components become two trained factors, B = U_r sqrt(S_r) and A = sqrt(S_r) V_r^T;
the residual W - B A stays frozen. So training starts from the pre-trained network and moves in directions in which its
weights say least. The first blocks stay as they are; biases of the tuned layers are trained too.

The layers are peft's LoRA layers of scale 1. peft 0.21 has the start from major components (PiSSA) and a variant that
trains one factor of the minor ones (MiCA), not this one; so the start is ours.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn

from clouds.errors import UsageError

PARTS = ("q", "k", "v")


class FusedParts(nn.Module):
    """A linear layer for queries, keys and values at once, as three, so that each has singular components of its own:
    tokens (B, N, c) -> (B, N, 3 c)."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        height = fused.out_features // len(PARTS)
        for k, name in enumerate(PARTS):
            part = nn.Linear(fused.in_features, height, fused.bias is not None, fused.weight.device, fused.weight.dtype)
            with torch.no_grad():
                part.weight.copy_(fused.weight[k * height : (k + 1) * height])
                if fused.bias is not None:
                    part.bias.copy_(fused.bias[k * height : (k + 1) * height])
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([getattr(self, name)(x) for name in PARTS], dim=-1)


def behind(backbone: Any, layers: list[str], frozen_share: float) -> list[str]:
    """Those of ``layers`` that lie in a block behind the first ``frozen_share`` of the blocks, rounded."""
    blocks = list(dict.fromkeys(block for name in layers if (block := _block(name))))
    first = round(len(blocks) * frozen_share)
    if not blocks:
        raise UsageError(f"model.adapt: soma freezes the first blocks of a network, and {backbone.name} has none")
    if first >= len(blocks):
        raise UsageError(
            f"model.soma.frozen_share: got {frozen_share:g}, which freezes all {len(blocks)} blocks of "
            f"{backbone.name}; expected less, such as the publication's 0.3333 (8 blocks of 24)"
        )
    tuned = blocks[first:]
    return [name for name in layers if _block(name) in tuned]


def split_fused(backbone: Any, layers: list[str], rank: int) -> list[str]:
    """The layers, of which each fused ``qkv`` was replaced by its three parts; UsageError where one is too narrow."""
    found = []
    for name in layers:
        layer = backbone.get_submodule(name)
        parts = [name]
        if name.endswith("qkv") and layer.out_features % len(PARTS) == 0:
            split = FusedParts(layer)
            backbone.set_submodule(name, split)
            parts, layer = [f"{name}.{part}" for part in PARTS], split.q
        least = min(layer.in_features, layer.out_features)
        if rank >= least:
            raise UsageError(
                f"model.soma.rank: got {rank}; {name} of {backbone.name} has {least} singular components, of which a "
                "few are trained: expected less"
            )
        found += parts
    return found


@torch.no_grad()
def minor_components(backbone: nn.Module) -> None:
    """Take the smallest components of each adapted layer out of its weight and into the factors beside it."""
    modules: list[Any] = list(backbone.modules())  # peft's have no types
    for module in modules:
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            weight = module.base_layer.weight
            down, up = (part["default"].weight for part in (module.lora_A, module.lora_B))
            left, values, right = torch.linalg.svd(weight.float(), full_matrices=False)
            rank = down.shape[0]
            root = values[-rank:].sqrt()
            down.copy_(root[:, None] * right[-rank:])
            up.copy_(left[:, -rank:] * root)
            weight -= up @ down


def fuse(backbone: nn.Module) -> None:
    """Each layer that ``split_fused`` took apart is one again."""
    for name, module in list(backbone.named_modules()):
        if isinstance(module, FusedParts):
            parts: list[Any] = [getattr(module, part) for part in PARTS]
            weight = torch.cat([part.weight.detach() for part in parts])
            whole = nn.Linear(weight.shape[1], weight.shape[0], parts[0].bias is not None, weight.device, weight.dtype)
            with torch.no_grad():
                whole.weight.copy_(weight)
                if whole.bias is not None:
                    whole.bias.copy_(torch.cat([part.bias.detach() for part in parts]))
            backbone.set_submodule(name, whole.requires_grad_(False))


def _block(name: str) -> str:
    """The block that a layer is in, as "network.blocks.3"; "" for one in none."""
    found = re.match(r"(?:.*\.)?\w*blocks\.\d+(?=\.)", name)
    return found[0] if found else ""
