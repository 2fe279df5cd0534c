"""What an earlier version wrote is read by this one: a model folder, a stopped run, a finished run.

``before/run`` and ``before/finished`` are one tiny run of commit 13b5345, which kept its modules elsewhere. The first
was stopped after step 8 of its joint stage, the second ended with step 12.
"""

import importlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import clouds
import tiny_backbone
from clouds import cli, pipeline
from clouds.base.files import read_json, read_jsonl
from clouds.base.former import NOW
from clouds.config.runs import load_run

BEFORE = Path(__file__).with_name("before")
# Biases of channels that a norm centres have rounding for a gradient, which AdamW makes a step; so have those of keys
WITHOUT_EFFECT = tuple(f"input_proj.{level}.0.bias" for level in range(3))


def test_a_model_folder_gives_the_labels_it_gave():
    model = clouds.load(BEFORE / "finished" / "model")
    labels = model.predict(BEFORE / "run" / "source" / "images" / "000000.png").labels
    kept = np.asarray(Image.open(BEFORE / "finished" / "labels.png"))
    assert labels.shape == kept.shape
    assert (labels == kept).mean() > 0.999  # another processor may round a pixel on a border


def test_a_stopped_run_goes_on_to_the_end_it_had(tmp_path):
    torch.set_num_threads(1)
    run = tmp_path / "run"
    shutil.copytree(BEFORE / "run", run)
    assert load_run(run).model.vision == f"{tiny_backbone.__name__}:Backbone"
    pipeline.train(load_run(run), run)
    went, was = load_file(run / "model" / "model.safetensors"), load_file(BEFORE / "finished/model/model.safetensors")
    assert went.keys() == was.keys()
    for name in was:
        pairs = [(went[name], was[name])]
        if name.endswith("attn.in_proj_bias"):  # of queries, keys, values
            pairs = list(zip(went[name].chunk(3), was[name].chunk(3), strict=True))
            del pairs[1]
        if not name.endswith(WITHOUT_EFFECT):
            for ours, theirs in pairs:
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")
    rows, before = read_jsonl(run / "metrics.jsonl"), read_jsonl(BEFORE / "finished" / "metrics.jsonl")
    assert [(row["stage"], row["step"]) for row in rows] == [(row["stage"], row["step"]) for row in before]
    assert rows[-1]["loss"] == pytest.approx(before[-1]["loss"], rel=1e-4)
    changed = read_json(BEFORE / "finished" / "work.json")["pixels_changed"]
    assert read_json(run / "work.json")["pixels_changed"] == pytest.approx(changed, rel=0.05)


def test_a_finished_run_is_shown(tmp_path, capsys):
    shutil.copytree(BEFORE / "finished", tmp_path / "run")
    assert cli.run(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report" / "index.html").read_text("utf-8")
    miou = read_json(BEFORE / "finished" / "results.json")["domains"][0]["miou"]
    assert f"{100 * miou:.1f}" in page


@pytest.mark.parametrize(("former", "now"), NOW.items())
def test_a_former_import_path_is_the_module_that_took_its_place(former, now):
    sys.modules.pop(former, None)
    with pytest.warns(DeprecationWarning, match=f"{former} is called {now} now"):
        module = importlib.import_module(former)
    assert module is importlib.import_module(now)
    assert module.__name__ == now
