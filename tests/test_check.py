"""`clouds check`: everything that is wrong with a dataset or a recipe's data, at once, before any work."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from clouds import check, cli
from clouds.data import inspect
from clouds.data.datasets import DATASETS, FOLDERS
from fabricate import as_folder, as_tar, as_zip, make, picture, png

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


def run(capsys, tmp_path, *words: str) -> tuple[int, dict]:
    """Exit code and the JSON object, which stands alone on stdout."""
    code = cli.run(["check", *words, "--json", "--out", str(tmp_path / "out")])
    return code, json.loads(capsys.readouterr().out)


def what(result: dict) -> list[tuple[str, str]]:
    return [(Path(problem["path"]).name, problem["what"]) for problem in result["problems"]]


@pytest.fixture
def city(tmp_path) -> Path:
    return as_folder(make("cityscapes").files, tmp_path / "cityscapes")


@pytest.mark.parametrize("pack", ["folder", "zip", "tar.gz"])
@pytest.mark.parametrize("kind", ["cityscapes", "gta5", "synthia", "camvid", "idd-lite", "carla", "acdc", "urbansyn"])
def test_a_whole_set_has_no_problem(capsys, tmp_path, kind, pack):
    made = make(kind)
    root = {
        "folder": lambda: as_folder(made.files, tmp_path / "set"),
        "zip": lambda: as_zip(made.files, tmp_path / "set" / "all.zip").parent,
        "tar.gz": lambda: as_tar(made.files, tmp_path / "set.tar.gz"),
    }[pack]()
    code, result = run(capsys, tmp_path, kind, "--root", str(root))
    assert code == 0
    assert result["problems"] == []
    assert result["dataset"] == kind
    assert result["pairs"] == result["decoded"] == len(made.labels)
    names = dict(zip(result["histogram"], range(99), strict=False))
    labels = np.stack(list(made.labels.values()))
    for name, share in result["histogram"].items():
        assert share == pytest.approx((labels == names[name]).sum() / (labels != 255).sum())
    assert sum(result["histogram"].values()) == pytest.approx(1)
    assert result["ignored"] == pytest.approx((labels == 255).mean())
    assert set(result["splits"]) <= set(DATASETS[kind].splits) - {"all"}
    assert sum(result["splits"].values()) == result["pairs"]
    assert cv2.imread(result["contact_sheet"]).shape[0] > 100


def test_every_problem_is_listed_at_once(capsys, tmp_path, city):
    key, other = "frankfurt/frankfurt_000000_000294", "lindau/lindau_000001_000019"
    image, label = "leftImg8bit/{}/{}_leftImg8bit.png", "gtFine/{}/{}_gtFine_labelIds.png"
    (city / label.format("train", key)).unlink()
    (city / image.format("train", other)).write_bytes(b"nothing of the kind")
    cut = city / label.format("train", other)
    cut.write_bytes(cut.read_bytes()[:-20])
    (city / label.format("val", key)).write_bytes(png(np.full((6, 10), 77, np.uint8)))
    (city / image.format("val", other)).write_bytes(png(picture(0, (7, 10))))
    code, result = run(capsys, tmp_path, "cityscapes", "--root", str(city))
    assert code == 1
    assert len(result["problems"]) == 5
    found = {"/".join(Path(p["path"]).parts[-3:]): p["what"] for p in result["problems"]}
    assert "has no label" in found[f"train/{key}_leftImg8bit.png"]
    assert "expected a PNG or JPEG" in found[f"train/{other}_leftImg8bit.png"]
    assert "truncated" in found[f"train/{other}_gtFine_labelIds.png"]
    assert "values 77 are outside" in found[f"val/{key}_gtFine_labelIds.png"]
    told = [w for _, w in what(result)]
    assert any(re.search("label is 10x6 but its image .* is 10x7", w) for w in told)
    assert result["decoded"] == 0
    for problem in result["problems"]:
        assert Path(problem["path"]).exists()
        assert problem["path"] not in problem["what"]


def test_problems_in_archives_name_the_member(capsys, tmp_path):
    files = make("gta5").files
    files["labels/00001.png"] = b"broken"
    root = as_zip(files, tmp_path / "gta5" / "part.zip").parent
    code, result = run(capsys, tmp_path, "gta5", "--root", str(root))
    assert code == 1
    (problem,) = result["problems"]
    assert problem["path"] == f"{root}/part.zip:labels/00001.png"
    (root / "part.zip").write_bytes(b"PK no more")
    code, result = run(capsys, tmp_path, "gta5", "--root", str(root))
    assert code == 1
    assert result["problems"][0]["path"] == f"{root}/part.zip"
    assert "not a whole archive" in result["problems"][0]["what"]
    assert result["pairs"] == 0
    assert set(result["histogram"].values()) == {None}, "nothing was counted"


def test_the_wrong_level_hints_at_the_right_one(capsys, tmp_path, city):
    code, result = run(capsys, tmp_path, "cityscapes", "--root", str(city / "leftImg8bit"))
    assert code == 1
    assert result["problems"] == [
        {"path": str(city / "leftImg8bit"), "what": f"wrong folder level for cityscapes; use {city}"}
    ]


def test_no_folder_is_a_problem_with_its_path(capsys, tmp_path):
    code, result = run(capsys, tmp_path, "camvid", "--root", str(tmp_path / "lost"))
    assert code == 1
    assert result["problems"][0]["path"] == str(tmp_path / "lost")
    assert "no such folder" in result["problems"][0]["what"]


def test_an_absent_split_is_no_problem_and_an_empty_one_is(capsys, tmp_path):
    files = {n: c for n, c in make("cityscapes").files.items() if "/train/" in n}
    city = as_folder(files, tmp_path / "c")
    code, result = run(capsys, tmp_path, "cityscapes", "--root", str(city))
    assert (code, result["splits"]) == (0, {"train": 2})
    (city / "leftImg8bit" / "val").mkdir()
    code, result = run(capsys, tmp_path, "cityscapes", "--root", str(city))
    assert code == 1
    assert result["problems"] == [
        {"path": str(city / "leftImg8bit" / "val"), "what": "holds no image of split 'val'"}
    ]
    code, result = run(capsys, tmp_path, "cityscapes", "--root", str(city), "split=train")
    assert code == 0
    code, result = run(capsys, tmp_path, "camvid-dusk", "--root", str(city), "split=test")
    assert code == 1


def test_a_sample_is_decoded_unless_all_are_asked_for(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(inspect, "SAMPLE", 3)
    folder = tmp_path / "own"
    for k in range(9):
        for name, picture_ in (("images", picture(k)), ("labels", np.full((6, 10), k % 3, np.uint8))):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / f"{k}.png").write_bytes(png(picture_))
    (folder / "labels" / "5.png").write_bytes(b"")
    code, result = run(capsys, tmp_path, "folder", "--root", str(folder))
    assert (code, result["pairs"], result["decoded"]) == (0, 9, 3)
    code, result = run(capsys, tmp_path, "folder", "--root", str(folder), "--full")
    assert (code, result["decoded"]) == (1, 8)
    assert [name for name, _ in what(result)] == ["5.png"]


def test_any_folder_is_told_its_layout(capsys, tmp_path):
    (tmp_path / "own" / "a").mkdir(parents=True)
    (tmp_path / "own" / "b").mkdir()
    (tmp_path / "own" / "a" / "x.png").write_bytes(png(picture(0)))
    (tmp_path / "own" / "b" / "x.png").write_bytes(png(np.full((6, 10), 8, np.uint8)))
    layout = ["images=a/{key}.png", "labels=b/{key}.png", "label_set=camvid11"]
    code, result = run(capsys, tmp_path, "folder", "--root", str(tmp_path / "own"), *layout)
    assert (code, result["histogram"]["car"], result["label_set"]) == (0, 1.0, "camvid11")
    assert any("sky never occurs in the 1 labels" in warning for warning in result["warnings"])


RECIPE = """
data:
  source: [{{dataset: synthia, root: {root}/synthia}}, {{dataset: camvid, root: {root}/camvid, split: train}}]
generate: {{size: [64, 64]}}
augment: {{crop: [64, 64]}}
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
    for kind in ("synthia", "camvid", "bdd100k"):
        as_folder(make(kind).files, tmp_path / kind)
    path = tmp_path / "own.yaml"
    path.write_text(RECIPE.format(root=tmp_path))
    return path


def test_a_recipe_is_checked_with_its_sources_and_targets(capsys, tmp_path, recipe):
    code, result = run(capsys, tmp_path, str(recipe), f"data.root={tmp_path}")
    assert code == 0
    assert result["recipe"] == "own"
    assert result["dataset"] == "synthia, camvid"
    assert result["pairs"] == 2 + 3
    sets = [each["dataset"] for each in result["datasets"]]
    assert sets == ["synthia", "camvid", "camvid-day", "camvid-dusk", "bdd100k"]
    absent = {name for name, share in result["histogram"].items() if share is None}
    assert absent == {"terrain", "truck", "train"}, "no class of SYNTHIA's 16 nor of CamVid's 11"
    assert sum(share or 0 for share in result["histogram"].values()) == pytest.approx(1)
    assert any("train is no class of the source's label set" in w for w in result["warnings"])
    assert any("synthia: images of 10x6 are smaller than the crop of 64x64" in w for w in result["warnings"])


def test_a_class_that_could_be_there_and_is_not_is_zero(capsys, tmp_path, recipe):
    for label in (tmp_path / "synthia" / "RAND_CITYSCAPES" / "GT" / "LABELS").iterdir():
        label.write_bytes(png(np.full((6, 10, 3), 3, np.uint8)))
    code, result = run(capsys, tmp_path, str(recipe))
    assert code == 0
    assert result["histogram"]["motorcycle"] == 0.0
    assert result["histogram"]["train"] is None
    assert any(w.startswith("motorcycle never occurs in the 5 source labels") for w in result["warnings"])


def test_problems_of_a_recipes_sets_come_together(capsys, tmp_path, recipe):
    next((tmp_path / "synthia" / "RAND_CITYSCAPES" / "RGB").iterdir()).write_bytes(b"")
    next((tmp_path / "bdd100k" / "images" / "10k" / "val").iterdir()).write_bytes(b"")
    code, result = run(capsys, tmp_path, str(recipe), f"data.root={tmp_path}")
    assert code == 1
    assert len(result["problems"]) == 2
    assert sum(len(each["problems"]) for each in result["datasets"]) == 2


def test_the_rendered_source_is_looked_at_too(capsys, tmp_path):
    code, result = run(capsys, tmp_path, "demo", "data.source_count=3", "data.source_size=[64,128]")
    assert code == 0
    assert (result["dataset"], result["pairs"], result["datasets"][0]["decoded"]) == ("streets", 3, 3)
    assert result["histogram"]["road"] > 0.05


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere"], "neither a dataset .*camvid.*nor a shipped recipe .*demo.*nor a YAML file"),
        (["camvid"], r"camvid: say where it is: --root PATH"),
        (["demo", "--root", "x"], "--root: is for a dataset"),
        (["camvid", "splitt=val", "--root", "x"], "splitt: unknown key; did you mean .*split"),
        (["camvid", "split=nine", "--root", "x"], "camvid has no split 'nine'; it has train, val, test"),
        (["demo", "train.stepz=3"], "train.stepz: unknown key"),
    ],
)
def test_requests_that_make_no_sense_exit_with_2(capsys, tmp_path, words, complaint):
    assert cli.run(["check", *words, "--out", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert re.search(complaint, told.err)
    assert told.out == ""


def test_the_text_says_it_all(capsys, tmp_path, city):
    (city / "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png").unlink()
    assert cli.run(["check", "cityscapes", "--root", str(city), "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert f"cityscapes in {city}: 3 pairs (train 2, val 1), 3 decoded whole" in told
    assert "1 problem:" in told
    assert "lindau_000001_000019_leftImg8bit.png: has no label; expected gtFine/val/lindau" in told
    assert re.search(r"road +\d+\.\d\d % #+", told)
    assert re.search(r"contact sheet: /.*cityscapes\.png", told)
    assert "no problem found" not in told


def test_shares_are_told_as_they_are():
    lines = check._bars({"road": 0.99999, "bus": 0.00001, "train": 0.0, "sky": None})
    assert [line.split()[1] for line in lines] == ["100.00", "<0.01", "never", "-"]


@pytest.mark.parametrize(("name", "pairs"), [("camvid", 417), ("idd-lite", 1607), ("bdd100k", 24), ("carla", 59)])
def test_the_real_sets_have_no_problem(capsys, tmp_path, name, pairs):
    folder = REAL / FOLDERS[name]
    if not folder.is_dir():
        pytest.skip(f"REAL DATA MISSING: {folder} is not there, the check of {name} on real files did not run")
    code, result = run(capsys, tmp_path, name, f"data.root={REAL}")
    assert (code, result["pairs"], result["problems"]) == (0, pairs, [])
