"""New class names for a trained model: which rows they take, who embeds them, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip import get_tokenizer
from PIL import Image
from safetensors.torch import save_file

import clouds
import tiny
import tiny_clip
from clouds.cli import run
from clouds.config.label_sets import COLORS, NAMES, colors_of
from clouds.config.load import load_recipe
from clouds.errors import BackendError, UsageError
from clouds.model import open_vocabulary, vocabulary
from clouds.model.build import build_model
from clouds.model.folder import load_model, save_model
from clouds.model.open_vocabulary import parse_names

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module", autouse=True)
def few_sentences():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder with the text head on a tiny CLIP, whose weights lie beside it."""
    place = tmp_path_factory.mktemp("open")
    tiny_clip.register(place)
    save_file(tiny_clip.clip("tiny-resnet").state_dict(), place / "clip.safetensors")
    torch.manual_seed(0)
    words = [*tiny_clip.recipe_words("tiny-resnet", place / "clip.safetensors"), "model.head=text",
             "evaluate.shorter_side=32"]  # fmt: skip
    save_model(build_model(load_recipe("demo", words)), place / "model")
    return place / "model"


@pytest.fixture
def predictor(folder):
    return clouds.load(folder)


@pytest.fixture
def no_tower(monkeypatch):
    def fail(*words):
        raise AssertionError("the text tower was loaded")

    monkeypatch.setattr(open_vocabulary, "build_text", fail)


def test_new_names_are_embedded_by_the_recorded_tower(predictor):
    tower = tiny_clip.clip("tiny-resnet")
    twin = predictor.with_classes(["scooter", "road", "tree|bushes|shrub"])
    assert twin.classes == ("scooter", "road", "tree")
    assert twin.model.synonyms == [["scooter"], ["road", "railroad"], ["tree", "bushes", "shrub"]]
    names = ["scooter", "road", "railroad", "tree", "bushes", "shrub"]
    sentences = [vocabulary.TEMPLATES[0].format(name) for name in names]
    with torch.no_grad():
        wanted = tower.encode_text(get_tokenizer("tiny-resnet")(sentences), normalize=True)
    assert torch.allclose(twin.model.vocabulary, wanted, atol=1e-5)
    assert twin.model.seen.tolist() == [False, True, True]


def test_predict_answers_in_the_names_asked_for(predictor):
    plain = predictor.predict(PHOTO)
    result = predictor.predict(PHOTO, classes=["scooter", "road", "kiosk"])
    assert result.classes == ("scooter", "road", "kiosk")
    assert result.labels.shape == (40, 60)
    assert result.labels.max() < 3
    assert result.colors[1].tolist() == list(COLORS[0])
    assert len({tuple(color) for color in result.colors.tolist()}) == 3
    assert predictor.classes == NAMES
    assert np.array_equal(predictor.predict(PHOTO).labels, plain.labels)
    for same in (["scooter", "road", "kiosk"], "scooter, road, kiosk"):
        assert np.array_equal(predictor.predict(PHOTO, classes=same).labels, result.labels)


def test_many_images_load_the_tower_once(predictor, monkeypatch):
    built, build = [], open_vocabulary.build_text
    monkeypatch.setattr(open_vocabulary, "build_text", lambda *words: built.append(words) or build(*words))
    for _ in range(3):
        predictor.predict(PHOTO, classes=["scooter", "road"])
    assert len(built) == 1


@pytest.mark.parametrize("ensemble", [False, True])
def test_the_models_own_names_give_the_models_own_map_without_the_tower(predictor, no_tower, ensemble):
    x = torch.from_numpy(PHOTO.transpose(2, 0, 1).copy())[None]
    own = predictor.semantic(x, ensemble)
    twin = predictor.with_classes(list(NAMES))
    assert torch.equal(twin.semantic(x, ensemble), own)
    assert np.array_equal(twin.colors, predictor.colors)
    order = [13, 0, 10]
    assert torch.equal(predictor.with_classes([NAMES[i] for i in order]).model.vocabulary[0], own_row(predictor, 13))


def own_row(predictor, index):
    start = sum(len(group) for group in predictor.model.synonyms[:index])
    return predictor.model.vocabulary[start]


def test_known_synonyms_need_no_tower_and_a_name_asked_for_apart_leaves_its_class(predictor, no_tower):
    twin = predictor.with_classes("tree|trees, vegetation, railroad, road")
    assert twin.model.synonyms == [["tree", "trees"], ["vegetation", "palm tree", "bushes"], ["railroad"], ["road"]]
    assert twin.model.seen.all()


def test_class_and_weights_are_shared_not_copied(predictor):
    twin = predictor.with_classes("car,sky").model
    assert twin.head is predictor.model.head
    assert predictor.model.classes == list(NAMES)
    assert predictor.model.vocabulary.shape[0] == 60


def test_a_model_with_other_names_can_be_saved(predictor, tmp_path):
    twin = predictor.with_classes("scooter,road")
    save_model(twin.model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert (again.classes, again.seen.tolist()) == (["scooter", "road"], [False, True])
    x = torch.from_numpy(PHOTO.transpose(2, 0, 1).copy())[None]
    assert torch.equal(again.semantic(x, ensemble=True), twin.semantic(x, ensemble=True))


def test_the_command_takes_names(folder, tmp_path, capsys):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    words = [str(folder), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert run(["predict", *words, "--classes", "scooter,road|street", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 1
    assert run(["predict", *words, "--weights", "openai"]) == 2
    assert "--weights: got 'openai' without --classes" in capsys.readouterr().err
    wanted = clouds.load(folder).predict(PHOTO, classes=["scooter", "road|street"])
    assert np.array_equal(np.array(Image.open(tmp_path / "out" / "a.png")), wanted.labels)


def test_another_towers_weights_are_noticed_and_a_moved_file_can_be_named(folder, tmp_path):
    settings = json.loads((folder / "config.json").read_text())
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(Path(settings["weights"]["source"]).read_bytes())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    settings["weights"]["source"] = str(tmp_path / "gone.safetensors")
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
    tiny.change_config(tmp_path / "model")
    predictor = clouds.load(tmp_path / "model")
    with pytest.raises(UsageError, match=r"gone\.safetensors"):
        predictor.with_classes("scooter")
    assert predictor.with_classes("scooter", weights=str(moved)).classes == ("scooter",)
    save_file(tiny_clip.clip("tiny-resnet", seed=9).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(BackendError, match="embeds 'road' otherwise than this model's vocabulary"):
        predictor.with_classes("scooter", weights=str(tmp_path / "other.safetensors"))


def test_a_linear_head_has_no_open_vocabulary(tmp_path):
    from conftest import small_model

    save_model(small_model(head="linear"), tmp_path / "model")
    with pytest.raises(UsageError, match=r"class head is linear.*model\.head=text has an open vocabulary"):
        clouds.load(tmp_path / "model").predict(PHOTO, classes=["road"])


MANY = ",".join(map(str, range(256)))


@pytest.mark.parametrize("names", ["", "road,,sky", "road,road", "road|car,car", "road|", MANY, []])
def test_names_that_cannot_be_are_refused(names):
    with pytest.raises(UsageError, match="expected 1 to 255 different names"):
        parse_names(names)


def test_names_are_parsed_with_their_synonyms():
    assert parse_names(" scooter , road | street") == [["scooter"], ["road", "street"]]
    assert parse_names(["fire, smoke", "road"]) == [["fire, smoke"], ["road"]]


def test_colours_are_the_known_ones_or_far_from_all():
    names = [*NAMES, *(f"thing {i}" for i in range(60))]
    colors = colors_of(names)
    assert colors[:19] == [list(color) for color in COLORS]
    table = np.array(colors)
    distance = np.abs(table[:, None] - table[None]).sum(-1) + 999 * np.eye(len(table), dtype=int)
    assert distance[19:].min() >= 60
    assert colors_of(["road", "kiosk"], {"road": [1, 2, 3]})[0] == [1, 2, 3]
