"""`clouds.api`: what the verbs call, from Python; what is wrong with a request is said before PyTorch is imported."""

import subprocess
import sys
from inspect import signature

import numpy as np
import pytest

import clouds
from clouds import api
from clouds.config.load import load_recipe
from clouds.errors import CloudsError, UsageError

EARLY = """
import sys
from clouds.cli import run
for words in {words!r}:
    code = run(words)
    assert "torch" not in sys.modules, words
    print(code, file=sys.stderr)
"""


def test_what_is_not_there_is_said_before_torch_is_imported(tmp_path):
    model, photo = tmp_path / "model", tmp_path / "photo.png"
    model.mkdir()
    photo.write_bytes(b"")
    none = str(tmp_path / "none")
    words = [
        ["predict", none, str(photo)], ["predict", str(model), none], ["evaluate", none, "town"], ["serve", none],
        ["evaluate", str(model), "town"], ["export", none], ["export", str(model)], ["report", none],
        ["check", "nowhere"], ["check", "camvid", "--root", none, "--out", str(tmp_path / "check")],
        ["train", "demo", "data.source=gta5", f"data.root={none}"], ["train", "nowhere"],
        ["train", "demo", f"data.unlabelled={none}"], ["train", "demo", "generate.generator=difusers/a/b"],
        ["train", "demo", f"train.start={none}"], ["demo", f"data.root={none}"], ["sweep", "demo", "train.stepz=1,2"],
        ["prompts", "demo", "seed=x"], ["generate", "demo", "seed=x"], ["audit", none], ["import", none],
        ["push", none, "owner/name"], ["regions", none], ["doctor", "nowhere"], ["classes", "nowhere"],
    ]  # fmt: skip
    code = EARLY.format(words=words)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert len([line for line in said if line in ("1", "2")]) == len(words), done.stderr
    assert len([line for line in said if line.startswith("clouds: ")]) == len(words) - 1  # check lists what it finds
    assert "loading" not in done.stderr


@pytest.mark.parametrize(("settings", "words"), [
    (None, []), (["train.steps=3"], ["train.steps=3"]), ({"train.steps": 3}, ["train.steps=3"]),
    ({"augment.crop": [64, 32], "data.root": None, "train.compile": True}, [
        "augment.crop=[64, 32]", "data.root=null", "train.compile=true"]),
])  # fmt: skip
def test_settings_are_a_mapping_or_words(settings, words):
    assert api.words(settings) == words


@pytest.mark.parametrize("settings", ["train.steps=3", [3]])
def test_settings_of_other_kinds_are_refused(settings):
    with pytest.raises(UsageError, match=r"settings: got .*; expected"):
        api.check("demo", settings)


def test_values_of_a_mapping_reach_the_recipe():
    wanted = {"train.learning_rate": 1e-05, "augment.crop": [64, 64], "generate.size": [64, 64], "data.source": "gta5"}
    found = api._recipe("demo", wanted)
    assert (found.train.learning_rate, found.augment.crop, found.data.source[0].dataset) == (1e-5, (64, 64), "gta5")
    assert api._recipe(found, None) is found
    with pytest.raises(UsageError, match="beside a Recipe"):
        api._recipe(found, {"seed": 1})


def test_a_run_gives_its_model_scores_and_page(tmp_path, model_folder):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "warmup").symlink_to(model_folder)
    run = api.Run(tmp_path / "run")
    assert (run.results, run.report) == (None, None)
    image = np.zeros((40, 60, 3), np.uint8)
    assert np.array_equal(run.model().predict(image).labels, clouds.load(model_folder).predict(image).labels)
    with pytest.raises(UsageError, match="stage: got 'last'; expected warmup or joint"):
        run.model("last")


def test_every_function_is_documented_and_typed():
    for name in api.__all__:
        found = getattr(api, name)
        assert found.__doc__, name
        assert signature(found).return_annotation is not signature(found).empty or isinstance(found, type), name
        assert all(each.annotation is not each.empty for each in signature(found).parameters.values()), name


def test_a_notebook_is_told_what_there_is(model_folder):
    assert {"load", "refine", "api", "data"} <= set(dir(clouds))
    model = clouds.load(model_folder)
    assert repr(model).startswith("<Predictor on cpu: efficientnet-lite0, ")
    assert f"{len(model.classes)} classes ({', '.join(model.classes[:4])}" in repr(model)


@pytest.mark.parametrize(("ask", "complaint"), [
    (lambda model: model.predict_batch("a.jpg"), "predict_batch: got one image; expected a list"),
    (lambda model: model.predict_batch(np.zeros((8, 8, 3), np.uint8)), "predict_batch: got one image"),
    (lambda model: model.with_inference(windw=96), "unknown 'windw'; did you mean window"),
    (lambda _: clouds.load("runs/demo", device="cuda:99"), "device: cuda:99 cannot be used here"),
])  # fmt: skip
def test_what_cannot_be_meant_is_one_plain_error(model_folder, ask, complaint):
    with pytest.raises(CloudsError, match=complaint):
        ask(clouds.load(model_folder))


def test_the_demo_is_for_one_process(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="`clouds train demo`, then `clouds evaluate`"):
        api.demo(out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_object_takes_a_model_to_start_from(tmp_path):
    for chosen in (load_recipe("demo", ["data.source_count=2"]), "demo"):
        with pytest.raises(CloudsError, match=r"2024 #1"):
            api.train(chosen, out=tmp_path / "run", start=tmp_path / "2024 #1")
