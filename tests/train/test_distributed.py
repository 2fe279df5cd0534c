"""A step's batch is one batch however it is split; a signal saves the step."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

import tiny
from clouds import cli
from clouds.config.load import load_recipe
from clouds.config.records import Drift
from clouds.data.batches.batches import Batches
from clouds.errors import Stopped, UsageError
from clouds.foundation.segmenter import load_segmenter
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.teacher import Teacher
from clouds.train.engine import Engine
from clouds.train.loop import train_stage

SETTINGS = [
    "seed=3", "prompts.count=8", "generate.count=6", "generate.size=[64,64]", "augment.crop=[64,64]",
    "data.source_count=6", "data.source_size=[64,128]", "model.hidden=32", "model.queries=8", "model.heads=4",
    "model.pixel_layers=1", "model.pixel_ffn=32", "model.layers=2", "model.ffn=32", "loss.points=64",
    "train.batch_size=4", "train.log_every=1", "train.ramp_steps=0", "selftrain.floor=0.001",
    "selftrain.max_swallow=null", "model.head=linear", "train.clip=1",
]  # fmt: skip
HERE = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def rows(run: Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def clouds(*words: str, processes: int = 1) -> list[str]:
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return [sys.executable, *several, "-m", "clouds", *words]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return tiny.source_set(folder / "source"), tiny.generated_set(folder / "generated")


def joint(sets, run, *overrides):
    recipe = tiny.recipe("train.batch_size=4", "train.log_every=1", *overrides)
    model = tiny.segmenter()
    pseudo = PseudoLabeller(Teacher(model, 0.99), load_segmenter("superpixels"), recipe.selftrain, 0)
    train_stage(model, "joint", recipe, Batches(*sets, recipe, 4, seed=1), run, pseudo)
    return model


def test_a_batch_in_parts_takes_the_same_steps(sets, tmp_path):
    for name, parts in (("whole", 1), ("halves", 2), ("singles", 4)):
        (tmp_path / name).mkdir()
        joint(sets, tmp_path / name, f"train.accumulate={parts}")
    whole = rows(tmp_path / "whole")
    assert len(whole) == 4
    for name in ("halves", "singles"):
        for mine, theirs in zip(rows(tmp_path / name), whole, strict=True):
            assert mine.keys() == theirs.keys()
            for key in ("loss", "loss_ce", "loss_mask", "loss_dice", "gradient_norm", "teacher_confidence"):
                assert mine.get(key) == pytest.approx(theirs.get(key), rel=1e-5), key


@pytest.mark.parametrize("setting", ["train.checkpointing=true", "train.tf32=true"])
def test_what_costs_or_saves_memory_changes_no_step(sets, tmp_path, setting):
    for name, overrides in (("plain", ()), ("other", (setting,))):
        (tmp_path / name).mkdir()
        joint(sets, tmp_path / name, *overrides)
    for mine, theirs in zip(rows(tmp_path / "other"), rows(tmp_path / "plain"), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert mine["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-4)


def test_autocast_trains_too(sets, tmp_path):
    joint(sets, tmp_path, "train.precision=bf16")
    losses = [row["loss"] for row in rows(tmp_path)]
    assert all(0 < loss < 1000 for loss in losses)
    (tmp_path / "fp32").mkdir()
    joint(sets, tmp_path / "fp32")
    assert losses[0] == pytest.approx(rows(tmp_path / "fp32")[0]["loss"], rel=0.05)
    assert losses[0] != rows(tmp_path / "fp32")[0]["loss"]


def test_a_batch_that_cannot_be_split_is_refused():
    with pytest.raises(UsageError, match=r"train\.batch_size: got 4; 1 processes with train\.accumulate=3"):
        Engine(tiny.recipe("train.batch_size=4", "train.accumulate=3").train)


def test_the_learning_rate_follows_the_batch_where_it_is_asked_to():
    assert Engine(tiny.recipe("train.batch_size=4").train).learning_rate_scale == 1
    assert Engine(tiny.recipe("train.batch_size=4", "train.learning_rate_at=16").train).learning_rate_scale == 0.25


@pytest.mark.parametrize("name", ["LOCAL_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"])
def test_a_variable_that_another_launcher_left_behind_changes_nothing(name, monkeypatch):
    monkeypatch.setenv(name, "2")
    engine = Engine(load_recipe("demo").train)
    assert (engine.rank, engine.world) == (0, 1)
    assert os.environ[name] == "2"


def test_a_tracker_that_is_not_installed_is_named():
    import clouds.train.engine as engine

    missing = next(name for name, package in engine.TRACKERS.items() if not engine.importlib.util.find_spec(package))
    with pytest.raises(UsageError, match=f"train.trackers: {missing} is not installed"):
        Engine(tiny.recipe(f"train.trackers=[{missing}]").train)


def test_tensorboard_gets_numbers_and_pictures(sets, tmp_path):
    pytest.importorskip("tensorboard")
    recipe = tiny.recipe("train.batch_size=4", "train.log_every=1", "train.trackers=[tensorboard]")
    engine = Engine(recipe.train, tmp_path)
    engine.track(recipe)
    model = tiny.segmenter()
    pseudo = PseudoLabeller(Teacher(model, 0.99), load_segmenter("superpixels"), recipe.selftrain, 0)
    train_stage(model, "joint", recipe, Batches(*sets, recipe, 3, seed=1), tmp_path, pseudo, engine)
    engine.finish()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = {path.parent for path in tmp_path.glob("clouds/events*")}
    events = EventAccumulator(str(folder)).Reload()
    losses = [event.value for event in events.Scalars("joint/loss")]
    assert losses == pytest.approx([row["loss"] for row in rows(tmp_path)])
    assert {"image", "teacher", "refined"} <= set(events.Tags()["images"])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("photographs", [False, True])
def test_two_processes_take_the_steps_of_one(tmp_path, photographs):
    words = ["train", "demo", *SETTINGS, "train.steps=8", "train.warmup_share=0.5",
             "train.checkpoint_every=100", "train.validate_every=4", "train.validate_images=3",
             "evaluate.shorter_side=64"]  # fmt: skip
    if photographs:
        tiny.source_set(tmp_path / "p")
        words += [f"data.unlabelled={tmp_path / 'p' / 'images'}", "generate.count=0", "selftrain.refinement=regions"]
    for processes in (1, 2):
        done = subprocess.run(
            clouds(*words, "--out", str(tmp_path / str(processes)), processes=processes),
            env=HERE, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        assert ("4 images a step (2 processes x 2 images)," if processes == 2 else "4 images a step,") in done.stderr
        shared = "regions of shard" if photographs else "drawing prompts, shard"
        assert all((f"{shared} {k}/2" in done.stderr) == (processes == 2) for k in range(2)), "nobody waits meanwhile"
    one, two = ([row for row in rows(tmp_path / name) if "loss" in row] for name in "12")
    assert [row["step"] for row in one] == [1, 2, 3, 4] * 2
    for mine, theirs in zip(two, one, strict=True):
        # once weights have moved by a rounding, it may tip a pixel of a pseudo-label: no small change any more
        near = 1e-5 if mine["stage"] == "warmup" or mine["step"] == 1 else 1e-2
        for key in ("loss", "loss_ce", "loss_mask", "loss_dice"):
            assert mine[key] == pytest.approx(theirs[key], rel=near), (mine["stage"], mine["step"], key)
    scored, alone = ([row["val_miou"] for row in rows(tmp_path / name) if "val_miou" in row] for name in "21")
    assert scored == pytest.approx(alone, abs=0.02)
    assert len(scored) == 2
    work = [json.loads((tmp_path / name / "work.json").read_text()) for name in "12"]
    for key in ("pseudo_labels_made", "images_trained_on", "photographs_trained_on", "pixels_seen"):
        assert work[0].get(key) == work[1].get(key)
    assert (work[0].get("photographs_trained_on", 0) > 0) == photographs
    assert work[0]["pixels_decided"] == pytest.approx(work[1]["pixels_decided"], rel=1e-2)


@pytest.mark.slow
def test_three_processes_wait_for_one_audit_and_train_on_what_it_kept(tmp_path):
    words = ["train", "demo", *SETTINGS, "train.steps=8", "train.batch_size=6", "generate.audit=true",
             "data.restyle.backend=colour-statistics", "data.restyle.styles=generated"]  # fmt: skip
    for _ in range(2):  # what is drawn and audited is looked at again
        done = subprocess.run(
            clouds(*words, "--out", str(tmp_path / "run"), processes=3),
            env=HERE, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert "another process" not in done.stderr
    seconds = json.loads((tmp_path / "run" / "seconds.json").read_text())["seconds"]
    assert {"images", "source", "restyle", "warmup", "joint"} <= seconds.keys()


def newest(run: Path) -> set[str]:
    """The newest checkpoint of each stage."""
    found = sorted(path.name for path in (run / "checkpoints").glob("[!.]*-*"))
    return {name for name in found if name == max(n for n in found if n.split("-")[0] == name.split("-")[0])}


@pytest.mark.slow
@pytest.mark.long
def test_sigterm_saves_the_step_and_the_run_goes_on_from_it(tmp_path):
    words = ["train", "demo", *SETTINGS, "train.steps=400", "train.warmup_share=0.5", "train.checkpoint_every=1000"]
    process = subprocess.Popen(
        clouds(*words, "--out", str(tmp_path / "run")), env=HERE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith("warmup: 200 steps"):
            break
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    said = process.stderr.read()
    assert process.wait() == 128 + signal.SIGTERM, said
    assert "all is saved" in said
    (checkpoint,) = newest(tmp_path / "run")
    warm_step = int(checkpoint.removeprefix("warmup-"))
    assert 0 < warm_step < 200
    assert f"warmup stopped by a signal after step {warm_step} of 200" in said


@pytest.mark.parametrize("late", ["while the last step is taken", "while the last model is scored"])
def test_a_signal_in_the_last_step_stops_the_run_too(sets, tmp_path, late):
    recipe = tiny.recipe("train.batch_size=4", "train.log_every=1", "train.checkpoint_every=100")
    data, engine = Batches(*sets, recipe, 3, seed=1), Engine(recipe.train, tmp_path)

    def watch(_model, step):
        if step == 3 and late == "while the last model is scored":
            signal.raise_signal(signal.SIGTERM)
        return Drift(step=step, images=0, agreement=1.0, source=(0.0, 0.0), shares={}, harm=False)

    def teach(batch, step):
        if step == 2 and late == "while the last step is taken":
            signal.raise_signal(signal.SIGTERM)
        return pseudo(batch, step)

    model = tiny.segmenter()
    pseudo = PseudoLabeller(Teacher(model, 0.99), load_segmenter("superpixels"), recipe.selftrain, 0)
    teach.__dict__ |= vars(pseudo)
    with pytest.raises(Stopped, match="joint stopped by a signal after step 3 of 3; all is saved"):
        train_stage(model, "joint", recipe, data, tmp_path, teach, engine, watch=watch)
    assert newest(tmp_path) == {"joint-000003"}
    again = Engine(recipe.train, tmp_path)
    train_stage(tiny.segmenter(), "joint", recipe, data, tmp_path, pseudo, again)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_dies_ends_the_other_which_names_it(tmp_path, killed):
    words = ["train", "demo", *SETTINGS, "train.steps=4000", "train.checkpoint_every=2", "--out", str(tmp_path / "run")]
    port = socket.create_server(("127.0.0.1", 0)).getsockname()[1]
    meeting = {**HERE, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [
        subprocess.Popen(clouds(*words), env={**meeting, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    while not newest(tmp_path / "run"):
        assert all(each.poll() is None for each in both)
        time.sleep(0.2)
    both[killed].kill()
    began = time.monotonic()
    _, said = both[1 - killed].communicate(timeout=60)
    assert (both[1 - killed].returncode, time.monotonic() - began < 60) == (1, True), said
    name = ("the main one", f"pid {both[1].pid} on {socket.gethostname()}")[killed]
    assert f"clouds: process {killed} of 2 ({name}) ended before the work was done, and so this one" in said
    assert "Traceback" not in said


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    PORT = str(free.getsockname()[1])


@pytest.mark.parametrize(("variables", "said"), [
    ({"WORLD_SIZE": "2"}, "RANK and MASTER_ADDR and MASTER_PORT are not set"),
    ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": PORT}, "do not find each other"),
    ({"WORLD_SIZE": "two", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": PORT}, "WORLD_SIZE=two"),
])  # fmt: skip
@pytest.mark.parametrize("words", [["train", "demo", "train.steps=4"], ["evaluate", "MODEL", "town"]])
def test_variables_without_peers_are_named(variables, said, words, model_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("clouds.base.processes.MEETING", timedelta(seconds=2))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    words = [str(model_folder) if word == "MODEL" else word for word in words]
    assert cli.run([*words, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "To start one process alone: unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT" in err
