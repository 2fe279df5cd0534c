"""`clouds classes`: label sets and their folding, shown from the data that scoring uses."""

import json
import re
from pathlib import Path

import pytest

from clouds import cli
from clouds.config.label_sets import NAMES
from clouds.data import LABEL_SETS, folding
from clouds.data.class_tables import class_tables, tables_text
from clouds.data.datasets import DATASETS, dataset_names

DOCS = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"


def run(capsys, *words: str) -> dict:
    assert cli.run(["classes", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_all_sets_and_datasets_are_listed(capsys):
    found = run(capsys)
    assert {name: len(classes) for name, classes in found["label_sets"].items()} == {
        "cityscapes19": 19, "synthia16": 16, "synthia13": 13, "camvid11": 11, "idd-lite7": 7, "carla13": 13,
    }  # fmt: skip
    assert {*found["datasets"], *found["formats"], "folder"} == set(dataset_names())
    assert found["datasets"]["camvid"]["label_set"] == "camvid11"
    assert cli.run(["classes"]) == 0
    text = capsys.readouterr().out
    for name in (*LABEL_SETS, *dataset_names()):
        assert re.search(rf"(?m)^ *{name} ", text)


@pytest.mark.parametrize("name", LABEL_SETS)
def test_what_is_shown_is_what_scoring_folds(capsys, name):
    found = run(capsys, name)
    table = folding(LABEL_SETS[name])
    for row in found["classes"]:
        assert {NAMES[k] for k in range(19) if table[k] == row["index"]} == set(row["holds"])
    assert found["not_scored"] == [NAMES[k] for k in range(19) if table[k] == 255]


def test_a_datasets_set_in_words(capsys):
    assert cli.run(["classes", "synthia"]) == 0
    text = capsys.readouterr().out
    assert "synthia16, of synthia: 16 classes" in text
    assert "not scored here (null, never zero): terrain, truck, train" in text
    assert "\x1b" not in text, "no colour codes into a pipe"
    assert cli.run(["classes", "idd-lite"]) == 0
    assert re.search(r"vehicles +car +car, truck, bus, train, motorcycle, bicycle", capsys.readouterr().out)


def test_a_terminal_sees_each_class_in_its_colour():
    text = tables_text(class_tables("camvid11"), colour=True)
    for name, color in zip(LABEL_SETS["camvid11"].classes, LABEL_SETS["camvid11"].colors, strict=True):
        assert re.search(r"\x1b\[48;2;{};{};{}m  \x1b\[0m {} ".format(*color, name), text)


def test_an_unknown_name_lists_what_there_is(capsys):
    assert cli.run(["classes", "cocostuff"]) == 2
    complaint = capsys.readouterr().err
    assert re.search("'cocostuff': neither a recipe, nor a label set .*synthia13.*nor a dataset .*gta5", complaint)


def test_the_documentation_lists_every_dataset_as_it_is():
    table, _, _ = DOCS.read_text().partition("## Which files to download")
    lines = re.findall(r"(?m)^\| ((?:`[\w-]+`(?:, )?)+) \| (.*) \|$", table)  # a row may hold several names
    rows = {name: facts for names, facts in lines for name in re.findall(r"`([\w-]+)`", names)}
    assert set(rows) == set(DATASETS)
    for name, spec in DATASETS.items():
        label_set = spec.label_set if isinstance(spec.label_set, str) else spec.label_set.name
        for fact in (f"`{spec.folder}/`", label_set, ", ".join(spec.splits), spec.licence):
            assert fact in rows[name], (name, fact)
