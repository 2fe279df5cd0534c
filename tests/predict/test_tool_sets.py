"""Predictions as data sets of other tools: each is read back by the rules of its format, and gives the label map."""

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

import clouds
from clouds.data.datasets import open_dataset
from clouds.data.images import write_png
from clouds.predict.predict_files import predict_files
from clouds.predict.tool_sets import SETS, Classes, voc_rows


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A JPEG, a PNG in a folder below, and a photograph that asks to be turned."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 255, (4, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    Image.fromarray(picture).save(folder / "a.jpg", quality=95)
    write_png(folder / "day" / "b [1].png", picture[::-1].copy())
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(picture).save(folder / "c.jpg", exif=turned)
    return folder


@pytest.fixture(scope="module")
def made(photos, model_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("predicted")
    predict_files(model_folder, [photos], out, ["labels", *SETS])
    return out


def labels(made: Path) -> dict[str, np.ndarray]:
    """The label maps by name, as ``labels`` writes them."""
    return {name: np.asarray(Image.open(made / f"{name}.png")) for name in ("a", "day/b [1]", "c")}


def image_of(folder: Path, name: str) -> np.ndarray:
    (path,) = [each for each in (folder / name).parent.iterdir() if each.stem == Path(name).name and
               each.suffix in (".png", ".jpg")]  # fmt: skip
    return np.asarray(Image.open(path).convert("RGB"))


def test_voc_masks_and_their_labelmap_give_the_labels_and_images_upright(made, model_folder):
    names = clouds.load(model_folder).classes
    lines = (made / "voc/labelmap.txt").read_text().splitlines()
    assert lines[:2] == ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    colors = {tuple(map(int, line.split(":")[1].split(","))): line.split(":")[0] for line in lines[1:]}
    assert len(colors) == len(lines) - 1, "each class has a colour of its own"
    for name, label in labels(made).items():
        mask = Image.open(made / f"voc/SegmentationClass/{name}.png")
        assert np.array_equal(np.asarray(mask), label + 1), "0 is background"
        rgb = np.asarray(mask.convert("RGB"))
        found = {colors[tuple(int(v) for v in color)] for color in np.unique(rgb.reshape(-1, 3), axis=0)}
        assert found == {names[k] for k in np.unique(label)}
        assert image_of(made / "voc/JPEGImages", name).shape[:2] == label.shape
    listed = (made / "voc/ImageSets/Segmentation/default.txt").read_text().splitlines()
    assert listed == sorted(labels(made))
    assert (made / "voc/JPEGImages/a.jpg").is_file()
    assert (made / "voc/JPEGImages/c.png").is_file(), "what is turned is written anew"


def test_cvat_imports_an_archive_of_masks(made):
    with zipfile.ZipFile(made / "cvat.zip") as archive:
        assert sorted(archive.namelist()) == [
            "ImageSets/Segmentation/default.txt", "SegmentationClass/a.png", "SegmentationClass/c.png",
            "SegmentationClass/day/b [1].png", "labelmap.txt",
        ]  # fmt: skip
        mask = archive.read("SegmentationClass/a.png")
    assert mask == (made / "voc/SegmentationClass/a.png").read_bytes()


def painted(shape, shapes) -> np.ndarray:
    """Polygons painted one over the other, as labelme and YOLO do: uint8 (H, W), 255 where there is none."""
    canvas = np.full(shape, 255, np.uint8)
    for index, corners in shapes:
        cv2.fillPoly(canvas, [np.round(np.asarray(corners)).astype(np.int32)], int(index))
    return canvas


def test_labelme_polygons_lie_beside_their_image(made, model_folder):
    names = clouds.load(model_folder).classes
    for name, label in labels(made).items():
        found = json.loads((made / f"labelme/{name}.json").read_text())
        assert (found["imageHeight"], found["imageWidth"]) == label.shape
        assert ((made / "labelme" / name).parent / found["imagePath"]).is_file()
        assert found["imageData"] is None
        shapes = [(names.index(each["label"]), each["points"]) for each in found["shapes"]]
        assert (painted(label.shape, shapes) == label).mean() > 0.97


def test_yolo_polygons_are_shares_of_the_image(made, model_folder):
    about = yaml.safe_load((made / "yolo/data.yaml").read_text())
    assert list(about["names"].values()) == list(clouds.load(model_folder).classes)
    assert (made / "yolo" / about["train"]).is_dir()
    for name, label in labels(made).items():
        shapes = []
        for line in (made / f"yolo/labels/{name}.txt").read_text().splitlines():
            index, *numbers = line.split()
            corners = np.array(numbers, float).reshape(-1, 2)
            assert len(corners) >= 3
            assert 0 <= corners.min() <= corners.max() <= 1
            shapes.append((int(index), corners * label.shape[::-1]))
        assert (painted(label.shape, shapes) == label).mean() > 0.97


def test_panoptic_ids_are_listed_with_their_area_and_box(made, model_folder):
    found = json.loads((made / "coco-panoptic/panoptic.json").read_text())
    assert [each["name"] for each in found["categories"]] == list(clouds.load(model_folder).classes)
    images = {each["id"]: each for each in found["images"]}
    for each in found["annotations"]:
        rgb = np.asarray(Image.open(made / "coco-panoptic/panoptic" / each["file_name"])).astype(int)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        label = labels(made)[each["file_name"].removesuffix(".png")]
        assert np.array_equal(ids, label + 1)
        assert {s["id"]: s["area"] for s in each["segments_info"]} == {
            k: int((ids == k).sum()) for k in np.unique(ids).tolist()
        }  # fmt: skip
        image = images[each["image_id"]]
        assert (image["height"], image["width"]) == label.shape
        assert (made / "coco-panoptic/images" / image["file_name"]).is_file()


def test_a_second_call_makes_nothing_again_and_a_new_photo_joins_the_sets(photos, model_folder, made):
    kinds = ["labels", *SETS]
    before = (made / "voc/SegmentationClass/a.png").stat().st_mtime_ns
    assert predict_files(model_folder, [photos], made, kinds).made == 0
    assert (made / "voc/SegmentationClass/a.png").stat().st_mtime_ns == before
    assert len((made / "voc/ImageSets/Segmentation/default.txt").read_text().splitlines()) == 3


@pytest.mark.parametrize(("kind", "name"), [("voc", "voc"), ("labelme", "labelme"), ("yolo", "yolo"),
                                            ("coco-panoptic", "coco")])  # fmt: skip
def test_training_reads_them_again(made, model_folder, kind, name):
    """Masks as they were; polygons but for what is too small for one, and a border's pixel."""
    data = open_dataset(name, made / kind, exif="apply")
    classes = clouds.load(model_folder).classes
    assert len(data) == 3
    for k, sample in enumerate(data.names):
        _, label = data[k]
        found = np.array([*data.label_set.classes, *[""] * 256])[label.numpy()]
        (key,) = [each for each in labels(made) if sample.endswith(each)]
        same = found == np.array(classes)[labels(made)[key]]
        assert same.all() if kind in ("voc", "coco-panoptic") else same.mean() > 0.9, (sample, same.mean())


def test_no_class_but_background_is_black():
    rows = voc_rows(Classes(["soil", "background", "crop"], [[0, 0, 0], [9, 9, 9], [0, 160, 0]]))
    assert [name for name, _ in rows] == ["background", "soil", "crop"]
    assert rows[0][1] == (0, 0, 0)
    assert rows[2][1] == (0, 160, 0)
    assert any(rows[1][1])


def test_what_transformers_pipeline_returns(photos, model_folder):
    result = clouds.load(model_folder).predict(photos / "a.jpg")
    found = result.to_hf()
    assert [each["label"] for each in found] == [result.classes[k] for k in np.unique(result.labels)]
    assert sum((np.asarray(each["mask"]) == 255).astype(int) for each in found).tolist() == np.ones(
        result.labels.shape, int).tolist()  # fmt: skip
    assert all(0 <= each["score"] <= 1 for each in found)


def test_names_that_begin_alike_keep_their_images_apart(model_folder, tmp_path):
    folder = tmp_path / "frames"
    for k, name in enumerate(["x", "x.1", "x.1.b", "x.2"]):
        write_png(folder / f"{name}.png", np.full((32, 48, 3), 40 * k, np.uint8))
    predict_files(model_folder, [folder], tmp_path / "out", ["coco-panoptic"])
    found = json.loads((tmp_path / "out/coco-panoptic/panoptic.json").read_text())
    images = {image["id"]: image["file_name"] for image in found["images"]}
    pairs = {each["file_name"]: images[each["image_id"]] for each in found["annotations"]}
    assert pairs == {f"{name}.png": f"{name}.png" for name in ["x", "x.1", "x.1.b", "x.2"]}
