"""`clouds check`: everything that is wrong with a dataset or a recipe's data, at once, before any work."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from clouds import cli
from clouds.check import data as check
from clouds.check import inspect
from clouds.check.contact import CAPTION, LINE, MARGIN
from clouds.check.inspect import THUMBNAIL
from clouds.data import datasets
from clouds.data.datasets import DATASETS, FOLDERS
from fabricate import as_folder, as_tar, as_zip, make, picture, png

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


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
    assert "expected a PNG, JPEG" in found[f"train/{other}_leftImg8bit.png"]
    assert "truncated" in found[f"train/{other}_gtFine_labelIds.png"]
    assert "values 77 are outside" in found[f"val/{key}_gtFine_labelIds.png"]
    shown = [w for _, w in what(result)]
    assert any(re.search("label is 10x6 but its image .* is 10x7", w) for w in shown)
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
    assert "not a complete archive" in result["problems"][0]["what"]
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
    empty = {"path": str(city / "leftImg8bit" / "val"),
             "what": "holds no image of split 'val'; expected leftImg8bit/val/*_leftImg8bit.png"}  # fmt: skip
    assert result["problems"] == [empty]
    code, result = run(capsys, tmp_path, "cityscapes", "--root", str(city), "split=train")
    assert code == 0
    code, result = run(capsys, tmp_path, "camvid-dusk", "--root", str(city), "split=test")
    assert code == 1


def test_a_set_of_nothing_but_an_empty_split_names_its_folder(capsys, tmp_path):
    for name, folder, expected in (
        ("cityscapes", "leftImg8bit/train", "leftImg8bit/train/*_leftImg8bit.png"),
        ("gta5", "images", "images/*.png"),
    ):
        (tmp_path / name / folder).mkdir(parents=True)
        code, result = run(capsys, tmp_path, name, "--root", str(tmp_path / name))
        assert code == 1
        what = f"holds no image of split 'train'; expected {expected}"
        assert result["problems"] == [{"path": str(tmp_path / name / folder), "what": what}]


def test_an_empty_split_in_another_layout_of_the_set(capsys, tmp_path):
    files = {
        n.replace("images/10k", "seg/images").replace("labels/sem_seg/masks", "seg/labels").replace(
            ".png", "_train_id.png"
        ): c
        for n, c in make("bdd100k").files.items()
        if "/train/" in n
    }
    root = as_folder(files, tmp_path / "bdd100k")
    (root / "seg/images/val").mkdir()
    code, result = run(capsys, tmp_path, "bdd100k", "--root", str(root))
    assert (code, result["splits"]) == (1, {"train": 2})
    assert [p["path"] for p in result["problems"]] == [str(root / "seg/images/val")]


@pytest.mark.parametrize("name", ["2024", "null", "a: b #c", "[x]"])
def test_a_folder_may_have_any_name(capsys, tmp_path, monkeypatch, name):
    root = as_folder(make("carla").files, tmp_path / name)
    (root / "labels" / "town_000.png").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    code, result = run(capsys, tmp_path, "carla", "--root", name)
    assert (code, result["pairs"], result["decoded"]) == (1, 2, 1)
    assert [p["path"] for p in result["problems"]] == [f"{name}/labels/town_000.png"]
    assert result["problems"][0]["what"].startswith("a file that starts with b'x'")


def test_a_set_without_labels_has_no_histogram(capsys, tmp_path):
    files = {"metadata.jsonl": b'{"file_name": "a.png"}', "a.png": png(picture(0))}
    root = as_folder(files, tmp_path / "generated")
    code, result = run(capsys, tmp_path, "generated", "--root", str(root))
    assert (code, result["pairs"], result["ignored"], result["warnings"]) == (0, 1, None, [])
    assert set(result["histogram"].values()) == {None}
    assert cli.run(["check", "generated", "--root", str(root), "--out", str(tmp_path)]) == 0
    assert "road" not in capsys.readouterr().out


def test_a_contact_sheet_shows_a_dozen_pairs_of_every_split(capsys, tmp_path):
    """Pictures of 200 x 100: six rows of thumbnails 150 high below one title and one line of legend."""
    for split in ("train", "val", "test"):
        for k in range(9):
            files = {f"{split}/{k}.png": png(picture(k, (100, 200))),
                     f"{split}annot/{k}.png": png(np.full((100, 200), 3, np.uint8))}  # fmt: skip
            as_folder(files, tmp_path / "camvid")
    code, result = run(capsys, tmp_path, "camvid", "--root", str(tmp_path / "camvid"))
    assert (code, result["decoded"]) == (0, 27)
    sheet = cv2.imread(result["contact_sheet"])
    assert sheet.shape[1] == 4 * THUMBNAIL + 5 * MARGIN
    rows = (sheet.shape[0] - (2 * MARGIN + 2 * LINE)) / (THUMBNAIL // 2 + CAPTION + MARGIN)
    assert rows == 6


@pytest.mark.parametrize("size", [(400, 20), (20, 400)])
def test_a_contact_sheet_of_odd_pictures_keeps_its_size(capsys, tmp_path, size):
    files = {"images/a.png": png(picture(0, size)), "labels/a.png": png(np.zeros(size, np.uint8))}
    root = as_folder(files, tmp_path / "own")
    code, result = run(capsys, tmp_path, "folder", "--root", str(root))
    assert code == 0
    sheet = cv2.imread(result["contact_sheet"])
    assert sheet.shape[1] == 4 * THUMBNAIL + 5 * MARGIN
    assert sheet.shape[0] < 2 * THUMBNAIL


def test_a_file_in_place_of_the_folder_to_write_is_said_before_any_work(capsys, tmp_path, monkeypatch, city):
    (tmp_path / "out").write_text("mine")
    monkeypatch.setattr(check, "inspect_set", lambda *_, **__: pytest.fail("worked first"))
    assert cli.run(["check", "cityscapes", "--root", str(city), "--out", str(tmp_path / "out")]) == 2
    assert f"{tmp_path / 'out'}: is a file where a folder is needed" in capsys.readouterr().err


def test_a_split_is_looked_for_once(capsys, tmp_path, monkeypatch, city):
    scanned = []
    scan = datasets.scan
    monkeypatch.setattr(datasets, "scan", lambda *words: (scanned.append(words[3]), scan(*words))[1])
    _, result = run(capsys, tmp_path, "cityscapes", "--root", str(city))
    assert result["decoded"] == result["pairs"] > 0
    assert len(scanned) == len(set(scanned))


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


def test_any_folder_is_given_its_layout(capsys, tmp_path):
    (tmp_path / "own" / "a").mkdir(parents=True)
    (tmp_path / "own" / "b").mkdir()
    (tmp_path / "own" / "a" / "x.png").write_bytes(png(picture(0)))
    (tmp_path / "own" / "b" / "x.png").write_bytes(png(np.full((6, 10), 8, np.uint8)))
    layout = ["images=a/{key}.png", "labels=b/{key}.png", "label_set=camvid11"]
    code, result = run(capsys, tmp_path, "folder", "--root", str(tmp_path / "own"), *layout)
    assert (code, result["histogram"]["car"], result["label_set"]) == (0, 1.0, "camvid11")
    (never,) = result["warnings"]  # one line for all of them
    assert never.startswith("never occurs in the 1 labels looked at: sky, building, pole")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere"], "neither a dataset .*camvid.*nor a shipped recipe .*demo.*nor a YAML file"),
        ([str(Path(__file__).parent)], "is a folder; name the dataset in it, such as `clouds check camvid"),
        (["camvid"], r"camvid: say where it is: --root PATH"),
        (["camvd", "--root", "x"], "'camvd': did you mean camvid"),
        (["dmo"], "'dmo': did you mean demo"),
        (["demo", "--root", "x"], "--root: is for a dataset"),
        (["camvid", "splitt=val", "--root", "x"], "splitt: unknown key; did you mean .*split"),
        (["camvid", "split=nine", "--root", "x"], "camvid has no split 'nine'; it has train, val, test"),
        (["demo", "train.stepz=3"], "train.stepz: unknown key"),
    ],
)
def test_requests_that_make_no_sense_exit_with_2(capsys, tmp_path, words, complaint):
    assert cli.run(["check", *words, "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert re.search(complaint, shown.err)
    assert shown.out == ""


def test_the_text_says_it_all(capsys, tmp_path, city):
    (city / "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png").unlink()
    assert cli.run(["check", "cityscapes", "--root", str(city), "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert f"cityscapes in {city}: 3 pairs (train 2, val 1), 3 decoded whole" in shown
    assert "1 problem:" in shown
    assert "lindau_000001_000019_leftImg8bit.png: has no label; expected gtFine/val/lindau" in shown
    assert re.search(r"road +\d+\.\d\d % #+", shown)
    assert re.search(r"contact sheet: /.*cityscapes\.png", shown)
    assert "no problem found" not in shown


def test_shares_are_said_as_they_are():
    lines = check._bars({"road": 0.99999, "bus": 0.00001, "train": 0.0, "sky": None})
    assert [line.split()[1] for line in lines] == ["100.00", "<0.01", "never", "-"]


@pytest.mark.parametrize(("name", "pairs"), [("camvid", 417), ("idd-lite", 1607), ("bdd100k", 24), ("carla", 59)])
def test_the_real_sets_have_no_problem(capsys, tmp_path, name, pairs):
    folder = REAL / FOLDERS[name]
    if not folder.is_dir():
        pytest.skip(f"REAL DATA MISSING: {folder} is not there, the check of {name} on real files did not run")
    code, result = run(capsys, tmp_path, name, f"data.root={REAL}")
    assert (code, result["pairs"], result["problems"]) == (0, pairs, [])
