"""ViTs made by timm's own functions for the large ones, with every size turned down; and CLIPs of open_clip on top."""

import json
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from timm.models import register_model

SMALL = {"embed_dim": 48, "depth": 6, "num_heads": 3}
MODELS = {
    "tiny_dinov2": "vit_large_patch14_dinov2",
    "tiny_dinov2_reg4": "vit_large_patch14_reg4_dinov2",
    "tiny_dinov3": "vit_large_patch16_dinov3",
    "tiny_dinov3_qkvb": "vit_base_patch16_dinov3_qkvb",
    "tiny_eva02": "eva02_large_patch14_clip_224",
    "tiny_siglip2": "vit_base_patch16_siglip_224",
    "tiny_vit32": "vit_base_patch32_clip_224",
    "tiny_mixed": "vit_small_patch16_rope_mixed_224",
    "tiny_pe_core": "vit_pe_core_base_patch16_224",
    "tiny_pe_spatial": "vit_pe_spatial_large_patch14_448",
}
PATCHES = {name: 14 if "patch14" in real else 32 if "patch32" in real else 16 for name, real in MODELS.items()}
TEXT = {"width": 32, "heads": 2, "layers": 1}
CLIPS: dict[str, dict[str, Any]] = {
    "tiny-eva02": {
        "embed_dim": 24,
        "vision_cfg": {"timm_model_name": "tiny_eva02", "timm_pool": "token", "timm_proj": None, "image_size": 224},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, **TEXT},
        "custom_text": True,
    },
    "tiny-siglip2": {
        "embed_dim": 48,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"timm_model_name": "tiny_siglip2", "timm_pool": "map", "timm_proj": "none", "image_size": 224},
        "text_cfg": {"context_length": 16, "vocab_size": 100, "hf_tokenizer_name": "nobody/siglip2", **TEXT,
                     "tokenizer_kwargs": {"clean": "canonicalize"}, "no_causal_mask": True, "proj_bias": True,
                     "pool_type": "last", "norm_kwargs": {"eps": 1e-06}, "act_kwargs": {"approximate": "tanh"}},
    },
}  # fmt: skip


def _register(name: str, real: str) -> None:
    """Make timm know ``name``: its own function for ``real``, called with small sizes."""
    make = timm.model_entrypoint(real)
    module = sys.modules[make.__module__]

    def small(pretrained: bool = False, **given: Any) -> Any:
        return make(pretrained=pretrained, **{**SMALL, **given})

    small.__name__, small.__module__ = name, make.__module__
    setattr(module, name, small)
    module.default_cfgs[name] = module.default_cfgs[real]
    register_model(small)


def register() -> None:
    for name, real in MODELS.items():
        if not timm.is_model(name):
            _register(name, real)


def _drawn(model: Any, seed: int) -> Any:
    """Every parameter drawn: layer scales of 1e-5 and biases of zero would hide what a network computes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                gain = name.endswith(("weight", "gamma", "gamma_1", "gamma_2"))
                parameter.copy_(gain * 0.5 + 0.1 * torch.randn(parameter.shape, generator=generator))
            elif parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5)
    return model.eval()


def network(name: str, seed: int = 0, **given: Any) -> Any:
    """timm's whole network, with its head and pooling."""
    register()
    return _drawn(timm.create_model(name, **given), seed)


def save(name: str, folder: Path, seed: int = 0) -> Path:
    file = folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in network(name, seed).state_dict().items()}, file)
    return file


def save_clip(name: str, folder: Path, seed: int = 0) -> Path:
    """The whole CLIP, known to open_clip, in a folder of its own, with a tokenizer of few words if it needs one."""
    import open_clip
    from open_clip.model import CustomTextCLIP

    register()
    folder = folder / name
    folder.mkdir()
    (folder / f"{name}.json").write_text(json.dumps(CLIPS[name]))
    open_clip.add_model_config(folder / f"{name}.json")
    config = {key: value for key, value in CLIPS[name].items() if key != "custom_text"}
    model = _drawn(CustomTextCLIP(**config), seed)
    file = folder / "open_clip_model.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, file)
    if "hf_tokenizer_name" in config["text_cfg"]:
        _tokenizer().save_pretrained(folder)
    return file


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "<eos>", "a", "photo", "of", "the", "car", "road", "sky", "there", "is", "in", "scene"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>")
