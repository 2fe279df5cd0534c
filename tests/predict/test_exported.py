"""Exported files where a model goes: without torch, with the model's labels, and one message where they cannot do it.

The fast tests write a file of their own that has the inputs, outputs and metadata of an export and labels pixels by
their red channel; real onnxruntime runs it. The tests of predict, evaluate and serve take real exports too (any_model).
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import clouds
from clouds.config.label_sets import COLORS, NAMES
from clouds.data.images import write_png
from clouds.errors import DataError, UsageError
from clouds.evaluate.compare_models import evaluate_models
from clouds.model.inference import Inference
from clouds.predict.predict_files import predict_files
from serving import encoded, live

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

PHOTO = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
ABOUT = {
    "classes": list(NAMES), "colors": [list(color) for color in COLORS], "vision": "efficientnet-lite0",
    "backends": {"vision": "efficientnet-lite0 (ImageNet)", "text": "all-MiniLM-L6-v2"},
    "protocol": Inference(64).as_record(),
}  # fmt: skip
DOOR = """
import sys
sys.modules["torch"] = None
from clouds.cli import run
code = run(sys.argv[1:])
assert not [name for name in sys.modules if name.partition(".")[0] == "torch" and sys.modules[name]]
sys.exit(code)
"""


def red(path: Path, shape=("N", 3, "H", "W"), about=ABOUT, outputs=("labels", "scores")) -> Path:
    """A file that says 1 where red is above 127, with a score of 0.75."""
    from onnxscript import FLOAT, UINT8, script
    from onnxscript import opset20 as op

    @script()
    def label(image):
        over = op.Squeeze(op.Slice(image, [0], [1], [1]), [1]) > op.Cast(127, to=2)
        return op.Cast(over, to=2), op.Cast(over, to=1) * 0.0 + 0.75

    number, _, height, width = shape
    model = label.to_model_proto(
        input_types=[UINT8[shape]], output_types=[UINT8[number, height, width], FLOAT[number, height, width]],
        ir_version=10,
    )  # fmt: skip
    names = dict(zip((each.name for each in model.graph.output), outputs, strict=True))
    for node in model.graph.node:
        node.output[:] = [names.get(link, link) for link in node.output]
    for each in model.graph.output:
        each.name = names[each.name]
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in about.items()})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return red(tmp_path_factory.mktemp("exported") / "red.onnx")


def test_predict_and_evaluate_need_no_torch(file, tmp_path):
    write_png(tmp_path / "a.png", PHOTO)
    formats = "labels,overlay,scores,coco,polygons,voc"
    for words in (
        ["predict", file, tmp_path / "a.png", "--out", tmp_path / "out", "--format", formats],
        ["evaluate", file, "town", "evaluate.rendered_count=1", "--json"],
    ):
        done = subprocess.run([sys.executable, "-c", DOOR, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backends"] == ABOUT["backends"]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written >= {"a.png", "a_overlay.png", "a_scores.png", "coco.json", "voc"}


def test_serve_needs_no_torch(file):
    with live("-c", DOOR, "serve", str(file), "--port", "0", "--json", "--threads", "1") as server:
        assert server.record["models"] == [file.stem]
        answer = server.segment(encoded(PHOTO))
        assert answer.status_code == 200, answer.text
        assert server.stop() == 0, server.log()
        assert "PyTorch" not in server.log()


def test_it_is_a_predictor(file):
    predictor = clouds.load(file)
    assert predictor.classes == NAMES
    assert predictor.inference == Inference(64)
    pictures = [PHOTO, PHOTO[:20], 255 - PHOTO]
    for picture, result in zip(pictures, predictor.predict_batch(pictures), strict=True):
        assert np.array_equal(result.labels, picture[..., 0] > 127)
        assert np.array_equal(result.image, picture)
        assert result.scores.dtype == np.float32
        assert np.allclose(result.scores, 0.75)


def test_a_batch_that_is_not_full_is_filled(tmp_path):
    predictor = clouds.load(red(tmp_path / "three.onnx", (3, 3, "H", "W")))
    pictures = [np.roll(PHOTO, k, axis=1) for k in range(4)]
    for picture, result in zip(pictures, predictor.predict_batch(pictures), strict=True):
        assert np.array_equal(result.labels, picture[..., 0] > 127)


def test_another_size_than_the_files_is_named_and_the_others_are_done(tmp_path):
    file = red(tmp_path / "one.onnx", (1, 3, 48, 64))
    write_png(tmp_path / "in/a.png", PHOTO)
    write_png(tmp_path / "in/b.png", PHOTO[:40])
    done = predict_files(file, [tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in done.done] == ["a.png"]
    assert [Path(each["path"]).name for each in done.failed] == ["b.png"]
    said = "an image of 40x64 pixels (height x width), but the exported model takes 48x64; bring images"
    assert done.failed[0]["what"].startswith(said)


def test_a_server_of_one_size_refuses_others(tmp_path):
    from starlette.testclient import TestClient

    from clouds.deploy.serve.app import make_app
    from clouds.deploy.serve.batching import served
    from clouds.deploy.serve.limits import Service

    model = served("one", clouds.load(red(tmp_path / "one.onnx", (1, 3, 48, 64))))
    with TestClient(make_app([model], Service())) as client:
        end = time.monotonic() + 20
        while client.get("/ready").status_code != 200 and time.monotonic() < end:
            time.sleep(0.01)
        asked = {"url": "/v1/segment?format=labels", "headers": {"Content-Type": "image/png"}}
        assert client.post(**asked, content=encoded(PHOTO)).status_code == 200
        answer = client.post(**asked, content=encoded(PHOTO[:40]))
    assert (answer.status_code, answer.json()["error"]) == (400, "wrong_size")
    assert "takes 48x64" in answer.json()["detail"]


@pytest.mark.parametrize(("how", "said"), [
    ({"classes": "scooter"}, "knows only the 19 classes it was exported with"),
    ({"window": 64}, "window, stride cannot be changed"),
    ({"flip": True}, "flip cannot be changed"),
    ({"shorter_side": 96}, "at the shorter side 64 and one scale; shorter_side cannot be changed"),
    ({"device": "cuda:99"}, "onnxruntime has no cuda:99 here, it has .*; take cpu"),
])  # fmt: skip
def test_what_a_file_cannot_do_is_said_before_any_work(file, tmp_path, how, said):
    write_png(tmp_path / "a.png", PHOTO)
    with pytest.raises(UsageError, match=said):
        predict_files(file, [tmp_path / "a.png"], tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()
    if "device" not in how and "classes" not in how:
        words = [f"evaluate.{name}={str(value).lower()}" for name, value in how.items()]
        with pytest.raises(UsageError, match=said):
            evaluate_models([str(file), "town", "evaluate.rendered_count=1", *words])


def test_its_own_settings_may_be_asked_for(file, tmp_path):
    write_png(tmp_path / "a.png", PHOTO)
    assert predict_files(file, [tmp_path / "a.png"], tmp_path / "out", shorter_side=64).made == 1


def test_what_is_no_export_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.onnx: no such file; expected a file that `clouds export` wrote"):
        clouds.load(f"{tmp_path.name}/none.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(DataError, match=r"text\.onnx: onnxruntime cannot open it .*export the model again"):
        clouds.load(tmp_path / "text.onnx")
    with pytest.raises(DataError, match="the outputs labels, shares; expected image, and labels and scores"):
        clouds.load(red(tmp_path / "older.onnx", outputs=("labels", "shares")))
    with pytest.raises(DataError, match="does not say what its labels mean"):
        clouds.load(red(tmp_path / "silent.onnx", about={}))


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_results_are_those_of_the_model(exported, predictor, ending):
    """Random weights: many pixels are near a tie."""
    found = clouds.load(exported(ending))
    assert found.backends == predictor.backends
    assert found.inference == predictor.inference
    pictures = [np.resize(PHOTO, size) for size in ((90, 130, 3), (90, 130, 3), (33, 47, 3))]
    for mine, theirs in zip(found.predict_batch(pictures), predictor.predict_batch(pictures), strict=True):
        same = mine.labels == theirs.labels
        assert same.mean() > 0.99
        assert np.abs(mine.scores - theirs.scores)[same].max() < 2e-3
