"""What ``clouds predict`` takes and writes beyond a folder of photos: globs, stdin, videos, cameras; COCO and polygons;
interruption and going on."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import clouds
import tiny
from clouds.base.files import read_jsonl
from clouds.cli import run as command
from clouds.config.label_sets import COLORS, NAMES
from clouds.data.encodings import decode_polygons
from clouds.errors import BackendError, DataError, UsageError
from clouds.predict.annotations import polygons, rle
from clouds.predict.inputs import gather
from clouds.predict.predict_files import predict_files
from clouds.predict.predictor import Predictor
from clouds.predict.result import Result
from clouds.predict.video import Clock, Pick, frame_count, frames, video_writer

av = pytest.importorskip("av")

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)


def saved(path: Path, pixels: np.ndarray = PHOTO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix != ".jsonl")


def scene(k: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A flat picture whose red tells its number, through a lossy codec too."""
    return np.full((*size, 3), (20 * k, 90, 200 - 10 * k), np.uint8)


def video(path: Path, count: int = 10, rate: int = 10, size: tuple[int, int] = (48, 64), turn: int = 0) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.pix_fmt, (stream.height, stream.width) = "yuv420p", size
        if turn:
            stream.set_display_rotation(turn)
        for k in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(k, size), format="rgb24")))
        container.mux(stream.encode())
    return path


def number(pixels: np.ndarray) -> int:
    return round(float(pixels[..., 0].mean()) / 20)


# -- globs


def test_a_globs_files_keep_their_folders_below_its_fixed_part(model_folder, tmp_path):
    for name in ("in/a/1.png", "in/b/1.png", "in/b/2.jpg", "in/b/.hidden.png", "in/b/notes.txt"):
        saved(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).touch()
    done = predict_files(model_folder, [f"{tmp_path}/in/**/*"], tmp_path / "out", ["labels"])
    assert len(done.done) == 3
    assert listing(tmp_path / "out") == ["a/1.png", "b/1.png", "b/2.png"]


def test_a_file_whose_name_has_a_globs_signs_is_that_file(tmp_path):
    path = saved(tmp_path / "a[1].png")
    assert [item.source for item in gather([path], tmp_path / "out")] == [path]


@pytest.mark.parametrize("word", ["{tmp}/*.png", "{tmp}/**/x?.jpg"])
def test_a_glob_without_a_match_is_refused_before_any_work(tmp_path, word):
    with pytest.raises(UsageError, match="no image or video has such a name"):
        predict_files(tmp_path / "no model", [word.format(tmp=tmp_path)], tmp_path / "out")


def test_videos_in_a_folder_are_left_out_and_said(tmp_path, capsys):
    saved(tmp_path / "a.png")
    (tmp_path / "b.mp4").touch()
    assert [item.name for item in gather([tmp_path], tmp_path / "out")] == [Path("a")]
    assert f"{tmp_path}: left out: 1 .mp4 (name videos" in capsys.readouterr().err
    (tmp_path / "a.png").unlink()
    with pytest.raises(UsageError, match=r"holds no \.png, .* \.avif image; left out: 1 \.mp4 \(name videos"):
        gather([tmp_path], tmp_path / "out")


def test_one_walk_follows_links_and_counts_what_it_leaves_out(tmp_path, capsys):
    saved(tmp_path / "elsewhere" / "b.png")
    for name in ("a.png", ".ipynb_checkpoints/a.png", "@eaDir/a.png", ".hidden.jpg", "out/a.png"):
        saved(tmp_path / "in" / name)
    for name in ("c.heic", "d.gif", ".DS_Store", "notes.txt"):
        (tmp_path / "in" / name).touch()
    for name, target in (("day", "../elsewhere"), ("loop", "."), ("gone.png", "nowhere")):
        (tmp_path / "in" / name).symlink_to(target)
    said = ("1 .gif (convert to .png or .jpg), 1 .heic (convert to .png or .jpg), 3 hidden, 1 in a circle of links, "
            "1 in the folder of --out, 1 that link to nothing")  # fmt: skip
    assert [item.name for item in gather([tmp_path / "in"], tmp_path / "in" / "out")] == [Path("a"), Path("day/b")]
    assert capsys.readouterr().err == f"{tmp_path / 'in'}: left out: {said}\n"
    found = gather([f"{tmp_path}/in/**/*.*"], tmp_path / "in" / "out")
    assert [item.name for item in found] == [Path("a"), Path("day/b")]
    assert "in a circle of links, 1 in the folder of --out" in capsys.readouterr().err
    assert len(gather([tmp_path / "in", tmp_path / "in" / "a.png"], tmp_path / "in" / "out")) == 2  # a.png is one


@pytest.mark.parametrize("name", [os.fsdecode(b"stra\xdfe.jpg"), "\u00fc" * 122 + ".png"], ids=["no UTF-8", "long"])
def test_any_name_that_a_file_may_have(model_folder, tmp_path, capfd, name):
    saved(tmp_path / "in" / name)
    saved(tmp_path / "in" / "z.png")
    kinds = ["labels", "coco", "ids", "polygons"] if name.endswith("jpg") else ["labels"]
    for made in (2, 0):
        done = predict_files(model_folder, [tmp_path / "in"], tmp_path / "out", kinds)
        assert (len(done.done), done.made, done.failed) == (2, made, [])
    assert (tmp_path / "out" / name).with_suffix(".png").is_file()
    words = ["predict", str(model_folder), str(tmp_path / "in"), "--out", str(tmp_path / "o"), "--format", "labels"]
    assert command(words) == 0


def test_an_output_that_cannot_be_written_is_named_and_the_others_are_done(any_model, tmp_path, monkeypatch, capfd):
    for name in ("a.png", "b" * 247 + ".png", "sub/c.png", "z.png"):
        saved(tmp_path / "in" / name)
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    (tmp_path / "out" / "sub").touch()
    done = predict_files(any_model, [tmp_path / "in"], tmp_path / "out", ["overlay", "labels"], batch_size=2)
    assert done.done == [tmp_path / "in" / "z.png"]
    whys = ("is a folder", "File name too long", "is a file where a folder")
    assert all(why in failure["what"] for failure, why in zip(done.failed, whys, strict=True))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    assert command(["predict", str(any_model), str(tmp_path / "in/z.png"), "--out", str(tmp_path / "full")]) == 1
    assert f"clouds: {tmp_path}/full/z.png: No space left on device" in capfd.readouterr().err


# -- stdin


def test_stdin_may_be_one_image(model_folder, tmp_path):
    data = io.BufferedReader(io.BytesIO(saved(tmp_path / "a.png").read_bytes()))
    done = predict_files(model_folder, ["-"], tmp_path / "out", ["labels"], stdin=data)
    assert done.done == ["stdin"]
    labels = np.asarray(Image.open(tmp_path / "out" / "stdin.png"))
    assert np.array_equal(labels, clouds.load(model_folder).predict(PHOTO).labels)


def test_stdin_may_be_paths_a_line(tmp_path):
    saved(tmp_path / "in" / "a.png")
    saved(tmp_path / "ü b.png")
    lines = f"{tmp_path}/in\n\n{tmp_path}/ü b.png\r\n".encode()
    items = gather(["-"], tmp_path / "out", io.BufferedReader(io.BytesIO(lines)))
    assert [item.name for item in items] == [Path("a"), Path("ü b")]


@pytest.mark.slow
def test_stdin_may_be_a_video(model_folder, tmp_path):
    path = video(tmp_path / "a.mkv", count=3)
    words = [sys.executable, "-m", "clouds", "predict", model_folder, "-", "--out", tmp_path / "out", "--frames"]
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as pipe:
        done = subprocess.run([*map(str, words), "--json"], stdin=pipe.stdout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 3
    assert listing(tmp_path / "out") == [f"stdin/{k:06d}{end}.png" for k in range(3) for end in ("", "_overlay")]


@pytest.mark.parametrize(("data", "said"), [(b"", "stdin is empty"), (b"/nowhere/a.png\n", "no such image or folder")])
def test_other_stdin_is_refused(tmp_path, data, said):
    with pytest.raises(UsageError, match=said):
        gather(["-"], tmp_path, io.BufferedReader(io.BytesIO(data)))


def test_stdin_that_is_no_video_is_named(model_folder, tmp_path):
    data = io.BufferedReader(io.BytesIO(b"\0\1\2" * 999))
    failed = predict_files(model_folder, ["-"], tmp_path / "out", stdin=data).failed
    assert failed[0]["path"] == "stdin"
    assert failed[0]["what"].startswith("cannot be read as a video")


# -- videos


@pytest.mark.parametrize(("pick", "expected"), [
    (Pick(), list(range(10))), (Pick(every=3), [0, 3, 6, 9]), (Pick(limit=4), [0, 1, 2, 3]),
    (Pick(fps=5), [0, 2, 4, 6, 8]), (Pick(every=2, limit=2), [0, 2]), (Pick(fps=100), list(range(10))),
    (Pick(fps=1), [0]),
])  # fmt: skip
def test_frames_are_picked_by_number_or_time(tmp_path, pick, expected):
    path = video(tmp_path / "a.mp4")
    found = list(frames(path, *pick))
    assert [frame.number for frame in found] == [number(frame.pixels) for frame in found] == expected
    assert [round(frame.seconds, 3) for frame in found] == [k / 10 for k in expected]
    assert frame_count(path, pick) == len(expected)


@pytest.mark.parametrize("turn", [90, -90, 180])
def test_a_videos_rotation_is_honoured(tmp_path, turn):
    left_bright = np.zeros((48, 64, 3), np.uint8)
    left_bright[:, :32] = 255
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.pix_fmt, stream.height, stream.width = "yuv420p", 48, 64
        stream.set_display_rotation(turn)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(left_bright, format="rgb24")))
        container.mux(stream.encode())
    (frame,) = frames(path)
    assert np.abs(frame.pixels.astype(int) - np.rot90(left_bright, turn // 90)).mean() < 5


def test_a_video_gives_an_overlay_video_and_label_frames(any_model, tmp_path):
    path = video(tmp_path / "drive.mp4", size=(46, 64))
    done = predict_files(any_model, [path], tmp_path / "out", batch_size=4, pick=Pick(every=2))
    assert (done.frames, done.videos, done.failed) == (5, 1, [])
    assert listing(tmp_path / "out") == [*(f"drive/{k:06d}.png" for k in range(0, 10, 2)), "drive_overlay.mp4"]
    shown = list(frames(tmp_path / "out" / "drive_overlay.mp4"))
    assert [round(frame.seconds, 3) for frame in shown] == [0, 0.2, 0.4, 0.6, 0.8]
    any_predictor = clouds.load(any_model)
    for frame, source in zip(shown, frames(path, every=2), strict=True):
        result = any_predictor.predict(source.pixels)
        labels = np.asarray(Image.open(tmp_path / "out" / "drive" / f"{source.number:06d}.png"))
        assert np.mean(labels == result.labels) > 0.999
        assert frame.pixels.shape == source.pixels.shape
        assert np.abs(frame.pixels.astype(int) - result.overlay()).mean() < 12  # H.264 halves the colours' size


def test_a_video_of_frames_alone_and_of_odd_sizes(model_folder, tmp_path):
    with video_writer(tmp_path / "odd.mp4") as write:
        for k in range(3):
            write(scene(k, (47, 63)), k / 7)
    shown = list(frames(tmp_path / "odd.mp4"))
    assert shown[0].pixels.shape == (48, 64, 3)
    assert [round(frame.seconds, 2) for frame in shown] == [0, 0.14, 0.29]
    predict_files(model_folder, [tmp_path / "odd.mp4"], tmp_path / "out", ["overlay"], film=False)
    assert listing(tmp_path / "out") == [f"odd/{k:06d}_overlay.png" for k in range(3)]


@pytest.mark.parametrize("words", [["--every", 1], ["--every", 2], ["--fps", 5], ["--frames"]])
def test_joined_videos_whose_clock_begins_anew(model_folder, tmp_path, words):
    path = tmp_path / "joined.ts"
    path.write_bytes(2 * video(tmp_path / "a.ts").read_bytes())
    words = ["predict", model_folder, path, saved(tmp_path / "p.png"), "--out", tmp_path / "out", *words]
    assert command([*map(str, words), "--format", "overlay"]) == 0
    assert (tmp_path / "out" / "p_overlay.png").is_file()
    times = [frame.seconds for frame in frames(path)]
    assert len(times) == 20
    assert np.allclose(np.diff(times), 0.1, atol=0.01)


@pytest.mark.parametrize(
    ("rate", "said", "expected"),
    [
        (10, [5, 5.1, 5.2, 0, 0.1], [0, 0.1, 0.2, 0.3, 0.4]),
        (10, [0, 0.1, 95443, 95443.1], [0, 0.1, 0.2, 0.3]),
        (10, [0, 0.1, 5.1], [0, 0.1, 5.1]),
        (1 / 60, [0, 60, 120], [0, 60, 120]),
        (0, [None, None, 0.5], [0, 0.04, 0.5]),
        (1e9, [0, 0, 0.1], [0, 0, 0.1]),
    ],
    ids=["back", "far ahead", "a gap", "time lapse", "no time", "one time twice"],
)
def test_a_clock_goes_forward_whatever_the_file_says(rate, said, expected):
    clock = Clock(rate)
    seconds = [clock(each) for each in said]
    assert np.allclose(seconds, expected, atol=1e-4)
    assert (np.diff(seconds) > 0).all()


def test_a_video_that_cannot_be_read_is_named_and_the_others_are_done(model_folder, tmp_path):
    inputs = [tmp_path / "cut.avi", saved(tmp_path / "p.png"), video(tmp_path / "a.mkv")]
    inputs[0].write_bytes(b"no video at all")
    done = predict_files(model_folder, inputs, tmp_path / "out", ["overlay"])
    assert [failure["path"] for failure in done.failed] == [str(tmp_path / "cut.avi")]
    assert "cannot be read as a video" in done.failed[0]["what"]
    assert (done.frames, done.videos, done.total) == (10, 1, 3)
    assert listing(tmp_path / "out") == ["a_overlay.mp4", "p_overlay.png"]


def test_a_video_that_breaks_off_keeps_its_frames_and_leaves_no_half_film(model_folder, tmp_path, monkeypatch):
    def breaking(*_):
        yield from frames(tmp_path / "a.mp4", limit=2)
        raise DataError("a.mp4: damaged")

    path = video(tmp_path / "a.mp4")
    monkeypatch.setattr("clouds.predict.predict_files.frames", breaking)
    done = predict_files(model_folder, [path], tmp_path / "out")
    assert [failure["what"] for failure in done.failed] == ["a.mp4: damaged"]
    assert listing(tmp_path / "out") == ["a/000000.png", "a/000001.png"]


def test_without_pyav_videos_are_refused_before_the_model_is_read(tmp_path, monkeypatch):
    path = video(tmp_path / "a.mp4", count=1)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BackendError, match=r"pip install 'clouds\[video\]'"):
        predict_files(tmp_path / "no model", [path], tmp_path / "out")


def test_a_choice_of_frames_without_a_video_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--limit choose frames of videos and cameras, and no input is one"):
        predict_files(tmp_path / "no model", [saved(tmp_path / "a.png")], tmp_path / "out", pick=Pick(limit=1))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pick", [Pick(every=0), Pick(limit=0), Pick(fps=0.0), Pick(fps=5, every=2), Pick(fps=-1)])
def test_picks_that_cannot_be_are_refused(tmp_path, pick):
    with pytest.raises(UsageError, match=r"--(every|fps)"):
        predict_files(tmp_path / "no model", [saved(tmp_path / "a.png")], tmp_path / "out", pick=pick)


@pytest.mark.parametrize("names", [("a.mp4", "a.mov"), ("a.mp4", "b/a.avi"), ("x/a/000000.png", "x/a.mp4")])
def test_two_videos_or_a_video_and_a_folder_of_one_output_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    inputs = [tmp_path / "x", tmp_path / "x" / "a.mp4"] if "x" in names[0] else [tmp_path / name for name in names]
    with pytest.raises(UsageError, match="two inputs would be written there") as caught:
        predict_files(tmp_path / "no model", inputs, tmp_path / "out")
    for name in names:
        assert str(tmp_path / name) in str(caught.value)


# -- cameras


class Camera:
    """In OpenCV's place: as many frames as asked for, BGR; presses Ctrl-C at one of them."""

    length, press, opened, released = 5, -1, True, 0

    def __init__(self, name) -> None:
        self.name, self.given = name, 0
        Camera.last = self

    def isOpened(self) -> bool:
        return self.opened

    def set(self, *_) -> None:
        pass

    def read(self):
        if self.given == self.length:
            return False, None
        if self.given == self.press:
            os.kill(os.getpid(), signal.SIGINT)
        self.given += 1
        return True, np.ascontiguousarray(scene(self.given - 1)[..., ::-1])

    def release(self) -> None:
        Camera.released += 1


@pytest.fixture
def camera(monkeypatch):
    kind = type("Fake", (Camera,), {})
    monkeypatch.setattr(cv2, "VideoCapture", kind)
    return kind


def test_a_cameras_frames_are_rgb_and_it_is_given_back(camera):
    before = Camera.released
    with closing(frames("camera:0", limit=3)) as coming:
        assert [number(frame.pixels) for frame in coming] == [0, 1, 2]
    assert Camera.last.name == 0
    assert Camera.released == before + 1
    list(frames("camera:/dev/video1"))
    assert Camera.last.name == "/dev/video1"


@pytest.mark.parametrize("press", [-1, 2])
def test_a_camera_is_recorded_until_it_ends_or_ctrl_c(camera, model_folder, tmp_path, press):
    camera.press, before = press, signal.getsignal(signal.SIGINT)
    done = predict_files(model_folder, ["camera:0"], tmp_path / "out", ["overlay"], batch_size=4)
    (film,) = (tmp_path / "out").glob("camera-0-*_overlay.mp4")
    assert done.frames == len(list(frames(film))) == (5 if press < 0 else press + 1)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_camera_that_is_not_there_is_named(camera, model_folder, tmp_path):
    camera.opened = False
    done = predict_files(model_folder, ["camera:3"], tmp_path / "out", ["overlay"])
    assert done.failed == [{"path": "camera:3", "what": done.failed[0]["what"]}]
    assert "OpenCV cannot open it" in done.failed[0]["what"]
    camera.opened, camera.length = True, 0
    assert "gives no frame" in predict_files(model_folder, ["camera:3"], tmp_path / "out", ["labels"]).failed[0]["what"]
    assert listing(tmp_path / "out") == []


# -- interrupted and run again


def calls(monkeypatch, stop_after: int | None = None) -> list[int]:
    """How many pictures went through the network at a time; Ctrl-C after some."""
    seen: list[int] = []
    segment = Predictor._segment

    def counted(self, pixels):
        if stop_after is not None and sum(seen) >= stop_after:
            raise KeyboardInterrupt
        seen.append(len(pixels))
        return segment(self, pixels)

    monkeypatch.setattr(Predictor, "_segment", counted)
    return seen


def test_an_interrupted_folder_goes_on_where_it_stopped(model_folder, tmp_path, monkeypatch):
    for k in range(6):
        saved(tmp_path / "in" / f"{k}.png", scene(k))
    kinds = ("labels", "coco")
    calls(monkeypatch, stop_after=4)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model_folder, [tmp_path / "in"], tmp_path / "out", kinds, batch_size=2)
    monkeypatch.undo()
    assert sum(name.endswith(".png") for name in listing(tmp_path / "out")) == 4
    with (tmp_path / "out" / "predictions.jsonl").open("a") as file:
        file.write('{"file": "4.png", "ke')  # a kill in the middle of a line
    seen = calls(monkeypatch)
    done = predict_files(model_folder, [tmp_path / "in"], tmp_path / "out", kinds, batch_size=2)
    assert (len(done.done), done.made, seen) == (6, 2, [2])
    assert len(json.loads((tmp_path / "out" / "coco.json").read_text())["images"]) == 6
    predict_files(model_folder, [tmp_path / "in"], tmp_path / "whole", kinds)
    for name in listing(tmp_path / "whole"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_what_changed_is_made_again_and_nothing_else(model_folder, tmp_path, monkeypatch):
    for k in range(3):
        saved(tmp_path / "in" / f"{k}.png", scene(k))

    def made(**how) -> int:
        how = {"kinds": ["labels"]} | how
        return predict_files(how.pop("model", model_folder), [tmp_path / "in"], tmp_path / "out", **how).made

    assert made() == 3
    assert made() == 0
    saved(tmp_path / "in" / "1.png", scene(9))
    os.utime(tmp_path / "in" / "1.png", (1, 1))
    assert made() == 1
    (tmp_path / "out" / "2.png").unlink()
    assert made() == 1
    assert made(kinds=["labels", "scores"]) == 3
    assert made(kinds=["scores"]) == 0
    assert made(shorter_side=96) == 3
    assert made() == 3, "the files there are now those of another size"
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    assert made(model=other) == 0, "the same model elsewhere"
    tiny.change_config(other, shorter_side=32)
    assert made(model=other) == 3
    rows = read_jsonl(tmp_path / "out" / "predictions.jsonl")
    assert {row["input"] for row in rows} == {"0.png", "1.png", "2.png"}


@pytest.mark.slow
def test_an_interrupted_video_goes_on_with_its_frames_and_begins_its_film_again(model_folder, tmp_path, monkeypatch):
    path = video(tmp_path / "a.mp4", count=6)
    for kinds, film, expected in ((["labels"], True, 3), (["labels", "overlay"], False, 3), (["overlay"], True, 6)):
        out = tmp_path / "-".join([*kinds, str(film)])
        calls(monkeypatch, stop_after=3)
        with pytest.raises(KeyboardInterrupt):
            predict_files(model_folder, [path], out, kinds, film=film)
        monkeypatch.undo()
        assert not list(out.glob("*.mp4"))
        assert predict_files(model_folder, [path], out, kinds, film=film).frames == expected
        assert predict_files(model_folder, [path], out, kinds, film=film).frames == 0
        assert not list(out.rglob(".*")), "nothing temporary is left"


def test_more_frames_are_asked_for_and_only_they_are_made(model_folder, tmp_path):
    path = video(tmp_path / "a.mp4", count=6)
    made = [predict_files(model_folder, [path], tmp_path / "out", pick=pick).frames
            for pick in (Pick(limit=2), Pick(limit=2), Pick(limit=4))]  # fmt: skip
    assert made == [2, 0, 4], "the overlay is begun again"
    singles = [predict_files(model_folder, [path], tmp_path / "out", ["labels"], pick=pick).frames
               for pick in (Pick(limit=4), Pick(limit=5))]  # fmt: skip
    assert singles == [0, 1]


def test_ctrl_c_leaves_only_whole_files_and_says_how_to_go_on(model_folder, tmp_path, monkeypatch, capsys):
    for k in range(3):
        saved(tmp_path / "in" / f"{k}.png", scene(k))
    calls(monkeypatch, stop_after=2)
    assert command(["predict", str(model_folder), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    assert "To resume, run the same command" in capsys.readouterr().err
    assert listing(tmp_path / "out") == ["0.png", "0_overlay.png", "1.png", "1_overlay.png"]


def test_a_device_that_is_not_there_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match="--device: cuda:77 cannot be used here"):
        predict_files(tmp_path / "no model", [saved(tmp_path / "a.png")], tmp_path / "out", device="cuda:77")


# -- COCO


@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_run_lengths_are_those_of_pycocotools(mask):
    ours, theirs = rle(mask), coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert ours["size"] == theirs["size"]
    assert ours["counts"] == theirs["counts"].decode()


def test_long_runs_are_those_of_pycocotools():
    mask = np.zeros((3000, 400), bool)
    mask[5:2900, 3:380] = True
    mask[:, 200] = True
    assert rle(mask)["counts"] == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def result_of(labels: np.ndarray) -> Result:
    scores = np.linspace(0, 1, labels.size, dtype=np.float32).reshape(labels.shape)
    image, colors = np.zeros((*labels.shape, 3), np.uint8), np.array(COLORS, np.uint8)
    return Result(labels.astype(np.uint8), scores, image, NAMES, colors)


def test_coco_files_are_read_by_pycocotools_and_give_the_labels_back(model_folder, tmp_path):
    for k, name in enumerate(("a.png", "day/b.jpg")):
        saved(tmp_path / "in" / name, np.roll(PHOTO, 9 * k))
    predict_files(model_folder, [tmp_path / "in"], tmp_path / "out", ["labels", "coco"])
    one, whole = COCO(tmp_path / "out" / "day" / "b_coco.json"), COCO(tmp_path / "out" / "coco.json")
    assert [image["file_name"] for image in whole.loadImgs(whole.getImgIds())] == ["a.png", "day/b.jpg"]
    assert [c["name"] for c in whole.loadCats(whole.getCatIds())] == list(NAMES)
    for coco, image, name in ((one, 1, "day/b"), (whole, 1, "a"), (whole, 2, "day/b")):
        labels = np.full((40, 70), 255)
        for each in coco.loadAnns(coco.getAnnIds(imgIds=[image])):
            mask = coco.annToMask(each).astype(bool)
            assert (labels[mask] == 255).all(), "stuff does not overlap"
            assert mask.sum() == each["area"]
            assert coco_mask.toBbox(each["segmentation"]).tolist() == each["bbox"]
            labels[mask] = each["category_id"] - 1
        assert np.array_equal(labels, np.asarray(Image.open(tmp_path / "out" / f"{name}.png")))


def test_what_is_no_class_has_no_annotation_and_scores_are_means():
    found = result_of(np.array([[0, 255], [10, 0]])).coco("x.jpg")
    boxes = [(each["category_id"], each["area"], each["bbox"]) for each in found["annotations"]]
    assert boxes == [(1, 2, [0, 0, 2, 2]), (11, 1, [0, 1, 1, 1])]
    assert found["annotations"][0]["score"] == 0.5
    assert found["images"] == [{"id": 1, "file_name": "x.jpg", "height": 2, "width": 2}]


# -- polygons


def test_polygons_painted_in_order_give_the_labels_back_holes_and_islands_included(tmp_path):
    labels = np.full((120, 160), 10, np.uint8)
    cv2.circle(labels, (70, 60), 50, 2, -1)
    cv2.circle(labels, (70, 60), 35, 8, -1)
    cv2.circle(labels, (70, 60), 20, 2, -1)
    cv2.circle(labels, (70, 60), 8, 13, -1)
    cv2.rectangle(labels, (120, 90), (159, 119), 0, -1)
    path = result_of(labels).save(tmp_path / "a.json", "polygons")
    painted = decode_polygons(path.read_bytes(), "a", {name: i for i, name in enumerate(NAMES)})
    assert np.mean(painted == labels) > 0.99
    rings = [each["label"] for each in json.loads(path.read_text())["objects"]]
    assert rings == ["sky", "building", "vegetation", "building", "road", "car"]


def test_polygons_without_tolerance_lose_only_what_is_too_small():
    labels = cv2.resize(np.random.default_rng(3).integers(0, 4, (9, 12), np.uint8), (96, 72), interpolation=0)
    text = json.dumps(polygons(labels, NAMES, tolerance=0)).encode()
    assert np.mean(decode_polygons(text, "a", {name: i for i, name in enumerate(NAMES)}) == labels) > 0.99
    speck = np.zeros((9, 9), np.uint8)
    speck[4, 4] = 3
    assert [each["label"] for each in polygons(speck, NAMES)["objects"]] == ["road"]


@pytest.mark.parametrize(("kind", "name"), [("coco", "x.png"), ("polygons", "x.jpg"), ("labels", "x.json")])
def test_kinds_have_their_own_endings(tmp_path, kind, name):
    with pytest.raises(UsageError, match=r"is saved as \.(json|png)"):
        result_of(np.zeros((2, 2))).save(tmp_path / name, kind)


def test_a_writer_without_frames_writes_nothing(tmp_path):
    with pytest.raises(DataError, match="no frame came"), video_writer(tmp_path / "a.mp4"):
        pass
    assert listing(tmp_path) == []
