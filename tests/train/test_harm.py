"""Joint training that harms: seen without a label of the target, said, and its model left aside if asked."""

import pytest
import torch

import conftest
import tiny
from clouds import pipeline
from clouds.config.load import load_recipe
from clouds.config.records import Drift, read_record
from clouds.data.batches.batches import Batches
from clouds.data.images import write_png
from clouds.model.folder import load_model
from clouds.train.harm import IMAGES, Watch


@pytest.fixture
def data(tmp_path):
    source, drawn = tiny.source_set(tmp_path / "source"), tiny.generated_set(tmp_path / "drawn")
    return Batches(source, drawn, tiny.recipe("train.batch_size=2"), 9, seed=1)


def test_the_model_itself_has_not_drifted(data):
    model = conftest.small_model().train()
    drift = Watch(model, data)(model, 4)
    assert (drift.step, drift.agreement, drift.harm) == (4, 1.0, False)
    assert 0 < drift.images <= min(IMAGES, 3)
    assert drift.source[0] == drift.source[1] > 0
    assert all(before == after for before, after in drift.shares.values())
    assert sum(before for before, _ in drift.shares.values()) == pytest.approx(1)
    assert model.training


@pytest.mark.parametrize("kind", ["agreement", "source"])
def test_either_sign_is_enough(data, kind, monkeypatch):
    model = conftest.small_model()
    watch = Watch(model, data)
    if kind == "agreement":
        watch.maps = [(each + 1) % 4 for each in watch.maps]
    else:
        watch.score *= 1.2
    assert watch(model, 1).harm


def test_a_file_that_cannot_be_read_is_left_out(data, tmp_path):
    looks = data.looks()
    (tmp_path / "drawn" / f"{looks[0]}.png").write_bytes(b"")
    (tmp_path / "source" / "images" / "0.png").write_bytes(b"")
    watch = Watch(conftest.small_model(), data)
    assert len(watch.looks) == len(looks) - 1
    assert len(watch.source) == len(data.source) - 1


@pytest.mark.slow
@pytest.mark.parametrize("choose", [pytest.param("last", marks=pytest.mark.long), "safe"])
def test_a_run_that_forgets_the_source_says_so_and_keeps_the_warm_up_if_asked(tmp_path, capsys, choose, monkeypatch):
    monkeypatch.setattr("clouds.train.harm.KEEPS", 1e9)  # whatever the source's score is now, it is too little
    monkeypatch.setattr(pipeline, "check_work", lambda _: None)  # a model of two steps leaves refinement nothing to do
    for k in range(3):
        label = tiny.label_map(64, 64, seed=k)
        write_png(tmp_path / "photos" / f"{k}.png", tiny.picture(label, k))
    recipe = load_recipe("demo", [
        "seed=3", "train.steps=4", "train.warmup_share=0.5", f"train.choose={choose}", "train.batch_size=4",
        "selftrain.floor=0", "generate.count=0", f"data.unlabelled={tmp_path / 'photos'}", "data.source_count=2",
        "data.source_size=[64,128]",
        "augment.crop=[64,64]", "model.hidden=32", "model.queries=6", "model.heads=4", "model.pixel_layers=1",
        "model.layers=2", "model.pixel_ffn=32", "model.ffn=32", "loss.points=64", "selftrain.refinement=smooth",
    ])  # fmt: skip
    pipeline.train(recipe, tmp_path / "run")
    drift = read_record(tmp_path / "run" / "drift.json", Drift)
    assert drift.harm
    assert drift.step == 2
    said = capsys.readouterr().err
    assert "joint step 1 of 2: joint training may harm this model: " in said
    warm, joint = (load_model(tmp_path / "run" / name).state_dict() for name in ("warmup", "model"))
    same = all(torch.equal(warm[name], joint[name]) for name in warm)
    assert same == (choose == "safe") == ("the warm-up's model is kept" in said)
    assert len(load_model(tmp_path / "run" / "model").trained_on) == (0 if same else 3)
