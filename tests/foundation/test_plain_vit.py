"""Plain ViTs as backbones: timm's own functions at small sizes, through the real loading path, no hub."""

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import tiny
import tiny_clip
import tiny_vit
from clouds.base.files import sha256
from clouds.config.load import load_recipe
from clouds.errors import BackendError, DataError, UsageError
from clouds.foundation.backbone import build_text, build_vision, check_backends, check_vision
from clouds.foundation.backbones.timm_pyramid import STRIDES
from clouds.foundation.backbones.timm_vit import PlainVit
from clouds.foundation.registry import backend_name, backends, place
from clouds.model import vocabulary
from clouds.model.build import build_model
from clouds.model.folder import load_model, save_model

BLOCKS = [1, 2, 3, 5]  # of six: a third, a half, two thirds, all


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vits")
    return {name: tiny_vit.save(name, folder) for name in tiny_vit.MODELS}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return {name: tiny_vit.save_clip(name, folder) for name in tiny_vit.CLIPS}


def record(file):
    return {"source": str(file), "revision": None, "sha256": sha256(file)}


def build(name, files):
    return build_vision(f"timm/{name}", weights=record(files[name]))


def noise(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", tiny_vit.MODELS)
@torch.no_grad()
def test_features_are_timms_own_of_four_blocks_resized_to_four_strides(files, name):
    vision = build(name, files)
    assert isinstance(vision, PlainVit)
    x = noise(2, 3, 64, 96)
    found = vision.features(x)
    assert tuple(found) == STRIDES
    stride = {14: 16}.get(tiny_vit.PATCHES[name], tiny_vit.PATCHES[name])
    if stride == tiny_vit.PATCHES[name]:
        whole = timm.create_model(name, dynamic_img_size=True).eval()
        whole.load_state_dict(load_file(files[name]))
    else:
        whole = vision.network
    wanted = whole.forward_intermediates(x, indices=BLOCKS, intermediates_only=True)
    for s, grid in zip(STRIDES, wanted, strict=True):
        assert grid.shape == (2, 48, 64 // stride, 96 // stride)
        assert found[s].shape == (2, vision.channels[s], 64 // s, 96 // s)
        assert torch.allclose(found[s], F.interpolate(grid, scale_factor=stride / s, mode="bilinear"), atol=1e-5)
        assert found[s].std() > 0.1


@pytest.mark.parametrize("name", [name for name, patch in tiny_vit.PATCHES.items() if patch == 14])
@torch.no_grad()
def test_an_enlarged_patch_gives_the_token_it_gave_before(files, name):
    vision, stored = build(name, files), load_file(files[name])
    small = noise(5, 3, 14, 14)
    enlarged = F.interpolate(small, size=(16, 16), mode="bicubic", antialias=True, align_corners=False)
    found = F.conv2d(enlarged, vision.network.patch_embed.proj.weight)
    wanted = F.conv2d(small, stored["patch_embed.proj.weight"])
    assert torch.allclose(found, wanted, atol=1e-4)
    kept = vision.network.state_dict()
    same = [key for key in stored if key in kept and torch.equal(kept[key], stored[key])]
    assert set(kept) - set(same) == {"patch_embed.proj.weight"}  # the learned positions keep their grid


@pytest.mark.parametrize("cell", [(0, 0), (1, 4), (3, 2)])
@pytest.mark.parametrize("name", tiny_vit.MODELS)
@torch.no_grad()
def test_the_maps_lie_on_the_image(files, name, cell):
    """What changes in one cell of 32 x 32 pixels changes the features there most, at every stride and image size."""
    vision = build(name, files)
    x = noise(1, 3, 128, 160)
    y, x2 = x.clone(), slice(32 * cell[1], 32 * cell[1] + 32)
    y[:, :, 32 * cell[0] : 32 * cell[0] + 32, x2] += 4 * noise(1, 3, 32, 32, seed=1)
    before, after = vision.features(x), vision.features(y)
    for stride in STRIDES:
        change = (after[stride] - before[stride]).norm(dim=1)[0]
        cells = F.avg_pool2d(change[None], 32 // stride)[0]
        assert divmod(int(cells.argmax()), cells.shape[1]) == cell


def test_pixel_statistics_are_those_of_pre_training(files):
    wanted = {"tiny_dinov2": (0.485, 0.229), "tiny_eva02": (0.48145466, 0.26862954), "tiny_siglip2": (0.5, 0.5)}
    for name, (mean, std) in wanted.items():
        vision = build_vision(f"timm/{name}", pretrained=False)
        assert vision.mean[0] == pytest.approx(255 * mean)
        assert vision.std[0] == pytest.approx(255 * std)
    with torch.device("meta"):  # a trunk that was trained on other pixels by others
        mobile = build_vision("open_clip/MobileCLIP2-L-14", pretrained=False)
    published = open_clip.get_pretrained_cfg("MobileCLIP2-L-14", "dfndr2b")
    assert mobile.mean[0] == pytest.approx(255 * published.get("mean", (0.48145466,))[0])


def test_a_backbone_may_be_trained_and_never_leaves_eval_mode(files):
    x = torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8)
    for freeze in (True, False):
        model = tiny.segmenter(vision="timm/tiny_dinov2", freeze=freeze).train()
        torch.stack(model(x).logits).square().sum().backward()
        assert not any(module.training for module in model.backbone.modules())
        assert all((p.grad is None) == freeze for p in model.backbone.parameters())


def test_weights_that_lack_a_tensor_or_hold_another_depth_are_refused(files, tmp_path, capfd):
    tensors = load_file(files["tiny_dinov2"])
    for change, said in (
        ({"blocks.0.attn.qkv.weight": None}, r"missing: blocks\.0\.attn\.qkv\.weight"),
        ({"blocks.6.norm1.weight": torch.zeros(48)}, r"unexpected: blocks\.6\.norm1\.weight"),
        ({"blocks.0.norm1.weight": torch.zeros(47)}, r"size mismatch"),
    ):
        given = {key: tensor for key, tensor in {**tensors, **change}.items() if tensor is not None}
        save_file(given, tmp_path / "other.safetensors")
        with pytest.raises(DataError, match=rf"weights of timm/tiny_dinov2: do not fit the network .*{said}"):
            build_vision("timm/tiny_dinov2", weights=record(tmp_path / "other.safetensors"))
    assert capfd.readouterr() == ("", "")


def test_patches_of_other_widths_are_refused(monkeypatch):
    tiny_vit.register()
    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **given: make(name, **{**given, "patch_size": 40}))
    with pytest.raises(UsageError, match=r"its patches are 40 pixels wide; expected one of \[8, 14, 16, 32\]"):
        PlainVit("odd", "tiny_siglip2", (0, 0, 0), (1, 1, 1))


# -- with the text towers they were trained with


@torch.no_grad()
def test_an_open_clip_vit_sees_what_its_trunk_sees(clips):
    for name, file in clips.items():
        vision = build_vision(f"open_clip/{name}", weights=record(file))
        trunk = {k.removeprefix("visual.trunk."): t for k, t in load_file(file).items() if "visual.trunk." in k}
        assert torch.equal(vision.network.blocks[3].mlp.fc2.weight, trunk["blocks.3.mlp.fc2.weight"])
        other = timm.create_model(tiny_vit.CLIPS[name]["vision_cfg"]["timm_model_name"], num_classes=0)
        kept = vision.network.state_dict()
        assert {k for k in kept if not torch.equal(kept[k], trunk[k])} <= {"patch_embed.proj.weight"}
        assert set(kept) <= set(other.state_dict())


def test_texts_are_embedded_as_open_clip_does(clips):
    words = ["a photo of a car.", "There is the sky in the scene", "a road"]
    for name, file in clips.items():
        text = build_text(f"open_clip/{name}", record(file))
        found = text.embed(words)
        clip = open_clip.create_model(name, pretrained=str(file)).eval()
        with torch.no_grad():
            wanted = clip.encode_text(text.tokenizer(words), normalize=True)
        assert torch.allclose(found, wanted, atol=1e-6)
        assert found.shape == (3, text.dim)
        assert (found[0] - found[2]).norm() > 0.1


@pytest.mark.parametrize("name", tiny_vit.CLIPS)
def test_a_recipe_names_it_and_the_model_folder_needs_its_file_no_more(clips, name, tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])
    recipe = load_recipe("demo", tiny_clip.recipe_words(name, clips[name]))
    check_backends(recipe.model.vision, recipe.model.text, recipe.model.weights)
    model = build_model(recipe).eval()
    assert backends(recipe)["vision"] == f"{name} (open_clip, open_clip_model.safetensors)"
    save_model(model, tmp_path / "model")
    x = torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8)
    again = load_model(tmp_path / "model")
    assert torch.equal(again.semantic(x), model.semantic(x))
    with pytest.raises(UsageError, match="has no dense CLIP features"):
        again.semantic(x, ensemble=True)


def test_a_tokenizer_that_is_neither_beside_the_weights_nor_on_the_hub_is_named_before_any_work(clips, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(clips["tiny-siglip2"].read_bytes())
    with pytest.raises(BackendError, match=r"tokenizer of open_clip/tiny-siglip2: nobody/siglip2 gives none") as error:
        check_backends(*["open_clip/tiny-siglip2"] * 2, str(file))
    assert f"put them beside {file}" in str(error.value)


def test_a_clip_without_such_a_trunk_is_refused(clips):
    with pytest.raises(DataError, match=r"holds no tensor visual\.trunk"):
        build_vision("open_clip/tiny-eva02", weights=record(_of_another_kind(clips)))


def _of_another_kind(clips):
    file = clips["tiny-eva02"].parent / "text.safetensors"
    save_file({k: t for k, t in load_file(clips["tiny-eva02"]).items() if k.startswith("text.")}, file)
    return file


def test_siglip_is_not_called_clip():
    assert backend_name("open_clip/ViT-B-16-SigLIP2", "webli") == "ViT-B-16-SigLIP2 (open_clip, webli)"
    assert backend_name("open_clip/EVA02-L-14", "merged2b") == "CLIP EVA02-L-14 (open_clip, merged2b)"


@pytest.mark.parametrize(("name", "repository"), [
    ("timm/vit_large_patch14_reg4_dinov2", "timm/vit_large_patch14_reg4_dinov2.lvd142m"),
    ("timm/vit_large_patch16_dinov3.lvd1689m", "timm/vit_large_patch16_dinov3.lvd1689m"),
    ("timm/convnext_base.dinov3_lvd1689m", "timm/convnext_base.dinov3_lvd1689m"),
    ("open_clip/EVA02-L-14", "timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k"),
    ("open_clip/ViT-B-16-SigLIP2", "timm/ViT-B-16-SigLIP2"),
])  # fmt: skip
def test_published_weights_are_known_by_repository(name, repository):
    check_vision(name)
    assert place("vision", name) == repository
