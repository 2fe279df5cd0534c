"""The shipped recipes: each loads without a hub, says what can be, and builds on a small stand-in of its backbone."""

import pytest
import torch

import tiny_vit
from clouds.config import load_recipe, recipe_names
from clouds.foundation import sources
from clouds.foundation.adapt import adapter_parameters
from clouds.foundation.clip import check_adapter
from clouds.model import vocabulary
from clouds.model.checkpoint import load_model, save_model
from clouds.pipeline import build_model

STAND_INS = {
    "timm/vit_large_patch14_dinov2.lvd142m": "timm/tiny_dinov2",
    "open_clip/EVA02-L-14-336": "open_clip/tiny-eva02",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {"timm/tiny_dinov2": tiny_vit.save("tiny_dinov2", folder),
            "open_clip/tiny-eva02": tiny_vit.save_clip("tiny-eva02", folder)}  # fmt: skip


@pytest.mark.parametrize("name", recipe_names())
def test_its_backbone_and_adapter_are_known(name):
    chosen = load_recipe(name).model
    sources.check_vision(chosen.vision)
    sources.check_text(chosen.text)
    sources.place(chosen.vision, chosen.weights, chosen.revision)
    if chosen.adapter:
        check_adapter(chosen.vision, chosen.adapter, chosen.hidden)


@pytest.mark.parametrize("name", [name for name in recipe_names() if load_recipe(name).model.vision in STAND_INS])
def test_it_builds_on_a_small_stand_in(name, files, tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])
    vision = STAND_INS[load_recipe(name).model.vision]
    words = [f"model.vision={vision}", f"model.weights={files[vision]}", "model.hidden=32", "model.pixel_ffn=32",
             "model.ffn=32", "model.layers=2", "model.pixel_layers=1"]  # fmt: skip
    if load_recipe(name).model.text.startswith("open_clip"):
        words.append(f"model.text={vision}")
    model = build_model(load_recipe(name, words))
    assert adapter_parameters(model.backbone)
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
