"""The whole path from bytes to labels as a PyTorch module, for one size of images: what torch.export saves."""

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor, nn

from clouds.deploy.export.onnx_file import Core, properties
from clouds.errors import BackendError, cause
from clouds.model.inference import Inference, Size
from clouds.model.segmenter import Segmenter, merge


class Whole(nn.Module):
    """``image`` uint8 (N, 3, H, W) RGB of the one ``size`` -> labels uint8 (N, H, W): those of ``predict``."""

    rows: Tensor
    columns: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, model: Segmenter, size: Size) -> None:
        super().__init__()
        self.core, self.size = Core(model), size
        self.inner = Inference(model.settings["shorter_side"]).sizes(size)[0]
        for name, length, wanted in zip(("rows", "columns"), size, self.inner, strict=True):
            self.register_buffer(name, torch.from_numpy(shares(length, wanted)))
        self.register_buffer("mean", model.mean.clone())
        self.register_buffer("std", model.std.clone())

    def forward(self, image: Tensor) -> Tensor:
        x = image.to(self.mean.dtype)
        if self.inner != self.size:
            x = (self.rows @ (x @ self.columns.T + 0.5).floor() + 0.5).floor()
        x = F.pad((x - self.mean) / self.std, (0, -self.inner[1] % 32, 0, -self.inner[0] % 32))
        dtype = next(self.core.parameters()).dtype
        classes, masks = (part.float() for part in self.core(x.to(dtype)))
        logits = torch.cat((classes, 1 - classes.sum(-1, keepdim=True)), -1).clamp(min=1e-30).log()
        scores = merge(logits, masks, self.inner)
        if self.inner != self.size:
            scores = F.interpolate(scores, size=self.size, mode="bilinear", align_corners=False)
        return scores.argmax(1).to(torch.uint8)


def shares(length: int, wanted: int) -> NDArray[np.float32]:
    """Weight of each of ``length`` lines in each of ``wanted``: (wanted, length), Pillow's own."""
    each = Pillow.fromarray(np.eye(length, dtype=np.float32))
    return np.array(each.resize((length, wanted), Pillow.Resampling.BILINEAR))  # torch wants it writable


def write_program(model: Segmenter, size: Size, half: bool, file: Path, batch: int = 1) -> None:
    """Save the program of ``torch.export`` for ``batch`` images of one size; BackendError where it cannot be traced."""
    whole = Whole(model, size).eval()
    if half:
        whole.core.half()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own internals
            program = torch.export.export(whole, (torch.zeros(batch, 3, *size, dtype=torch.uint8),), strict=False)
            torch.export.save(program, file, extra_files=properties(model))
    except Exception as error:  # the exporter's errors have no common class
        raise BackendError(f"{model.settings['vision']}: cannot be exported ({cause(error)})") from error
