"""Exports of annotation tools in a recipe: sources, domains and photographs, their classes folded by name."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import clouds
from clouds import cli
from clouds.config.load import load_recipe
from clouds.data.labelled import make_source, open_sets
from clouds.data.photographs import find_photographs, read_photographs
from clouds.errors import UsageError
from clouds.evaluate.domains import unseen_domains
from clouds.model import vocabulary
from fabricate import as_folder, as_zip
from fabricate_formats import MADE, names

CLASSES = {"background": ["ground"], "car": ["car"], "plant": ["tree", "plant"]}
SMALL = {
    "model": {"hidden": 32, "queries": 8, "heads": 4, "pixel_layers": 1, "layers": 2, "pixel_ffn": 32, "ffn": 32},
    "augment": {"crop": [32, 32]}, "generate": {"size": [32, 32], "count": 0}, "loss": {"points": 64},
    "train": {"steps": 2, "batch_size": 2, "workers": 1, "checkpoint_every": 4, "log_every": 2},
}  # fmt: skip
PLANT = {"tree": "plant"}


@pytest.fixture(scope="module", autouse=True)
def few_sentences():
    """One template of 14: the text tower embeds few sentences."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])
        yield


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A recipe that learns from COCO and YOLO files, knows labelme's pictures, and is scored on CVAT's XML."""
    folder = tmp_path_factory.mktemp("formats")
    as_folder(MADE["coco of its site"][1](), folder / "coco")
    as_zip(MADE["yolo of Roboflow"][1](), folder / "yolo.zip")
    as_folder(MADE["labelme"][1](), folder / "labelme")
    as_zip(MADE["XML of CVAT"][1](), folder / "cvat.zip")
    values = {
        "extends": "demo", **SMALL, "model": {**SMALL["model"], "classes": CLASSES},
        "data": {
            "source": [
                {"dataset": "coco", "root": str(folder / "coco"), "label_map": PLANT,
                 "annotations": "annotations/instances_*.json"},
                {"dataset": "yolo", "root": str(folder / "yolo.zip"), "label_map": {**PLANT, "background": None}},
            ],
            "unlabelled": [{"dataset": "labelme", "root": str(folder / "labelme")},
                           {"dataset": "yolo", "root": str(folder / "yolo.zip"), "split": "valid"}],
        },
        "evaluate": {"shorter_side": 48, "domains": [
            {"name": "street", "dataset": "cvat", "root": str(folder / "cvat.zip"), "label_map": PLANT},
        ]},
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def ran(*words: object) -> str:
    """What a command prints on stdout; it must succeed."""
    out, complaint = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(complaint):
        code = cli.run([str(word) for word in words])
    assert code == 0, complaint.getvalue()
    return out.getvalue()


def written(values: dict[str, Any], folder: Path) -> Path:
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def test_labels_meet_the_models_classes(recipe: Path, tmp_path: Path) -> None:
    read = load_recipe(str(recipe))
    source = make_source(read, open_sets(read), tmp_path)
    expected = np.select([names() == "car", names() == "tree"], [1, 2], 0)
    assert np.array_equal(source.label(0), expected)
    assert np.array_equal(source.label(1), np.where(expected == 0, 255, expected))  # its background is left out
    (domain,) = unseen_domains(read)
    name, image, label = domain.sample(0)
    assert (name, image.shape) == ("Validation/q1", (48, 64, 3))
    assert np.array_equal(label, expected)
    assert domain.label_set.classes == tuple(CLASSES)


def test_folds_and_what_is_not_learned_are_shown(recipe: Path, tmp_path: Path) -> None:
    shown = json.loads(ran("classes", recipe, "--json"))
    learned = {"car": "car", "tree": "plant", "background": "background"}
    assert [each["folds"] for each in shown["sources"]] == [learned, {**learned, "background": None}]
    values = yaml.safe_load(recipe.read_text())
    values["data"]["source"][0]["label_map"] = {"car": None}
    found = json.loads(ran("check", written(values, tmp_path), "--out", tmp_path, "--json"))
    assert found["problems"] == []
    assert [each["pairs"] for each in found["datasets"]] == [1, 1, 1, 3, 1]
    assert "coco: tree: not among the model's classes, ignored unless a label_map names them" in found["warnings"]


def test_a_name_in_other_capitals_is_shown_with_its_remedy(recipe: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(recipe.read_text())
    values["model"]["classes"] = {"Car": ["car"], "plant": ["plant"]}
    del values["data"]["source"][1]["label_map"]["background"]
    found = json.loads(ran("check", written(values, tmp_path), "--out", tmp_path, "--json"))
    line = "car, background: not among the model's classes, ignored unless a label_map names them; names must be the " \
        "same, so write label_map: {car: Car}"  # fmt: skip
    assert {f"coco: {line}", f"yolo: {line}"} <= {*found["warnings"]}


def test_a_model_is_trained_and_scored(recipe: Path, tmp_path: Path) -> None:
    ran("train", recipe, "--out", tmp_path / "run", "train.stage=warmup")
    assert clouds.load(tmp_path / "run/warmup").classes == tuple(CLASSES)
    scores = json.loads(ran("evaluate", tmp_path / "run/warmup", recipe, "--json"))
    assert [(row["name"], list(row["iou"])) for row in scores["domains"]] == [("street", [*CLASSES])]


def test_a_set_without_a_split_to_learn_from_asks_for_one(recipe: Path, tmp_path: Path) -> None:
    files = {name: content for name, content in MADE["coco of its site"][1]().items() if "train" not in name}
    values = yaml.safe_load(recipe.read_text())
    root = str(as_folder(files, tmp_path / "coco"))
    values["data"]["source"] = [{"dataset": "coco", "root": root, "label_map": PLANT}]
    with pytest.raises(UsageError, match=r"data\.source: coco has no split 'train'; it has val, say which: split"):
        open_sets(load_recipe(str(written(values, tmp_path))))
    values["data"]["source"][0]["split"] = "val"
    assert len(open_sets(load_recipe(str(written(values, tmp_path))))[0]) == 1


def test_photographs_are_the_images_of_an_export(recipe: Path, tmp_path: Path) -> None:
    read = load_recipe(str(recipe))
    for _ in range(2):  # the second time from the record
        found = read_photographs(read, find_photographs(read.data), tmp_path)
        assert [len(each) for each in found] == [3, 1]
        assert {each.pixels().shape for own in found for each in own} == {(48, 64, 3)}
    rows = [json.loads(line) for line in (tmp_path / "photographs.jsonl").read_text().splitlines()]
    assert [row.get("member") for row in rows] == [None, "c/p2.json", None, "valid/images/valid.jpg"]


def test_a_broken_export_is_a_problem_of_the_recipe(recipe: Path, tmp_path: Path) -> None:
    root = as_folder(MADE["yolo of Roboflow"][1]() | {"data.yaml": b"nc: 3\nnames: [car, tree]\n"}, tmp_path / "yolo")
    values = yaml.safe_load(recipe.read_text())
    values["data"]["source"][1]["root"] = values["evaluate"]["domains"][0]["root"] = str(root)
    del values["data"]["unlabelled"][1]
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        code = cli.run(["check", str(written(values, tmp_path)), "--out", str(tmp_path / "out"), "--json"])
    assert code == 1
    problems = json.loads(out.getvalue())["problems"]
    assert [each["what"].partition(";")[0] for each in problems] == [
        "nc is 3, but names has 2 classes", "cvat: holds no annotations",
    ]  # fmt: skip
