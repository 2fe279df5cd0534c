"""`clouds check RECIPE`: its sources as it learns from them, its targets, and what its labels cannot teach."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from clouds import cli
from clouds.check.contact import MARGIN
from fabricate import SIZE, as_folder, make, pick, picture, png


def run(capsys, tmp_path, *words: str) -> tuple[int, dict]:
    """Exit code and the JSON object, which stands alone on stdout."""
    code = cli.run(["check", *words, "--json", "--out", str(tmp_path / "out")])
    return code, json.loads(capsys.readouterr().out)


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
    assert "not in the source's label set, so the model cannot learn: terrain, truck, train" in result["warnings"]
    assert any("synthia: images of 10x6 are smaller than the crop of 64x64" in w for w in result["warnings"])


def test_a_class_that_could_be_there_and_is_not_is_zero(capsys, tmp_path, recipe):
    for label in (tmp_path / "synthia" / "RAND_CITYSCAPES" / "GT" / "LABELS").iterdir():
        label.write_bytes(png(np.full((6, 10, 3), 3, np.uint8)))
    code, result = run(capsys, tmp_path, str(recipe))
    assert code == 0
    assert result["histogram"]["motorcycle"] == 0.0
    assert result["histogram"]["train"] is None
    (never,) = (w for w in result["warnings"] if w.startswith("never occurs in the 5 source labels looked at"))
    assert "motorcycle" in never.split(": ")[1].split(", ")


def test_problems_of_a_recipes_sets_come_together(capsys, tmp_path, recipe):
    next((tmp_path / "synthia" / "RAND_CITYSCAPES" / "RGB").iterdir()).write_bytes(b"")
    next((tmp_path / "bdd100k" / "images" / "10k" / "val").iterdir()).write_bytes(b"")
    code, result = run(capsys, tmp_path, str(recipe), f"data.root={tmp_path}")
    assert code == 1
    assert len(result["problems"]) == 2
    assert sum(len(each["problems"]) for each in result["datasets"]) == 2


def test_the_rendered_source_is_looked_at_too(capsys, tmp_path):
    code, result = run(capsys, tmp_path, "demo", "data.source_count=3", "data.source_size=[256,512]")
    assert code == 0
    assert (result["dataset"], result["pairs"], result["datasets"][0]["decoded"]) == ("streets", 3, 3)
    assert result["histogram"]["road"] > 0.05
    sheet = cv2.imread(result["datasets"][0]["contact_sheet"])
    assert (sheet[:, -MARGIN:] == 255).all(), "every picture is inside its margins"


def test_a_recipe_is_checked_on_the_split_it_learns_from(capsys, tmp_path):
    """Only val is there: fine for the dataset, but training on it would stop at once."""
    files = {n: c for n, c in make("cityscapes").files.items() if "/val/" in n}
    city = as_folder(files, tmp_path / "cityscapes")
    words = ["demo", "data.source=cityscapes", f"data.root={tmp_path}"]
    code, result = run(capsys, tmp_path, *words)
    assert code == 1
    (problem,) = result["problems"]
    assert problem["path"] == str(city)
    assert "has no files of split 'train'" in problem["what"]
    assert set(result["histogram"].values()) == {None}
    assert result["warnings"] == [], "all 19 could be there; nothing was counted"
    as_folder({n.replace("/val/", "/train/"): c for n, c in files.items()}, tmp_path / "cityscapes")
    code, result = run(capsys, tmp_path, *words)
    assert (code, result["pairs"], result["datasets"][0]["splits"]) == (0, 2, {"train": 2})


OWN = """
data:
  source:
    dataset: folder
    root: {root}
    images: "frames/{{split}}/{{key}}.{{ext}}"
    labels: "masks/{{split}}/{{key}}.png"
    split: day
    label_set: {{street: [road], path: [sidewalk], machine: [truck, car], water: []}}
    label_map: {{7: street, 8: path, 26: machine, 40: water, 0: null}}
"""


def test_a_folder_with_a_label_map_in_a_recipe(capsys, tmp_path):
    own = tmp_path / "own"
    files = {"frames/day/a/1.png": png(picture(0)), "masks/day/a/1.png": png(pick(0, [7, 26, 40, 0]).astype(np.uint8))}
    as_folder(files, own)
    (tmp_path / "mine.yaml").write_text(OWN.format(root=own))
    code, result = run(capsys, tmp_path, str(tmp_path / "mine.yaml"))
    assert (code, result["pairs"], result["datasets"][0]["label_set"]) == (0, 1, "own")
    quarter, third = pytest.approx(1 / 4), pytest.approx(1 / 3)
    assert result["datasets"][0]["histogram"] == {"street": third, "path": 0.0, "machine": third, "water": third}
    assert result["datasets"][0]["ignored"] == quarter
    shown = {name: share for name, share in result["histogram"].items() if share is not None}
    assert shown == {"road": pytest.approx(0.5), "sidewalk": 0.0, "truck": pytest.approx(0.5)}, "water teaches nothing"
    (absent,) = (warning for warning in result["warnings"] if warning.startswith("not in the source's label set"))
    assert len(absent.split(", so the model cannot learn: ")[1].split(", ")) == 16
    (own / "masks/day/a/1.png").write_bytes(png(pick(0, [7, 9]).astype(np.uint8)))
    code, result = run(capsys, tmp_path, str(tmp_path / "mine.yaml"))
    assert code == 1
    (problem,) = result["problems"]
    assert problem["path"] == str(own / "masks/day/a/1.png")
    assert re.search("label values 9 are outside", problem["what"])


def test_sets_of_one_name_have_contact_sheets_of_their_own(capsys, tmp_path):
    for name in "ab":
        as_folder(make("carla").files, tmp_path / name)
    sources = ", ".join(f"{{dataset: carla, root: {tmp_path / name}}}" for name in "ab")
    (tmp_path / "two.yaml").write_text(f"data: {{source: [{sources}]}}\n")
    code, result = run(capsys, tmp_path, str(tmp_path / "two.yaml"))
    assert code == 0
    sheets = [Path(each["contact_sheet"]) for each in result["datasets"]]
    assert [sheet.name for sheet in sheets] == ["carla.png", "carla-2.png"]
    assert sorted((tmp_path / "out").iterdir()) == sorted(sheets)


def test_a_problem_of_source_and_target_alike_is_one_problem(capsys, tmp_path):
    root = as_folder(make("idd-lite").files, tmp_path / "idd20k_lite")
    (root / "gtFine/val/3/004642_label.png").write_bytes(b"")
    words = ["data.source=idd-lite", f"data.root={tmp_path}"]
    (tmp_path / "r.yaml").write_text("data: {source: {dataset: idd-lite, split: val}}")
    code, result = run(capsys, tmp_path, str(tmp_path / "r.yaml"), f"data.root={tmp_path}")
    assert code == 1
    assert [each["dataset"] for each in result["datasets"]] == ["idd-lite", "idd-lite"]
    assert [len(each["problems"]) for each in result["datasets"]] == [1, 1]
    assert len(result["problems"]) == 1
    code, result = run(capsys, tmp_path, "demo", *words)
    assert [len(each["problems"]) for each in result["datasets"]] == [0, 1], "learns from train, is scored on val"


def test_a_data_root_of_nothing_is_a_problem(capsys, tmp_path):
    (tmp_path / "data").mkdir()
    small = ["data.source_count=1", "data.source_size=[64,128]"]
    code, result = run(capsys, tmp_path, "demo", *small, f"data.root={tmp_path / 'data'}")
    assert code == 1
    what = "holds none of bdd100k, camvid, idd20k_lite; expected a folder per dataset"
    assert result["problems"] == [{"path": str(tmp_path / "data"), "what": what}]
    as_folder(make("gta5").files, tmp_path / "data" / "gta5")
    code, result = run(capsys, tmp_path, "demo", "data.source=gta5", f"data.root={tmp_path / 'data'}")
    assert (code, result["problems"]) == (0, []), "the source is there; targets are no must"


def test_labels_that_are_mostly_ignored_are_warned_of(capsys, tmp_path):
    label = np.full(SIZE, 255, np.uint8)
    label[:2] = 0
    own = as_folder({"images/a.png": png(picture(0)), "labels/a.png": png(label)}, tmp_path / "own")
    (tmp_path / "r.yaml").write_text(f"data: {{source: {{dataset: folder, root: {own}}}}}")
    code, result = run(capsys, tmp_path, str(tmp_path / "r.yaml"))
    assert (code, result["datasets"][0]["ignored"]) == (0, pytest.approx(2 / 3))
    assert "folder: 67 % of the label pixels looked at are ignored" in result["warnings"]
    label[:4] = 0
    (own / "labels/a.png").write_bytes(png(label))
    _, result = run(capsys, tmp_path, str(tmp_path / "r.yaml"))
    assert not any("ignored" in warning for warning in result["warnings"])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["data.source=citscapes"], "data.source: unknown dataset 'citscapes'; did you mean cityscapes.*, streets"),
        (["data.source=cityscapes"], "data.source: cityscapes needs data.root=PATH"),
        (["data.source=generated"], "data.source: generated has no labels to learn from"),
        (["data.root=/nowhere"], "data.root: /nowhere is not a folder; expected one with a folder per dataset"),
    ],
)
def test_recipes_that_cannot_be_meant_exit_with_2_and_write_nothing(capsys, tmp_path, words, complaint):
    assert cli.run(["check", "demo", *words, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr()
    assert re.search(complaint, shown.err)
    assert shown.out == ""
    assert not (tmp_path / "out").exists()


def test_photographs_without_labels_are_looked_through(capsys, tmp_path, recipe):
    folder = tmp_path / "photographs"
    sizes = {"a.png": (80, 120), "small.png": (40, 90), "upright.png": (200, 100)}
    as_folder({name: png(picture(k, size)) for k, (name, size) in enumerate(sizes.items())}, folder)
    (folder / "twin.png").write_bytes((folder / "a.png").read_bytes())
    learned = next(iter(sorted((tmp_path / "camvid" / "train").glob("*.png"))))
    scored = next(iter(sorted((tmp_path / "bdd100k").rglob("*.jpg"))))
    for path in (learned, scored):
        (folder / f"copy{path.suffix}").write_bytes(path.read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    code, result = run(capsys, tmp_path, str(recipe), f"data.root={tmp_path}", f"data.unlabelled={folder}")
    assert code == 1
    assert [problem["path"] for problem in result["problems"]] == [str(folder / "broken.png")]
    (found,) = [each for each in result["datasets"] if each["dataset"] == "photos"]
    assert (found["pairs"], found["decoded"], found["splits"]) == (7, 6, {"pictures": 7})
    warnings = "\n".join(result["warnings"])
    for said in (
        "3 of 6 photos looked at are smaller than the crop of 64x64",
        "1 of 6 photos looked at are taller than wide",
        f"1 photo twice, such as {folder / 'twin.png'}",
        f"1 photo also in the source camvid, such as {folder / 'copy.png'}; they are learned from",
        f"1 photo also in bdd100k, such as {folder / 'copy.jpg'}; a score there would be",
    ):
        assert said in warnings, said
