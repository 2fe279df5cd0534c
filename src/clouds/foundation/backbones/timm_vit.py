"""Plain vision transformers of timm as backbones: DINOv2, DINOv3, EVA-02, SigLIP 2 and others, one stride throughout.

A pyramid without parameters: the tokens of four blocks, at a third, a half, two thirds and the end of the depth, are
resized to strides 4, 8, 16 and 32. So did Rein (Wei et al., CVPR 2024, arXiv 2312.04265) with blocks 8, 12, 16 and 24
of DINOv2-L; of a network of twelve blocks these are BEiT's 4, 6, 8 and 12. A simple feature pyramid (ViTDet, arXiv
2203.16527) has learned up-sampling instead; the pixel decoder behind brings its own learned projections.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clouds.errors import DataError, UsageError, cause
from clouds.foundation.backbones.adapters import Rein
from clouds.foundation.backbones.timm_pyramid import STRIDES, Triple, timm_says

SHARES = (1 / 3, 1 / 2, 2 / 3, 1)  # of the depth, for strides 4, 8, 16, 32
PATCHES = {8: 8, 14: 16, 16: 16, 32: 32}  # pixels of a patch as trained -> as used here
AFTER = ("norm", "fc_norm", "attn_pool", "head", "head_drop")  # behind the last block: features are taken before it


class PlainVit(nn.Module):
    """A timm ViT at strides 4, 8, 16 and 32, always in eval mode; what is behind its last block is dropped.

    Patches of 14 pixels become 16: the kernel is resampled so that a patch shown enlarged gives the token it gave
    before (FlexiViT's PI-resize, arXiv 2212.08013, done by timm), the grid of learned positions is kept, and read at
    the size of each image. So any image padded to multiples of 32 works, and a token is 16 x 16 of its pixels.

    ``mean`` and ``std`` are on the 0..255 scale. tensors: weights of the whole timm network, None for a random start.
    Raises UsageError where timm cannot build it so, DataError where tensors do not fit.
    """

    rein: Rein | None

    def __init__(
        self, name: str, architecture: str, mean: Triple, std: Triple, tensors: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.name, self.mean, self.std = name, mean, std
        self.stride, self.network = _network(name, architecture, tensors)
        self.prefix = self.network.num_prefix_tokens
        self.width, depth = self.network.embed_dim, len(self.network.blocks)
        self.channels = dict.fromkeys(STRIDES, self.width)
        self.taken = {stride: max(round(depth * share), 1) - 1 for stride, share in zip(STRIDES, SHARES, strict=True)}
        self.rein = None
        self.eval()

    def train(self, mode: bool = True) -> "PlainVit":  # noqa: ARG002 - no dropout, no dropped path
        return super().train(False)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        network = self.network
        tokens = network._pos_embed(network.patch_embed(images))
        rope: Any = None
        if isinstance(tokens, tuple):  # Eva's come with rotary positions
            tokens, rope = tokens
        tokens = network.norm_pre(tokens)
        behind = []
        for i, block in enumerate(network.blocks):
            if rope is None:
                tokens = block(tokens)
            else:
                tokens = block(tokens, rope=rope[i] if getattr(network, "rope_mixed", False) else rope)
            if self.rein is not None:
                tokens = self.rein(tokens, i, self.prefix)
            behind.append(tokens)
        height, width = images.shape[-2:]
        maps = {}
        for stride, i in self.taken.items():
            grid = behind[i][:, self.prefix :].transpose(1, 2)
            grid = grid.unflatten(2, (height // self.stride, width // self.stride))
            size = (height // stride, width // stride)
            maps[stride] = F.interpolate(grid, size=size, mode="bilinear", align_corners=False)
        return maps


def _network(name: str, architecture: str, tensors: Mapping[str, Tensor] | None) -> tuple[int, Any]:
    """(stride, timm's network up to its last block), filled."""
    import timm

    given: dict[str, Any] = {"num_classes": 0, "global_pool": "", "dynamic_img_size": True}
    try:
        with torch.device("meta"):  # only to ask for its patch and grid
            asked = timm.create_model(architecture, **given).patch_embed
        patch = max(asked.patch_size)
        if patch not in PATCHES:
            raise UsageError(f"backbone {name}: its patches are {patch} pixels wide; expected one of {list(PATCHES)}")
        stride = PATCHES[patch]
        given |= {"patch_size": stride, "img_size": tuple(cells * stride for cells in asked.grid_size)}
        if tensors:
            given |= {"pretrained_cfg_overlay": {"state_dict": dict(tensors)}, "pretrained_strict": False}
        with timm_says() as said:
            network = timm.create_model(architecture, pretrained=bool(tensors), **given)
    except (RuntimeError, TypeError, AttributeError, AssertionError) as error:
        if tensors:
            raise DataError(f"weights of {name}: do not fit the network ({cause(error)})") from error
        raise UsageError(f"backbone {name}: timm cannot build it for images of any size ({cause(error)})") from error
    for kind in ("Missing", "Unexpected"):
        if tensors and (names := [n for n in _names(said, kind) if n.partition(".")[0] not in AFTER]):
            raise DataError(f"weights of {name}: do not fit the network ({kind.lower()}: {', '.join(names)[:300]})")
    for part in AFTER:
        if isinstance(getattr(network, part, None), nn.Module):
            setattr(network, part, nn.Identity())
    return stride, network


def _names(said: list[str], kind: str) -> list[str]:
    """The tensors that timm logged as missing or unexpected."""
    found = (re.match(rf"{kind} keys \((.*?)\)", message, re.DOTALL) for message in said)
    return [name.strip() for match in found if match for name in match[1].split(",")]
