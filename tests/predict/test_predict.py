"""``clouds.load`` and the predictor: any picture in, its own size out; files and folders of pictures."""

import subprocess
import sys
from io import BytesIO
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import clouds
import tiny
from clouds.config.label_sets import COLORS, NAMES
from clouds.data.batches.augment import scale_crop
from clouds.data.codes import CITYSCAPES_IDS
from clouds.data.datasets import Segmentation
from clouds.data.encodings import read_indices
from clouds.data.legend import draw_legend
from clouds.errors import DataError, UsageError
from clouds.model.folder import save_model
from clouds.model.inference import resized
from clouds.predict.pictures import as_rgb
from clouds.predict.predict_files import predict_files
from clouds.predict.predictor import Predictor
from clouds.predict.result import KINDS, Result
from conftest import small_model

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)


def saved(path: Path, pixels: np.ndarray = PHOTO, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return path


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# -- one picture


@pytest.mark.parametrize("size", [(40, 70), (64, 64), (200, 90), (33, 47), (1, 1), (7, 300), (5, 1)])
def test_labels_have_the_pictures_own_size(any_predictor, size):
    result = any_predictor.predict(np.resize(PHOTO, (*size, 3)))
    assert result.labels.shape == size
    assert result.labels.dtype == np.uint8
    assert result.labels.max() < 19
    assert result.scores.shape == size
    assert result.scores.dtype == np.float32
    assert 0 < result.scores.min() <= result.scores.max() <= 1
    assert result.classes == NAMES


def test_a_path_a_pil_image_and_an_array_give_the_same_labels(any_predictor, tmp_path):
    path = saved(tmp_path / "a.png")
    results = [any_predictor.predict(given) for given in (path, str(path), Image.fromarray(PHOTO), PHOTO)]
    assert len(np.unique(results[0].labels)) > 1
    for result in results:
        assert np.array_equal(result.labels, results[0].labels)
        assert np.array_equal(result.image, PHOTO)


def test_labels_depend_on_the_picture(predictor):
    assert not np.array_equal(predictor.predict(PHOTO).scores, predictor.predict(255 - PHOTO).scores)


def test_a_mirrored_view_of_an_array_is_read_as_it_stands(predictor):
    view = PHOTO[:, ::-1]
    assert np.array_equal(predictor.predict(view).labels, predictor.predict(view.copy()).labels)


def test_the_map_is_that_of_the_picture_at_the_models_shorter_side():
    model = small_model(shorter_side=64)
    large = np.resize(PHOTO, (64, 96, 3))
    scores = Predictor(model).semantic(torch.from_numpy(large.transpose(2, 0, 1).copy())[None])
    assert np.array_equal(Predictor(model).predict(large).labels, scores[0].argmax(0).numpy())


def test_a_grey_file_is_read_as_grey(tmp_path):
    grey = PHOTO[..., 0]
    assert np.array_equal(as_rgb(saved(tmp_path / "a.png", grey)), np.stack([grey] * 3, -1))
    assert np.array_equal(as_rgb(Image.fromarray(grey)), np.stack([grey] * 3, -1))


def test_transparency_is_dropped(tmp_path):
    rgba = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 9, np.uint8)])
    assert np.array_equal(as_rgb(saved(tmp_path / "a.png", rgba)), PHOTO)
    assert np.array_equal(as_rgb(Image.fromarray(rgba)), PHOTO)


def test_a_palette_file_is_read_in_its_colours(tmp_path):
    image = Image.fromarray(PHOTO).quantize(16)
    image.save(tmp_path / "a.png")
    assert np.array_equal(as_rgb(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_16_bit_file_keeps_its_high_bytes(tmp_path, channels):
    deep = np.random.default_rng(1).integers(0, 65536, (9, 11, channels)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    expected = np.broadcast_to(deep[..., ::-1] >> 8, (9, 11, 3))
    assert np.abs(as_rgb(tmp_path / "a.png").astype(int) - expected).max() <= 1
    if channels == 1:
        with Image.open(tmp_path / "a.png") as image:
            assert np.array_equal(as_rgb(image), expected)


def as_seen(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """By Pillow's own reading of EXIF."""
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_honoured_in_files_and_pil_images(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", exif=exif)
    assert np.array_equal(as_rgb(path), as_seen(PHOTO, orientation))
    with Image.open(path) as image:
        assert np.array_equal(as_rgb(image), as_seen(PHOTO, orientation))


def test_labels_of_a_rotated_photo_belong_to_the_upright_picture(predictor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", exif=exif)
    result = predictor.predict(path)
    assert result.labels.shape == result.image.shape[:2] == (70, 40)


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02"])
def test_broken_exif_turns_nothing(tmp_path, exif):
    assert as_rgb(saved(tmp_path / "a.jpg", exif=exif)).shape == PHOTO.shape


def test_tensors_and_arrays_may_have_their_channels_first_or_last(predictor):
    tensor = torch.from_numpy(PHOTO.copy())
    for given in (tensor, tensor.permute(2, 0, 1), PHOTO.transpose(2, 0, 1)):
        assert np.array_equal(as_rgb(given), PHOTO)
    assert np.array_equal(predictor.predict(tensor.permute(2, 0, 1)).labels, predictor.predict(PHOTO).labels)


def test_where_both_readings_fit_tensors_are_channels_first_and_arrays_channels_last():
    both = PHOTO[:3, :, :]
    assert np.array_equal(as_rgb(both), both)
    assert np.array_equal(as_rgb(torch.from_numpy(both.copy())), both.transpose(1, 2, 0))


@pytest.mark.parametrize(("content", "said"), [
    (b"", "empty file"), (b"no picture at all", "expected a PNG, JPEG"), (b"\x89PNG\r\n\x1a\nxx", "broken image"),
])  # fmt: skip
def test_a_corrupt_file_is_named(predictor, tmp_path, content, said):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        predictor.predict(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_truncated_file_is_named(predictor, tmp_path, ending):
    path = saved(tmp_path / f"cut.{ending}")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"truncated|damaged") as caught:
        predictor.predict(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(predictor):
    with pytest.raises(DataError, match=r"/nowhere/x\.png: no such image"):
        predictor.predict("/nowhere/x.png")


@pytest.mark.parametrize("wrong", [
    torch.full((3, 8, 8), 2.0), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), np.zeros((4, 5, 4), np.uint8),
    np.full((4, 5, 3), np.nan), np.zeros((4, 5, 3), np.int64),
    np.zeros((0, 5, 3), np.uint8), Image.new("F", (5, 4)), 7, None,
], ids=["float tensor", "batch", "rgba", "nan", "integers", "empty", "pil float", "number", "none"])  # fmt: skip
def test_anything_else_is_refused_with_what_it_is(predictor, wrong):
    with pytest.raises(DataError, match=r"expected a path, .* or floats from 0 to 1, got "):
        predictor.predict(wrong)


def test_an_address_is_not_fetched(predictor):
    with pytest.raises(DataError, match=r"https://example\.org/a\.png: a web address; download the image"):
        predictor.predict("https://example.org/a.png")


def test_one_picture_in_any_form_is_one_prediction(predictor, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    path = saved(tmp_path / "a.png", picture)
    expected = predictor.predict(picture).labels
    forms = [path, path.read_bytes(), Image.fromarray(picture), picture / 255, torch.from_numpy(picture / 255).float(),
             picture.astype(np.uint16) << 8, torch.from_numpy(picture).permute(2, 0, 1)]  # fmt: skip
    for form in forms:
        assert np.array_equal(np.asarray(predictor.predict(form)), expected), type(form)
    grey = picture[..., 0]
    assert np.array_equal(predictor.predict(grey).labels, predictor.predict(np.dstack([grey] * 3)).labels)


def test_a_mask_is_asked_for_by_its_class(predictor):
    result = predictor.predict(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    assert np.array_equal(result.mask("road"), result.labels == 0)
    with pytest.raises(UsageError, match="'raod' is not a class of this model; there are road, sidewalk"):
        result.mask("raod")


@pytest.mark.parametrize(("size", "side", "expected"), [
    ((40, 80), 20, (20, 40)), ((80, 40), 60, (120, 60)), ((40, 80), 40, (40, 80)), ((40, 80), 0, (40, 80)),
    ((1, 1), 32, (32, 32)), ((33, 47), 64, (64, 91)),
])  # fmt: skip
def test_the_shorter_side_becomes_what_is_asked_by_the_filter_of_training(predictor, size, side, expected, monkeypatch):
    assert resized(size, side or min(size)) == expected
    image, seen = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8), []
    twin = predictor.with_inference(shorter_side=side if side >= 32 else 0, scales=(1.0,) if side >= 32 else (0.5,))
    see = twin.model.semantic
    monkeypatch.setattr(twin.model, "semantic", lambda x, *more: (seen.append(x), see(x, *more))[1])
    twin.predict(image)
    shown = seen[0][0].permute(1, 2, 0).numpy()
    wanted, _ = scale_crop(
        image, np.zeros(size, np.uint8), shown.shape[:2], (shown.shape[0] / size[0],) * 2, np.random.default_rng(0)
    )
    assert np.array_equal(shown, wanted)


# -- saving


def test_a_result_is_saved_as_labels_colours_or_overlay(predictor, tmp_path):
    result = predictor.predict(PHOTO)
    for kind in ("labels", "color", "overlay"):
        assert result.save(tmp_path / "new" / f"{kind}.png", kind) == tmp_path / "new" / f"{kind}.png"
    stored = {kind: np.asarray(Image.open(tmp_path / "new" / f"{kind}.png")) for kind in ("labels", "color", "overlay")}
    assert np.array_equal(stored["labels"], result.labels)
    assert np.array_equal(stored["color"], np.array(COLORS, np.uint8)[result.labels])
    assert np.abs(stored["overlay"] - (0.55 * stored["color"] + 0.45 * PHOTO)).max() <= 0.51
    assert np.array_equal(result.save(tmp_path / "d.png") and np.asarray(Image.open(tmp_path / "d.png")), result.labels)


def test_saved_labels_store_ids_and_a_palette_paints_them(tmp_path):
    labels = np.array([[0, 18, 255], [7, 7, 0]], np.uint8)
    path = result_of(labels).save(tmp_path / "a.png")
    with Image.open(path) as image:
        assert image.mode == "P"
        painted = np.asarray(image.convert("RGB"))
    assert np.array_equal(read_indices(path.read_bytes(), "a"), labels)
    assert painted[0].tolist() == [list(COLORS[0]), list(COLORS[18]), [224, 224, 192]]
    # a folder of them is labels to train on, whatever their colours
    Image.new("RGB", (3, 2)).save(tmp_path / "a.jpg")
    folder = Segmentation("folder", tmp_path, images="{key}.jpg", labels="{key}.png")
    assert np.array_equal(folder.label(0), labels)


def test_a_legend_below_the_overlay_names_the_classes_that_are_there(tmp_path):
    result = result_of(np.array([[0, 8]]).repeat(400, 1).repeat(3, 0))
    alone, both = (result.save(tmp_path / f"{n}.png", "overlay", legend=bool(n)) for n in (0, 1))
    plain, named = (np.asarray(Image.open(path)) for path in (alone, both))
    assert np.array_equal(named[:3], plain)
    strip = {tuple(color) for color in named[3:].reshape(-1, 3).tolist()}
    assert {COLORS[0], COLORS[8]} <= strip
    assert not {COLORS[1], COLORS[13]} & strip
    assert len(draw_legend([(name, (9, 9, 9)) for name in NAMES], 300)) > 3 * len(draw_legend([("a", (9, 9, 9))], 300))


def test_an_overlay_runs_from_photo_to_colours(predictor):
    result = predictor.predict(PHOTO)
    assert np.array_equal(result.overlay(0), PHOTO)
    assert np.array_equal(result.overlay(1), result.color())


def result_of(labels: np.ndarray, classes=NAMES) -> Result:
    colors = np.array(COLORS, np.uint8)[: len(classes)]
    scores = np.linspace(0, 1, labels.size, dtype=np.float32).reshape(labels.shape)
    return Result(labels.astype(np.uint8), scores, np.zeros((*labels.shape, 3), np.uint8), tuple(classes), colors)


def test_saved_cityscapes_ids_read_back_as_the_train_ids(tmp_path):
    labels = np.arange(19).reshape(1, 19)
    stored = np.asarray(Image.open(result_of(labels).save(tmp_path / "a.png", "ids")))
    assert stored.tolist() == [[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]]
    assert [NAMES.index(CITYSCAPES_IDS[value]) for value in stored[0].tolist()] == labels[0].tolist()


def test_what_is_no_class_has_the_cityscapes_id_of_unlabelled():
    assert result_of(np.array([[255, 0]])).ids().tolist() == [[0, 7]]


def test_scores_are_saved_as_grey(tmp_path):
    result = result_of(np.zeros((2, 3)))
    stored = np.asarray(Image.open(result.save(tmp_path / "a.png", "scores")))
    assert stored.tolist() == [[0, 51, 102], [153, 204, 255]]


def test_cityscapes_ids_of_other_classes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="this model has 2 others"):
        result_of(np.zeros((2, 2)), ("road", "scooter")).save(tmp_path / "a.png", "ids")
    assert listing(tmp_path) == []


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "JPG"])
def test_pictures_for_the_eye_may_be_jpeg_files(tmp_path, ending):
    result = result_of(np.zeros((16, 16)))
    for kind in ("color", "overlay"):
        with Image.open(result.save(tmp_path / f"{kind}.{ending}", kind)) as image:
            assert image.format == "JPEG"
            assert np.abs(np.asarray(image).astype(int) - getattr(result, kind)()).max() < 8


@pytest.mark.parametrize(("name", "kind", "said"), [
    ("x.jpg", "labels", r"x\.jpg: labels is saved as \.png; JPEG would change its values; name it x\.png"),
    ("x.jpeg", "ids", r"JPEG would change its values; name it x\.png"),
    ("x.JPG", "scores", r"JPEG would change its values; name it x\.png"),
    ("x.tif", "overlay", r"overlay is saved as \.png or \.jpg or \.jpeg; name it x\.png"),
    ("x", "labels", r"labels is saved as \.png; name it x\.png"),
    ("x.png", "mask", "unknown kind 'mask'; allowed: labels, color, overlay, ids, scores, coco, polygons"),
])  # fmt: skip
def test_a_file_of_the_wrong_name_or_kind_is_refused_and_nothing_written(tmp_path, name, kind, said):
    with pytest.raises(UsageError, match=said):
        result_of(np.zeros((2, 2))).save(tmp_path / name, kind)
    assert listing(tmp_path) == []


def test_a_result_shows_itself_in_a_notebook_and_in_words(predictor):
    result = predictor.predict(np.resize(PHOTO, (80, 1500, 3)))
    shown = Image.open(BytesIO(result._repr_png_()))
    assert shown.format == "PNG"
    assert shown.size == (1024, 55)
    small = predictor.predict(PHOTO)
    assert np.array_equal(np.asarray(Image.open(BytesIO(small._repr_png_()))), small.overlay())
    first = next(iter(small.shares()))
    assert repr(small).startswith(f"<Result 70x40: {first} ")
    assert sum(small.shares().values()) == pytest.approx(1)


def test_shares_leave_out_what_is_no_class():
    assert result_of(np.array([[0, 0, 10, 255]])).shares() == {"road": 0.5, "sky": 0.25}


# -- many pictures


def test_a_stream_is_lazy_bounded_and_in_order(any_predictor):
    taken = []

    def pictures():
        for k in range(11):
            taken.append(k)
            yield np.full((40 + 30 * (k % 2), 70, 3), 20 * k, np.uint8)

    results = any_predictor.stream(pictures(), batch_size=4)
    assert taken == []
    first = next(results)
    assert taken == [0, 1, 2, 3]
    assert first.image[0, 0, 0] == 0
    rest = list(results)
    assert [r.image[0, 0, 0] for r in rest] == [20 * k for k in range(1, 11)]
    assert [r.labels.shape[0] for r in rest[:3]] == [70, 40, 70]
    assert np.array_equal(rest[-1].labels, any_predictor.predict(np.full((40, 70, 3), 200, np.uint8)).labels)


def test_a_stream_may_be_endless_and_puts_equal_sizes_through_together(predictor, monkeypatch):
    seen = []
    segment = Predictor._segment
    monkeypatch.setattr(Predictor, "_segment", lambda self, pixels: seen.append(len(pixels)) or segment(self, pixels))
    endless = (PHOTO if k % 3 else PHOTO[:, ::2] for k in count())
    assert len(list(islice(predictor.stream(endless, batch_size=6), 12))) == 12
    assert seen == [2, 4, 2, 4]


def test_a_stream_refuses_a_batch_of_nothing_at_once(predictor):
    with pytest.raises(UsageError, match="batch_size: got 0"):
        predictor.stream([], batch_size=0)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0)])
def test_bands_of_a_large_picture_join_without_a_seam(predictor, monkeypatch, scales):
    large = cv2.resize(PHOTO, (333, 215))
    several = predictor.with_inference(scales=scales)
    whole = several.predict(large)
    monkeypatch.setattr("clouds.predict.predictor.BAND", 333 * 7)
    banded = several.predict(large)
    assert np.abs(whole.scores - banded.scores).max() < 1e-5
    assert np.mean(whole.labels == banded.labels) > 0.9999


# -- raw maps


def test_semantic_gives_a_float_map_of_the_inputs_size(predictor):
    images = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (2, 3, 50, 75), np.uint8))
    out = predictor.semantic(images)
    assert out.shape == (2, 19, 50, 75)
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert not out.requires_grad
    assert torch.allclose(out[1:], predictor.semantic(images[1:]), atol=1e-5)


@pytest.mark.parametrize("wrong", [
    torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(1, 4, 8, 8, dtype=torch.uint8),
], ids=["float", "no batch", "four channels"])  # fmt: skip
def test_semantic_refuses_other_tensors_with_their_shape(predictor, wrong):
    with pytest.raises(UsageError, match=r"expected uint8 images \(B, 3, H, W\), got ") as caught:
        predictor.semantic(wrong)
    assert str(tuple(wrong.shape)) in str(caught.value)


def test_the_ensemble_is_refused_where_the_backbone_has_no_clip_features(predictor):
    with pytest.raises(UsageError, match="efficientnet-lite0 has no dense CLIP features; use ensemble=False"):
        predictor.semantic(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ensemble=True)


# -- clouds.load, and what ``import clouds`` offers


def test_a_run_folder_loads_its_model(predictor, tmp_path):
    save_model(small_model(), tmp_path / "run" / "model")
    loaded = clouds.load(tmp_path / "run")
    assert np.array_equal(loaded.predict(PHOTO).labels, predictor.predict(PHOTO).labels)
    assert loaded.classes == NAMES


@pytest.mark.parametrize("make", [lambda p: p / "none", lambda p: p, lambda p: saved(p / "a.png")])
def test_what_is_no_model_is_refused_by_its_path(tmp_path, make):
    path = make(tmp_path)
    with pytest.raises(DataError, match=r"config\.json") as caught:
        clouds.load(path)
    assert str(path) in str(caught.value)


def test_the_packages_names_are_there_on_first_use():
    from clouds.deploy import push as publish
    from clouds.predict import loading, result
    from clouds.predict import predictor as predict
    from clouds.selftrain.refine import refine

    assert clouds.Predictor is predict.Predictor
    assert clouds.Result is result.Result
    assert clouds.load is loading.load
    assert clouds.push is publish.push
    assert clouds.refine is refine
    assert set(clouds.__all__) == {"Predictor", "Result", "api", "data", "load", "push", "refine"} < set(dir(clouds))
    assert clouds.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="module 'clouds' has no attribute 'nope'"):
        _ = clouds.nope


def test_importing_the_package_imports_nothing_heavy():
    code = "import clouds, sys; print([m for m in ('torch', 'numpy', 'cv2', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- files and folders


def test_folders_keep_their_structure(any_model, tmp_path):
    photos = tmp_path / "photos"
    for name in ("a.png", "day/a.jpg", "day/rain/b.JPEG"):
        saved(photos / name)
    (photos / "notes.txt").touch()
    (photos / "._a.png").write_bytes(b"a file manager's")
    single = saved(tmp_path / "single.png")
    done, failed, *_ = predict_files(any_model, [photos, single], tmp_path / "out")
    assert done == [*(photos / name for name in ("a.png", "day/a.jpg", "day/rain/b.JPEG")), single]
    assert failed == []
    assert listing(tmp_path / "out") == sorted(
        ["predictions.jsonl"]
        + [name + end for name in ("a", "day/a", "day/rain/b", "single") for end in (".png", "_overlay.png")]
    )
    labels = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert np.array_equal(labels, clouds.load(any_model).predict(photos / "a.png").labels)


def test_a_second_run_into_the_photos_own_folder_leaves_its_predictions_alone(model_folder, tmp_path):
    saved(tmp_path / "a.png")
    for _ in range(2):
        assert predict_files(model_folder, [tmp_path], tmp_path / "out").done == [tmp_path / "a.png"]
    assert listing(tmp_path) == ["a.png", "out/a.png", "out/a_overlay.png", "out/predictions.jsonl"]


@pytest.mark.parametrize("names", [
    ("a/x.png", "b/x.png"), ("a/x.png", "a/x.jpg"), ("a/x.jpg", "b/x_overlay.jpg"),
], ids=["one name in two folders", "one name with two endings", "a photo named like an overlay"])  # fmt: skip
def test_two_inputs_of_one_output_are_refused_before_any_work(tmp_path, names):
    paths = [saved(tmp_path / name) for name in names]
    remedy = "rename one of each two" if names == ("a/x.png", "a/x.jpg") else "give the folder that holds both"
    with pytest.raises(UsageError, match=f"two inputs would be written there; {remedy}"):
        predict_files(tmp_path / "no model is read", paths, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_overwritten(tmp_path):
    path = saved(tmp_path / "a.png")
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"a\.png: an input would be overwritten; choose another --out"):
        predict_files(tmp_path / "no model is read", [path], tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("empty", [True, False])
def test_no_image_is_refused_before_any_work(tmp_path, empty):
    path = tmp_path / "photos"
    if empty:
        path.mkdir()
    with pytest.raises(UsageError, match=r"photos: (holds no \.png, .* image|no such image or folder)"):
        predict_files(tmp_path / "no model is read", [path], tmp_path / "out")


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_corrupt_file_is_named_and_the_others_are_done(any_model, tmp_path, batch_size):
    a, b, c = (tmp_path / "in" / name for name in ("a.png", "b.png", "c.png"))
    saved(a)
    b.write_bytes(b"broken")
    saved(c, 255 - PHOTO)
    done, failed, *_ = predict_files(any_model, [tmp_path / "in"], tmp_path / "out", batch_size=batch_size)
    assert done == [a, c]
    assert [failure["path"] for failure in failed] == [str(b)]
    assert failed[0]["what"].startswith("a file that starts with b'broken'; expected a PNG, JPEG, TIFF")
    assert listing(tmp_path / "out") == ["a.png", "a_overlay.png", "c.png", "c_overlay.png", "predictions.jsonl"]
    loaded = clouds.load(any_model)
    for path in (a, c):
        assert np.mean(np.asarray(Image.open(tmp_path / "out" / path.name)) == loaded.predict(path).labels) > 0.999


def test_each_format_has_its_own_file(any_model, tmp_path):
    photo = saved(tmp_path / "a.jpg")
    predict_files(any_model, [photo], tmp_path / "out", list(KINDS))
    assert listing(tmp_path / "out") == [
        "a.png", "a_coco.json", "a_color.png", "a_ids.png", "a_overlay.png", "a_polygons.json", "a_scores.png",
        "coco.json", "predictions.jsonl",
    ]  # fmt: skip
    result = clouds.load(any_model).predict(photo)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a_ids.png")), result.ids())


@pytest.mark.parametrize(("how", "said"), [
    ({"batch_size": 0}, "batch_size: got 0; expected at least 1"),
    ({"kinds": ["ids", "mask"]}, "unknown kind 'mask'; allowed: labels, color, overlay, ids, scores, coco, polygons"),
    ({"window": 8}, "window: got 8; expected at least 32 pixels"),
    ({"stride": 9}, "stride: got 9 without a window"),
])  # fmt: skip
def test_values_that_cannot_be_are_refused_before_any_work(tmp_path, how, said):
    photo = saved(tmp_path / "a.png")
    with pytest.raises(UsageError, match=said):
        predict_files(tmp_path / "no model is read", [photo], tmp_path / "out", **how)


def test_cityscapes_ids_of_other_classes_are_refused_before_any_image_is_read(tmp_path):
    save_model(tiny.segmenter().eval(), tmp_path / "four")
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(UsageError, match=r"those of Cityscapes' classes, but this model has 4 others \(road, sky"):
        predict_files(tmp_path / "four", [tmp_path / "a.png"], tmp_path / "out", ["ids"])
