"""Classes named by import path: found, checked before any work, kept apart from others; a model folder imports none."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from clouds import cli, pipeline
from clouds.check.dry_run import dry_run
from clouds.config.load import load_recipe
from clouds.config.recipe import Generate
from clouds.errors import BackendError, UsageError
from clouds.foundation.backbone import build_vision
from clouds.foundation.embeddings import Cached
from clouds.foundation.generators.streets import StreetsGenerator
from clouds.foundation.registry import backends
from clouds.foundation.segmenter import load_segmenter, segmenter_identity
from clouds.foundation.segmenters.superpixels import Superpixels
from clouds.generate.draw import draw
from clouds.model.folder import load_model, save_model
from clouds.testing import BackboneContract, GeneratorContract, SegmenterContract

EXAMPLES = Path(__file__).parents[2] / "examples"
BACKBONE = "my_backbone:ResNet18"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A scratch folder of a user, with copies of the examples; nothing stays imported."""
    for name in ("backbone", "generator", "segmenter", "dataset"):
        shutil.copy(EXAMPLES / f"{name}.py", tmp_path / f"my_{name}.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    forget()
    yield tmp_path
    forget()


def forget():
    """Modules of a user, of a test before or of a page of the documentation."""
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def test_a_recipe_names_its_backends_and_results_call_them_so(here):
    words = [f"model.vision={BACKBONE}", "generate.generator=my_generator:Blocks",
             "selftrain.segmenter=my_segmenter:Felzenszwalb"]  # fmt: skip
    named = backends(load_recipe("demo", words))
    assert [named[role] for role in ("vision", "images", "segmenter")] == [word.partition("=")[2] for word in words]
    assert named["text"] == "all-MiniLM-L6-v2"


@pytest.mark.parametrize(("word", "said"), [
    ("selftrain.segmenter=nowhere_here:Mine", "segmenter: nowhere_here:Mine: there is no module nowhere_here"),
    ("selftrain.segmenter=my_segmenter:Felzenswalb", "has no Felzenswalb; did you mean my_segmenter:Felzenszwalb"),
    ("selftrain.segmenter=my_segmenter:SCALES", "expected a class with encode and masks, got a tuple"),
    ("selftrain.segmenter=my_generator:Blocks", "the class has no encode and no masks"),
    ("model.vision=my_segmenter:Felzenszwalb", "model.vision: .* has no features and no state_dict"),
    ("model.text=my_backbone:ResNet18", "model.text: .* has no embed"),
    ("prompts.writer=my_generator:Blocks", "prompts.writer: .* has no write"),
    ("generate.generator=broken:Mine", r"importing broken failed \(ZeroDivisionError: "),
    ("generate.generator=needy:Mine", "importing needy needs surely_not_installed, which is not installed"),
    ("selftrain.segmenter=my-segmenter:Mine", "expected grouped-superpixels or .* or MODULE:NAME"),
])  # fmt: skip
def test_what_is_wrong_with_a_name_is_said_when_the_recipe_is_read(here, word, said):
    (here / "broken.py").write_text("1 / 0\n")
    (here / "needy.py").write_text("import surely_not_installed\n")
    with pytest.raises(UsageError, match=said):
        load_recipe("demo", [word])


@pytest.mark.parametrize(("words", "said"), [
    (["selftrain.second_pass=true"], "takes no mask as a prompt"),
    (["selftrain.segmenter_revision=main"], "my_segmenter:Felzenszwalb takes none"),
    ([f"model.vision={BACKBONE}", "model.weights=some.pth"], "brings its own"),
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
    assert {name.partition(":")[0] for name in ("subprocess:Popen", "torch.nn:Linear", "os:system")} <= set(sys.modules)
    tiny.change_config(folder, vision=name)
    with pytest.raises(Exception, match=r"has no features|expected a class"):
        load_model(folder)


def test_class_names_of_one_s_own_need_the_text_tower_that_a_folder_names(here, folder):
    from clouds.foundation.backbone import build_text

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


SMALL = ["model.hidden=32", "model.queries=6", "model.heads=4", "model.pixel_layers=1", "model.layers=1",
         "model.ffn=32", "model.pixel_ffn=32", "prompts.count=2", "generate.count=2",
         "data.source_count=2", "data.source_size=[64,64]",
         f"model.vision={BACKBONE}", "generate.generator=my_generator:Blocks",
         "selftrain.segmenter=my_segmenter:Felzenszwalb"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.long
def test_a_run_on_them_goes_on_and_its_model_is_loaded_again(here):
    recipe = tiny.recipe(*SMALL, "train.steps=2", "train.stage=warmup")
    pipeline.train(recipe, here / "run")
    pipeline.train(recipe, here / "run")
    assert load_model(here / "run" / "warmup").settings["vision"] == BACKBONE
    rows = draw(recipe, ["A street at night.", "A road in fog."], here / "drawn")
    assert {(row["generator"], row["revision"]) for row in rows} == {("blocks", "1")}
    dry = dry_run(tiny.recipe(*SMALL, "train.steps=2"))
    assert not [said for said in dry["stand_ins"] if "superpixels" in said], "its own segmenter is tried"


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_method_runs_on_them(here):
    from test_pipeline import SMALL as ENOUGH

    words = [*ENOUGH, *SMALL[-3:], "selftrain.cache=cache"]
    pipeline.train(load_recipe("demo", words), here / "run")
    shutil.rmtree(here / "run" / "model")
    pipeline.train(load_recipe("demo", words), here / "run")
    assert load_model(here / "run" / "model").settings["vision"] == BACKBONE
    assert list((here / "cache").rglob("*.safetensors"))


# -- the contracts can fail


def fails(contract, test, **arguments):
    with pytest.raises((AssertionError, ValueError)):
        getattr(contract(), test)(**arguments)


class Bad(Superpixels):
    """Superpixels with one fault."""

    def __init__(self, fault):
        self.fault, self.calls = fault, 0

    def encode(self, image):
        if self.fault == "paints the image":
            image[0, 0] = 0
        return super().encode(image)

    def masks(self, embedding, points):
        self.calls += 1
        if self.fault == "draws":
            np.random.rand()
        if self.fault == "wraps":
            points = points % np.float32([83, 45])
        masks, quality = super().masks(embedding, points)
        if self.fault == "two candidates":
            return masks[:, :2], quality[:, :2]
        if self.fault == "doubles":
            return masks, quality.astype(float)
        if self.fault == "one a call":
            return (masks, quality) if len(points) < 2 else (masks[::-1], quality[::-1])
        if self.fault == "counts":
            return masks, quality + np.float32(self.calls)
        return (np.zeros_like(masks), quality) if self.fault == "sees nothing" else (masks, quality)


@pytest.mark.parametrize(("fault", "test"), [
    ("two candidates", "test_no_prompt_gets_no_mask"), ("doubles", "test_no_prompt_gets_no_mask"),
    ("sees nothing", "test_image_and_points_matter"),
    ("one a call", "test_a_prompt_is_answered_the_same_alone_and_every_time"),
    ("counts", "test_a_prompt_is_answered_the_same_alone_and_every_time"),
    ("wraps", "test_points_past_the_frame_belong_to_the_nearest_pixel"),
    ("draws", "test_it_changes_nothing_that_others_use"),
    ("paints the image", "test_it_changes_nothing_that_others_use"),
])  # fmt: skip
def test_a_bad_segmenter_fails(fault, test):
    getattr(SegmenterContract(), test)(segmenter=Bad("none"))
    fails(SegmenterContract, test, segmenter=Bad(fault))


@pytest.mark.parametrize(("broken", "test"), [
    (lambda self, images: {s: f for s, f in self.plain(images).items() if s > 4},
     "test_features_of_four_strides_have_the_shapes_they_say"),
    (lambda self, images: {s: f * (2 if len(images) > 1 else 1) for s, f in self.plain(images).items()},
     "test_an_image_is_seen_the_same_alone_and_in_a_batch"),
    (lambda self, images: {s: f + torch.rand(()) for s, f in self.plain(images).items()},
     "test_training_mode_changes_neither_features_nor_state"),
    (lambda self, images: {s: f * 0 for s, f in self.plain(images).items()},
     "test_what_an_image_shows_matters_at_every_stride"),
])  # fmt: skip
def test_a_bad_backbone_fails(broken, test):
    backbone = build_vision("timm/resnet10t", pretrained=False)
    arguments = {"size": (64, 64)} if "shapes" in test else {}
    getattr(BackboneContract(), test)(backbone=backbone, **arguments)
    kind = type("Broken", (type(backbone),), {"plain": type(backbone).features, "features": broken})
    backbone.__class__ = kind
    fails(BackboneContract, test, backbone=backbone, **arguments)


@pytest.mark.parametrize(("fault", "test"), [
    (lambda images, seeds: images[::-1], "test_an_image_is_the_same_alone_and_in_any_order"),
    (lambda images, seeds: [i * 0 + 7 for i in images], "test_an_image_follows_from_its_prompt_and_seed"),
    (lambda images, seeds: [i + np.uint8(np.random.randint(1, 9)) for i in images],
     "test_it_leaves_everybody_elses_draws_alone"),
])  # fmt: skip
def test_a_bad_generator_fails(fault, test):
    good = StreetsGenerator(Generate(size=(48, 64)))
    getattr(GeneratorContract(), test)(generator=good)
    plain = good.generate
    good.generate = lambda prompts, seeds: fault(plain(prompts, seeds), seeds)
    fails(GeneratorContract, test, generator=good)
