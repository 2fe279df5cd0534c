"""What a whole network must do, whatever it is made of."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clouds.config.label_sets import COLORS
from clouds.config.recipe import Loss
from clouds.model.folder import load_model, save_model
from clouds.model.loss import criterion
from clouds.model.segmenter import Segmenter

SYNONYMS = [["road", "street", "lane"], ["sky"], ["car", "cars"], ["tree", "bush"]]
CLASSES = [group[0] for group in SYNONYMS]
PALETTE = np.array(COLORS, np.uint8)[[0, 10, 13, 8]]


def small_segmenter(seed: int = 0, **settings: Any) -> Segmenter:
    """Four classes, eight synonyms, six queries; random weights and a random vocabulary of unit rows."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vision": "efficientnet-lite0", "text": "all-minilm-l6-v2", "text_dim": 16, "head": "text", "hidden": 32,
        "queries": 6, "heads": 4, "pixel_layers": 1, "pixel_ffn": 32, "layers": 2, "ffn": 32, "shorter_side": 64,
    }  # fmt: skip
    model = Segmenter(
        **{**sizes, **settings}, classes=CLASSES, synonyms=SYNONYMS, colors=[list(map(int, c)) for c in PALETTE]
    )
    model.vocabulary.copy_(F.normalize(torch.randn(model.vocabulary.shape), dim=-1))
    return model


def pictures(height: int = 64, width: int = 64, batch: int = 1) -> Tensor:
    """Noise in 0..255, float32 (B, 3, H, W)."""
    return torch.randint(0, 256, (batch, 3, height, width), generator=torch.manual_seed(0)).float()


class Outputs(nn.Module):
    """The model as a graph can hold it: tensors in, tensors out."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        prediction = self.model(x, auxiliary=False)
        return prediction.logits[-1], prediction.masks()


class Map(nn.Module):
    """What export is for: bytes in, semantic map out."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.semantic(x)


Call = Callable[[Tensor], Iterable[Tensor]]


@torch.no_grad()
def assert_same(one: Call, other: Call, x: Tensor, tolerance: float = 1e-4) -> None:
    for a, b in zip(one(x), other(x), strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * float(b.abs().max())


class ModelContract:
    """Trained, saved, loaded, compiled and exported. A subclass has a fixture ``model``, a ``Segmenter`` in eval
    mode."""

    def test_a_step_reaches_every_trained_parameter(self, model: Segmenter) -> None:
        model.zero_grad()
        labels = torch.randint(0, 4, (2, 8, 8), generator=torch.manual_seed(1)).repeat_interleave(8, 1)
        labels = labels.repeat_interleave(8, 2).to(torch.uint8)
        drawn = [torch.Generator().manual_seed(k) for k in range(2)]
        losses = criterion(model(pictures(batch=2)), labels, Loss(points=48), drawn)
        losses["loss"].backward()
        assert losses["loss"].isfinite()
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                assert name.startswith("backbone."), name
                assert parameter.grad is None, name
                continue
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name

    def test_its_state_fills_another(self, model: Segmenter) -> None:
        other = Segmenter(**cast(dict[str, Any], model._hub_mixin_config))
        with pytest.raises(AssertionError):
            assert_same(Outputs(model), Outputs(other.eval()), pictures())
        other.load_state_dict(model.state_dict(), strict=True)
        assert_same(Outputs(model), Outputs(other), pictures(), 0.0)

    def test_its_folder_gives_it_back(self, model: Segmenter, tmp_path: Path) -> None:
        save_model(model, tmp_path / "model")
        assert_same(Outputs(model), Outputs(load_model(tmp_path / "model")), pictures(), 0.0)

    def test_the_hubs_mixin_gives_it_back(self, model: Segmenter, tmp_path: Path) -> None:
        model.save_pretrained(tmp_path)
        assert_same(Outputs(model), Outputs(Segmenter.from_pretrained(tmp_path).eval()), pictures(), 0.0)

    def test_it_compiles_to_one_graph(self, model: Segmenter) -> None:
        torch.compiler.reset()  # graphs of other architectures, compiled in this process before, count against a limit
        compiled = torch.compile(Outputs(model), backend="eager", fullgraph=True)
        assert_same(Outputs(model), compiled, pictures())

    def test_it_exports_whole(self, model: Segmenter) -> None:
        picture = pictures(64, 96).to(torch.uint8)
        exported: Any = torch.export.export(Map(model), (picture,), strict=False).module()
        assert_same(lambda x: [model.semantic(x)], lambda x: [exported(x)], picture)
