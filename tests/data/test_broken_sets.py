"""What is said of datasets that are missing, incomplete or damaged."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clouds.data import open_dataset
from clouds.data.datasets import DATASETS, FOLDERS, dataset_names
from clouds.data.levels import MissingSplitError
from clouds.data.pairing import scan
from clouds.errors import DataError, UsageError
from fabricate import SIZE, as_folder, as_zip, jpg, make, picture, png, png16, polygons


def test_names() -> None:
    assert set(dataset_names()) == set(FOLDERS)
    with pytest.raises(UsageError, match="unknown dataset 'cityscape'; did you mean cityscapes"):
        open_dataset("cityscape", "/nowhere")
    with pytest.raises(UsageError, match="cityscapes has no option depth"):
        open_dataset("cityscapes", "/nowhere", depth=True)
    with pytest.raises(UsageError, match="cityscapes has no split 'test'; it has train, val, all"):
        open_dataset("cityscapes", "/nowhere", "test")


@pytest.mark.parametrize("name", list(DATASETS))
def test_a_missing_folder_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; expected") as caught:
        open_dataset(name, tmp_path / "absent")
    assert str(caught.value).endswith(f"({DATASETS[name].home})")
    (tmp_path / "sets" / "absent").mkdir(parents=True)
    with pytest.raises(DataError, match=re.escape(f". Is it {tmp_path / 'sets' / 'absent'}?")):
        open_dataset(name, tmp_path / "absent")


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"holds no cityscapes; expected leftImg8bit/val/\*_leftImg8bit.png.* there is nothing"
    ):
        open_dataset("cityscapes", tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="expected the folder of cityscapes or an archive"):
        open_dataset("cityscapes", tmp_path / "notes.txt")


@pytest.mark.parametrize("level", ["below/deeper", "leftImg8bit", "leftImg8bit/val", "leftImg8bit/val/lindau"])
def test_the_wrong_level_hints_at_the_right_one(level: str, tmp_path: Path) -> None:
    right = tmp_path / "below" / "deeper" if level == "below/deeper" else tmp_path
    as_folder(make("cityscapes").files, right)
    given = tmp_path if level == "below/deeper" else tmp_path / level
    with pytest.raises(DataError) as caught:
        open_dataset("cityscapes", given)
    assert str(caught.value) == f"{given}: wrong folder level for cityscapes; use {right}"


def test_an_absent_split_is_an_error_of_its_own(tmp_path: Path) -> None:
    files = {n: c for n, c in make("bdd100k").files.items() if "/val/" not in n}
    with pytest.raises(MissingSplitError, match=r"no files of split 'val' here .* there is train, all"):
        open_dataset("bdd100k", as_folder(files, tmp_path))


def test_a_domain_that_is_there_in_part_is_not_scored_as_the_whole(tmp_path: Path) -> None:
    root = as_folder({n: c for n, c in make("acdc").files.items() if "fog" in n}, tmp_path)
    with pytest.raises(
        DataError, match=r"has no files of night/val; expected rgb_anon/night/val/\*_rgb_anon.png .and 2 more"
    ):
        open_dataset("acdc", root)
    assert len(open_dataset("acdc-fog", root)) == len(open_dataset("acdc", root, partial=True)) == 2


def test_links_in_folders_may_go_in_circles(tmp_path: Path) -> None:
    root = as_folder(make("carla").files, tmp_path)
    (root / "images" / "again").symlink_to(root / "images")
    assert len(open_dataset("carla", root)) == 2


def test_rar_is_named(tmp_path: Path) -> None:
    (tmp_path / "SYNTHIA_RAND_CITYSCAPES.rar").touch()
    with pytest.raises(DataError, match=r"SYNTHIA_RAND_CITYSCAPES\.rar cannot be read in place; unpack it there"):
        open_dataset("synthia", tmp_path)


@pytest.mark.parametrize("lost", ["image", "label"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_missing_pair(lost: str, packed: bool, tmp_path: Path) -> None:
    files = make("cityscapes").files
    gone = next(n for n in files if n.startswith("leftImg8bit/val" if lost == "image" else "gtFine/val"))
    del files[gone]
    root = as_zip(files, tmp_path / "set.zip") if packed else as_folder(files, tmp_path)
    what = "is the label of no image" if lost == "image" else "has no label"
    with pytest.raises(DataError, match=f"{what}; expected {gone}; complete the set"):
        open_dataset("cityscapes", root)
    assert open_dataset("cityscapes", root, partial=True).names == ["val/lindau/lindau_000001_000019"]
    assert len(scan("cityscapes", DATASETS["cityscapes"], root, "val").problems) == 1


def test_labels_all_missing(tmp_path: Path) -> None:
    files = {n: c for n, c in make("cityscapes").files.items() if n.startswith("left")}
    with pytest.raises(DataError, match=r"has no label; expected gtFine.*labelIds.png \(and 1 more"):
        open_dataset("cityscapes", as_folder(files, tmp_path))


def test_two_images_of_one_key(tmp_path: Path) -> None:
    files = make("carla").files
    with pytest.raises(DataError, match="is there twice"):
        open_dataset("carla", as_folder(files | {"images/town_000.jpg": jpg(picture(0))}, tmp_path))


BREAK: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("truncated", lambda c: c[: len(c) // 2], "cannot be decoded|broken image header|end of the file is missing"),
    ("cut short", lambda c: c[:-20], "cannot be decoded|end of the file is missing"),
    ("empty", lambda c: b"", "an empty file; expected a PNG, JPEG, TIFF, BMP, WebP or AVIF image"),
    ("text", lambda c: b"<html>404</html>", "starts with b'<html>40'"),
    ("header only", lambda c: c[:20], "broken image header|cannot be decoded"),
]


@pytest.mark.parametrize(("_how", "damage", "complaint"), BREAK, ids=[b[0] for b in BREAK])
@pytest.mark.parametrize(
    "which", ["images/10k/val/00a360bd-27ccb1dd.jpg", "labels/sem_seg/masks/val/00a360bd-27ccb1dd.png"]
)
def test_damaged_files_are_named(which: str, _how: str, damage: Any, complaint: str, tmp_path: Path) -> None:
    files = make("bdd100k").files
    files[which] = damage(files[which])
    dataset = open_dataset("bdd100k", as_folder(files, tmp_path))
    with pytest.raises(DataError, match=complaint) as caught:
        dataset[0]
    assert str(caught.value).startswith(str(tmp_path / which))
    dataset[1]  # the others still read


def test_damage_inside_the_stream_is_noticed(tmp_path: Path) -> None:
    content = bytearray(png(picture(0, (60, 60))))
    content[len(content) // 2] ^= 0x55
    files = make("carla").files | {"images/town_000.png": bytes(content)}
    with pytest.raises(DataError, match=r"truncated or damaged|broken image header"):
        open_dataset("carla", as_folder(files, tmp_path)).image(0)


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    dataset = open_dataset("carla", as_folder(make("carla").files, tmp_path))
    (tmp_path / "images/town_000.png").unlink()
    with pytest.raises(DataError, match=r"town_000\.png: cannot be read \(No such file"):
        dataset[0]


def test_sizes_must_agree(tmp_path: Path) -> None:
    files = make("gta5").files | {"images/00001.png": png(picture(0, (7, 10)))}
    with pytest.raises(DataError, match=r"labels/00001.png: label is 10x6 but its image .*images/00001.png is 10x7"):
        open_dataset("gta5", as_folder(files, tmp_path))[0]


@pytest.mark.parametrize(
    ("label", "complaint"),
    [
        (
            png(np.full(SIZE, 40, np.uint8)),
            "label values 40 are outside this dataset's label map .it defines 0-34, 255.",
        ),
        (png(picture(3)), "a colour image; expected one channel"),
        (jpg(np.zeros(SIZE, np.uint8)), "a label as JPEG; expected PNG or TIFF"),
        (png16(np.full((*SIZE, 3), 26001, np.uint16)), "label values up to 26001.* instance map"),
    ],
)
def test_labels_that_are_not_this_datasets(label: bytes, complaint: str, tmp_path: Path) -> None:
    name = "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png"
    dataset = open_dataset("cityscapes", as_folder(make("cityscapes").files | {name: label}, tmp_path))
    with pytest.raises(DataError, match=complaint) as caught:
        dataset[1]
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(polygons(["lorry"]), "labels lorry are outside"), (b"{}", "not a polygon label file"), (b"\xff", "not a polygon"),
     (polygons([], (10**6, 10**6)), "1000000x1000000 pixels"),
     (b'{"imgWidth": 4, "imgHeight": 4, "objects": [3]}', "not a polygon"),
     (b'{"imgWidth": -4, "imgHeight": -4, "objects": []}', "-4x-4 pixels"),
     (b'{"imgWidth": Infinity, "imgHeight": 4, "objects": []}', "not a polygon"),
     *((f'{{"imgWidth": 4, "imgHeight": 4, "objects": [{{"label": "road", "polygon": [[0, 0], [{far}, 0], [0, 3]]}}]}}'
        .encode(), "a corner of a road is at") for far in ("NaN", "Infinity", "-1e9", '"nan"'))],
)  # fmt: skip
def test_polygon_files_that_are_none(content: bytes, complaint: str, tmp_path: Path) -> None:
    files = make("idd").files
    files["gtFine/val/0/005506_gtFine_polygons.json"] = content
    with pytest.raises(DataError, match=complaint):
        open_dataset("idd", as_folder(files, tmp_path)).label(0)
