"""Every code block of docs/predict.md is run, on a small model and made-up pictures."""

import io
import re
import shlex
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from clouds.cli import run as command

pytest.importorskip("av")
from test_predict_inputs import Camera, video

PAGE = Path(__file__).parents[2] / "docs" / "predict.md"
BLOCK = re.compile(r"(?P<skip><!-- not run: [^\n]*-->\n)?```(?P<kind>\w*)\n(?P<code>.*?)```", re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch, model_folder):
    """Where the page's files are."""
    rng = np.random.default_rng(0)
    pictures = {"street.jpg": (36, 64), "large.jpg": (900, 1100), "photos/a.jpg": (36, 64), "photos/b/c.jpg": (50, 40)}
    for name, size in pictures.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(tmp_path / name)
    video(tmp_path / "drive.mp4", count=12)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "model").symlink_to(model_folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    return tmp_path


def blocks(kind: str) -> list[str]:
    return [found["code"] for found in BLOCK.finditer(PAGE.read_text()) if found["kind"] == kind and not found["skip"]]


def test_the_pages_blocks_are_all_found():
    kinds = [found["kind"] for found in BLOCK.finditer(PAGE.read_text())]
    assert kinds.count("python") == len(blocks("python")) + 1 == 5
    assert kinds.count("sh") == len(blocks("sh")) + 1 == 4
    assert set(kinds) == {"python", "sh"}


@pytest.mark.slow
@pytest.mark.long
def test_the_pages_commands_do_what_it_says(place, monkeypatch):
    lines = [line for code in blocks("sh") for line in code.splitlines()]
    assert len(lines) == 10
    for line in lines:
        before, _, words = line.rpartition(" | ")
        if before:
            data = subprocess.run(shlex.split(before), capture_output=True, check=True).stdout
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))
        assert command(shlex.split(words)[1:]) == 0, line
    expected = {
        "predictions": {"street.png", "street_overlay.png", "a.png", "b/c_overlay.png", "a_ids.png", "b/c_scores.png",
                        "large.png", "drive_overlay.mp4"},
        "three": {"street.png"}, "piped": {"stdin.png"}, "annotations": {"a_coco.json", "c_polygons.json", "coco.json"},
        "frames": {"drive/000010.png", "drive/000000_overlay.png"}, "card": {"README.md", "config.json"},
    }  # fmt: skip
    for folder, names in expected.items():
        assert names <= {p.relative_to(place / folder).as_posix() for p in (place / folder).rglob("*")}, folder
    assert list((place / "live").glob("camera-0-*_overlay.mp4"))


def test_the_pages_python_runs_in_order(place):
    names: dict[str, object] = {}
    for code in blocks("python"):
        exec(compile(code, str(PAGE), "exec"), names)
    assert sorted(p.name for p in (place / "masks").iterdir()) == ["a.png", "c.png"]
    assert (place / "out" / "overlay.mp4").stat().st_size
    assert names["mask"].shape == names["result"].labels.shape
    assert names["three"].classes == ("car", "person", "road")
