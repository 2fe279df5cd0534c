"""The command: exit codes, what goes to stdout and to stderr, Ctrl-C, full disks, and a quick --help."""

import errno
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clouds
from clouds.base import progress
from clouds.base.files import read_jsonl
from clouds.cli import main, run
from clouds.config.load import load_recipe
from clouds.config.runs import open_run

VERBS = (
    "demo", "check", "classes", "prompts", "generate", "regions", "train", "evaluate", "predict", "push",
    "export", "import", "refine", "report", "sweep", "serve",
)  # fmt: skip
SMALL = ["generate.size=[32,32]", "augment.crop=[32,32]", "prompts.count=3"]


def command(*words: str, **how) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "clouds", *map(str, words)], capture_output=True, text=True, **how)


def outcome(capsys, *words) -> tuple[int, str, str]:
    code = run([str(word) for word in words])
    return code, *capsys.readouterr()


def one_message(err: str) -> str:
    assert err.startswith("clouds: "), err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


# -- done: exit code 0


def test_json_is_one_object_alone_on_stdout(capsys, tmp_path):
    code, out, err = outcome(capsys, "generate", "demo", *SMALL, "generate.count=2", "--out", tmp_path, "--json")
    assert code == 0
    assert json.loads(out) == {"images": 2, "failed": 0, "folder": str(tmp_path)}
    assert out.count("\n") == 1
    assert "drawing prompts: 2/2" in err


def test_without_json_a_line_for_a_person_is_printed(capsys, tmp_path):
    loaded = "torch" in sys.modules
    code, out, err = outcome(capsys, "prompts", "demo", "prompts.count=4", "--out", tmp_path / "p.jsonl")
    then = f"next: clouds generate demo --prompts {tmp_path / 'p.jsonl'}\n"
    said = "" if loaded else "loading PyTorch, to measure how different the prompts are ...\n"
    assert (code, err) == (0, said + then)
    assert out.startswith(f"4 prompts in {tmp_path / 'p.jsonl'}\ncoverage / evenness\n")
    assert all(word in out for word in ("place", "classes", "distinct words", "Vendi score"))
    assert len(read_jsonl(tmp_path / "p.jsonl")) == 4


@pytest.mark.parametrize(("more", "first"), [
    ("", "clouds evaluate {out} town night, or "),
    ("evaluate: {{domains: [town]}}\n", "clouds evaluate {out} {recipe}, or "),
    ("model: {{classes: {{soil: [soil], crop: [crop]}}}}\n", ""),
])  # fmt: skip
def test_after_training_the_next_command_fits_the_recipe(capsys, tmp_path, monkeypatch, more, first):
    recipe, out = tmp_path / "my.yaml", tmp_path / "run"
    recipe.write_text("extends: demo\n" + more.format())

    def train(name, overrides, out, *_):
        open_run(load_recipe(name, overrides), out)
        return clouds.api.Run(out)

    monkeypatch.setattr(clouds.api, "train", train)
    code, _, err = outcome(capsys, "train", recipe, "--out", out)
    assert code == 0, err
    said = first.format(out=out, recipe=recipe)
    assert err.endswith(f"next: {said}clouds predict {out} photos/ --out predictions\n")


def test_options_and_settings_mix_in_any_order(capsys, tmp_path):
    where = ("--out", tmp_path / "p.jsonl")
    code, out, _ = outcome(capsys, "prompts", "--json", "demo", *where, "prompts.count=2", "seed=3")
    assert code == 0
    assert json.loads(out)["prompts"] == 2
    assert read_jsonl(tmp_path / "p.jsonl")[0]["seed"] == 3


def test_predict_and_evaluate_print_their_result(capsys, tmp_path, model_folder):
    photo = tmp_path / "a.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(photo)
    code, out, _ = outcome(capsys, "predict", model_folder, photo, "--out", tmp_path / "out", "--json")
    counts = {"images": 1, "made": 1, "videos": 0, "frames": 0}
    assert (code, json.loads(out)) == (0, {**counts, "folder": str(tmp_path / "out"), "failed": []})
    code, out, _ = outcome(capsys, "evaluate", model_folder, "fog", "evaluate.rendered_count=1", "--json")
    assert (code, [row["name"] for row in json.loads(out)["domains"]]) == (0, ["fog"])
    code, out, _ = outcome(capsys, "evaluate", model_folder, "fog", "evaluate.rendered_count=1")
    assert (code, out.split()[0]) == (0, "cityscapes19")  # a table for each label set


def test_predict_writes_the_formats_asked_for_with_the_protocol_asked_for(capsys, tmp_path, model_folder):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, size in (("a", (40, 60)), ("b", (40, 60)), ("c", (70, 40))):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).save(photos / f"{name}.png")
    how = ("--window", 48, "--stride", 40, "--scales", "1,1.5", "--flip", "--shorter-side", 96, "--batch-size", 3)
    formats = ("--format", "ids,scores", "--format", "color")
    code, out, err = outcome(capsys, "predict", model_folder, photos, "--out", tmp_path / "out", *formats, *how)
    assert (code, out) == (0, f"3 images segmented in {tmp_path / 'out'}\n")
    assert "segmenting: 3/3" in err
    kinds = ("color", "ids", "scores")
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == [f"{n}_{k}.png" for n in "abc" for k in kinds]
    expected = clouds.load(model_folder).with_inference(
        shorter_side=96, window=48, stride=40, scales=(1, 1.5), flip=True
    )
    ids = np.asarray(Image.open(tmp_path / "out" / "c_ids.png"))
    assert np.mean(ids == expected.predict(photos / "c.png").ids()) > 0.999


def test_a_bad_image_among_many_exits_1_naming_it_and_the_others_are_done(capsys, tmp_path, model_folder):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "ac":
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(photos / f"{name}.png")
    (photos / "b.png").write_bytes(b"")
    words = ("predict", model_folder, photos, "--out", tmp_path / "out")
    code, out, err = outcome(capsys, *words, "--json")
    row = json.loads(out)
    assert (code, row["images"], row["folder"]) == (1, 2, str(tmp_path / "out"))
    assert [failure["path"] for failure in row["failed"]] == [str(photos / "b.png")]
    assert row["failed"][0]["what"].startswith("an empty file")
    said = "1 of 3 images could not be read or written, the others are done"
    assert f"clouds: {said}:\n  {photos / 'b.png'}: an empty file" in err
    assert "Traceback" not in err
    assert sorted(p.name for p in (tmp_path / "out").glob("?.png")) == ["a.png", "c.png"]
    again = f"2 images segmented in {tmp_path / 'out'}, 2 of them by an earlier call\n"
    assert outcome(capsys, *words)[:2] == (1, again)


@pytest.mark.parametrize("words", [["--help"], ["-h"], *([verb, "--help"] for verb in VERBS)])
def test_help_is_printed(capsys, words):
    code, out, err = outcome(capsys, *words)
    assert (code, err) == (0, "")
    assert "Usage: clouds" in out


def test_help_names_every_verb_and_every_verb_takes_json_and_debug(capsys):
    _, out, _ = outcome(capsys, "--help")
    assert all(f"\n  {verb} " in out for verb in VERBS)
    for verb in VERBS:
        _, out, _ = outcome(capsys, verb, "--help")
        assert "--json" in out
        assert "--debug" in out
        assert "Example" in out


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"report", "classes", "serve"}))
def test_every_verb_that_writes_takes_out(capsys, verb):
    assert "--out" in outcome(capsys, verb, "--help")[1]


def test_the_version_is_the_packages(capsys):
    assert outcome(capsys, "--version") == (0, clouds.__version__ + "\n", "")


def test_main_exits_with_the_code_of_run(monkeypatch, capsys):
    for words, code in ((["--version"], 0), (["report", "/nowhere"], 1), (["nope"], 2)):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == code
    monkeypatch.setattr(sys, "argv", ["clouds", "--version"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0


# -- the request is wrong: exit code 2


@pytest.mark.parametrize(("words", "said"), [
    (["prompts", "nope"], "recipe 'nope': neither a shipped one (cityscapes-"),
    (["train", "dem"], "nor a YAML file; did you mean demo?"),
    (["train", "/nowhere.yaml"], "nor a YAML file; there is no /nowhere.yaml"),
    (["regions", "/nowhere"], "/nowhere: no such folder, and no recipe; name a generated set's folder"),
    (["train", "demo", "train.stepz=3"], "train.stepz: unknown key; did you mean train.steps?"),
    (["generate", "demo", "generate.count=-1"], "generate.count: got -1; input should be greater than or equal to 0"),
    (["generate", "demo", "generate.count=0", "data.unlabelled=x"], "generate.count: got 0; nothing is to be drawn"),
    (["demo", "steps"], "'steps': expected key=value"),
    (["demo", "--minutes", "0"], "--minutes: got 0; expected 0.2 to 10000"),
    (["demo", "--minutes", "nan"], "--minutes: got nan"),
    (["demo", "data.root=/nowhere"], "data.root: /nowhere is not a folder"),
    (["train", "/nowhere", "--resume"], "/nowhere: holds no CLOUDS run"),
    (["train", "x", "seed=1", "--resume"], "--resume takes only a run folder"),
    (["train", "x", "--out", "y", "--resume"], "--resume takes only a run folder"),
    (["evaluate", "m", "mars"], "unknown domain 'mars'"),
    (["evaluate", "m", "camvid-day"], "camvid-day: needs data.root=PATH"),
    (["predict", "m", "/nowhere.png"], "/nowhere.png: no such image or folder"),
    (["predict", "m", __file__, "--format", "labels,mask"], "format: unknown kind 'mask'; allowed: labels, color, "),
    (["predict", "m", __file__, "--scales", "1,big"], "--scales: got '1,big'; expected numbers separated by commas"),
    (["predict", "m", __file__, "--scales", "9"], "scales: got [9.0]; expected numbers from 0.1 to 4.0"),
    (["predict", "m", __file__, "--window", "8"], "window: got 8; expected at least 32 pixels"),
    (["predict", "m", __file__, "--stride", "64"], "stride: got 64 without a window; set the window too"),
    (["predict", "m", __file__, "--window", "64", "--stride", "65"], "stride: got 65; expected 1 to the window's 64"),
    (["predict", "m", __file__, "--shorter-side", "-1"], "shorter_side: got -1; expected at least 32, or 0"),
    (["predict", "m", __file__, "--batch-size", "0"], "batch_size: got 0; expected at least 1"),
    (["evaluate", "m", "town", "evaluate.window=8"], "evaluate.window: got 8; input should be greater than or equal"),
    (["evaluate", "m", "town", "evaluate.stride=8"], "evaluate.stride: got 8; expected at most evaluate.window, which"),
    (["evaluate", "m", "town", "evaluate.scales=[]"], "evaluate.scales: got []; expected at least one"),
    (["evaluate", "m", "town", "evaluate.scales=[0]"], "evaluate.scales.0: got 0"),
], ids=lambda words: " ".join(words) if isinstance(words, list) else "")  # fmt: skip
def test_a_wrong_request_exits_2_with_one_message_and_writes_nothing(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = outcome(capsys, *words)
    assert (code, out) == (2, "")
    assert said in one_message(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["nope"], ["demo", "--nope"], ["prompts"], ["demo", "--minutes", "soon"], []])
def test_a_line_that_cannot_be_parsed_exits_2_with_usage_and_no_traceback(capsys, words):
    code, out, err = outcome(capsys, *words)
    assert code == 2
    assert "Usage: clouds" in out + err
    assert "Traceback" not in err


def test_a_file_where_a_folder_is_expected_is_named(capsys, tmp_path):
    blocking = tmp_path / "file"
    blocking.write_text("mine")
    for words in (["generate", "demo", *SMALL], ["train", "demo"], ["demo"]):
        for out in (blocking, blocking / "deeper"):
            code, printed, err = outcome(capsys, *words, "--out", out)
            assert (code, printed) == (2, "")
            assert f"{blocking}: is a file where a folder is needed" in one_message(err)
    assert blocking.read_text() == "mine"


def test_a_folder_where_a_file_is_expected_is_named(capsys, tmp_path):
    code, _, err = outcome(capsys, "prompts", "demo", "--out", tmp_path)
    assert code == 2
    assert f"{tmp_path}: is a folder where a file is to be written" in one_message(err)


# -- it failed: exit code 1


@pytest.mark.parametrize("words", [
    ["evaluate", "/nowhere", "town"], ["report", "/nowhere"], ["predict", "/nowhere", __file__],
])  # fmt: skip
def test_a_missing_model_or_run_exits_1_naming_it(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = outcome(capsys, *words)
    assert (code, out) == (1, "")
    assert "/nowhere" in one_message(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["predict", "/nowhere", __file__], ["serve", "/nowhere"]])
def test_a_missing_folder_is_distinguished_from_one_without_a_model(capsys, tmp_path, words):
    words = [*words, "--out", str(tmp_path)] if words[0] == "predict" else words
    assert outcome(capsys, *words)[0] == 1
    assert outcome(capsys, *words)[2].startswith("clouds: /nowhere: no such folder; expected a model folder")
    words[1] = str(tmp_path)
    assert outcome(capsys, *words)[2].startswith(f"clouds: {tmp_path}: no config.json there")


def test_new_names_for_a_model_of_another_text_tower_exit_1_with_one_message(capsys, tmp_path, model_folder):
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")  # the model's rows are not the tower's
    words = ("predict", model_folder, tmp_path / "a.png", "--out", tmp_path / "out", "--classes", "scooter,road|street")
    code, out, err = outcome(capsys, *words)
    assert (code, out) == (1, "")
    assert "embeds 'road' otherwise than this model's vocabulary does" in one_message(err)


def test_a_full_disk_is_one_line_and_nothing_is_half_written(capsys, tmp_path, monkeypatch):
    real, written = Path.write_bytes, []

    def write_bytes(path, data):
        written.append(path)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, data)

    words = ["generate", "demo", *SMALL, "generate.count=4", "--out", tmp_path]
    with monkeypatch.context() as patched:
        patched.setattr(progress, "SECONDS_BETWEEN_LINES", math.inf)  # a busy disk may take so long over two images
        patched.setattr(Path, "write_bytes", write_bytes)
        code, out, err = outcome(capsys, *words)
    assert (code, out) == (1, "")
    assert "No space left on device" in one_message(err)
    names = ["000000.png", "000001.png", "metadata.jsonl", "prompts.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    code, _, err = outcome(capsys, *words)
    assert (code, "4/4" in err) == (0, True)


def test_an_unwritable_folder_is_one_line(capsys, tmp_path, monkeypatch):
    make = os.open

    def refuse(path, *how, **more):
        if Path(path).parent == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return make(path, *how, **more)

    monkeypatch.setattr(os, "open", refuse)
    code, out, err = outcome(capsys, "prompts", "demo", "--out", tmp_path / "p.jsonl")
    assert (code, out) == (1, "")
    assert f"{tmp_path / 'p.jsonl'}: Permission denied" in one_message(err)


def test_a_full_disk_while_saving_weights_is_one_line(capsys, tmp_path, monkeypatch):
    from clouds.errors import CloudsError
    from clouds.model import folder
    from clouds.train import state as checkpoint
    from conftest import small_model

    def full(*_, **__):
        raise folder.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    state = checkpoint.Checkpoint("warmup", 1, {"student": {}}, {})
    with pytest.raises(CloudsError, match=r"warmup-000001: cannot be written .*No space left on device"):
        checkpoint.save_checkpoint(tmp_path / "checkpoints", state)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    model = small_model()
    monkeypatch.setattr(model, "save_pretrained", full)
    with pytest.raises(CloudsError, match=r"model: cannot be written .*No space left on device"):
        folder.save_model(model, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_debug_shows_the_traceback(capsys, tmp_path):
    quiet, loud = command("report", tmp_path), command("report", tmp_path, "--debug")
    assert (quiet.returncode, loud.returncode) == (1, 1)
    assert one_message(quiet.stderr)
    assert "Traceback (most recent call last)" in loud.stderr
    assert "DataError" in loud.stderr
    assert (quiet.stdout, loud.stdout) == ("", "")


def test_a_bug_is_not_hidden(monkeypatch, tmp_path):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("clouds.generate.prompts.write_prompts", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run(["prompts", "demo", "--out", str(tmp_path / "p.jsonl")])


# -- as a process


def test_python_m_clouds_is_the_same_command():
    done = command("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, clouds.__version__ + "\n", "")
    done = command("prompts", "nope")
    assert (done.returncode, done.stdout) == (2, "")
    assert "recipe 'nope'" in one_message(done.stderr)


def test_the_installed_script_is_the_same_command():
    script = Path(sys.executable).with_name("clouds")
    if not script.exists():
        pytest.skip("no clouds script beside this Python")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == clouds.__version__


def test_help_needs_under_half_a_second():
    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    best = float("inf")
    for _ in range(5):
        began = used()
        assert command("--help").returncode == 0
        best = min(best, used() - began)  # of a core: on a busy machine the clock says more
    assert best < 0.5


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from clouds.cli import run; run(['--help']); "
        "print([m for m in ('torch', 'transformers', 'numpy', 'cv2', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_ctrl_c_keeps_finished_images_and_the_same_command_goes_on(tmp_path):
    folder = tmp_path / "set"
    words = [sys.executable, "-m", "clouds", "generate", "demo", "prompts.count=3", "generate.count=400",
             "generate.size=[64,64]", "augment.crop=[64,64]", "--out", str(folder)]  # fmt: skip
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that runs the tests in the background has them inherit an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while len(list(folder.glob("0*.png"))) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert "interrupted; finished work is kept. To resume, run the same command" in err
    assert "Traceback" not in err
    rows = read_jsonl(folder / "metadata.jsonl")
    images = sorted(path.name for path in folder.glob("*.png"))
    assert [row["file_name"] for row in rows] == images[: len(rows)]
    assert len(images) - len(rows) in (0, 1)  # the last one may be finished, but its row not yet written
    assert sorted(path.name for path in folder.iterdir()) == [*images, "metadata.jsonl", "prompts.jsonl"]
    for path in folder.glob("*.png"):
        Image.open(path).load()

    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    more = len(rows) + 2
    words[words.index("generate.count=400")] = f"generate.count={more}"
    assert run(words[3:]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    assert len(after) == len(read_jsonl(folder / "metadata.jsonl")) == more
    assert all(after[row["file_name"]] == before[row["file_name"]] for row in rows)


@pytest.mark.slow
@pytest.mark.long
def test_a_reader_that_leaves_early_is_no_traceback(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "clouds", "prompts", "demo", "prompts.count=3", "--json",
                           "--out", tmp_path / "p.jsonl"],
                          stdout=write, stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
    os.close(write)
    assert "Traceback" not in done.stderr
    assert (tmp_path / "p.jsonl").exists()
