"""An image that asks to be turned, and the label drawn on it: refused until a setting says how they lie."""

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clouds import cli
from clouds.config.load import load_recipe
from clouds.data.cache import DecodedCache
from clouds.data.datasets import Segmentation, open_dataset
from clouds.data.exif import turned
from clouds.data.labelled import open_sets
from clouds.data.source import Source
from clouds.errors import DataError, UsageError
from clouds.evaluate.domains import Domain
from fabricate import as_folder, pick, png

SIZE = (24, 40)
STORED = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def photo(how: int, kind: str = "PNG", stored: np.ndarray = STORED) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = how
    file = BytesIO()
    Image.fromarray(stored).save(file, kind, exif=exif)
    return file.getvalue()


def label(upright: bool, how: int) -> np.ndarray:
    """Labels of the stored pixels, or of the picture that viewers show."""
    shape = SIZE[::-1] if upright and how > 4 else SIZE
    return pick(0, [0, 1, 2], shape).astype(np.uint8)


def folder(root: Path, how: int, upright: bool, kind: str = "PNG") -> Path:
    name = "a.png" if kind == "PNG" else "a.jpg"
    return as_folder({f"images/{name}": photo(how, kind), "labels/a.png": png(label(upright, how))}, root)


def sources(root: Path, tmp_path: Path, *exif: str) -> list[Any]:
    """The pair as each user of pairs reads it: (image, label) of a set, of training with and without a cache, of
    scoring."""
    words = [f"data.source=[{{dataset: folder, root: '{root}'}}]", *(f"data.exif={each}" for each in exif)]
    data = [each for each in open_sets(load_recipe("demo", words)) if each]
    assert [type(each) for each in data] == [Segmentation]
    cached = Source(data, DecodedCache(tmp_path / "cache", 2**30))
    scored = Domain("x", data[0].label_set, 1, data[0], (0,))
    return [
        lambda: (data[0][0][0].numpy().transpose(1, 2, 0), data[0][0][1].numpy()),
        lambda: Source(data)[0],
        lambda: cached[0],
        lambda: scored.sample(0)[1:],
    ]


@pytest.mark.parametrize("how", range(2, 9))
@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_the_setting_decides_for_training_and_scoring(tmp_path: Path, how: int, exif: str) -> None:
    upright = exif == "apply"
    root = folder(tmp_path / "set", how, upright)
    for read in sources(root, tmp_path, exif):
        image, found = read()
        assert np.array_equal(np.asarray(image), turned(STORED, how) if upright else STORED)
        assert np.array_equal(found, label(upright, how))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("how", [3, 6])
def test_without_a_word_such_a_pair_is_refused(tmp_path: Path, kind: str, how: int) -> None:
    said = rf"images/a\.\w+: its EXIF orientation is {how}, .*exif=ignore or exif=apply"
    for read in sources(folder(tmp_path / "set", how, False, kind), tmp_path):
        with pytest.raises(DataError, match=said):
            read()
    # 1 asks for nothing, and what has no label has nothing to lie askew
    assert np.array_equal(open_dataset("folder", folder(tmp_path / "upright", 1, False)).image(0), STORED)
    bare = as_folder({"images/a.png": photo(how)}, tmp_path / "bare")
    assert np.array_equal(open_dataset("folder", bare, labels="").image(0), STORED)
    with pytest.raises(UsageError, match="exif='upright': expected one of refuse, ignore, apply"):
        open_dataset("folder", bare, labels="", exif="upright")


@pytest.mark.parametrize(("exif", "done"), [("ignore", "ignored; exif=apply"), ("apply", "applied; exif=ignore")])
def test_sizes_that_differ_for_it_name_it(tmp_path: Path, exif: str, done: str) -> None:
    root = folder(tmp_path / "set", 6, upright=exif == "ignore")
    said = rf"label is \d+x\d+ but its image .* is \d+x\d+ \(its EXIF orientation, 6, was {done}, .*\); not a pair"
    for read in sources(root, tmp_path, exif):
        with pytest.raises(DataError, match=said):
            read()


@pytest.mark.parametrize("exif", ["refuse", "ignore", "apply"])
def test_check_warns_of_them(capsys: pytest.CaptureFixture[str], tmp_path: Path, exif: str) -> None:
    root = folder(tmp_path / "set", 3, False)
    out = str(tmp_path / "out")
    code = cli.run(["check", "folder", "--root", str(root), f"data.exif={exif}", "--json", "--out", out])
    result = json.loads(capsys.readouterr().out)
    warnings = [each for each in result["warnings"] if "EXIF" in each]
    if exif == "refuse":
        (problem,) = result["problems"]
        assert (code, warnings) == (1, [])
        assert problem["path"].endswith("a.png")
        assert problem["what"].startswith("its EXIF orientation is 3, and 1 of the images looked at have one; training")
        return
    assert (code, result["problems"]) == (0, [])
    (warning,) = warnings
    assert re.match(r"folder: 1 of the images looked at have an EXIF orientation, such as .*a\.png \(3\); ", warning)
    assert f"data.exif={exif}" in warning


def test_refine_asks_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for exif, code in (("refuse", 1), ("ignore", 1), ("apply", 0)):
        root = folder(tmp_path / "set", 6, upright=True)
        words = ["refine", str(root / "images"), str(root / "labels"), "--out", str(tmp_path / exif), "--exif", exif]
        assert cli.run([*words, "--json"]) == code
        captured = capsys.readouterr()
        what = "".join(each["what"] for each in json.loads(captured.out)["failed"])
        assert ("EXIF orientation" in what) is bool(code)
        assert captured.err.count(str(root / "labels/a.png")) == (exif == "ignore"), "no path is printed twice"
    assert np.asarray(Image.open(tmp_path / "apply" / "a.png")).shape == SIZE[::-1]
    assert cli.run([*words[:3], "--exif", "turn"]) == 2
