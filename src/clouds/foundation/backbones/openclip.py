"""CLIP through open_clip: ResNets and ConvNeXts that see, and text towers. Frozen, always in eval mode.

The visual tower also pools its last map under masks into CLIP's joint space, for the geometric ensemble (FC-CLIP,
arXiv 2308.02487, section 3.3).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clouds.errors import DataError
from clouds.foundation.backbones.clip_tokenizer import clip_tokenizer
from clouds.foundation.backbones.timm import timm_config
from clouds.foundation.backbones.timm_pyramid import STRIDES, Triple, on_bytes, statistics
from clouds.foundation.backbones.timm_vit import PlainVit
from clouds.foundation.weights import load_strictly, tensors_in

# What stands in for the tower that is not wanted: the smallest one open_clip can build, thrown away at once
NO_VISUAL = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # numbers OpenAI's files carry along
REFERENCE = "backbone.clip_model."  # where a checkpoint of the published implementation keeps its CLIP


def bare_clip(config: Mapping[str, Any]) -> Any:
    """open_clip's network of a model configuration, at its random start."""
    from open_clip.model import CLIP, CustomTextCLIP

    keys = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_bias")
    known = {key: config[key] for key in keys if key in config}
    vision = known["vision_cfg"]
    if "timm_model_name" in vision:  # its ImageNet weights are never wanted: CLIP's follow
        known["vision_cfg"] = {**vision, "timm_model_pretrained": False}
    return (CustomTextCLIP if config.get("custom_text") else CLIP)(**known).eval()


def clip_tensors(stored: Any, origin: str) -> dict[str, Tensor]:
    """The tensors of a whole CLIP out of what a file holds: open_clip's own, or a published CLOUDS checkpoint."""
    if isinstance(stored, dict):
        nested = next((stored[key] for key in ("state_dict", "model") if isinstance(stored.get(key), dict)), stored)
        inside = {n.removeprefix(REFERENCE): t for n, t in nested.items() if str(n).startswith(REFERENCE)}
        stored = inside or nested
    tensors = tensors_in(stored, origin)
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in tensors.items() if name not in NOT_WEIGHTS}


def clip_vit(name: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor] | None, origin: str) -> PlainVit:
    """The visual trunk of an open_clip model that is a ViT of timm (EVA-02, SigLIP); raises as PlainVit does."""
    architecture, prefix = config["vision_cfg"]["timm_model_name"], "visual.trunk."
    trunk = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)} if tensors else None
    if trunk == {}:
        raise DataError(f"{origin}: holds no tensor {prefix}..., so it is not {name}")
    return PlainVit(name, architecture, *_trained_on(name, architecture), trunk)


def _trained_on(name: str, architecture: str) -> tuple[Triple, Triple]:
    """Pixel mean and deviation of a model's published weights (0..255 scale), of its trunk's where there are none."""
    from open_clip import pretrained
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    model = name.partition("/")[2]
    tags = pretrained.list_pretrained_tags_by_model(model)
    if not tags:
        return statistics(timm_config(f"timm/{architecture}"))
    record = pretrained.get_pretrained_cfg(model, tags[0])
    mean, std = record.get("mean", OPENAI_DATASET_MEAN), record.get("std", OPENAI_DATASET_STD)
    return on_bytes(mean), on_bytes(std)


class OpenClipVision(nn.Module):
    """The visual tower of an open_clip ResNet or ConvNeXt, and CLIP's logit scale. Never in train mode, nor trained but
    for an adapter.

    ``mean`` and ``std`` are CLIP's, on the 0..255 scale. tensors: of the whole CLIP; None for a random start.
    """

    def __init__(
        self, name: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None, origin: str = ""
    ) -> None:
        super().__init__()
        from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        self.name, self.adapted = name, False
        self.mean, self.std = on_bytes(OPENAI_DATASET_MEAN), on_bytes(OPENAI_DATASET_STD)
        clip = bare_clip({**config, "text_cfg": NO_TEXT})
        self.visual, self.logit_scale = clip.visual, clip.logit_scale
        self.is_resnet = hasattr(self.visual, "attnpool")
        if tensors is not None:
            kept = {n: t for n, t in tensors.items() if n.startswith("visual.") or n == "logit_scale"}
            load_strictly(self, kept, origin)
        if self.is_resnet:
            self.channels = {s: self.visual.conv3.out_channels * s for s in STRIDES}
        else:
            self.channels = {info["reduction"]: info["num_chs"] for info in self.visual.trunk.feature_info}
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "OpenClipVision":  # noqa: ARG002 - CLIP stays as it was trained
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> "OpenClipVision":  # noqa: ARG002 - and frozen
        return super().requires_grad_(False)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        trunk = self.visual if self.is_resnet else self.visual.trunk
        stages = [trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4] if self.is_resnet else trunk.stages
        out: dict[int, Tensor] = {}  # dict[int, Tensor]() would break a compiled graph
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.adapted):
            x = trunk.stem(images)
            for stride, stage in zip(STRIDES, stages, strict=True):
                x = out[stride] = stage(x)
        return out

    @torch.no_grad()
    def regions(self, features: dict[int, Tensor], inside: Tensor) -> Tensor:
        """What CLIP sees under each mask, in its joint space: not normalised (B, Q, D).

        features: of ``features``; inside: bool (B, Q, h, w) at stride 32. A ResNet's empty mask looks everywhere; a
        ConvNeXt's pools to zero before the visual head.
        """
        dense = features[32]
        return self._attend(dense, inside) if self.is_resnet else self._average(dense, inside)

    def _average(self, dense: Tensor, inside: Tensor) -> Tensor:
        """Mean over the mask, then trunk head (norm) and projection, as for the image's own mean."""
        share = inside.to(dense.dtype)
        share = share / (share.sum((-2, -1), keepdim=True) + 1e-8)
        pooled = torch.einsum("bqhw,bchw->bqc", share, self.visual.trunk.norm_pre(dense))
        flat = self.visual.trunk.forward_head(pooled.flatten(0, 1)[..., None, None])  # (B Q, C)
        out: Tensor = self.visual.head(flat).unflatten(0, inside.shape[:2])
        return out

    def _attend(self, dense: Tensor, inside: Tensor) -> Tensor:
        """CLIP's attention pool, whose query (the image's mean) looks at each mask's own cells only."""
        pool = self.visual.attnpool
        side = round((len(pool.positional_embedding) - 1) ** 0.5)
        places = pool.positional_embedding[1:].T.unflatten(1, (side, side))[None]  # (1, C, s, s)
        places = F.interpolate(places, size=dense.shape[-2:], mode="bilinear", align_corners=False)
        query = pool.q_proj(dense.mean((-2, -1)) + pool.positional_embedding[0])  # (B, C)
        cells = (dense + places).flatten(2).transpose(1, 2)  # (B, N, C)
        heads = (pool.num_heads, -1)
        mixed = F.scaled_dot_product_attention(
            query.unflatten(-1, heads)[:, :, None].expand(-1, -1, inside.shape[1], -1),  # (B, heads, Q, d)
            pool.k_proj(cells).unflatten(-1, heads).transpose(1, 2),
            pool.v_proj(cells).unflatten(-1, heads).transpose(1, 2),
            attn_mask=(inside | ~inside.any(-1).any(-1)[..., None, None]).flatten(2)[:, None],
        )
        out: Tensor = pool.c_proj(mixed.transpose(1, 2).flatten(2))
        return out


class OpenClipText:
    """The text tower of an open_clip model, with its tokenizer. origin: the file that ``tensors`` are of."""

    def __init__(self, name: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], origin: str) -> None:
        from open_clip.model import convert_to_custom_text_state_dict

        self.name, self.dim = name, int(config["embed_dim"])
        self.tokenizer = clip_tokenizer(name, config, Path(origin))
        self.clip = bare_clip({**config, "vision_cfg": NO_VISUAL})
        del self.clip.visual
        own = {n: t for n, t in tensors.items() if not n.startswith("visual.")}
        load_strictly(self.clip, convert_to_custom_text_state_dict(own) if config.get("custom_text") else own, origin)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        batches = (list(texts[start : start + batch_size]) for start in range(0, len(texts), batch_size))
        rows = [self._encode(self.tokenizer(batch)) for batch in batches]
        return F.normalize(torch.cat(rows).float(), dim=-1)

    def _encode(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L) -> (N, D). A causal tower never looks behind a text's end, so padding need not be computed."""
        if getattr(self.clip, "attn_mask", None) is None or self.clip.text_pool_type != "argmax":
            out: Tensor = self.clip.encode_text(tokens)
            return out
        length = int(tokens.argmax(1).max()) + 1  # the end-of-text token is the largest
        shorter = {
            "positional_embedding": self.clip.positional_embedding[:length],
            "attn_mask": self.clip.attn_mask[:length, :length],
        }
        _, out, *_ = torch.func.functional_call(self.clip, shorter, (None, tokens[:, :length]))
        return out
