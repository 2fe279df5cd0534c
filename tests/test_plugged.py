"""Classes named by import path: found, checked before any work, kept apart from others; a model folder imports none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny
from clouds import cli, pipeline
from clouds.assemble import backends
from clouds.config import load_recipe
from clouds.errors import BackendError, UsageError
from clouds.foundation.embeddings import Cached
from clouds.foundation.sam import load_segmenter, segmenter_identity
from clouds.model.checkpoint import load_model, save_model
from clouds.settings import SelfTrain, Train

EXAMPLES = Path(__file__).parents[1] / "examples"
BACKBONE = "my_backbone:ResNet18"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A scratch folder of a user, with copies of the examples; nothing stays imported."""
    for name in ("backbone", "generator", "segmenter", "dataset"):
        shutil.copy(EXAMPLES / f"{name}.py", tmp_path / f"my_{name}.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def test_a_recipe_names_its_backends_and_results_call_them_so(here):
    words = [f"model.vision={BACKBONE}", "generate.generator=my_generator:Blocks",
             "selftrain.segmenter=my_segmenter:Felzenszwalb"]  # fmt: skip
    named = backends(load_recipe("demo", words))
    assert [named[role] for role in ("vision", "images", "segmenter")] == [word.partition("=")[2] for word in words]
    assert named["text"] == "all-MiniLM-L6-v2"


@pytest.mark.parametrize(("word", "said"), [
    ("selftrain.segmenter=nowhere_here:Mine", "selftrain.segmenter: nowhere_here:Mine: there is no module nowhere_here"),
    ("selftrain.segmenter=my_segmenter:Felzenswalb", "has no Felzenswalb; did you mean my_segmenter:Felzenszwalb"),
    ("selftrain.segmenter=my_segmenter:SCALES", "expected a class with encode and masks, got a tuple"),
    ("selftrain.segmenter=my_generator:Blocks", "the class has no encode and no masks"),
    ("model.vision=my_segmenter:Felzenszwalb", "model.vision: .* has no features and no state_dict"),
    ("model.text=my_backbone:ResNet18", "model.text: .* has no embed"),
    ("prompts.writer=my_generator:Blocks", "prompts.writer: .* has no write"),
    ("generate.generator=broken:Mine", r"importing broken failed \(ZeroDivisionError: "),
    ("generate.generator=needy:Mine", "importing needy needs surely_not_installed, which is not installed"),
    ("selftrain.segmenter=my-segmenter:Mine", "expected superpixels or .* or MODULE:NAME"),
])  # fmt: skip
def test_what_is_wrong_with_a_name_is_told_when_the_recipe_is_read(here, word, said):
    (here / "broken.py").write_text("1 / 0\n")
    (here / "needy.py").write_text("import surely_not_installed\n")
    with pytest.raises(UsageError, match=said):
        load_recipe("demo", [word])


@pytest.mark.parametrize(("words", "said"), [
    (["selftrain.second_pass=true"], "takes no mask as a prompt"),
    (["selftrain.segmenter_revision=main"], "my_segmenter:Felzenszwalb takes none"),
    ([f"model.vision={BACKBONE}", "model.weights=some.pth"], "loads its own"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused_before_work(here, words, said):
    with pytest.raises(UsageError, match=said):
        pipeline.train(load_recipe("demo", ["selftrain.segmenter=my_segmenter:Felzenszwalb", *words]), here / "run")
    assert not (here / "run").exists()


def test_a_class_that_cannot_be_made_or_lacks_an_attribute_is_named(here):
    (here / "my_odd.py").write_text(
        "class Odd:\n    def encode(self): ...\n    def masks(self): ...\n    def __init__(self, device): {}\n"
        "class Raises(Odd):\n    def __init__(self, device): 1 / 0\n"
    )
    with pytest.raises(UsageError, match="my_odd:Odd: its objects have no name"):
        load_segmenter("my_odd:Odd")
    with pytest.raises(BackendError, match=r"my_odd:Raises could not be made \(ZeroDivisionError"):
        load_segmenter("my_odd:Raises")


def test_the_current_folder_is_searched_last(here):
    (here / "json.py").write_text("raise SystemExit('a file that lies around was run')\n")
    (here / "filelock.py").write_text("raise SystemExit('a file that lies around was run')\n")
    code = "import sys; sys.path[:] = [p for p in sys.path if p]; from clouds.config import load_recipe\n" \
           "load_recipe('demo', ['selftrain.segmenter=my_segmenter:Felzenszwalb'])"  # fmt: skip
    subprocess.run([sys.executable, "-P", "-c", code], check=True, cwd=here)


# -- a model folder


@pytest.fixture
def folder(here):
    """A model on a backbone of one's own, whose module is not imported any more."""
    load_recipe("demo", [f"model.vision={BACKBONE}"])
    save_model(tiny.segmenter(vision=BACKBONE), here / "model")
    del sys.modules["my_backbone"]
    (here / "my_backbone.py").write_text("open('was_run', 'w')\n" + (here / "my_backbone.py").read_text())
    return here / "model"


def test_a_model_folder_imports_nothing(here, folder, monkeypatch):
    with pytest.raises(BackendError, match=r"config\.json: .* import it before .* CLOUDS_TRUST=my_backbone"):
        load_model(folder)
    monkeypatch.setenv("CLOUDS_TRUST", "my_other, my_backbon")
    with pytest.raises(BackendError, match="my_backbone"):
        load_model(folder)
    assert "my_backbone" not in sys.modules
    assert not (here / "was_run").exists()


def test_what_the_user_trusts_is_imported(here, folder, monkeypatch):
    monkeypatch.setenv("CLOUDS_TRUST", "my_other, my_backbone")
    assert load_model(folder).settings["vision"] == BACKBONE
    assert (here / "was_run").exists()


def test_what_is_imported_already_may_be_used(folder):
    load_recipe("demo", [f"model.vision={BACKBONE}"])
    assert load_model(folder).settings["vision"] == BACKBONE


@pytest.mark.parametrize("name", ["subprocess:Popen", "torch.nn:Linear", "os:system"])
def test_of_imported_modules_only_a_backbone_is_made(folder, name):
    import os
    import subprocess

    import torch

    assert os and subprocess and torch
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vision": name}))
    with pytest.raises(Exception, match=r"has no features|expected a class"):
        load_model(folder)


def test_class_names_of_one_s_own_need_the_text_tower_that_a_folder_names(here, folder):
    from clouds.foundation.clip import build_text

    with pytest.raises(BackendError, match="CLOUDS_TRUST=my_text"):
        build_text("my_text:Tower")


# -- what is kept of its work


def test_changed_code_is_another_segmenter_to_the_caches(here, tmp_path):
    name = "my_segmenter:Felzenszwalb"
    first = load_segmenter(name)
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    kept = Cached(first, tmp_path / "cache", 2**30)
    assert np.array_equal(kept.encode(image), first.encode(image))
    before = segmenter_identity(first)
    assert before == segmenter_identity(load_segmenter(name)) != segmenter_identity(load_segmenter("superpixels"))
    (here / "my_segmenter.py").write_text((here / "my_segmenter.py").read_text().replace("450", "451"))
    del sys.modules["my_segmenter"]
    assert segmenter_identity(load_segmenter(name)) != before


# -- the whole life


def test_doctor_and_check_know_them(here, capsys):
    words = [f"model.vision={BACKBONE}", "selftrain.segmenter=my_segmenter:Felzenszwalb", "--json"]
    assert cli.run(["doctor", "demo", *words]) == 0
    roles = {role["role"]: role for role in json.loads(capsys.readouterr().out)["roles"]}
    assert roles["vision"]["backend"] == BACKBONE
    assert roles["segmenter"] | {"better": None} == {
        "role": "segmenter", "backend": "my_segmenter:Felzenszwalb", "state": "ready", "note": "code of your own",
        "better": None,
    }  # fmt: skip
    assert cli.run(["check", "my_dataset:KITTI", "--json"]) == 2
    assert "say where it is" in capsys.readouterr().err
    assert cli.run(["check", "my_dataset:KITI", "--root", "."]) == 2
    assert "did you mean my_dataset:KITTI" in capsys.readouterr().err
    assert cli.run(["check", "my_dataset:CITYSCAPES_IDS", "--root", "."]) == 2
    assert "expected a clouds.data.layouts.Spec, got dict" in capsys.readouterr().err


def test_a_run_on_them_goes_on_and_its_model_is_loaded_again(here, monkeypatch):
    monkeypatch.setattr(pipeline, "write_report", lambda out: out)
    recipe = tiny.recipe(
        f"model.vision={BACKBONE}", "model.hidden=32", "model.queries=6", "model.heads=4", "model.pixel_layers=1",
        "model.layers=1", "model.ffn=32", "model.pixel_ffn=32", "generate.generator=my_generator:Blocks",
        "selftrain.segmenter=my_segmenter:Felzenszwalb", "selftrain.cache=cache", "prompts.count=2",
        "generate.count=2", "data.source_count=2", "data.source_size=[64,64]", "train.steps=4", "selftrain.confidence=0",
        "selftrain.threshold=fixed",
    )  # fmt: skip
    assert isinstance(recipe.train, Train)
    assert isinstance(recipe.selftrain, SelfTrain)
    pipeline.train(recipe, here / "run")
    shutil.rmtree(here / "run" / "model")
    shutil.rmtree(here / "run" / "checkpoints", ignore_errors=True)
    pipeline.train(recipe, here / "run")
    assert load_model(here / "run" / "model").settings["vision"] == BACKBONE
    rows = [json.loads(line) for line in (here / "run" / "generated" / "metadata.jsonl").read_text().splitlines()]
    assert {row["generator"] for row in rows} == {"blocks"}
    assert list((here / "cache").rglob("*.safetensors"))
