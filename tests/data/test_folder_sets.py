"""Generated sets, and any folder of images and labels with a label map."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import clouds.data
from clouds.config.load import as_recipe
from clouds.config.recipe import Recipe
from clouds.data import open_dataset
from clouds.data.labelled import open_sets
from clouds.data.layouts import folder_spec
from clouds.errors import DataError, UsageError
from fabricate import SIZE, as_folder, jpg, pick, picture, png


def generated(lines: list[Any]) -> dict[str, bytes]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return {
        "metadata.jsonl": text.encode(),
        "a.png": png(picture(0)),
        "more/b.jpg": jpg(picture(1)),
        "c.png": png(picture(2)),
    }


def test_generated_sets_have_images_and_no_labels(tmp_path: Path) -> None:
    lines = [
        {"file_name": "more/b.jpg", "prompt": "fog"},
        {"file_name": "a.png", "keep": True},
        {"file_name": "c.png", "keep": False},
        "",
    ]
    dataset = clouds.data.Generated(as_folder(generated(lines), tmp_path))
    assert dataset.names == ["a", "more/b"]
    assert not dataset.labelled
    image, label = dataset[0]
    assert image.shape == (3, *SIZE)
    assert label.shape == SIZE
    assert (label == 255).all()
    assert np.array_equal(dataset.label(1), label.numpy())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [({"file_name": "d.png"}, "lists 'd.png', which is not there"), ("{oops", "line 2: is not a JSON object"),
     ({"file_name": "../a.png"}, "is outside the set")],
)  # fmt: skip
def test_generated_sets_with_a_bad_manifest(line: Any, complaint: str, tmp_path: Path) -> None:
    root = as_folder(generated([{"file_name": "a.png"}, line]), tmp_path)
    with pytest.raises(DataError, match=complaint):
        open_dataset("generated", root)
    assert open_dataset("generated", root, partial=True).names == ["a"]


def test_a_folder_without_a_manifest_is_no_generated_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected metadata\.jsonl in it"):
        open_dataset("generated", as_folder({"a.png": png(picture(0))}, tmp_path))


def test_any_folder_with_a_label_map(tmp_path: Path) -> None:
    raw = np.array([[3, 7, 9, 0]], np.uint8).repeat(6, 0)
    root = as_folder({"pics/val/x/one.jpg": jpg(picture(0)), "masks/val/x/one_m.png": png(raw)}, tmp_path)
    dataset = clouds.data.Folder(
        root, images="pics/{split}/{key}.{ext}", labels="masks/{split}/{key}_m.png", label_set="camvid11",
        label_map={3: "road", "7": "car", 9: None, 0: 0},
    )  # fmt: skip
    assert (dataset.names, dataset.split) == (["val/x/one"], "val")
    assert dataset.label(0)[0].tolist() == [3, 8, 255, 0]


@pytest.mark.parametrize(
    ("images", "labels"),
    [("{key}.png", "{key}_mask.png"), ("train/{key}.{ext}", "train/{key}_mask.png"), ("{key}_rgb.png", "{key}.png")],
)
def test_labels_may_lie_beside_their_images_under_one_pattern(images: str, labels: str, tmp_path: Path) -> None:
    ids = png(pick(0, [0, 1, 255]).astype(np.uint8))
    files = {}
    for key in ("a", "town/b"):
        files |= {images.format(key=key, ext="jpg"): (jpg if "ext" in images else png)(picture(0))}
        files |= {labels.format(key=key): ids, images.format(key=f"{key}_color", ext="png"): png(picture(1))}
    dataset = open_dataset("folder", as_folder(files, tmp_path), "train", images=images, labels=labels)
    assert dataset.names == ["a", "town/b"]
    assert np.unique(dataset[1][1]).tolist() == [0, 1, 255]


def test_a_recipe_may_use_what_pairs_up(tmp_path: Path) -> None:
    label = png(pick(0, [0]).astype(np.uint8))
    as_folder({"images/a.png": png(picture(0)), "labels/a.png": label, "labels/b.png": label}, tmp_path)
    source = {"dataset": "folder", "root": str(tmp_path)}
    with pytest.raises(DataError, match=r"is the label of no image; .* what pairs up \(partial: true in a recipe"):
        open_sets(Recipe.model_validate({"data": {"source": source}}))
    assert open_sets(Recipe.model_validate({"data": {"source": source | {"partial": True}}}))[0].names == ["a"]


def test_any_folder_in_colour(tmp_path: Path) -> None:
    raw = np.array([[[255, 0, 0], [1, 2, 3], [0, 0, 0]]], np.uint8)
    root = as_folder({"images/a.png": png(raw), "labels/a.png": png(raw)}, tmp_path)
    options: dict[str, Any] = {"encoding": "colour", "label_map": {"#ff0000": "car", "1, 2, 3": "sky"}}
    with pytest.raises(DataError, match=r"labels/a\.png: colours #000000 are outside"):
        open_dataset("folder", root, **options)[0]
    options["label_map"] |= {"0,0,0": None}
    assert open_dataset("folder", root, **options)[0][1].tolist() == [[13, 10, 255]]
    # a palette image, as VOC's are and as optimizers make of colours, is read by its colours
    Image.fromarray(raw).convert("P", palette=Image.Palette.ADAPTIVE, colors=4).save(root / "labels/a.png")
    assert Image.open(root / "labels/a.png").mode == "P"
    assert open_dataset("folder", root, **options)[0][1].tolist() == [[13, 10, 255]]
    options = {"encoding": "red", "label_map": {255: "car", 1: "sky", 0: None}}
    assert open_dataset("folder", root, **options).label(0).tolist() == [[13, 10, 255]]


def test_any_folder_defaults_to_indices_of_its_label_set(tmp_path: Path) -> None:
    mine = clouds.data.make_label_set("mine", {"ground": ["road", "sidewalk"], "sky": ["sky"]})
    files = {"images/a.png": png(picture(0)), "labels/a.png": png(pick(0, [0, 1, 255]).astype(np.uint8))}
    dataset = open_dataset("folder", as_folder(files, tmp_path), label_set=mine)
    assert dataset.label_set is mine
    assert np.unique(dataset.label(0)).tolist() == [0, 1, 255]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"images": "images/*.png"}, "expected a path with one"),
        ({"images": "../{key}.png"}, "expected a path below the folder"),
        ({"images": "{city}/{key}.png"}, "expected a path below the folder"),
        ({"encoding": "rle"}, "expected one of index, red, colour, polygons"),
        ({"label_map": {1: "lorry"}}, "'lorry' is not a class of cityscapes19"),
        ({"label_map": {"#ff0000": "car"}}, "colours need encoding: colour"),
        ({"label_map": {"red": "car"}, "encoding": "colour"}, "expected a colour as '#rrggbb'"),
        ({"label_map": {400: "car"}}, "value 400 is outside 0..255"),
        ({"lables": "x"}, "folder has no option lables"),
        ({"label_set": "coco"}, "unknown label set 'coco'"),
    ],
)
def test_any_folder_with_options_that_make_no_sense(options: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    files = {"images/a.png": png(picture(0)), "labels/a.png": png(pick(0, [0]).astype(np.uint8))}
    with pytest.raises(UsageError, match=complaint):
        open_dataset("folder", as_folder(files, tmp_path), **options)


@pytest.mark.parametrize(("label_map", "encoding", "keys"), [
    ({"1": "road", 1: "sky"}, "index", "'1' and 1"),
    ({"#ff0000": "road", "255,0,0": "sky"}, "colour", "'#ff0000' and '255,0,0'"),
])  # fmt: skip
def test_keys_of_a_label_map_that_are_one_value_are_both_named(tmp_path: Path, label_map, encoding, keys) -> None:
    with pytest.raises(UsageError, match=f"label map: the keys {keys} are the same; keep one"):
        folder_spec(label_map=label_map, encoding=encoding)


def test_a_sixteenth_of_a_set_is_one_image_in_sixteen(tmp_path: Path) -> None:
    files = {f"{kind}/{k:03d}.png": png(pick(k, [0, 1]).astype(np.uint8) if kind == "labels" else picture(k))
             for kind in ("images", "labels") for k in range(35)}  # fmt: skip
    as_folder(files, tmp_path)
    chosen = {"dataset": "folder", "root": tmp_path, "every": 16}
    (data,) = open_sets(as_recipe({"data": {"source": chosen}}, "mine"))
    assert data is not None
    assert data.names == ["000", "016", "032"]
    assert np.array_equal(data.label(1), pick(16, [0, 1]))
    with pytest.raises(UsageError, match=r"every: got 16; streets are rendered: set data\.source_count"):
        as_recipe({"data": {"source": {"dataset": "streets", "every": 16}}}, "mine")
