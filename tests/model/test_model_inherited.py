"""What every backbone and every model must do, whatever it is made of; ``clouds.testing`` says what that is."""

import pytest

import tiny
import tiny_clip
import tiny_vit
from clouds.foundation.backbone import build_vision
from clouds.testing import BackboneContract, ModelContract, TextContract

tiny_vit.register()
LORA = {"kind": "lora", "rank": 2, "alpha": 2.0, "layers": ["qkv", "q_proj", "v_proj", "fc1"]}
REIN = {"kind": "rein", "tokens": 6, "rank": 2, "link": True}
SOMA = {"kind": "soma", "rank": 2, "frozen_share": 0.5, "layers": ["qkv", "proj", "fc1", "fc2"]}
MODELS = {
    "text": {"head": "text"},
    "eva02-lora": {"head": "text", "vision": "timm/tiny_eva02", "adapt": LORA},
    "dinov2-soma": {"head": "linear", "vision": "timm/tiny_dinov2", "adapt": SOMA},
    "siglip2-rein": {"head": "linear", "vision": "timm/tiny_siglip2", "adapt": REIN},
}


class TestModels(ModelContract):
    @pytest.fixture(scope="class", params=MODELS.values(), ids=MODELS.keys())
    def model(self, request):
        return tiny.segmenter(**request.param).eval()


class TestPackagedVision(BackboneContract):
    vision = "efficientnet-lite0"


class TestTimm(BackboneContract):
    vision = "timm/resnet10t"


class TestPlainVit(BackboneContract):
    vision = "timm/tiny_dinov2"


class TestClip(BackboneContract):
    vision = f"open_clip/{tiny_clip.NAMES[0]}"

    @pytest.fixture(scope="class")
    @classmethod
    def backbone(cls, tmp_path_factory):
        tiny_clip.register(tmp_path_factory.mktemp("clips"))
        return build_vision(cls.vision, pretrained=False)


class TestPackagedText(TextContract):
    text = "all-minilm-l6-v2"
