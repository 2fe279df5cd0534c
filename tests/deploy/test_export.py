"""clouds export: both ends of the graph against predict's own code, whole files in their runtimes, bad input."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import tiny
import tiny_clip
from clouds.cli import run
from clouds.deploy.export.export_request import request
from clouds.deploy.export.photos import photos, variants
from clouds.deploy.export.runtimes import LEAST, compare, demand
from clouds.errors import BackendError, UsageError
from clouds.model.folder import save_model
from clouds.model.inference import Inference
from clouds.model.segmenter import merge
from clouds.predict.predictor import Predictor, load

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
MEAN, STD = [123.0, 116.0, 103.0], [58.0, 57.0, 56.0]


def opened(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def picture(height, width, seed=0):
    """Blocks, edges and noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(height // 9, 1), max(width // 9, 1), 3), dtype=np.uint8)
    large = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(large + rng.normal(0, 4, large.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [
    (64, 96), (128, 256), (97, 61), (500, 333), (31, 50), (40, 63), (129, 65), (64, 64), (1, 300), (20, 9000),
])  # fmt: skip
def test_the_first_end_is_predicts_resizing(size):
    from clouds.deploy.export.graph_ends import before

    image = picture(*size)
    inner = Inference(64).sizes(size)[0]
    padded, own, found = opened(before(64, MEAN, STD, None)).run(None, {"image": image.transpose(2, 0, 1)[None]})
    assert tuple(own) == size
    assert tuple(found) == inner
    assert padded.shape[2] % 32 == 0
    assert padded.shape[3] % 32 == 0
    pixels = padded[0].transpose(1, 2, 0)[: inner[0], : inner[1]] * STD + MEAN
    wanted = Image.fromarray(image).resize(inner[::-1], Image.Resampling.BILINEAR)
    assert np.abs(pixels - np.asarray(wanted)).max() < 0.01, "to the byte"
    assert not padded[:, :, inner[0] :].any()
    assert not padded[..., inner[1] :].any()


def test_openvino_resizes_to_the_byte_too(tmp_path):
    """It computes 64-bit numbers in 32 bits."""
    openvino = pytest.importorskip("openvino")
    from clouds.deploy.export.graph_ends import before

    onnx.save(before(64, MEAN, STD, None), tmp_path / "before.onnx")
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    there = openvino.Core().compile_model(tmp_path / "before.onnx", "CPU", settings)
    for size in ((333, 247), (90, 1300), (31, 50)):
        given = {"image": picture(*size).transpose(2, 0, 1)[None]}
        (here,) = opened(before(64, MEAN, STD, None)).run(["padded"], given)
        assert np.abs(there(given)["padded"] - here).max() < 1e-4


@pytest.mark.parametrize("side", [0, 32])
def test_a_fixed_sizes_first_end_has_nodes_for_all_it_gives(side):
    from clouds.deploy.export.graph_ends import before

    made = before(side, MEAN, STD, (40, 60))
    onnx.checker.check_model(made)
    padded, own, inner = opened(made).run(None, {"image": np.zeros((1, 3, 40, 60), np.uint8)})
    assert (tuple(own), tuple(inner)) == ((40, 60), (32, 48) if side else (40, 60))
    assert padded.shape == ((1, 3, 32, 64) if side else (1, 3, 64, 64))


@pytest.mark.parametrize("batch", [2, None])
def test_the_first_end_sees_each_image_of_a_batch_alone(batch):
    from clouds.deploy.export.graph_ends import before

    images = np.stack([picture(97, 61, seed=k).transpose(2, 0, 1) for k in range(2)])
    together = opened(before(64, MEAN, STD, None, batch)).run(["padded"], {"image": images})[0]
    alone = opened(before(64, MEAN, STD, None))
    for k in range(2):
        assert np.array_equal(together[k : k + 1], alone.run(["padded"], {"image": images[k : k + 1]})[0])


def test_the_first_end_leaves_images_alone_where_the_model_does():
    from clouds.deploy.export.graph_ends import before

    image = picture(45, 70)
    padded, _, found = opened(before(0, MEAN, STD, None)).run(None, {"image": image.transpose(2, 0, 1)[None]})
    assert tuple(found) == (45, 70)
    assert padded.shape == (1, 3, 64, 96)
    np.testing.assert_allclose(padded[0, :, :45, :70].transpose(1, 2, 0) * STD + MEAN, image, atol=1e-3)


@pytest.mark.parametrize(("inner", "size"), [((64, 96), (64, 96)), ((50, 70), (131, 180)), ((64, 33), (40, 20))])
@pytest.mark.parametrize("batch", [1, 3, None])
def test_the_last_end_is_predicts_merging(inner, size, batch):
    from clouds.deploy.export.graph_ends import after

    torch.manual_seed(0)
    count = batch or 2
    logits = 3 * torch.randn(count, 7, 6)
    masks = F.interpolate(5 * torch.randn(count, 7, 4, 4), size=[-(-side // 32) * 8 for side in inner], mode="bicubic")
    scores = F.interpolate(merge(logits, masks, inner), size=size, mode="bilinear")
    best, expected = scores.max(1)
    given = {"classes": logits.softmax(-1)[..., :-1], "masks": masks}
    arrays = {name: tensor.numpy() for name, tensor in given.items()}
    arrays |= {"size": np.array(size), "inner": np.array(inner)}
    found, share = opened(after(None, batch)).run(["labels", "scores"], arrays)
    assert found.shape == share.shape == (count, *size)
    assert np.abs(share - (best / scores.sum(1)).numpy()).max() < 1e-5
    assert len(np.unique(found)) > 2
    assert (found == expected.numpy()).mean() > 0.999


def test_the_last_end_needs_no_two_classes():
    from clouds.deploy.export.graph_ends import after

    classes = np.tile(np.float32([0.1, 0.2, 0.7]), (1, 4, 1))  # no pixel is between two winners
    arrays = {"classes": classes, "masks": np.ones((1, 4, 8, 8), np.float32)}
    arrays |= {"size": np.array([100, 90]), "inner": np.array([32, 30])}
    found, share = opened(after(None)).run(["labels", "scores"], arrays)
    assert found.shape == (1, 100, 90)
    assert (found == 2).all()
    np.testing.assert_allclose(share, 0.7, atol=1e-6)


@pytest.fixture
def quick(traced, monkeypatch):
    from clouds.deploy.export import onnx_file

    monkeypatch.setattr(onnx_file, "network", lambda model, padded, batch: onnx.load_from_string(traced))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    for k, size in enumerate([(70, 130), (150, 90)]):
        Image.fromarray(picture(*size, seed=k)).save(folder / f"{k}.png")
    return folder


def exported(capsys, *words):
    code = run(["export", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


@pytest.mark.slow
def test_a_file_of_any_size_says_what_predict_says_and_what_it_holds(quick, model_folder, few, tmp_path, capsys):
    code, result, err = exported(capsys, model_folder, "--out", tmp_path / "m.onnx", "--photos", few)
    assert code == 0, err
    assert result["agreement"] >= 0.999
    assert len(result["images"]) == 6
    assert len({row["size"] for row in result["images"]}) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert result["bytes"] == (tmp_path / "m.onnx").stat().st_size
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    image, labels = session.get_inputs()[0], session.get_outputs()[0]
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", [1, 3, "H", "W"])
    assert (labels.name, labels.type, labels.shape) == ("labels", "tensor(uint8)", [1, "H", "W"])
    predictor = load(model_folder)
    about = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert about["classes"] == list(predictor.classes)
    assert about["colors"] == predictor.colors.tolist()
    assert about["protocol"] == predictor.inference.as_record()
    assert about["vision"] == "efficientnet-lite0"
    for size in ((33, 47), (64, 64), (211, 301)):
        pixels = picture(*size, seed=5)
        found = session.run(["labels"], {"image": pixels.transpose(2, 0, 1)[None]})[0][0]
        expected = predictor.predict(pixels).labels
        assert len(np.unique(expected)) > 1
        assert (found == expected).mean() > 0.999


@pytest.mark.slow
def test_the_lines_of_the_docs_run_without_torch(quick, model_folder, few, tmp_path, capsys):
    assert exported(capsys, model_folder, "--out", tmp_path / "m.onnx", "--photos", few)[0] == 0
    lines = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    assert len([line for line in lines.splitlines() if line]) <= 15
    alone = "import sys\nsys.modules['torch'] = sys.modules['clouds'] = None\n" + lines
    words = [tmp_path / "m.onnx", few / "0.png", tmp_path / "out.png"]
    done = subprocess.run([sys.executable, "-c", alone, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    predictor = load(model_folder)
    expected = predictor.predict(few / "0.png").labels
    with Image.open(tmp_path / "out.png") as image:
        same = (np.asarray(image) == predictor.colors[expected]).all(-1)
    assert same.mean() > 0.999
    assert done.stdout.count("%") == len(np.unique(expected))


@pytest.mark.slow
@pytest.mark.long
def test_a_linear_head_on_a_clip_exports(tmp_path, capsys, few):
    tiny_clip.register(tmp_path)
    model = tiny.segmenter(vision="open_clip/tiny-resnet", head="linear", shorter_side=0)
    save_model(model.eval(), tmp_path / "model")
    words = (tmp_path / "model", "--size", "96x160", "--out", tmp_path / "m.onnx", "--photos", few)
    code, result, err = exported(capsys, *words)
    assert code == 0, err
    assert result["agreement"] >= 0.999
    assert result["size"] == [96, 160]


@pytest.mark.slow
@pytest.mark.long
def test_half_the_bits(quick, model_folder, few, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(LEAST, "half", 0.9)  # random weights: many pixels are near a tie
    code, result, err = exported(capsys, model_folder, "--half", "--out", tmp_path / "m.onnx", "--photos", few)
    assert code == 0, err
    whole = onnx.load(tmp_path / "m.onnx")
    half = [i for i in whole.graph.initializer if i.data_type == onnx.TensorProto.FLOAT16]
    assert len(half) > 50
    assert result["agreement"] >= 0.9


@pytest.mark.slow
@pytest.mark.long
def test_int8_shows_its_cost(quick, model_folder, few, root, tmp_path, capsys):
    code, result, err = exported(
        capsys, model_folder, "--int8", "--out", tmp_path / "m.onnx", "--photos", few, "--calibrate", few,
        "--score", "camvid-day", f"data.root={root}",
    )  # fmt: skip
    assert code == 0, err
    assert result["miou"]["domain"] == "camvid-day"
    assert result["miou"]["images"] == 9
    assert run(["evaluate", str(model_folder), "camvid-day", f"data.root={root}", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["domains"][0]["miou"] == pytest.approx(result["miou"]["before"])
    assert 0 <= result["miou"]["after"] <= 1


@pytest.mark.slow
@pytest.mark.long
def test_int8_of_one_size_is_calibrated_and_scored_at_it(quick, model_folder, few, root, tmp_path, capsys):
    code, result, err = exported(
        capsys, model_folder, "--int8", "--out", tmp_path / "m.onnx", "--photos", few, "--calibrate", few,
        "--score", "camvid-day", f"data.root={root}", "--size", "64x96",
    )  # fmt: skip
    assert code == 0, err
    assert result["size"] == [64, 96]
    assert 0 <= result["miou"]["after"] <= 1
    kinds = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


@pytest.mark.slow
@pytest.mark.long
def test_a_program_of_one_size(model_folder, few, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(LEAST, "full", 0.98)  # random weights: many pixels are near a tie
    words = (model_folder, "--format", "torch-export", "--size", "90x150", "--photos", few, "--out", tmp_path / "m.pt2")
    code, result, err = exported(capsys, *words)
    assert code == 0, err
    assert result["size"] == [90, 150]
    assert {row["size"] for row in result["images"]} == {"90x150"}
    extra = {"classes": ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=extra).module()
    assert json.loads(extra["classes"]) == list(load(model_folder).classes)
    labels = program(torch.zeros(1, 3, 90, 150, dtype=torch.uint8))
    assert labels.shape == (1, 90, 150)
    assert labels.dtype == torch.uint8


@pytest.mark.slow
def test_openvino(quick, model_folder, few, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(LEAST, "full", 0.98)  # random weights: many pixels are near a tie
    openvino = pytest.importorskip("openvino")
    words = (model_folder, "--format", "openvino", "--out", tmp_path / "m.xml", "--photos", few)
    code, result, err = exported(capsys, *words)
    assert code == 0, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.bin", "m.xml"]
    assert result["agreement"] >= 0.98
    read = openvino.Core().read_model(tmp_path / "m.xml")
    assert json.loads(read.get_rt_info(["clouds", "classes"]).astype(str)) == list(load(model_folder).classes)


@pytest.mark.slow
def test_a_file_whose_labels_differ_is_not_left(quick, model_folder, few, tmp_path, capsys, monkeypatch):
    from clouds.model.segmenter import Segmenter

    semantic = Segmenter.semantic
    monkeypatch.setattr(Segmenter, "semantic", lambda self, *rest: semantic(self, *rest).flip(1))
    (tmp_path / "m.onnx").write_text("an older one")
    code, _, err = exported(capsys, model_folder, "--out", tmp_path / "m.onnx", "--photos", few)
    assert code == 1
    assert "99.9 % are needed" in err
    assert "Nothing was written" in err
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_text() == "an older one"


def test_a_broken_runtime_is_named_with_the_image(predictor):
    def broken(image):
        raise RuntimeError("no such operator")

    with pytest.raises(BackendError, match=r"a\.png \(40x50\).*no such operator"):
        compare(predictor, broken, {"a.png": picture(40, 50)})
    with pytest.raises(BackendError, match="not the image's size"):
        compare(predictor, lambda image: np.zeros((2, 2), np.uint8), {"a.png": picture(40, 50)})


def test_agreement_is_of_pixels_and_names_the_worst(predictor):
    pictures = {"good": picture(60, 90), "bad": picture(30, 45)}

    def label(image):
        labels = predictor.predict(image).labels
        return labels ^ 1 if image.shape[0] == 30 else labels

    found = compare(predictor, label, pictures)
    assert found["worst"] == 0
    assert found["agreement"] == pytest.approx(0.8)
    demand(found, 0.79, "it")
    with pytest.raises(BackendError, match="worst: bad"):
        demand(found, 0.9, "it")


@pytest.mark.parametrize(("words", "said"), [
    (["--format", "coreml"], "expected onnx, torch-export, openvino"),
    (["--half", "--int8"], "one number format"),
    (["--format", "openvino", "--int8"], "use --format onnx"),
    (["--calibrate", "x"], "--calibrate: only --int8 uses such"),
    (["data.root=x"], "data.root=x: only --int8 uses such"),
    (["--photos", "a.png", "b.png"], "b.png: expected KEY=VALUE"),
    (["--format", "torch-export"], "one size of images"),
    (["--format", "openvino", "--out", "m.onnx"], "name the .xml"),
    (["--format", "onnx", "--out", "model"], "expected a name that ends in .onnx"),
    (["--format", "onnx", "--out", "m.xml"], "expected a name that ends in .onnx"),
    (["--size", "720"], "expected HEIGHTxWIDTH"),
    (["--batch", "0"], "--batch: got '0'; expected 1 to 1024 images, or dynamic"),
    (["--batch", "some"], "expected 1 to 1024 images, or dynamic"),
    (["--format", "torch-export", "--size", "64x96", "--batch", "dynamic"], "holds one number of images"),
    (["--size", "16x640"], "sides of 32 to"),
    (["--size", "axb"], "expected HEIGHTxWIDTH"),
    (["--out", "."], "is a folder"),
    (["--photos", "nowhere.png"], "no such image or folder"),
    (["--int8", "--score", "twon"], "did you mean town"),
])  # fmt: skip
def test_bad_words_are_answered_before_work(model_folder, words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["export", str(model_folder), *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_bad_places_are_answered_before_work(tmp_path, capsys):
    assert run(["export", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert run(["export", str(tmp_path), "--out", str(tmp_path / "file" / "m.onnx")]) == 2
    assert "is a file where a folder is needed" in capsys.readouterr().err
    assert run(["export", str(tmp_path), "--out", str(tmp_path / "new" / "m.onnx")]) == 1
    assert "no config.json there" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_missing_extra_is_named(model_folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs openvino|needs onnx.*clouds\[export\]"):
        request(model_folder, "openvino", None, "dynamic", False, False)
    assert request(model_folder, "torch-export", None, "64x96", False, False).size == (64, 96)


def test_public_photos_are_seen_in_every_form():
    pictures, origin = photos([])
    assert "scikit-image" in origin
    assert "2 rendered street scenes" in origin
    seen = variants(pictures, None, 256)
    ratios = [image.shape[1] / image.shape[0] for image in seen.values()]
    assert min(ratios) < 1 < 2 < max(ratios)
    assert min(min(image.shape[:2]) for image in seen.values()) < 256
    assert {image.shape[:2] for image in variants(pictures, (48, 80), 256).values()} == {(48, 80)}


@pytest.mark.slow
@pytest.mark.long
def test_a_vit_of_one_size(tmp_path, few, capsys):
    import tiny_vit

    tiny_vit.register()
    model = tiny.segmenter(vision="timm/tiny_dinov3")
    save_model(model.eval(), tmp_path / "model")
    words = (tmp_path / "model", "--size", "64x96", "--out", tmp_path / "m.onnx", "--photos", few)
    code, result, err = exported(capsys, *words)
    assert code == 0, err
    assert result["agreement"] >= 0.999
    assert Predictor(model).predict(picture(64, 96)).labels.shape == (64, 96)
