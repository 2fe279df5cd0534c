"""``clouds evaluate``: one model, several, recipes, several processes, tables, and requests that cannot be met."""

import json

import pytest

from clouds.compare import evaluate_models
from clouds.errors import UsageError
from clouds.evaluate import evaluate
from clouds.model.inference import Inference
from clouds.score_tables import results_table

RESULTS = {"model", "commit", "seed", "protocol", "backends", "domains", "missing", "mean_miou"}



def test_a_model_is_scored_on_rendered_and_photo_domains(model_folder, root, tmp_path):
    words = ["town", "camvid-day", "evaluate.rendered_count=1", f"data.root={root}", "evaluate.max_images=2"]
    row = evaluate_models([str(model_folder), *words], tmp_path / "out")
    assert row.keys() >= RESULTS
    assert [(d["name"], d["images"], d["label_set"]) for d in row["domains"]] == [
        ("town", 1, "cityscapes19"), ("camvid-day", 2, "camvid11"),
    ]  # fmt: skip
    assert all(0 <= d["ci95"][0] <= d["miou"] <= d["ci95"][1] <= 1 for d in row["domains"])
    assert row["protocol"]["shorter_side"] == 64
    assert row["backends"] == {"vision": "efficientnet-lite0 (ImageNet)", "text": "all-MiniLM-L6-v2"}
    assert json.loads((tmp_path / "out/results.json").read_text()) == row


def test_the_shorter_side_asked_for_is_the_one_used_and_reported(model_folder, monkeypatch):
    sides = []
    real = evaluate

    def spy(predictor, domains, what, **more):
        sides.append(predictor.inference.shorter_side)
        return real(predictor, domains, what, **more)

    monkeypatch.setattr("clouds.compare.evaluate", spy)
    row = evaluate_models([str(model_folder), "town", "evaluate.rendered_count=1", "evaluate.shorter_side=96"])
    assert sides == [96]
    assert row["protocol"]["shorter_side"] == 96


def test_windows_scales_and_flip_are_used_and_written_down(model_folder, monkeypatch):
    used = []
    real = evaluate

    def spy(predictor, domains, what, **more):
        used.append(predictor.inference)
        return real(predictor, domains, what, **more)

    monkeypatch.setattr("clouds.compare.evaluate", spy)
    words = ["evaluate.window=48", "evaluate.scales=[1, 1.5]", "evaluate.flip=true"]
    row = evaluate_models([str(model_folder), "town", "evaluate.rendered_count=1", *words])
    assert used == [Inference(64, window=48, scales=(1, 1.5), flip=True)]
    protocol = {"shorter_side": 64, "window": 48, "stride": 32, "scales": [1, 1.5], "flip": True}
    assert row["protocol"] == {**protocol, "scored_at": "the label's own size"}
    assert "shorter side 64, window 48, stride 32, scales 1 1.5, mirrored too, scored" in results_table(row)


def test_results_of_older_runs_still_make_a_table():
    row = {"domains": [], "mean_miou": 0.5, "protocol": {"shorter_side": 64, "window": None, "stride": None}}
    assert results_table(row).endswith("shorter side 64, whole image, scored at the label's own size")


@pytest.mark.parametrize("words", [[], ["seed=3"]])
def test_no_domain_is_refused(model_folder, words):
    with pytest.raises(UsageError, match="name at least one domain"):
        evaluate_models([str(model_folder), *words])


def test_a_device_that_is_not_here_is_refused(model_folder):
    with pytest.raises(UsageError, match=r"train\.device: cuda:99 cannot be used here"):
        evaluate_models([str(model_folder), "town", "train.device=cuda:99"])
