"""Scores during training: in the log, the best model kept; and a target changes nothing that is learned."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import conftest
import fabricate
import tiny
from clouds.data.batches.batches import Batches
from clouds.errors import UsageError
from clouds.model.folder import load_model
from clouds.train import state, validate
from clouds.train.engine import Engine
from clouds.train.loop import train_stage
from clouds.train.validate import Validation, keep_model, source_domains

EVERY = 2
VALIDATED = (f"train.validate_every={EVERY}", "train.validate_images=1", "evaluate.shorter_side=64")


@pytest.fixture(autouse=True)
def all_checkpoints(monkeypatch):
    monkeypatch.setattr(state, "KEEP", 9)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny.source_set(tmp_path_factory.mktemp("sets") / "source")


def train(source, run, *overrides, steps=8):
    run.mkdir(exist_ok=True)
    recipe = tiny.recipe("train.log_every=1", "train.checkpoint_every=2", *overrides)
    model = conftest.small_model()
    validation = Validation(recipe) if recipe.train.validate_every else None
    data = Batches(source, [], recipe, steps, seed=1)
    train_stage(model, "warmup", recipe, data, run, validation=validation)
    return model, recipe


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def scored(monkeypatch, *scores):
    """Validations that score so, one after the other."""
    left = iter(scores)
    row = lambda: SimpleNamespace(row=SimpleNamespace(name="source", miou=next(left)))  # noqa: E731
    monkeypatch.setattr(validate, "evaluate", lambda *_: [row()])


def test_scores_stand_in_the_log_and_a_target_changes_no_weight(source, tmp_path):
    plain, _ = train(source, tmp_path / "plain", steps=4)
    seen, _ = train(source, tmp_path / "seen", *VALIDATED, "train.validate_on=[source,night]", steps=4)
    weights = plain.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in seen.state_dict().items())
    scored = [row for row in rows(tmp_path / "seen") if "val_miou" in row]
    assert [row["step"] for row in scored] == [2, 4]
    for row in scored:
        assert {"val/source", "val/night"} <= row.keys()
        assert row["val_miou"] == row["val/source"]
        assert 0 <= row["val/night"] <= 1
    keys = ("step", "loss", "gradient_norm")
    with_scores = [{key: row[key] for key in keys} for row in rows(tmp_path / "seen") if "loss" in row]
    assert with_scores == [{key: row[key] for key in keys} for row in rows(tmp_path / "plain")]


def test_targets_alone_choose_nothing(source, tmp_path):
    train(source, tmp_path / "run", *VALIDATED, "train.validate_on=[night]", steps=2)
    assert not (tmp_path / "run" / "best").exists()
    with pytest.raises(UsageError, match="keep source in train"):
        tiny.recipe(*VALIDATED, "train.validate_on=[night]", "train.choose=best")


@pytest.mark.parametrize(("choose", "step"), [("best", 4), ("last", 8)])
def test_the_best_model_is_the_stages_only_where_it_is_chosen(source, tmp_path, monkeypatch, choose, step):
    scored(monkeypatch, 0.2, 0.5, 0.5, 0.3)
    run = tmp_path / "run"
    model, recipe = train(source, run, *VALIDATED, f"train.choose={choose}")
    assert (run / "best" / "warmup").exists() == (choose == "best")
    keep_model(model, run, "warmup", recipe, Engine(recipe.train))
    kept = dict(load_model(run / "warmup").named_parameters())
    wanted = load_file(run / "checkpoints" / f"warmup-{step:06d}" / "student.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in wanted.items())


def test_the_best_score_so_far_is_known_after_a_resume(source, tmp_path, monkeypatch):
    scored(monkeypatch, 0.5, 0.4, 0.6, 0.55, 0.58)
    run = tmp_path / "run"
    for steps in (4, 10):
        train(source, run, *VALIDATED, "train.choose=best", steps=steps)
    best = dict(load_model(run / "best" / "warmup").named_parameters())
    wanted = load_file(run / "checkpoints" / "warmup-000006" / "student.safetensors")
    assert all(torch.equal(best[name], tensor) for name, tensor in wanted.items())


def test_a_domain_that_is_not_there_is_refused_before_any_work():
    with pytest.raises(UsageError, match="unknown domain 'nowhere'"):
        Validation(tiny.recipe(*VALIDATED, "train.validate_on=[source,nowhere]"))


def domains(*sources, **more):
    overrides = [f"{key}={value}" for key, value in more.items()]
    return source_domains(tiny.recipe(f"data.source=[{', '.join(sources)}]", *VALIDATED, *overrides))


def cityscapes(folder):
    files = fabricate.make("cityscapes").files
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return f"{{dataset: cityscapes, root: {folder}, split: SPLIT}}"


def test_two_sources_of_one_dataset_are_told_apart(tmp_path):
    sets = [cityscapes(tmp_path / name).replace("SPLIT", "train") for name in ("one", "two", "three")]
    names = [each.name for each in domains(*sets)]
    assert names == ["source-cityscapes", "source-cityscapes 2", "source-cityscapes 3"]


def test_nothing_is_validated_on_that_is_learned_from(tmp_path):
    chosen = cityscapes(tmp_path)
    (found,) = domains(chosen.replace("SPLIT", "train"))
    assert found.data.split == "val"
    with pytest.raises(UsageError, match="cityscapes has no split to validate on but the one"):
        domains(chosen.replace("SPLIT", "all"))


@pytest.mark.parametrize("seed", [0, 10, 11, 10**6])
def test_rendered_validation_scenes_are_no_training_scenes(seed):
    (found,) = domains("streets", seed=seed)
    trained = range(seed * 100_000, (seed + 1) * 100_000)
    assert not {found.seed, found.seed + found.length - 1} & {*trained}
    assert found.sample(0)[2].any()


def test_a_rendered_source_is_validated_on_what_its_label_map_says():
    classes = ("model.classes.ground=[ground]", "model.classes.rest=[everything else]")
    table = "{road: ground, sidewalk: ground, building: rest, sky: rest}"
    recipe = tiny.recipe(f"data.source=[{{dataset: streets, label_map: {table}}}]", *classes, *VALIDATED)
    (found,) = source_domains(recipe)
    assert found.label_set.classes == ("ground", "rest")
    assert set(np.unique(found.sample(0)[2])) == {0, 1, 255}


def test_choosing_the_best_needs_a_score_in_every_stage():
    with pytest.raises(UsageError, match="validate_every=6 is more than the 5 steps of a stage"):
        tiny.recipe("train.choose=best", "train.steps=20", "train.warmup_share=0.75", "train.validate_every=6")
    tiny.recipe("train.choose=best", "train.steps=20", "train.warmup_share=0.75", "train.validate_every=5")
    tiny.recipe(
        "train.choose=best", "train.steps=20", "train.warmup_share=0.75", "train.validate_every=6", "train.stage=warmup"
    )
