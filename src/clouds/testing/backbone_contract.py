"""What a backbone must do, alone and inside the network."""

from typing import TYPE_CHECKING, ClassVar

import pytest
import torch
from torch import Tensor

from clouds.foundation.backbone import build_vision, check_vision
from clouds.foundation.backbones.timm_pyramid import STRIDES
from clouds.model.segmenter import Segmenter
from clouds.testing.model_contract import ModelContract, pictures, small_segmenter

SIZES = [(64, 64), (32, 96), (160, 64)]

if TYPE_CHECKING:
    from clouds.foundation.backbone import OwnVision


class BackboneContract(ModelContract):
    """Of ``clouds.foundation.backbone.Vision``, with random weights. A subclass says ``vision``, as a recipe does."""

    vision: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def backbone(cls) -> "OwnVision":
        check_vision(cls.vision)
        torch.manual_seed(0)
        return build_vision(cls.vision, pretrained=False)

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, backbone: "OwnVision") -> Segmenter:  # noqa: ARG003 - its check comes first
        return small_segmenter(vision=cls.vision, head="linear").eval()

    @pytest.mark.parametrize("size", SIZES)
    @torch.no_grad()
    def test_features_of_four_strides_have_the_shapes_they_say(
        self, backbone: "OwnVision", size: tuple[int, int]
    ) -> None:
        found = seen(backbone, pictures(*size, batch=2))
        wanted = {s: (2, backbone.channels[s], size[0] // s, size[1] // s) for s in STRIDES}
        assert {stride: tuple(map_.shape) for stride, map_ in found.items()} == wanted
        assert all(map_.dtype == torch.float32 and map_.isfinite().all() for map_ in found.values())

    def test_pixel_statistics_are_on_the_byte_scale(self, backbone: "OwnVision") -> None:
        assert len(backbone.mean) == len(backbone.std) == 3
        assert all(0 <= value <= 255 for value in backbone.mean)
        assert all(1 <= value <= 255 for value in backbone.std), "of values 0..255, not 0..1"

    @torch.no_grad()
    def test_what_an_image_shows_matters_at_every_stride(self, backbone: "OwnVision") -> None:
        image = pictures()
        other = image.flip(2)
        found, turned = seen(backbone, image), seen(backbone, other)
        assert all((found[stride] != turned[stride]).any() for stride in STRIDES)

    @torch.no_grad()
    def test_an_image_is_seen_the_same_alone_and_in_a_batch(self, backbone: "OwnVision") -> None:
        batch = pictures(batch=3)
        together = seen(backbone, batch)
        for k in range(3):
            for stride, alone in seen(backbone, batch[k : k + 1]).items():
                assert (alone[0] - together[stride][k]).abs().max() <= 1e-4 * float(together[stride].abs().max())

    @torch.no_grad()
    def test_training_mode_changes_neither_features_nor_state(self, backbone: "OwnVision") -> None:
        batch, before = pictures(batch=2), {name: t.clone() for name, t in backbone.state_dict().items()}
        found = seen(backbone, batch)
        backbone.train()
        trained = [seen(backbone, batch) for _ in range(2)]
        assert all(torch.equal(found[stride], each[stride]) for each in trained for stride in STRIDES)
        backbone.eval()
        assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())

    @torch.no_grad()
    def test_all_of_it_moves_to_another_device_and_dtype(self, backbone: "OwnVision") -> None:  # noqa: ARG002
        """A tensor that is neither parameter nor buffer would stay behind: the meta device shows it without a GPU."""
        moved: OwnVision = build_vision(self.vision, pretrained=False).to("meta")
        assert all(map_.device.type == "meta" for map_ in moved.features(pictures().to("meta")).values())
        precise: OwnVision = build_vision(self.vision, pretrained=False).double()
        assert all(map_.dtype == torch.float64 for map_ in precise.features(pictures().double()).values())


def seen(backbone: "OwnVision", images: Tensor) -> dict[int, Tensor]:
    """Features of images in 0..255."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    return backbone.features((images - mean) / std)
