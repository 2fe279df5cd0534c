"""CLIPs of the true architectures, small enough for tests: configurations in a local file, random weights saved locally."""

import json
from pathlib import Path
from typing import Any

import torch

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny-resnet": {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 2, 1], "width": 8, "patch_size": None},
        "text_cfg": TEXT,
    },
    "tiny-convnext": {
        "embed_dim": 48,
        "vision_cfg": {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "mlp", "image_size": 64},
        "text_cfg": TEXT,
    },
}
NAMES = tuple(CONFIGS)


def register(folder: Path) -> None:
    """Make open_clip know the configurations by its own means: files of a folder."""
    import open_clip

    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def clip(name: str, seed: int = 0) -> Any:
    """open_clip's own network, every parameter and statistic drawn (its own start has gains of zero)."""
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    model = CLIP(**CONFIGS[name])
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith(("running_var", ".gamma")) or (tensor.ndim == 1 and key.endswith("weight")):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim == 1 and tensor.is_floating_point():
                tensor.normal_(0, 0.1)
    return model.eval()


def recipe_words(name: str, weights: Path | None = None) -> list[str]:
    """Settings of a recipe with this CLIP and a small decoder."""
    words = [f"model.vision=open_clip/{name}", f"model.text=open_clip/{name}", "model.hidden=32", "model.queries=6",
             "model.heads=4", "model.pixel_layers=1", "model.layers=2", "model.pixel_ffn=32", "model.ffn=32"]  # fmt: skip
    return [*words, f"model.weights={weights}"] if weights else words
