"""Promptable segmenters of the true classes, a few thousand random weights each, saved as ``save_pretrained`` does."""

from pathlib import Path
from typing import Any

import torch

from clouds.foundation.segmenters.sam import quiet

SIDE = {"sam": 64, "sam-hq": 64, "sam2": 64, "edgetam": 64, "sam3": 56}
DECODER = {
    "hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
}  # fmt: skip
VIT = {
    "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64,
    "patch_size": 8, "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 8, "initializer_range": 0.5,
}  # fmt: skip
HIERA = {
    "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64], "blocks_per_stage": [1, 2, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 2, 2, 2],
    "window_size_per_stage": [2, 2, 2, 2], "global_attention_blocks": [4],
    "window_positional_embedding_background_size": [2, 2], "initializer_range": 0.5,
}  # fmt: skip
REPVIT = {
    "model_type": "timm_wrapper", "architecture": "repvit_m1", "num_classes": 2,
    "model_args": {
        "in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3], "embed_dim": [8, 16, 24, 32],
        "depth": [1, 1, 1, 1],
    },
}  # fmt: skip
PERCEPTION = {
    "model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
    "pretrain_image_size": 28,
}  # fmt: skip
LEVELS = {"backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 16}


def config(family: str) -> Any:
    import transformers as t

    side = SIDE[family]
    prompts = {"hidden_size": 16, "image_size": side, "patch_size": side // (8 if family in ("sam", "sam-hq") else 4)}
    parts: dict[str, Any] = {"prompt_encoder_config": prompts, "mask_decoder_config": DECODER}
    if family == "sam":
        return t.SamConfig(vision_config=VIT, **parts)
    if family == "sam-hq":
        return t.SamHQConfig(vision_config=VIT, **{**parts, "mask_decoder_config": {**DECODER, "vit_dim": 16}})
    if family == "sam2":
        vision = {"backbone_config": HIERA, "backbone_channel_list": [64, 32, 16, 8], **LEVELS}
        return t.Sam2Config(vision_config=vision, **parts)
    if family == "edgetam":
        vision = {"backbone_config": REPVIT, "backbone_channel_list": [32, 24, 16, 8], **LEVELS}
        return t.EdgeTamConfig(vision_config=vision, **parts)
    vision = {"model_type": "sam3_vision_model", "backbone_config": PERCEPTION, **LEVELS}
    return t.Sam3TrackerConfig(vision_config=vision, **parts)


def model(family: str, seed: int = 0) -> Any:
    """Random weights large enough that masks have both sides and candidates differ."""
    import transformers as t

    from clouds.foundation.segmenters.sam import FAMILIES

    torch.manual_seed(seed)
    with quiet():
        made = getattr(t, FAMILIES[family].model)(config(family))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.ndim > 1 and "positional_embedding" not in name:
                weight.normal_(0, weight[0].numel() ** -0.5)
    return made.eval()


def save(family: str, folder: Path, seed: int = 0) -> Path:
    with quiet():
        model(family, seed).save_pretrained(folder)
    return folder


def text_model(seed: int = 0) -> Any:
    """SAM 3's detector, which takes words, and a tokenizer over single characters."""
    import transformers as t

    small = {"hidden_size": 16, "intermediate_size": 32, "num_layers": 1, "num_attention_heads": 2}
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *(letter + end for letter in letters for end in ("", "</w>"))]
    tokenizer = t.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=32)
    config = t.Sam3Config(
        vision_config={"model_type": "sam3_vision_model", "backbone_config": PERCEPTION, "fpn_hidden_size": 16},
        text_config={
            "vocab_size": len(words), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 32, "projection_dim": 16, "bos_token_id": 0,
            "eos_token_id": 1,
        },
        geometry_encoder_config=small,
        detr_encoder_config=small,
        detr_decoder_config={**small, "num_queries": 12},
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
    )  # fmt: skip
    torch.manual_seed(seed)
    with quiet():
        made = t.Sam3Model(config)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.ndim > 1 and "position" not in name:
                weight.normal_(0, weight[0].numel() ** -0.5)
    return made.eval(), tokenizer


def save_text(folder: Path, seed: int = 0) -> Path:
    made, tokenizer = text_model(seed)
    with quiet():
        made.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder
