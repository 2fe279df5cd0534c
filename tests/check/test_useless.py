"""Runs that would learn nothing are named by `clouds check`, `--dry-run` and `clouds train`, before any work."""

import json

import numpy as np
import pytest

import tiny
from clouds import cli
from clouds.base.progress import say_once
from clouds.check.training import check_training
from clouds.config.label_sets import NAMES
from clouds.data.images import write_png
from clouds.train.log import IDLE, MetricsLog
from data.test_own_car import recording
from fabricate import as_folder, make


def folder(path, labels):
    """A set of pairs; -> the words that make it the source."""
    rng = np.random.default_rng(0)
    for k, label in enumerate(labels):
        write_png(path / f"images/{k}.png", rng.integers(0, 256, (*label.shape, 3), np.uint8))
        write_png(path / f"labels/{k}.png", label)
    return [f"data.source=[{{dataset: folder, root: {path}}}]", "generate.size=[64,64]", "augment.crop=[64,64]"]


def said(capsys, *words):
    code = cli.run([*map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_labels_without_a_class_end_all_three(tmp_path, capsys):
    words = folder(tmp_path / "set", [np.full((64, 64), 255, np.uint8)] * 3)
    complaint = "no class to learn: every pixel of the 3 label maps looked at is ignored. Expected some of road, "
    code, out, _ = said(capsys, "check", "demo", *words, "--json", "--out", tmp_path / "check")
    assert code == 1
    (problem,) = json.loads(out)["problems"]
    assert problem["what"].startswith(complaint)
    for more in (["--dry-run"], ["--out", tmp_path / "run"]):
        code, _, err = said(capsys, "train", "demo", *words, *more)
        assert (code, complaint in err) == (1, True), err
    assert not (tmp_path / "run").exists()


def test_mostly_ignored_labels_and_few_steps_are_warned_of_by_all_three(tmp_path, capsys):
    label = np.full((64, 64), 255, np.uint8)
    label[:10] = NAMES.index("road")
    words = [*folder(tmp_path / "set", [label] * 2), "train.steps=30", "train.batch_size=2"]
    ignored = "folder: 84 % of the label pixels looked at are ignored"
    short = "train.steps: 30 steps are too few to learn anything; expected at least 40"
    _, out, _ = said(capsys, "check", "demo", *words, "--out", tmp_path / "check")
    assert f"warning: {ignored}" in out
    assert f"warning: {short}" in out
    small = ["model.hidden=32", "model.layers=1", "model.pixel_layers=1", "loss.points=32", "train.stage=warmup"]
    _, out, _ = said(capsys, "train", "demo", *words, *small, "train.warmup_share=0.9", "--dry-run")
    assert f"warning: {ignored}" in out
    assert "warning: train.steps: 27 steps are too few" in out
    say_once.cache_clear()
    check_training(tiny.recipe(*words, "train.ramp_steps=20"), tmp_path / "run")
    err = capsys.readouterr().err
    assert f"warning: {ignored}" in err
    assert f"warning: {short}" in err


def test_enough_labels_and_steps_are_no_matter_for_words(tmp_path, capsys):
    words = folder(tmp_path / "set", recording(3, size=(64, 96)))
    check_training(tiny.recipe(*words, "train.steps=40"), tmp_path / "run")
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("kept", [True, False])
def test_a_bonnet_is_suggested_to_be_ignored(tmp_path, capsys, kept):
    words = folder(tmp_path / "set", recording(6, bonnet=True))
    if not kept:
        words[0] = words[0].replace("}]", ", own_car: ignore}]")
    _, out, _ = said(capsys, "check", "demo", *words, "--json", "--out", tmp_path / "check")
    lines = [each for each in json.loads(out)["warnings"] if "bonnet" in each]
    suggested = ("folder: the bonnet of the car that carries the camera is labelled, 16 % of every picture; to learn "
                 "nothing from it say own_car: ignore in its entry of data.source")  # fmt: skip
    assert lines == [suggested] * kept


def test_a_folder_of_sets_is_no_set_in_parts(tmp_path, capsys):
    for kind in ("carla", "bdd100k"):
        as_folder(make(kind).files, tmp_path / kind)
    as_folder(make("carla").files, tmp_path / "more")
    code, out, _ = said(capsys, "check", "carla", "--root", tmp_path, "--out", tmp_path / "check")
    assert code == 1
    assert f"{tmp_path}: wrong folder level for carla; use {tmp_path / 'carla'}\n" in out


def test_what_was_not_looked_at_is_said(tmp_path, capsys):
    words = folder(tmp_path / "set", [np.zeros((8, 8), np.uint8)] * 103)
    _, out, _ = said(capsys, "check", "demo", *words, "--json", "--out", tmp_path / "check")
    unseen = json.loads(out)["not_looked_at"]
    assert unseen[0] == "folder: 3 of 103, which were counted but not decoded (--full decodes all)"
    assert "camvid-day" in unseen[1]
    assert "clouds doctor" in unseen[-1]


def test_steps_without_loss_or_gradients_are_said_once(tmp_path, capsys):
    log = MetricsLog(tmp_path / "metrics.jsonl", "warmup", 0, 10**6, 1000)
    for step in range(30):
        log.add(step, {"loss": 0.0 if step % 10 else 1.0, "gradient_norm": 1.0})
    said = [line for line in capsys.readouterr().err.splitlines() if "nothing is learned" in line]
    assert len(said) == 3
    assert said[0] == (f"warmup step {IDLE}: loss 0 and gradients 1 for {IDLE} steps: nothing is learned; look at the "
                       "labels with `clouds check`")  # fmt: skip
