"""Files made to do harm, and archives that lie: refused before anything is unpacked."""

import io
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from clouds.data import archives, open_dataset
from clouds.data.archives import Archive
from clouds.errors import DataError
from fabricate import (
    as_folder,
    as_tar,
    as_zip,
    make,
    pick,
    picture,
    png,
)


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


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_names_with_backslashes_are_read_as_tools_of_windows_mean_them(suffix: str, tmp_path: Path) -> None:
    files = {n.replace("/", "\\"): c for n, c in make("idd-lite").files.items()}
    path = as_tar(files, tmp_path / "set.tar.gz")
    if suffix == ".zip":
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            archive.writestr("leftImg8bit\\", b"")
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        path.unlink()
    dataset = open_dataset("idd-lite", tmp_path)
    assert dataset.names == ["val/119/frame58764", "val/3/004642"]
    dataset[0]


def test_a_zip_whose_listing_points_before_its_beginning_is_named(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/b.png", b"old")
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    data[end + 16] += 40  # where the listing begins: offsets in it are then corrected to before the file
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"set\.zip"):
        [Archive(path).read(name) for name in Archive(path).names()]


@pytest.mark.parametrize("again", ["images/b.png", "images\\b.png", "./images/b.png"])
def test_two_different_files_of_one_name_refuse_a_zip(again: str, tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    for content, refused in ((b"old", False), (b"new", True)):
        with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr(zipfile.ZipInfo("images/b.png"), b"old")
            archive.writestr(zipfile.ZipInfo(again), content)
        if refused:
            with pytest.raises(DataError, match=r"set\.zip: holds two different files named 'images/b\.png'; keep one"):
                list(Archive(path).names())
        else:
            assert list(Archive(path).names()) == ["images/b.png"]


@pytest.mark.parametrize(
    ("kind", "what"),
    [(tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.FIFOTYPE, "device"), (tarfile.CHRTYPE, "device")],
)
def test_links_and_devices_refuse_the_archive(kind: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "carla.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("images/a.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match=f"'images/a.png' is a {what}, and only plain files are read .*unpack it"):
        open_dataset("carla", path)


def test_links_in_zips_refuse_the_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "carla.zip", "w") as archive:
        info = zipfile.ZipInfo("images/a.png")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="is a link, and only plain files are read"):
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
    with pytest.raises(DataError, match=f"carla{suffix}.*(not a complete archive|ends too early|damaged|truncated)"):
        list(open_dataset("carla", path))


def test_encrypted_zips_are_named(tmp_path: Path) -> None:
    path = as_zip({"images/a.png": png(picture(0))}, tmp_path / "carla.zip")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="encrypted or packed in a rare way"):
        open_dataset("carla", path)
