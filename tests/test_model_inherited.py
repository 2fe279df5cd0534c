"""What every model must do, whatever it is made of: a new model adds one line to ``MODELS`` and gets all of it."""

import pytest
import torch

import tiny
import tiny_vit
from clouds.model.checkpoint import load_model, save_model
from clouds.model.loss import LossSettings, criterion
from clouds.model.segmenter import Segmenter

tiny_vit.register()
LORA = {"kind": "lora", "rank": 2, "alpha": 2.0, "layers": ["qkv", "q_proj", "v_proj", "fc1"]}
REIN = {"kind": "rein", "tokens": 6, "rank": 2, "link": True}
MODELS = {
    "text": {"head": "text"},
    "linear": {"head": "linear"},
    "timm": {"head": "linear", "vision": "timm/resnet10t"},
    "dinov2": {"head": "linear", "vision": "timm/tiny_dinov2"},
    "eva02-lora": {"head": "text", "vision": "timm/tiny_eva02", "adapt": LORA},
    "siglip2-rein": {"head": "linear", "vision": "timm/tiny_siglip2", "adapt": REIN},
}


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS.keys())
def model(request):
    return tiny.segmenter(**request.param).eval()


def images(height=64, width=64, batch=1):
    return torch.randint(0, 256, (batch, 3, height, width), generator=torch.manual_seed(0)).float()


class Outputs(torch.nn.Module):
    """The model as a graph can hold it: tensors in, tensors out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        prediction = self.model(x, auxiliary=False)
        return prediction.logits[-1], prediction.masks()


@torch.no_grad()
def assert_same(one, other, x, tolerance=1e-4):
    for a, b in zip(one(x), other(x), strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * float(b.abs().max())


def test_a_step_reaches_every_trained_parameter(model):
    model.zero_grad()
    labels = torch.from_numpy(tiny.label_map(64, 64, 0))[None].repeat(2, 1, 1)
    losses = criterion(model(images(batch=2)), labels, LossSettings(points=48), tiny.generators(2))
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert name.startswith("backbone."), name
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_its_state_fills_another(model):
    other = Segmenter(**model._hub_mixin_config)
    with pytest.raises(AssertionError):
        assert_same(Outputs(model), Outputs(other.eval()), images())
    other.load_state_dict(model.state_dict(), strict=True)
    assert_same(Outputs(model), Outputs(other), images(), 0.0)


def test_its_folder_gives_it_back(model, tmp_path):
    save_model(model, tmp_path / "model")
    assert_same(Outputs(model), Outputs(load_model(tmp_path / "model")), images(), 0.0)


def test_the_hubs_mixin_gives_it_back(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert_same(Outputs(model), Outputs(Segmenter.from_pretrained(tmp_path).eval()), images(), 0.0)


def test_it_compiles_to_one_graph(model):
    compiled = torch.compile(Outputs(model), backend="aot_eager", fullgraph=True)
    assert_same(Outputs(model), compiled, images())


class Map(torch.nn.Module):
    """What export is for: bytes in, semantic map out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.semantic(x)


def test_it_exports_whole(model):
    picture = images(64, 96).to(torch.uint8)
    exported = torch.export.export(Map(model), (picture,), strict=False).module()
    assert_same(lambda x: [model.semantic(x)], lambda x: [exported(x)], picture)
