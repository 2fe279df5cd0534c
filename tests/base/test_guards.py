"""What goes wrong in a run of days is said: odd losses, hung disks, full memory, changed settings, other models."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import yaml

import tiny
from clouds.cli import run as cli
from clouds.data.batches import batches as loaders
from clouds.data.batches.batches import Batches
from clouds.errors import CloudsError, DataError
from clouds.model.loss import criterion
from clouds.train import loop, state
from clouds.train.engine import Engine
from clouds.train.log import LEAST, MetricsLog
from clouds.train.loop import out_of_memory, train_stage
from clouds.train.state import latest_checkpoint


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny.source_set(tmp_path_factory.mktemp("sets") / "source")


def warm_up(source, run, *overrides, steps=6, **sizes):
    recipe = tiny.recipe("train.log_every=1", *overrides)
    model = tiny.segmenter(**sizes)
    train_stage(model, "warmup", recipe, Batches(source, [], recipe, steps, seed=1), run)
    return model


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_may_be_skipped_and_names_its_files(source, tmp_path, monkeypatch, capsys, value):
    calls = []

    def broken(*arguments):
        losses = criterion(*arguments)
        calls.append(1)
        return {**losses, "loss": losses["loss"] * value} if len(calls) == 3 else losses

    monkeypatch.setattr(loop, "criterion", broken)
    monkeypatch.setattr(state, "KEEP", 9)
    model = warm_up(source, tmp_path, "train.on_nonfinite=skip", "train.checkpoint_every=1")
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    record = json.loads((tmp_path / "not-finite" / "warmup-000002.json").read_text())
    assert (record["stage"], record["step"], record["loss"]) == ("warmup", 2, str(value))
    files = {source.name(i) for i in range(len(source))}
    assert len(record["samples"]) == 2
    assert set(record["samples"]) <= files
    said = capsys.readouterr().err
    assert "warmup step 2" in said
    assert "this step is skipped" in said
    before, after = (latest_checkpoint_at(tmp_path, step) for step in (2, 3))
    assert all(torch.equal(before[name], after[name]) for name in before), "nothing was learned from it"
    assert not all(torch.equal(before[name], t) for name, t in latest_checkpoint_at(tmp_path, 4).items())
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON")) for line in lines]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "loss" not in row] == [3]


def latest_checkpoint_at(run, step):
    from safetensors.torch import load_file

    return load_file(run / "checkpoints" / f"warmup-{step:06d}" / "student.safetensors")


def test_a_loss_far_above_the_usual_is_said_once_in_a_while(tmp_path, capsys):
    log = MetricsLog(tmp_path / "metrics.jsonl", "joint", 0, 10**6, 1000)
    for step in range(LEAST - 1):
        log.add(step, {"loss": 2.0})
    log.add(LEAST - 1, {"loss": 100.0})
    assert capsys.readouterr().err == "", "too few steps to know what is usual"
    log.add(LEAST, {"loss": 9.9})
    assert capsys.readouterr().err == ""
    log.add(LEAST + 1, {"loss": 10.1})
    said = capsys.readouterr().err
    assert f"joint step {LEAST + 1}: loss 10.1, where 2 was usual" in said
    assert "train.learning_rate" in said
    log.add(LEAST + 2, {"loss": 50.0})
    log.add(LEAST + 3, {"loss": math.nan})
    assert capsys.readouterr().err == ""


def test_a_loader_that_gives_nothing_is_said_and_waited_for(monkeypatch, capsys):
    monkeypatch.setattr(loaders, "PATIENCE", 0.05)
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(lambda: time.sleep(0.2) or "the batch")
        assert loaders._patiently(batch, 7) == "the batch"
    said = capsys.readouterr().err
    assert "no batch for 0:00 (steps before 7): the disk may not respond" in said


def test_a_loader_whose_own_read_times_out_is_not_waited_for():
    def fail():
        raise TimeoutError("the disk's")

    with ThreadPoolExecutor(1) as pool, pytest.raises(TimeoutError, match="the disk's"):
        loaders._patiently(pool.submit(fail), 0)


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (["train.batch_size=4"], "train.accumulate=2 (the same steps, 2 at a time)"),
        (["train.batch_size=6", "train.accumulate=2"], "train.accumulate=6 (the same steps, 1 at a time)"),
        (["train.batch_size=4"], "train.checkpointing=true"),
        (["generate.size=[96,192]", "augment.crop=[96,192]"], "augment.crop=[64,128] and the same generate.size"),
    ],
)
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError("none"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])  # fmt: skip
def test_full_memory_is_answered_by_what_to_lower_and_to_what(overrides, hint, error):
    recipe = tiny.recipe(*overrides)
    with pytest.raises(CloudsError) as caught, out_of_memory(recipe, Engine(recipe.train)):
        raise error
    assert str(caught.value).startswith("out of memory on cpu")
    assert hint in str(caught.value)
    for word in str(caught.value).partition("in this order: ")[2].split("; "):
        key = word.split(" ")[0]
        same = [f"generate.size={key.partition('=')[2]}"] if key.startswith("augment.crop") else []
        Engine(tiny.recipe(*overrides, key, *same).train)  # what is proposed can be


def test_what_is_left_out_is_not_proposed():
    recipe = tiny.recipe("train.batch_size=1", "train.checkpointing=true")
    with pytest.raises(CloudsError) as caught, out_of_memory(recipe, Engine(recipe.train)):
        raise MemoryError("none")
    assert "train.accumulate" not in str(caught.value)
    assert "train.checkpointing" not in str(caught.value)


def test_other_errors_of_torch_are_not_taken_for_it():
    recipe = tiny.recipe()
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory(recipe, Engine(recipe.train)):
        raise RuntimeError("shapes do not fit")


def test_a_checkpoint_of_another_model_is_named(source, tmp_path):
    warm_up(source, tmp_path, steps=1)
    with pytest.raises(DataError, match=r"checkpoints: the checkpoint of step 1 is of another model .*query_embed"):
        warm_up(source, tmp_path, steps=2, queries=7)
    assert latest_checkpoint(tmp_path / "checkpoints", "warmup").step == 1


def test_other_settings_are_refused_by_key_then_allowed_and_written_down(tmp_path, capsys):
    words = ["train", "demo", "train.stage=warmup", "train.steps=4", "train.batch_size=1", "data.source_count=2",
             "data.source_size=[64,128]", "augment.crop=[64,64]", "generate.size=[64,64]", "model.hidden=32",
             "model.ffn=32", "model.pixel_ffn=32", "model.layers=1", "model.pixel_layers=1", "loss.points=32",
             "--out", str(tmp_path / "run")]  # fmt: skip
    assert cli([*words, "train.weight_decay=0.05"]) == 0
    other = [*words, "train.weight_decay=0.07", "train.workers=1"]
    assert cli(other) == 2
    said = capsys.readouterr().err
    assert "holds a run of other settings: train.weight_decay (0.05 there, 0.07 now)" in said
    assert "--allow-change" in said
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["settings"]["train"]["weight_decay"] == 0.05
    assert cli([*other, "--allow-change"]) == 0
    written = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert [change["was"] for change in written["changes"]] == [{"train.weight_decay": 0.05}]
    assert written["settings"]["train"]["weight_decay"] == 0.07
    assert cli(other) == 0, "it is the run's own setting now"
    assert len(yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["changes"]) == 1


def test_fp16_goes_on_after_a_step_that_was_skipped(source):
    engine = Engine(tiny.recipe().train)
    engine.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    for value in (float("nan"), 1.0):
        optimizer.zero_grad()
        engine.accelerator.scaler.scale((weight * value).sum()).backward()
        norm = engine.clip(optimizer, [weight], 100.0)
        engine.step(optimizer) if np.isfinite(norm) else engine.skip()
    assert weight.tolist() == [0.5, 0.5, 0.5]
    assert engine.accelerator.scaler.get_scale() == 4.0
