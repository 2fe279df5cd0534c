"""Datasets in their official layouts, unpacked and in archives; and what is said of missing, broken or hostile ones."""

import io
import json
import pickle
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clouds.data
from clouds.data import archives, open_dataset
from clouds.data.archives import Archive
from clouds.data.datasets import DATASETS, FOLDERS, Segmentation, dataset_names
from clouds.data.missing import MissingSplitError
from clouds.data.pairing import scan
from clouds.errors import DataError, UsageError
from fabricate import KINDS, SIZE, Fabricated, as_folder, as_tar, as_zip, jpg, make, pick, picture, png, png16, polygons

ALIASES = {"mapillary-1.2": "mapillary", "mapillary-2.0": "mapillary", "idd-png": "idd", "idd-ids": "idd",
           "camvid-original": "camvid", "carla-0.9.14": "carla"}  # fmt: skip
REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


def real(name: str) -> Path:
    folder = REAL / FOLDERS[name]
    if not folder.is_dir():
        pytest.skip(f"REAL DATA MISSING: {folder} is not there, the check of {name} on real files did not run")
    return folder


def opened(kind: str, root: Path, split: str | None = None, **options: Any) -> Segmentation:
    if kind == "carla-0.9.14":
        options["version"] = "0.9.14"
    return open_dataset(ALIASES.get(kind, kind), root, split, **options)


def check(kind: str, fabricated: Fabricated, root: Path) -> None:
    """Every split of the set in ``root`` reads as fabricated."""
    seen = set()
    for split, parts in DATASETS[ALIASES.get(kind, kind)].splits.items():
        expected = {
            k: v for k, v in fabricated.labels.items() if any(k.startswith(f"{p}/" if p else "") for p in parts)
        }
        if not expected:
            continue
        dataset = opened(kind, root, split)
        assert set(dataset.names) == set(expected)
        assert len(dataset) == len(expected)
        for i, name in enumerate(dataset.names):
            image, label = dataset[i]
            assert (image.shape, image.dtype) == ((3, *SIZE), torch.uint8)
            assert (label.shape, label.dtype) == (SIZE, torch.uint8)
            assert np.array_equal(label.numpy(), expected[name]), (split, name)
            assert np.array_equal(image.numpy(), dataset.image(i).transpose(2, 0, 1))
            indices = np.unique(label)
            assert indices[indices != 255].max() < len(dataset.label_set.classes)
        seen |= set(expected)
    assert seen


@pytest.mark.parametrize("kind", KINDS)
def test_unpacked(kind: str, tmp_path: Path) -> None:
    fabricated = make(kind)
    check(kind, fabricated, as_folder(fabricated.files, tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_archives_are_read_in_place(kind: str, tmp_path: Path) -> None:
    """Images in one zip, the rest in another, as most sites hand them out; nothing is unpacked."""
    fabricated = make(kind)
    images = {
        n: c
        for i, (n, c) in enumerate(fabricated.files.items())
        if any(w in n for w in ("images", "leftImg", "rgb", "RGB"))
    }
    rest = {n: c for n, c in fabricated.files.items() if n not in images}
    as_zip(images, tmp_path / "images.zip", top="wrapped/", stored=True)
    as_zip(rest, tmp_path / "labels.zip")
    before = sorted(tmp_path.rglob("*"))
    check(kind, fabricated, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz"])
@pytest.mark.parametrize("top", ["", "./", "official_name/"])
def test_the_root_may_be_an_archive(suffix: str, top: str, tmp_path: Path) -> None:
    fabricated = make("idd-lite")
    pack = as_zip if suffix == ".zip" else as_tar
    check(
        "idd-lite",
        fabricated,
        pack(fabricated.files, tmp_path / f"set{suffix}", top=top.replace("./", "") if pack is as_zip else top),
    )


def test_archives_of_parts_add_up(tmp_path: Path) -> None:
    """GTA5 comes in ten zips of images and ten of labels."""
    files = make("gta5").files
    for i, name in enumerate(sorted(files)):
        as_zip({name: files[name]}, tmp_path / f"{i:02d}_part.zip")
    assert opened("gta5", tmp_path).names == ["00001", "24966"]


def test_unpacked_files_hide_the_archives_beside_them(tmp_path: Path) -> None:
    fabricated = make("camvid")
    as_folder(fabricated.files, tmp_path)
    as_zip(fabricated.files, tmp_path / "camvid.zip")
    assert "camvid.zip" not in str(opened("camvid", tmp_path).samples[0].image)


def test_workers_read_archives(tmp_path: Path) -> None:
    fabricated = make("idd-lite")
    dataset = opened("idd-lite", as_tar(fabricated.files, tmp_path / "set.tar.gz"))
    again = pickle.loads(pickle.dumps(dataset))
    loader = torch.utils.data.DataLoader(dataset, batch_size=1, num_workers=2)
    for i, (image, label) in enumerate(loader):
        assert torch.equal(image[0], again[i][0])
        assert torch.equal(label[0], again[i][1])


def test_compressed_tars_are_read_in_any_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = {f"{i}.bin": rng.bytes(int(n)) for i, n in enumerate(rng.integers(0, 1 << 20, 24))}
    path = as_tar(files, tmp_path / "large.tar.gz")
    path.write_bytes(path.read_bytes() + bytes(512))  # gzip allows zeros at the end
    archive = Archive(path)
    for name in rng.permutation(list(archive.names())):
        assert archive.read(str(name)) == files[str(name)]


def test_camvid_by_light(tmp_path: Path) -> None:
    root = as_folder(make("camvid").files, tmp_path)
    assert open_dataset("camvid-day", root).names == ["test/Seq05VD_f00000", "test/Seq05VD_f05100"]
    assert open_dataset("camvid-dusk", root).names == ["test/0001TP_008550"]
    with pytest.raises(UsageError, match="camvid-day has no split 'train'; it has test"):
        open_dataset("camvid-day", root, "train")


def test_acdc_by_weather(tmp_path: Path) -> None:
    root = as_folder(make("acdc").files, tmp_path)
    assert len(open_dataset("acdc", root)) == 8
    assert {n.split("/")[0] for n in open_dataset("acdc-snow", root).names} == {"snow"}


def test_gta5_leaves_out_its_unusable_frames(tmp_path: Path) -> None:
    files = {f"{kind}/{key}.png": png(picture(0) if kind == "images" else pick(0, [7]).astype(np.uint8))
             for kind in ("images", "labels") for key in ("00002", "15188", "17705", "20801")}  # fmt: skip
    assert opened("gta5", as_folder(files, tmp_path)).names == ["00002"]


def test_gta5_labels_stored_as_colours_are_read_by_colour(tmp_path: Path) -> None:
    road, car = (128, 64, 128), (0, 0, 142)
    rgb = np.array([[road] * 10] * 3 + [[car] * 10] * 3, np.uint8)
    files = make("gta5").files | {"labels/00001.png": png(rgb)}
    assert opened("gta5", as_folder(files, tmp_path)).label(0)[::5, 0].tolist() == [0, 13]


def test_mapillary_versions(tmp_path: Path) -> None:
    old, new = make("mapillary-1.2"), make("mapillary-2.0")
    moved = {n.replace("/labels/", "/v1.2/labels/"): c for n, c in old.files.items()}
    root = as_folder(new.files | moved, tmp_path)  # the v2.0 download holds both
    assert np.array_equal(opened("mapillary-1.2", root).label(0), old.labels["validation/-1Gtjcw9PzqUHnnHW0TAmA"])
    second = opened("mapillary-2.0", root, version="2.0")
    assert np.array_equal(second.label(0), new.labels["validation/-1Gtjcw9PzqUHnnHW0TAmA"])
    with pytest.raises(UsageError, match=r"no version '3'; it has 1.2, 2.0"):
        opened("mapillary-1.2", root, version="3")


def test_mapillary_config_decides_what_ids_mean(tmp_path: Path) -> None:
    names = ["object--vehicle--car", "nature--sky", "void--unlabeled"]
    files = {
        "config.json": json.dumps({"labels": [{"name": n} for n in names]}).encode(),
        "validation/images/a.jpg": jpg(picture(0)),
        "validation/labels/a.png": png(np.array([[0, 1, 2]], np.uint8).repeat(6, 0), palette=True),
    }
    dataset = opened("mapillary-1.2", as_zip(files, tmp_path / "mapillary.zip", top="mapillary-vistas/"))
    assert dataset.label(0)[0].tolist() == [13, 10, 255]


def test_mapillary_2_needs_its_config(tmp_path: Path) -> None:
    root = as_folder(make("mapillary-2.0").files, tmp_path)
    (root / "config_v2.0.json").unlink()
    with pytest.raises(DataError, match=r"config_v2\.0\.json is missing"):
        opened("mapillary-2.0", root)


def test_synthia_keeps_both_bytes(tmp_path: Path) -> None:
    wide = np.zeros((*SIZE, 3), np.uint16)
    wide[..., 0] = 256 + 3
    files = make("synthia").files | {"RAND_CITYSCAPES/GT/LABELS/0000000.png": png16(wide)}
    with pytest.raises(DataError, match="label values up to 259"):
        opened("synthia", as_folder(files, tmp_path)).label(0)


# --- generated sets and any folder -----------------------------------------------------------------------------


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
     ({"file_name": "../a.png"}, "which is not there")],
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


def test_any_folder_in_colour(tmp_path: Path) -> None:
    raw = np.array([[[255, 0, 0], [1, 2, 3], [0, 0, 0]]], np.uint8)
    root = as_folder({"images/a.png": png(raw), "labels/a.png": png(raw)}, tmp_path)
    options: dict[str, Any] = {"encoding": "colour", "label_map": {"#ff0000": "car", "1, 2, 3": "sky"}}
    with pytest.raises(DataError, match=r"labels/a\.png: colours #000000 are outside"):
        open_dataset("folder", root, **options)[0]
    options["label_map"] |= {"0,0,0": None}
    assert open_dataset("folder", root, **options)[0][1].tolist() == [[13, 10, 255]]


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


# --- missing -----------------------------------------------------------------------------------------------------


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
    assert DATASETS[name].home in str(caught.value)


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


# --- broken ------------------------------------------------------------------------------------------------------

BREAK: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("truncated", lambda c: c[: len(c) // 2], "cannot be decoded|broken image header|end of the file is missing"),
    ("cut short", lambda c: c[:-20], "cannot be decoded|end of the file is missing"),
    ("empty", lambda c: b"", "an empty file; expected a PNG or JPEG"),
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
        (jpg(np.zeros(SIZE, np.uint8)), "a label as JPEG; expected PNG"),
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
     (b'{"imgWidth": 4, "imgHeight": 4, "objects": [3]}', "not a polygon")],
)  # fmt: skip
def test_polygon_files_that_are_none(content: bytes, complaint: str, tmp_path: Path) -> None:
    files = make("idd").files
    files["gtFine/val/0/005506_gtFine_polygons.json"] = content
    with pytest.raises(DataError, match=complaint):
        open_dataset("idd", as_folder(files, tmp_path)).label(0)


# --- hostile -----------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    """A piece of a PNG file."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def declared(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + b"\x08\x02\0\0\0") + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_labels_of_few_bits_keep_their_values(bits: int, tmp_path: Path) -> None:
    values = pick(0, list(range(2**bits)), (6, 8)).astype(np.uint8)
    shifts = np.arange(8 - bits, -1, -bits)
    packed = (values.reshape(6, -1, 8 // bits) << shifts).sum(-1).astype(np.uint8)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    head = (8).to_bytes(4, "big") + (6).to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    root = as_folder({"images/a.png": png(picture(0, (6, 8))), "labels/a.png": content}, tmp_path)
    assert np.array_equal(open_dataset("folder", root).label(0), values)


@pytest.mark.parametrize("which", ["images", "labels"])
def test_images_over_the_pixel_limit_are_refused_unread(which: str, tmp_path: Path) -> None:
    files = make("carla").files | {f"{which}/town_000.png": declared(20_000, 20_000)}
    root = as_folder(files, tmp_path)
    with pytest.raises(DataError, match="20000x20000 is 400 million pixels; more than 200 million are refused"):
        open_dataset("carla", root)[0]
    with pytest.raises(DataError, match="10x6 is 0 million pixels"):
        open_dataset("carla", root, max_pixels=59)[1]


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "C:/evil.png", "..\\evil.png"])
@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_hostile_names_refuse_the_archive(name: str, suffix: str, tmp_path: Path) -> None:
    pack = as_zip if suffix == ".zip" else as_tar
    path = (
        pack(make("carla").files | {name: b""}, tmp_path / f"carla{suffix}")
        if suffix != ".zip"
        else tmp_path / "carla.zip"
    )
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), b"")
    with pytest.raises(DataError, match=r"refused, its member .* would leave"):
        open_dataset("carla", path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_refuse_the_archive(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "carla.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("images/a.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match="is a link or a device"):
        open_dataset("carla", path)


def test_links_in_zips_refuse_the_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "carla.zip", "w") as archive:
        info = zipfile.ZipInfo("images/a.png")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="is a link or a device"):
        open_dataset("carla", tmp_path)


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    files = make("carla").files | {"images/town_000.png": bytes(8 << 20)}
    dataset = open_dataset("carla", as_zip(files, tmp_path / "carla.zip"))
    with pytest.raises(DataError, match=r"declares 8388608 bytes packed into .* refused as a decompression bomb"):
        dataset[0]
    dataset[1]


def test_a_zip_that_lies_about_a_size(tmp_path: Path) -> None:
    path = as_zip({"images/a.png": bytes(5000), "labels/a.png": b""}, tmp_path / "carla.zip")
    content = path.read_bytes()
    path.write_bytes(content.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with pytest.raises(DataError, match="damaged or truncated in the archive"):
        Archive(path).read("images/a.png")


def test_large_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER", 100)
    path = as_zip({"a.bin": bytes(101)}, tmp_path / "a.zip", stored=True)
    with pytest.raises(DataError, match="refused"):
        Archive(path).read("a.bin")


def test_gzip_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "carla.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("images/a.png")
        info.size = 80 << 20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(DataError, match="refused as a bomb"):
        open_dataset("carla", path)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_broken_archives_are_named(suffix: str, damage: str, tmp_path: Path) -> None:
    pack = as_zip if suffix == ".zip" else as_tar
    path = pack(make("carla").files, tmp_path / f"carla{suffix}")
    path.write_bytes(path.read_bytes()[:300] if damage == "cut" else b"\x07" * 3000)
    with pytest.raises(DataError, match=f"carla{suffix}.*(not a whole archive|ends too early|damaged|truncated)"):
        list(open_dataset("carla", path))


def test_encrypted_zips_are_named(tmp_path: Path) -> None:
    path = as_zip({"images/a.png": png(picture(0))}, tmp_path / "carla.zip")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="encrypted or packed in a rare way"):
        open_dataset("carla", path)


# --- the package and the real sets -------------------------------------------------------------------------------


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, clouds.data; from clouds.data import LABEL_SETS; assert not {'torch', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Kitti'"):
        clouds.data.Kitti  # noqa: B018
    assert {"Cityscapes", "open_dataset", "folding"} <= set(dir(clouds.data))


def test_the_classes_name_every_dataset() -> None:
    classes = [getattr(clouds.data, name) for name in clouds.data._HOME["named"]]
    domains = {"camvid-day", "camvid-dusk", "acdc-fog", "acdc-night", "acdc-rain", "acdc-snow"}
    assert {c.dataset for c in classes} == set(dataset_names()) - domains


@pytest.mark.parametrize(
    ("name", "split", "count", "size", "classes"),
    [
        ("camvid", "train", 184, (360, 480), 11),
        ("camvid-day", None, 171, (360, 480), 11),
        ("camvid-dusk", None, 62, (360, 480), 11),
        ("idd-lite", None, 204, (227, 320), 7),
        ("idd-lite", "train", 1403, (227, 320), 7),
        ("bdd100k", "all", 24, (720, 1280), 16),
        ("carla", None, 59, (600, 800), 10),
    ],
)
def test_real_sets(name: str, split: str | None, count: int, size: tuple[int, int], classes: int) -> None:
    dataset = open_dataset(name, real(name), split)
    assert len(dataset) == len(set(dataset.names)) == count
    seen: set[int] = set()
    for i in range(0, count, max(1, count // 24)):
        image, label = dataset[i]
        assert image.shape == (3, *size)
        assert label.shape == size
        seen |= set(np.unique(label).tolist()) - {255}
    assert len(seen) >= classes - 1
