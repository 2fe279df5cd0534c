"""CLIP and timm backbones through their real loading path: tiny networks of the true architectures, no hub."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

import clouds
import tiny_clip
from clouds.base.files import sha256
from clouds.check.doctor import examine
from clouds.check.training import check_training
from clouds.cli import run
from clouds.config.load import load_recipe
from clouds.errors import BackendError, CloudsError, DataError, UsageError
from clouds.foundation.backbone import build_text, build_vision, check_backends, weights_record
from clouds.foundation.backbones.clip import FILES
from clouds.foundation.backbones.timm_pyramid import STRIDES
from clouds.foundation.registry import backend_name, backends
from clouds.model import vocabulary
from clouds.model.build import build_model
from clouds.model.folder import load_model, save_model
from clouds.model.inference import Inference, protocol_text
from clouds.pipeline import train

WORDS = ["a photo of a car.", "There is a very long freight train in the scene", "sky", "!! Straße!!a, 2 bikes!!"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Name -> a whole CLIP in a safetensors file."""
    folder = tmp_path_factory.mktemp("clips")
    tiny_clip.register(folder)
    for name in tiny_clip.NAMES:
        tensors = {key: tensor.contiguous() for key, tensor in tiny_clip.clip(name).state_dict().items()}
        save_file(tensors, folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in tiny_clip.NAMES}


@pytest.fixture(autouse=True)
def few_sentences(monkeypatch):
    monkeypatch.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])


def record(file: Path) -> dict:
    return {"source": str(file), "revision": None, "sha256": sha256(file)}


def theirs(name: str, file: Path):
    """open_clip's own way to the same network."""
    return open_clip.create_model(name, pretrained=str(file)).eval()


@pytest.mark.parametrize("name", tiny_clip.NAMES)
@torch.no_grad()
def test_features_are_open_clips_own_at_four_strides(files, name):
    vision = build_vision(f"open_clip/{name}", weights=record(files[name]))
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    found = vision.features(x)
    assert tuple(found) == STRIDES
    trunk = theirs(name, files[name]).visual
    wanted = trunk.forward_intermediates(x, indices=4, intermediates_only=True)["image_intermediates"]
    for stride, feature in zip(STRIDES, wanted, strict=True):
        assert found[stride].shape == (2, vision.channels[stride], 64 // stride, 96 // stride)
        assert torch.equal(found[stride], feature)
        assert feature.std() > 0.01


def test_pixel_statistics_are_clips_on_the_byte_scale(files):
    vision = build_vision("open_clip/tiny-resnet", pretrained=False)
    assert vision.mean == pytest.approx((122.7709383, 116.7460125, 104.09373615))
    assert vision.std == pytest.approx((68.5005327, 66.6321579, 70.32316305))


@pytest.mark.parametrize("name", tiny_clip.NAMES)
@torch.no_grad()
def test_texts_are_embedded_as_open_clip_does_whatever_the_batch(files, name):
    text = build_text(f"open_clip/{name}", record(files[name]))
    rows = text.embed(WORDS)
    assert rows.shape == (4, text.dim)
    clip = theirs(name, files[name])
    wanted = clip.encode_text(open_clip.get_tokenizer(name)(WORDS), normalize=True)
    assert torch.allclose(rows, wanted, atol=1e-6)
    assert torch.allclose(text.embed(WORDS, batch_size=3), rows, atol=1e-6)
    assert torch.allclose(rows.norm(dim=-1), torch.ones(4), atol=1e-6)


@pytest.mark.parametrize("name", tiny_clip.NAMES)
def test_clip_can_neither_be_trained_nor_leave_eval_mode(files, name):
    vision = build_vision(f"open_clip/{name}", weights=record(files[name])).train().requires_grad_()
    before = {key: tensor.clone() for key, tensor in vision.state_dict().items()}
    features = vision.features(torch.randn(2, 3, 64, 64, requires_grad=True))
    assert not any(module.training for module in vision.modules())
    assert not any(parameter.requires_grad for parameter in vision.parameters())
    assert not any(feature.requires_grad for feature in features.values())
    assert all(torch.equal(tensor, before[key]) for key, tensor in vision.state_dict().items())


@torch.no_grad()
def test_a_convnexts_mask_of_everything_sees_what_clip_sees(files):
    """The pooling is then CLIP's image embedding. (A ResNet's attends to cells alone, CLIP's also to their mean.)"""
    name = "tiny-convnext"
    vision = build_vision(f"open_clip/{name}", weights=record(files[name]))
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    everything = torch.ones(2, 3, 2, 2, dtype=torch.bool)
    found = vision.regions(vision.features(x), everything)
    wanted = theirs(name, files[name]).visual(x)
    assert wanted.std() > 0.01
    for q in range(3):
        assert torch.allclose(found[:, q], wanted, atol=1e-5)


@torch.no_grad()
def test_a_resnets_region_is_attention_over_the_masks_cells_alone(files):
    vision = build_vision("open_clip/tiny-resnet", weights=record(files["tiny-resnet"]))
    features = vision.features(torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(2)))
    inside = torch.rand(1, 4, 3, 5, generator=torch.Generator().manual_seed(3)) < 0.4
    inside[0, 3] = False
    found = vision.regions(features, inside)
    pool, dense = vision.visual.attnpool, features[32][0]
    place = F.interpolate(pool.positional_embedding[1:].T.reshape(1, -1, 2, 2), size=(3, 5), mode="bilinear")[0]
    query = (dense.mean((1, 2)) + pool.positional_embedding[0])[None]
    for q in range(4):
        chosen = inside[0, q] if q < 3 else torch.ones(3, 5, dtype=torch.bool)  # an empty mask looks everywhere
        cells = (dense + place)[:, chosen].T
        attended, _ = F.multi_head_attention_forward(
            query, cells, cells, 256, 4, None,
            torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0.0,
            pool.c_proj.weight, pool.c_proj.bias, use_separate_proj_weight=True, q_proj_weight=pool.q_proj.weight,
            k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
        )  # fmt: skip
        assert torch.allclose(found[0, q], attended[0], atol=1e-5)


@torch.no_grad()
def test_a_convnexts_region_is_the_mean_of_its_cells_through_the_visual_head(files):
    vision = build_vision("open_clip/tiny-convnext", weights=record(files["tiny-convnext"]))
    features = vision.features(torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(2)))
    inside = torch.rand(1, 3, 3, 5, generator=torch.Generator().manual_seed(3)) < 0.4
    found = vision.regions(features, inside)
    head = vision.visual.trunk.head
    for q in range(3):
        pooled = features[32][0][:, inside[0, q]].mean(1)
        normed = F.layer_norm(pooled, pooled.shape, head.norm.weight, head.norm.bias, head.norm.eps)
        assert torch.allclose(found[0, q], vision.visual.head(normed), atol=1e-5)


@pytest.mark.parametrize("name", tiny_clip.NAMES)
def test_a_recipe_names_the_weights_and_the_model_folder_needs_them_no_more(files, name, tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(files[name].read_bytes())
    recipe = load_recipe("demo", tiny_clip.recipe_words(name, file))
    model = build_model(recipe).eval()
    assert model.settings["weights"] == record(file)
    assert backends(recipe)["vision"] == backends(recipe)["text"] == f"{name} (open_clip, mine.safetensors)"
    save_model(model, tmp_path / "model")
    file.unlink()
    assert json.loads((tmp_path / "model" / "config.json").read_text())["weights"]["source"] == str(file)
    again = load_model(tmp_path / "model")
    x = torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8)
    for ensemble in (False, True):
        assert torch.equal(again.semantic(x, ensemble), model.semantic(x, ensemble))
    assert not torch.equal(model.semantic(x, True), model.semantic(x, False))
    assert torch.equal(clouds.load(tmp_path / "model").semantic(x, ensemble=True), model.semantic(x, True))


def test_a_protocol_with_the_ensemble_sees_what_the_ensemble_sees(files, tmp_path):
    words = tiny_clip.recipe_words("tiny-resnet", files["tiny-resnet"])
    recipe = load_recipe("demo", [*words, "evaluate.ensemble=true"])
    save_model(build_model(recipe).eval(), tmp_path / "model")
    predictor = clouds.load(tmp_path / "model")
    predictor.inference = replace(Inference.of(recipe.evaluate), shorter_side=64)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    maps = predictor.model.semantic(torch.from_numpy(image).permute(2, 0, 1)[None], ensemble=True)[0]
    assert np.allclose(predictor.predict(image).scores, (maps.amax(0) / maps.sum(0)).numpy(), atol=1e-6)
    plain = predictor.with_inference(ensemble=False)
    assert not np.allclose(plain.predict(image).scores, predictor.predict(image).scores)
    assert predictor.inference.as_record()["ensemble"] is True
    assert "geometric ensemble" in protocol_text(predictor.inference.as_record())
    Image.fromarray(image).save(tmp_path / "a.png")
    out = ["--out", str(tmp_path / "out"), "--shorter-side", "64"]
    assert run(["predict", str(tmp_path / "model"), str(tmp_path / "a.png"), "--ensemble", *out]) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), maps.argmax(0).numpy())


def test_an_ensemble_without_clip_is_refused_before_training_and_before_predicting(tmp_path, model_folder):
    with pytest.raises(UsageError, match="has no dense CLIP features"):
        train(load_recipe("demo", ["evaluate.ensemble=true", "model.vision=timm/resnet18"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="has no dense CLIP features"):
        clouds.load(model_folder).with_inference(ensemble=True)


def test_warm_up_alone_asks_for_nothing_of_joint_training(files, tmp_path):
    words = [*tiny_clip.recipe_words("tiny-resnet", files["tiny-resnet"]), "train.device=cpu", "data.source=streets",
             "selftrain.segmenter=mobile-sam/nowhere.pt"]  # fmt: skip
    todo = check_training(load_recipe("demo", [*words, "train.stage=warmup"]), tmp_path)
    assert (todo.stages, todo.draws) == (("warmup",), False)
    assert [each["role"] for each in examine("demo", [*words, "train.stage=warmup"])["roles"]] == ["vision", "text"]
    assert any("nowhere.pt" in problem for problem in examine("demo", words)["problems"])
    with pytest.raises(CloudsError, match="nowhere"):
        check_training(load_recipe("demo", words), tmp_path)


def test_training_leaves_clip_alone_and_out_of_the_checkpoints(files, tmp_path):
    small = ["prompts.count=2", "generate.count=2", "generate.size=[64,64]", "augment.crop=[64,64]",
             "data.source_count=2", "data.source_size=[64,128]", "loss.points=32", "train.steps=4",
             "train.stage=warmup", "train.batch_size=1", "train.workers=1"]  # fmt: skip
    train(load_recipe("demo", [*tiny_clip.recipe_words("tiny-resnet", files["tiny-resnet"]), *small]), tmp_path)
    stored = open_clip.factory.load_state_dict(str(files["tiny-resnet"]))
    trained = load_model(tmp_path / "warmup").backbone.state_dict()
    assert all(torch.equal(tensor, stored[key]) for key, tensor in trained.items())
    kept = next((tmp_path / "checkpoints").glob("warmup-*/student.safetensors"))
    assert not any(key.startswith("backbone") for key in open_clip.factory.load_state_dict(str(kept)))


# -- names and weights


@pytest.mark.parametrize(("words", "said"), [
    (["model.vision=openclip/RN50-quickgelu"], "did you mean open_clip/RN50-quickgelu? expected efficientnet-lite0 or"),
    (["model.vision=dinov2"], "expected efficientnet-lite0 or open_clip/MODEL or timm/MODEL"),
    (["model.text=bert"], "model.text: got 'bert'; expected all-minilm-l6-v2 or open_clip/MODEL"),
    (["model.vision=open_clip/RN50-quickgelu"], "model.text=open_clip/RN50-quickgelu"),
    ([*tiny_clip.recipe_words("RN50-quickgelu"), "model.freeze=false"], "CLIP stays frozen"),
])  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused_when_read(words, said):
    with pytest.raises(UsageError) as error:
        load_recipe("demo", words)
    assert said in str(error.value)


@pytest.mark.parametrize(("vision", "weights", "said"), [
    ("open_clip/RN50-quickgelo", None, "did you mean open_clip/RN50-quickgelu"),
    ("open_clip/ViT-B-32", None, "no ResNet, ConvNeXt or timm ViT: 'open_clip/ViT-B-32'"),
    ("open_clip/RN50", "openai", "use open_clip/RN50-quickgelu"),
    ("open_clip/RN101", None, "use open_clip/RN101-quickgelu"),
    ("open_clip/RN50-quickgelu", "openay", "did you mean openai? expected a tag of open_clip/RN50-quickgelu"),
    ("open_clip/RN50-quickgelu", "/nowhere/clip.safetensors", "the path of a file that exists"),
    ("open_clip/RN50-quickgelu", "hf-hub:nowhere", "expected hf-hub:ORGANISATION/NAME"),
    ("open_clip/convnext_base_w", None, "give one of laion2b_s13b_b82k, "),
    ("timm/resnet5O", None, "did you mean timm/resnet50"),
    ("timm/resnet50.a1_in2k", None, "did you mean timm/resnet50.a1_in1k"),
    ("efficientnet-lite0", "openai", "brings its own"),
])  # fmt: skip
def test_names_and_weights_that_cannot_be_are_refused_before_any_work(vision, weights, said, tmp_path):
    text = vision if vision.startswith("open_clip") else "all-minilm-l6-v2"
    with pytest.raises(UsageError) as error:
        check_backends(vision, text, weights)
    assert said in str(error.value)
    words = [f"model.vision={vision}", f"model.text={text}", *([f"model.weights={weights}"] if weights else [])]
    with pytest.raises(UsageError, match=r"^(model\.|recipe)"):
        train(load_recipe("demo", words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_local_file_has_no_revision(files):
    with pytest.raises(UsageError, match=r"model\.revision: got 'main'"):
        check_backends(*["open_clip/tiny-resnet"] * 2, str(files["tiny-resnet"]), "main")


@pytest.mark.parametrize(("name", "weights", "repository"), [
    ("open_clip/RN50-quickgelu", None, "timm/resnet50_clip.openai"),
    ("open_clip/convnext_large_d_320", None, "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup"),
    ("open_clip/convnext_base_w", "hf-hub:me/mine", "me/mine"),
    ("timm/resnet50.a1_in1k", None, "timm/resnet50.a1_in1k"),
])  # fmt: skip
def test_without_a_hub_it_says_which_weights_from_where_and_what_to_do(name, weights, repository, tmp_path):
    text = name if name.startswith("open_clip") else "all-minilm-l6-v2"
    words = [f"model.vision={name}", f"model.text={text}", *([f"model.weights={weights}"] if weights else [])]
    with pytest.raises(BackendError) as error:
        train(load_recipe("demo", words), tmp_path / "run")
    for said in (name, f"of {repository} (", "the hub did not answer", "model.weights=PATH"):
        assert said in str(error.value)
    assert not (tmp_path / "run").exists()


def test_the_hub_is_asked_for_the_revision_and_the_commit_is_recorded(files, monkeypatch, tmp_path):
    import huggingface_hub

    asked = []

    def answer(repository, name, revision):
        asked.append((repository, name, revision))
        path = tmp_path / "snapshots" / "0123abc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files["tiny-resnet"].read_bytes())
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer)
    found = weights_record("open_clip/tiny-resnet", "hf-hub:me/mine", "v2")
    assert asked == [("me/mine", "open_clip_model.safetensors", "v2")]
    assert "open_clip_pytorch_model.safetensors" in FILES
    digest = sha256(files["tiny-resnet"])
    assert found == {"source": "hf-hub:me/mine", "revision": "0123abc", "sha256": digest}
    build_vision("open_clip/tiny-resnet", weights=found)
    assert asked[-1] == ("me/mine", "open_clip_model.safetensors", "0123abc")


@pytest.mark.parametrize(("name", "weights", "shown"), [
    ("efficientnet-lite0", None, "efficientnet-lite0 (ImageNet)"),
    ("open_clip/RN50-quickgelu", "openai", "CLIP RN50-quickgelu (open_clip, openai)"),
    ("open_clip/RN50-quickgelu", None, "RN50-quickgelu (open_clip, random weights)"),
    ("open_clip/RN50-quickgelu", "/data/mine.pth", "RN50-quickgelu (open_clip, mine.pth)"),
    ("open_clip/RN50-quickgelu", "mine.pth", "RN50-quickgelu (open_clip, mine.pth)"),
    ("open_clip/RN50-quickgelu", "hf-hub:me/mine", "RN50-quickgelu (open_clip, hf-hub:me/mine)"),
    ("timm/resnet18", "hf-hub:timm/resnet18.a1_in1k", "resnet18 (timm, hf-hub:timm/resnet18.a1_in1k)"),
])  # fmt: skip
def test_only_published_weights_are_called_clip(name, weights, shown):
    assert backend_name(name, weights) == shown


@pytest.fixture
def twins(files, tmp_path):
    """A folder with the weights of a ResNet that open_clip knows in both activations."""
    config = {key: value for key, value in tiny_clip.CONFIGS["tiny-resnet"].items() if key != "quick_gelu"}
    for name, more in (("twin", {}), ("twin-quickgelu", {"quick_gelu": True})):
        (tmp_path / f"{name}.json").write_text(json.dumps(config | more))
    open_clip.add_model_config(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "clip.safetensors").write_bytes(files["tiny-resnet"].read_bytes())
    yield tmp_path / "weights" / "clip.safetensors"
    for name in ("twin", "twin-quickgelu"):
        (tmp_path / f"{name}.json").unlink()
    open_clip.factory._rescan_model_configs()


@pytest.mark.parametrize("recorded", [None, True, False])
@pytest.mark.parametrize("hub", [False, True])
def test_weights_of_the_other_activation_are_refused_by_the_record_beside_them(twins, recorded, hub, monkeypatch):
    if recorded is not None:
        (twins.parent / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": recorded}}))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, name, revision: str(
        twins if name.endswith("model.safetensors") else (twins.parent / name).resolve(strict=True)))
    source = "hf-hub:me/mine" if hub else str(twins)
    for name, quick in (("open_clip/twin", False), ("open_clip/twin-quickgelu", True)):
        if recorded is quick or (recorded is None and quick):
            check_backends(name, name, source)
            continue
        other = "open_clip/twin" if quick else "open_clip/twin-quickgelu"
        with pytest.raises(UsageError) as error:
            check_backends(name, name, source)
        assert f"use {other} (for model.vision and model.text)" in str(error.value)
        assert (recorded is None) == ("nothing says whether" in str(error.value))


@pytest.mark.parametrize("source", ["hf-hub:timm/resnet50_clip.openai", "openai"])
def test_a_published_repository_needs_no_record(source):
    with pytest.raises(UsageError, match="was trained with QuickGELU, but open_clip/RN50 builds GELU towers"):
        check_backends("open_clip/RN50", "open_clip/RN50", source)


# -- files


def test_a_clip_without_counts_of_batches_is_whole(files, tmp_path):
    tensors = open_clip.factory.load_state_dict(str(files["tiny-resnet"]))
    counts = [name for name in tensors if name.endswith("num_batches_tracked")]
    save_file({name: t for name, t in tensors.items() if name not in counts}, tmp_path / "clip.safetensors")
    found = load(tmp_path / "clip.safetensors").state_dict()
    assert counts
    for name in found:
        assert torch.equal(found[name], torch.zeros_like(found[name]) if name in counts else tensors[name])


def load(file: Path):
    return build_vision("open_clip/tiny-resnet", weights={"source": str(file), "revision": None})


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module", "published", "half"])
def test_tensors_are_found_however_they_are_wrapped(files, wrap, tmp_path):
    tensors = dict(tiny_clip.clip("tiny-resnet").state_dict())
    stored = {
        "plain": {**tensors, "input_resolution": torch.tensor(64)},
        "state_dict": {"epoch": 3, "state_dict": tensors},
        "module": {"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}},
        "published": {"model": {f"backbone.clip_model.{name}": tensor for name, tensor in tensors.items()}},
        "half": {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()},
    }[wrap]
    torch.save(stored, tmp_path / "clip.pt")
    found, wanted = load(tmp_path / "clip.pt").state_dict(), load(files["tiny-resnet"]).state_dict()
    for name, tensor in wanted.items():
        assert torch.allclose(found[name], tensor, atol=1e-2 if wrap == "half" else 0)
    assert found["logit_scale"].dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_file_that_is_no_tensors_is_refused_with_the_reason_and_runs_nothing(files, tmp_path):
    whole = files["tiny-resnet"].read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save(dict(tiny_clip.clip("tiny-resnet").state_dict()), tmp_path / "whole.pt")
    half = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(half[: len(half) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    evil = Evil()
    evil.path = str(tmp_path / "touched")
    torch.save({"visual.conv1.weight": evil}, tmp_path / "evil.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "program.pt"))
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "number.pt")
    for file, said in (("cut.safetensors", "damaged, cut short"), ("cut.pt", "damaged, cut short"),
                       ("empty.pt", "damaged, cut short"), ("evil.pt", "refused: not a file of plain tensors"),
                       ("program.pt", "refused: it is a TorchScript archive"),
                       ("list.pt", "found a value of type list"),
                       ("number.pt", "found a dictionary of a")):  # fmt: skip
        with pytest.raises(DataError) as error:
            load(tmp_path / file)
        assert str(tmp_path / file) in str(error.value)
        assert said in str(error.value)
    assert not (tmp_path / "touched").exists()


def test_missing_unexpected_and_misshapen_tensors_are_listed(files, tmp_path):
    tensors = dict(tiny_clip.clip("tiny-resnet").state_dict())
    del tensors["visual.bn1.weight"]
    tensors["visual.extra"] = torch.zeros(2)
    tensors["visual.conv1.weight"] = torch.zeros(4, 3, 1, 1)
    torch.save(tensors, tmp_path / "clip.pt")
    with pytest.raises(DataError) as error:
        load(tmp_path / "clip.pt")
    for said in ("1 missing: visual.bn1.weight", "1 unexpected: visual.extra",
                 "1 of another shape: visual.conv1.weight (4, 3, 1, 1) instead of (4, 3, 3, 3)"):  # fmt: skip
        assert said in str(error.value)


# -- timm


@pytest.fixture(scope="module")
def timm_weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet")
    file = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(model.state_dict(), file)
    return file


@torch.no_grad()
def test_a_timm_backbone_gives_its_own_features_and_statistics(timm_weights):
    vision = build_vision("timm/test_efficientnet.r160_in1k", weights=record(timm_weights))
    network = timm.create_model("test_efficientnet", features_only=True).eval()
    missing = network.load_state_dict(open_clip.factory.load_state_dict(str(timm_weights)), strict=False).missing_keys
    assert not missing
    x = torch.randn(1, 3, 64, 96)
    for found, wanted in zip(vision.features(x).values(), network(x)[1:], strict=True):
        assert torch.equal(found, wanted)
    assert vision.mean == pytest.approx((0.485 * 255, 0.456 * 255, 0.406 * 255))
    assert vision.channels == {4: 24, 8: 32, 16: 48, 32: 64}


@pytest.mark.parametrize("freeze", [True, False])
def test_a_timm_backbone_may_be_trained(timm_weights, freeze, tmp_path):
    words = [*tiny_clip.recipe_words("x"), "model.vision=timm/test_efficientnet", "model.text=all-minilm-l6-v2",
             f"model.weights={timm_weights}", f"model.freeze={freeze}"]  # fmt: skip
    recipe = load_recipe("demo", words)
    model = build_model(recipe).train()
    torch.stack(model(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)).logits).square().sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in model.backbone.parameters()) is not freeze
    assert backends(recipe)["vision"] == "test_efficientnet (timm, model.safetensors)"
    save_model(model, tmp_path / "model")
    with pytest.raises(UsageError, match="has no dense CLIP features; use ensemble=False"):
        load_model(tmp_path / "model").semantic(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ensemble=True)


@pytest.mark.parametrize(("name", "said"), [
    ("timm/beit_base_patch16_224", r"feature strides are \[16, 16, 16\], expected \[4, 8, 16, 32\]"),
    ("timm/swin_tiny_patch4_window7_224", "takes no image of 64 x 96"),
])  # fmt: skip
def test_a_timm_network_without_the_four_strides_is_refused(name, said):
    with pytest.raises(UsageError, match=said):
        build_vision(name, pretrained=False)


def test_timm_weights_of_another_network_are_refused(timm_weights):
    with pytest.raises(DataError, match=r"weights of timm/test_resnet: do not fit the network"):
        build_vision("timm/test_resnet", weights=record(timm_weights))


def test_timm_weights_that_lack_a_tensor_are_refused_without_noise(timm_weights, tmp_path, capfd):
    tensors = open_clip.factory.load_state_dict(str(timm_weights))
    build_vision("timm/test_efficientnet", weights=record(timm_weights))
    del tensors["conv_stem.weight"]
    torch.save({"state_dict": tensors}, tmp_path / "cut.pt")
    with pytest.raises(DataError, match=r"Missing keys \(conv_stem\.weight\)"):
        build_vision("timm/test_efficientnet", weights=record(tmp_path / "cut.pt"))
    assert capfd.readouterr() == ("", "")
