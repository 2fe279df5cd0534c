"""The geometric ensemble equals its formula, written out query by query and class by class."""

import math

import pytest
import torch
import torch.nn.functional as F

import tiny_clip
from clouds.errors import UsageError
from clouds.foundation.backbones.openclip import OpenClipVision
from clouds.model.ensemble import geometric_ensemble
from clouds.model.segmenter import Segmenter, merge
from clouds.model.vocabulary import synonym_index

SYNONYMS = [["road", "street"], ["sky"], ["car", "cars", "auto"]]


def softmax(values):
    top = max(values)
    shares = [math.exp(value - top) for value in values]
    return [share / sum(shares) for share in shares]


def slow_ensemble(logits, masks, features, clip, vocabulary, seen):
    """Probabilities (B, Q, C + 1), void last."""
    small = F.interpolate(masks, size=features[32].shape[-2:], mode="bilinear", align_corners=False)
    regions = clip.regions(features, small > 0)
    out = torch.zeros_like(logits)
    for b in range(logits.shape[0]):
        for q in range(logits.shape[1]):
            region = regions[b, q] / regions[b, q].norm()
            scale = min(clip.logit_scale.exp().item(), 100)
            scores, start = [], 0
            for group in SYNONYMS:
                scores.append(max(scale * (region @ vocabulary[start + i]).item() for i in range(len(group))))
                start += len(group)
            theirs, ours = softmax(scores), softmax(logits[b, q, :-1].tolist())
            void = softmax(logits[b, q].tolist())[-1]
            mixed = []
            for c in range(len(SYNONYMS)):
                a = 0.4 if seen[c] else 0.8
                if clip.is_resnet and not (small[b, q] > 0).any():
                    a = 0
                mixed.append(ours[c] ** (1 - a) * theirs[c] ** a)
            for c, value in enumerate(mixed):
                out[b, q, c] = value / sum(mixed) * (1 - void)
            out[b, q, -1] = void
    return out


@pytest.fixture(params=tiny_clip.NAMES)
def case(request):
    name = request.param
    config = tiny_clip.CONFIGS[name]
    clip = OpenClipVision(name, config, tiny_clip.clip(name).state_dict(), name)
    generator = torch.Generator().manual_seed(4)
    features = clip.features(torch.randn(2, 3, 96, 64, generator=generator))
    logits = 3 * torch.randn(2, 5, 4, generator=generator)
    masks = torch.randn(2, 5, 24, 16, generator=generator) - 0.2
    masks[0, 1] = -2  # empty everywhere
    masks[1, 2] = -2
    masks[1, 2, 1, 1] = 2  # there, but lost when resized to CLIP's last map
    vocabulary = F.normalize(torch.randn(6, config["embed_dim"], generator=generator), dim=-1)
    return clip, features, logits, masks, vocabulary


@pytest.mark.parametrize("seen", [[True, True, True], [True, False, True], [False, False, False]])
@torch.no_grad()
def test_the_ensemble_follows_its_formula(case, seen):
    clip, features, logits, masks, vocabulary = case
    index = synonym_index([len(group) for group in SYNONYMS])
    found = geometric_ensemble(logits, masks, features, clip, vocabulary, index, torch.tensor(seen)).softmax(-1)
    wanted = slow_ensemble(logits, masks, features, clip, vocabulary, seen)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(found[..., -1], logits.softmax(-1)[..., -1], atol=1e-6)
    unmoved = torch.isclose(found, logits.softmax(-1), atol=1e-6).all(-1)
    small = F.interpolate(masks, size=(3, 2), mode="bilinear", align_corners=False)
    empty = ~(small > 0).any(-1).any(-1)
    assert empty[0, 1]
    assert empty[1, 2]
    assert torch.equal(unmoved, empty & clip.is_resnet)
    assert not unmoved.all()


@torch.no_grad()
def test_clips_scale_stops_and_an_extreme_head_or_clip_gives_no_nan(case):
    clip, features, logits, masks, vocabulary = case
    index, seen = synonym_index([len(group) for group in SYNONYMS]), torch.ones(3, dtype=torch.bool)
    clip.logit_scale.data.fill_(5.0)  # e^5 = 148: the scale stops at 100
    found = geometric_ensemble(logits, masks, features, clip, vocabulary, index, seen).softmax(-1)
    assert torch.allclose(found, slow_ensemble(logits, masks, features, clip, vocabulary, [True] * 3), atol=1e-5)
    clip.logit_scale.data.fill_(20.0)
    found = geometric_ensemble(1e4 * logits, masks, features, clip, vocabulary, index, seen)
    assert torch.isfinite(merge(found, masks, (96, 64))).all()


@pytest.mark.parametrize("name", tiny_clip.NAMES)
@torch.no_grad()
def test_the_models_map_merges_what_the_ensemble_says(name, tmp_path):
    tiny_clip.register(tmp_path)
    torch.manual_seed(0)
    model = Segmenter(
        vision=f"open_clip/{name}", text=f"open_clip/{name}", text_dim=tiny_clip.CONFIGS[name]["embed_dim"],
        classes=["road", "sky", "car"], synonyms=SYNONYMS, colors=[[0, 0, 0]] * 3, hidden=32, queries=6, heads=4,
        pixel_layers=1, pixel_ffn=32, layers=2, ffn=32, seen=[True, False, True],
    ).eval()  # fmt: skip
    model.backbone.visual.load_state_dict(tiny_clip.clip(name).visual.state_dict())
    model.vocabulary.copy_(F.normalize(torch.randn(model.vocabulary.shape), dim=-1))
    images = torch.randint(0, 256, (1, 3, 50, 90), dtype=torch.uint8)
    features = model.features(images)
    prediction = model.decode(features, auxiliary=False)
    logits, masks = prediction.logits[-1], prediction.masks()
    wanted = slow_ensemble(logits, masks, features, model.backbone, model.vocabulary, [True, False, True])
    assert torch.allclose(model.semantic(images, ensemble=True), merge(wanted.log(), masks, (50, 90)), atol=1e-4)


def test_names_that_another_tower_embedded_are_no_ensemble(tmp_path):
    tiny_clip.register(tmp_path)
    model = Segmenter(
        vision="open_clip/tiny-resnet", text="all-minilm-l6-v2", text_dim=384, classes=["road"], synonyms=[["road"]],
        colors=[[0, 0, 0]], hidden=32, queries=2, heads=4, pixel_layers=1, pixel_ffn=32, layers=1, ffn=32,
    )  # fmt: skip
    with pytest.raises(UsageError, match="embedded by all-minilm-l6-v2, not by the backbone open_clip/tiny-resnet"):
        model.semantic(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ensemble=True)
