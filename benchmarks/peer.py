"""Two models of one set of weights: this package's segmenter and transformers' Mask2Former, with what users call."""

import logging
import re
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, TimmBackboneConfig

from clouds.foundation.backbones.timm_pyramid import TimmVision
from clouds.model import segmenter
from clouds.model.loss import LossSettings, criterion
from clouds.model.segmenter import Segmenter

logging.getLogger("transformers").setLevel(logging.ERROR)  # it warns of every backbone that is not a Swin
MEAN, STD = 127.0, 64.0

RENAMED = (  # transformers' name -> ours, applied in order; q, k and v are joined separately
    (r"^class_predictor\.", "decoder.class_head.linear."),
    (r"^model\.pixel_level_module\.decoder\.encoder\.layers\.", "pixel_decoder.layers."),
    (r"^model\.pixel_level_module\.decoder\.", "pixel_decoder."),
    (r"^model\.transformer_module\.decoder\.layernorm\.", "decoder.norm."),
    (r"^model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.0\.0\.", "decoder.mask_embed.0."),
    (r"^model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.1\.0\.", "decoder.mask_embed.2."),
    (r"^model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.2\.0\.", "decoder.mask_embed.4."),
    (r"^model\.transformer_module\.decoder\.", "decoder."),
    (r"^model\.transformer_module\.queries_embedder\.", "decoder.query_embed."),
    (r"^model\.transformer_module\.queries_features\.", "decoder.query_feat."),
    (r"^model\.transformer_module\.", "decoder."),
    (r"(pixel_decoder.*)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"(pixel_decoder.*)\.final_layer_norm\.", r"\1.norm2."),
    (r"\.input_projections\.", ".input_proj."),
    (r"\.adapter_1\.", ".lateral."),
    (r"\.layer_1\.", ".output."),
    (r"\.mask_projection\.", ".mask_features."),
    (r"\.cross_attn_layer_norm\.", ".cross_norm."),
    (r"\.self_attn_layer_norm\.", ".self_norm."),
    (r"\.final_layer_norm\.", ".ffn_norm."),
    (r"\.fc([12])\.", r".linear\1."),
)


def renamed(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' state without its backbone, under our head's names."""
    ours: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        if "_backbone" in name or name.startswith("criterion"):
            continue
        for pattern, new in RENAMED:
            name = re.sub(pattern, new, name)
        if match := re.match(r"(decoder\.layers\.\d+\.self_attn)\.([qkv])_proj\.(weight|bias)", name):
            where, part, kind = match.groups()
            if part == "q":
                parts = [theirs[f"model.transformer_module.{where}.{p}_proj.{kind}"] for p in "qkv"]
                ours[f"{where}.in_proj_{kind}"] = torch.cat(parts)
        else:
            ours[name] = tensor
    return ours


def pair(
    backbone: str,
    queries: int = 100,
    classes: int = 19,
    seed: int = 0,
    hidden: int = 256,
    layers: tuple[int, int] = (6, 9),
) -> tuple[Segmenter, Mask2FormerForUniversalSegmentation]:
    """Both models, at the paper's size by default, on timm's ``backbone``, random weights, the same on both sides.

    hidden: channels, feed-forward layers have 4 and 8 times as many; layers: of the pixel and the transformer decoder.
    Offsets and weights of deformable attention start at zero; they are drawn here, so that places are spread.
    """
    torch.manual_seed(seed)
    vision = TimmVision(f"timm/{backbone}", backbone, (MEAN,) * 3, (STD,) * 3)
    with mock.patch.object(segmenter, "build_vision", return_value=vision):
        ours = Segmenter(
            vision=vision.name,
            text="none",
            text_dim=8,
            classes=[str(c) for c in range(classes)],
            synonyms=[[str(c)] for c in range(classes)],
            colors=[[c, c, c] for c in range(classes)],
            head="linear",
            queries=queries,
            hidden=hidden,
            pixel_layers=layers[0],
            pixel_ffn=4 * hidden,
            layers=layers[1],
            ffn=8 * hidden,
        )
    config = Mask2FormerConfig(
        backbone_config=TimmBackboneConfig(backbone=backbone, out_indices=[1, 2, 3, 4]),
        num_labels=classes,
        num_queries=queries,
        feature_size=hidden,
        mask_feature_size=hidden,
        hidden_dim=hidden,
        encoder_layers=layers[0],
        encoder_feedforward_dim=4 * hidden,
        decoder_layers=layers[1] + 1,  # they count the heads
        dim_feedforward=8 * hidden,
    )
    theirs = Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith(("sampling_offsets.weight", "self_attn.attention_weights.weight")):
                parameter.normal_(std=0.05)
    encoder = theirs.model.pixel_level_module.encoder
    encoder._backbone.load_state_dict(vision.network.state_dict())
    encoder.requires_grad_(False)
    ours.head.load_state_dict(renamed(theirs.state_dict()), strict=True)
    return ours.eval(), theirs.eval()


@torch.no_grad()
def our_map(model: Segmenter, images: Tensor) -> Tensor:
    """Images uint8 (B, 3, H, W) -> semantic map (B, C, H, W) by this package's public call."""
    return model.semantic(images)


@torch.no_grad()
def their_map(model: Mask2FormerForUniversalSegmentation, images: Tensor) -> Tensor:
    """The same by transformers' public call and the plain merge at full size."""
    out = model(pixel_values=(images.float() - MEAN) / STD)
    masks = F.interpolate(out.masks_queries_logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
    classes = out.class_queries_logits.softmax(-1)[..., :-1]
    return torch.einsum("bqc,bqhw->bchw", classes, masks.sigmoid())


def points_of(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(b) for b in range(count)]


def our_step(model: Segmenter, images: Tensor, labels: Tensor) -> Tensor:
    """Forward, loss and backward of one batch; gradients are dropped first."""
    model.train()
    model.zero_grad()
    loss = criterion(model(images), labels, LossSettings(), points_of(len(images)))["loss"]
    loss.backward()
    return loss.detach()


def their_step(model: Mask2FormerForUniversalSegmentation, images: Tensor, labels: Tensor) -> Tensor:
    """The same with transformers' own loss, which wants one binary mask per class present."""
    model.train()
    model.model.pixel_level_module.encoder.eval()
    model.zero_grad()
    present = [label.unique().long() for label in labels]
    masks = [(label == classes[:, None, None]).float() for label, classes in zip(labels, present, strict=True)]
    loss = model(pixel_values=(images.float() - MEAN) / STD, mask_labels=masks, class_labels=present).loss
    loss.backward()
    return loss.detach()


def scene(batch: int, height: int, width: int, classes: int = 19, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images uint8 (B, 3, H, W) of coloured blocks with noise and their labels uint8 (B, H, W)."""
    g = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, classes, (batch, 1, 4, 4), generator=g).float()
    labels = F.interpolate(blocks, size=(height, width))[:, 0].to(torch.uint8)
    colours = torch.randint(0, 200, (classes, 3), generator=g)
    noise = torch.randint(0, 56, (batch, 3, height, width), generator=g)
    return (colours[labels.long()].permute(0, 3, 1, 2) + noise).to(torch.uint8), labels
