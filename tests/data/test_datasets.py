"""Datasets in their official layouts, unpacked and in archives."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clouds.data
from clouds.check.inspect import inspect_set
from clouds.config.label_sets import NAMES
from clouds.data import open_dataset
from clouds.data.archives import Archive
from clouds.data.datasets import DATASETS, FOLDERS, dataset_names
from clouds.data.formats.table import FORMATS
from clouds.errors import DataError, UsageError
from clouds.testing import DatasetContract
from clouds.testing import dataset_contract as datasets
from fabricate import (
    ALIASES,
    KINDS,
    SIZE,
    Fabricated,
    as_folder,
    as_tar,
    as_zip,
    jpg,
    make,
    opened,
    pick,
    picture,
    png,
    png16,
)

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


def real(name: str) -> Path:
    folder = REAL / FOLDERS[name]
    if not folder.is_dir():
        pytest.skip(f"REAL DATA MISSING: {folder} is not there, the check of {name} on real files did not run")
    return folder


def contract(kind: str) -> datasets.Fabricated:
    """A fabricated set as the contract takes it."""
    files, labels = make(kind)
    spec = DATASETS[ALIASES.get(kind, kind)]
    return datasets.Fabricated(files, labels, spec, lambda root, split=None: opened(kind, root, split))


def check(kind: str, fabricated: Fabricated, root: Path) -> None:
    datasets.check(contract(kind)._replace(files=fabricated.files, labels=fabricated.labels), root)


class TestOfficialLayouts(DatasetContract):
    @pytest.fixture(params=KINDS)
    def fabricated(self, request: pytest.FixtureRequest) -> datasets.Fabricated:
        return contract(request.param)


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


def test_unpacked_files_hide_the_archives_beside_them_and_it_is_said(tmp_path: Path, capsys: Any) -> None:
    fabricated = make("camvid")
    as_folder(fabricated.files, tmp_path)
    as_zip(fabricated.files, tmp_path / "camvid.zip")
    assert "camvid.zip" not in str(opened("camvid", tmp_path).samples[0].image)
    assert "read from the unpacked files alone, not from camvid.zip" in capsys.readouterr().err


@pytest.mark.parametrize("first", ["IDD_Segmentation", ""])
def test_parts_that_were_unpacked_side_by_side_add_up_or_are_named(first: str, tmp_path: Path, capsys: Any) -> None:
    fabricated = make("idd")
    for part, key in ((first, "005506"), ("idd20kII", "frame0299")):
        as_folder({n: c for n, c in fabricated.files.items() if key in n}, tmp_path / part)
    if first:
        check("idd", fabricated, tmp_path)
        assert "in 2 parts, read as one: IDD_Segmentation, idd20kII" in capsys.readouterr().err
    else:  # the second one lies inside the first
        assert len(opened("idd", tmp_path)) == 1
        assert "not from idd20kII" in capsys.readouterr().err


def test_copies_side_by_side_are_not_mixed(tmp_path: Path) -> None:
    for part in ("a", "b"):
        as_folder(make("idd").files, tmp_path / part)
    with pytest.raises(DataError, match=f"wrong folder level for idd; use {tmp_path}/a or {tmp_path}/b"):
        opened("idd", tmp_path)


@pytest.mark.parametrize("how", ["zips", "unpacked in one place", "labels unpacked beside their folder"])
def test_camvids_zips_have_no_folder_of_their_own(how: str, tmp_path: Path) -> None:
    fabricated = make("camvid-original")
    for folder in ("701_StillsRaw_full", "LabeledApproved_full"):
        files = {n.removeprefix(f"{folder}/"): c for n, c in fabricated.files.items() if n.startswith(folder)}
        if how == "zips":
            as_zip(files, tmp_path / f"{folder}.zip")
        else:
            as_folder(files, tmp_path / (folder if how[0] == "l" and folder[0] == "7" else ""))
    check("camvid-original", fabricated, tmp_path)


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
    assert "val_ref" not in inspect_set("acdc", root).splits  # most copies have no labels of it


def test_acdc_in_good_weather_and_as_others_rearrange_it(tmp_path: Path) -> None:
    image, label = png(picture(0)), png(pick(0, [0, 13, 255]).astype(np.uint8))
    names = ("{}/{}/GOPR0475/GOPR0475_frame_000041_{}.png", "{}/val/GOPR0475_frame_000041_{}.png")
    for condition in ("fog", "night", "rain", "snow"):
        place = f"{condition}/val_ref"
        files = {names[0].format("rgb_anon", place, "rgb_ref_anon"): image,
                 names[0].format("gt", place, "gt_ref_labelTrainIds"): label}  # fmt: skip
        as_folder(files, tmp_path / "acdc")
    assert len(open_dataset("acdc", tmp_path / "acdc", "val_ref")) == 4
    assert len(open_dataset("acdc-fog", tmp_path / "acdc", "val_ref")) == 1
    flat = {names[1].format("rgb_anon", "rgb_anon"): image, names[1].format("gt", "gt_labelTrainIds"): label}
    for name in ("acdc", "dark-zurich"):
        root = as_folder(flat, tmp_path / "flat")
        assert open_dataset(name, root).names == ["val/GOPR0475_frame_000041"]


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


def test_mapillary_has_the_tables_of_hrda_and_of_rein(tmp_path: Path) -> None:
    ids = np.arange(66, dtype=np.uint8).reshape(6, 11)
    files = {"validation/images/a.jpg": jpg(picture(0, ids.shape)), "validation/labels/a.png": png(ids)}
    root = as_folder(files, tmp_path)
    ours, rein = (open_dataset(name, root).label(0).ravel().tolist() for name in ("mapillary", "mapillary-rein"))
    changed = {k: None if rein[k] == 255 else NAMES[rein[k]] for k in range(66) if ours[k] != rein[k]}
    assert changed == {
        7: "road", 8: "road", 9: "sidewalk", 10: "road", 11: "sidewalk", 14: "road", 23: "road", 41: None, 44: "pole",
        46: "traffic sign", 49: "traffic sign",
    }  # fmt: skip
    listed = {"labels": [{"name": "construction--flat--bike-lane"}, {"name": "human--person"}] * 33}
    (root / "config.json").write_text(json.dumps(listed))
    assert open_dataset("mapillary-rein", root).label(0).ravel().tolist() == [0, 11] * 33


def carla(*values: int) -> dict[str, bytes]:
    """Two captures whose label has a stripe of each value, from top to bottom."""
    label = np.repeat(np.uint8(values), 4)[:, None].repeat(8, 1)
    red = png(np.dstack([label, label * 0, label * 0]))
    return {f"{kind}/{k}.png": red if kind == "labels" else png(picture(k, label.shape))
            for k in (0, 1) for kind in ("images", "labels")}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "read"),
    [  # what is stored, what it reads as without a version
        ((11, 3, 9, 14, 24), ("sky", "building", "vegetation", "car", "road")),
        ((11, 9, 1, 29), ("sky", "vegetation", "road", None)),
        ((13, 1, 9, 10, 8, 7), ("sky", "building", "vegetation", "vehicle", "sidewalk", "road")),
    ],
)
def test_a_carla_version_is_told_by_what_only_it_has(
    values: tuple[int, ...], read: tuple[str | None, ...], tmp_path: Path
) -> None:
    dataset = open_dataset("carla", as_folder(carla(*values), tmp_path))
    found = dataset.label(1)[::4, 0].tolist()
    assert [None if k == 255 else dataset.label_set.classes[k] for k in found] == list(read)


def test_a_carla_version_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    root = as_folder(carla(11, 3, 14, 2, 1), tmp_path)
    with pytest.raises(DataError, match=r"say which: carla@0\.9\.13 .*or carla@0\.9\.14 \(.*0\.9\.15, 0\.9\.16"):
        open_dataset("carla", root)
    for version in ("0.9.14", "0.9.15", "0.9.16"):
        assert NAMES[open_dataset(f"carla@{version}", root).label(0)[-1, 0]] == "road"
    old = open_dataset("carla", root, version="0.9.13")
    assert old.label_set.classes[old.label(0)[-1, 0]] == "building"
    with pytest.raises(UsageError, match=r"has no version '0\.9\.17'; it has 0\.9\.13, .*0\.9\.16"):
        open_dataset("carla", root, version="0.9.17")


def test_synthia_keeps_both_bytes(tmp_path: Path) -> None:
    wide = np.zeros((*SIZE, 3), np.uint16)
    wide[..., 0] = 256 + 3
    files = make("synthia").files | {"RAND_CITYSCAPES/GT/LABELS/0000000.png": png16(wide)}
    with pytest.raises(DataError, match="label values up to 259"):
        opened("synthia", as_folder(files, tmp_path)).label(0)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, clouds.data; from clouds.data import LABEL_SETS; assert not {'torch', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Kitti'"):
        clouds.data.Kitti  # noqa: B018
    assert {"Cityscapes", "open_dataset", "folding"} <= set(dir(clouds.data))


def test_the_classes_name_every_dataset() -> None:
    named = [getattr(clouds.data, name) for name in clouds.data.__all__]
    classes = [each for each in named if hasattr(each, "dataset")]
    domains = {"camvid-day", "camvid-dusk", "acdc-fog", "acdc-night", "acdc-rain", "acdc-snow", "mapillary-rein"}
    assert {c.dataset for c in classes} == set(dataset_names()) - domains - set(FORMATS)


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
