"""A frozen backbone with folded batch norms: the same features, and never those of older weights."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clouds.foundation.backbones.timm_pyramid import TimmVision
from clouds.model.build import build_model
from clouds.model.folded import Folded, fold
from clouds.selftrain.teacher import Teacher
from tiny import recipe

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def settled(network: Any) -> Any:
    """With norms as after training: statistics, scales and shifts that differ by channel."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low, high in ((module.running_mean, -1, 1), (module.running_var, 0.5, 2),
                                          (module.weight, 0.5, 1.5), (module.bias, -1, 1)):  # fmt: skip
                    if tensor is not None:
                        tensor.copy_(torch.rand(tensor.shape, generator=g) * (high - low) + low)
    return network.eval().requires_grad_(False)


def backbone(architecture: str) -> TimmVision:
    torch.manual_seed(0)
    return settled(TimmVision(f"timm/{architecture}", architecture, (127.0,) * 3, (64.0,) * 3))  # type: ignore[no-any-return]


def norms(network: Any) -> int:
    modules = getattr(network, "network", network).modules()
    return sum(isinstance(module, nn.BatchNorm2d) for module in modules)


def assert_same(found: dict[int, Tensor], wanted: dict[int, Tensor]) -> None:
    assert list(found) == list(wanted)
    for stride, map_ in wanted.items():
        assert (found[stride] - map_).abs().max() <= 1e-4 * map_.std()


class Small(nn.Module):
    """One convolution with a norm behind it, and what may be between them or use the convolution too."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.convolution, self.norm, self.other = nn.Conv2d(3, 4, 4, 4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        x = self.convolution(images)
        if self.how == "its result is read again":
            return {4: self.norm(x) + x}
        if self.how == "two norms":
            return {4: self.norm(x) + self.other(x)}
        if self.how == "called twice":
            return {4: self.norm(x) + self.convolution(images.flip(-1))}
        return {4: self.norm(x if self.how == "plain" else x.relu())}


class TestFold:
    @pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050"])
    def test_features_are_the_same_to_rounding(self, architecture: str) -> None:
        network = backbone(architecture)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        folded = fold(network, IMAGES[:1])
        assert norms(network) > 0 == norms(folded)
        assert_same(folded.features(IMAGES), network.features(IMAGES))
        after = network.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())

    def test_a_convolution_with_a_bias_and_a_norm_without_weights(self) -> None:
        network = Small("plain")
        network.norm = nn.BatchNorm2d(4, affine=False)
        folded = fold(settled(network), IMAGES[:1])
        assert folded is not network
        assert_same(folded.features(IMAGES), network.features(IMAGES))

    @pytest.mark.parametrize("how", ["its result is read again", "two norms", "called twice", "not next to each other"])
    def test_what_cannot_be_folded_is_left_as_it_is(self, how: str) -> None:
        network = settled(Small(how))
        assert fold(network, IMAGES[:1]) is network

    def test_a_backbone_without_batch_norms_is_left_as_it_is(self) -> None:
        network = backbone("convnext_atto")
        assert fold(network, IMAGES[:1]) is network

    def test_shares_what_it_does_not_fold(self) -> None:
        network = backbone("mobilenetv3_small_050")
        own = {t.data_ptr() for t in network.parameters()}
        folded = fold(network, IMAGES[:1]).network
        left = [m for m in folded.modules() if isinstance(m, nn.Conv2d) and m.weight.data_ptr() in own]
        assert left  # those of squeeze and excite have no norm behind them


class TestFolded:
    def test_is_made_once_and_again_when_a_tensor_changes(self) -> None:
        network, use = backbone("resnet18"), Folded()
        first = use(network, IMAGES)
        assert use(network, IMAGES) is first is not network
        other = settled(backbone("resnet18"))
        with torch.no_grad():
            other.network.conv1.weight.mul_(2)
        network.load_state_dict(other.state_dict())
        second = use(network, IMAGES)
        assert second is not first
        assert_same(second.features(IMAGES), other.features(IMAGES))
        network.load_state_dict({n: t * 0.5 for n, t in other.state_dict().items()}, assign=True)
        assert_same(use(network, IMAGES).features(IMAGES), network.features(IMAGES))
        network.network.bn1.running_var.mul_(3)
        assert_same(use(network, IMAGES).features(IMAGES), network.features(IMAGES))

    def test_other_numbers_than_float32_are_left_to_the_backbone(self) -> None:
        network, use = backbone("resnet18"), Folded()
        assert use(network.double(), IMAGES.double()) is network
        assert use(network.to("meta"), IMAGES.to("meta")) is network
        network = backbone("resnet18")
        with torch.autocast("cpu"):
            assert use(network, IMAGES) is network

    def test_inference_mode(self) -> None:
        with torch.inference_mode():
            network = backbone("resnet18")
            assert Folded()(network, IMAGES) is network
        network, use = backbone("resnet18"), Folded()
        with torch.inference_mode():
            first = use(network, IMAGES)
        assert use(network, IMAGES) is first is not network
        with torch.no_grad():
            found = first.features(IMAGES)
        assert not any(map_.is_inference() for map_ in found.values())

    def test_norms_that_follow_the_batch_are_left_to_the_backbone(self) -> None:
        network, use = settled(Small("plain")), Folded()
        assert use(network, IMAGES) is not network
        network.norm.train()
        assert use(network, IMAGES) is network

    def test_the_teacher_uses_the_students_copy_and_a_pickle_none(self) -> None:
        model = build_model(recipe()).train()
        model._folded._made = None
        images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
        model.features(images)
        made = model._folded._made
        assert made is not None
        teacher = Teacher(model, 0.9).model
        teacher.features(images)
        assert teacher._folded._made is made
        assert pickle.loads(pickle.dumps(model._folded))._made is None
        apart = copy.deepcopy(model)
        apart.features(images)
        assert apart._folded._made is not made

    def test_a_trained_backbone_is_never_folded(self) -> None:
        model = build_model(recipe())
        model.freeze = False
        model._folded._made = None
        model.features(torch.zeros(1, 3, 64, 64))
        assert model._folded._made is None
