"""Pictures of every kind that cameras and tools write: the same pixels, or one message that names the file."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image, features

from clouds.data.datasets import open_dataset
from clouds.data.encodings import read_indices
from clouds.data.exif import orientation
from clouds.data.images import LazyImage, decode_image
from clouds.data.walk import find_images
from clouds.errors import DataError
from clouds.predict.pictures import as_rgb

RNG = np.random.default_rng(0)
BLOCKS = np.kron(RNG.integers(0, 248, (6, 9, 3)), np.ones((8, 8, 1)))
PICTURE = (BLOCKS + RNG.integers(0, 8, (48, 72, 3))).astype(np.uint8)
AVIF = pytest.param("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 3, marks=pytest.mark.skipif(
    not features.check("avif"), reason="this Pillow reads no AVIF"))  # fmt: skip
KINDS = [
    ("PNG", {}, 0), ("TIFF", {}, 0), ("TIFF", {"compression": "tiff_lzw"}, 0),
    ("TIFF", {"compression": "tiff_adobe_deflate"}, 0), ("BMP", {}, 0), ("WEBP", {"lossless": True}, 0), AVIF,
]  # fmt: skip


def encoded(kind: str, picture=PICTURE, **options) -> bytes:
    file = BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "options", "off"), KINDS)
def test_each_kind_gives_its_pixels_and_a_cut_file_is_refused(kind, options, off, tmp_path):
    data = encoded(kind, **options)
    found = decode_image(data, "a")
    assert np.abs(found.astype(int) - PICTURE).max() <= 3 * off
    assert np.array_equal(LazyImage(data, "a")[3:9, 2:30], found[3:9, 2:30])
    for cut in np.linspace(2, len(data) - 1, 25).astype(int):
        with pytest.raises(DataError, match=r"^a: "):
            decode_image(data[:cut], "a")
    (tmp_path / f"X.{kind}").write_bytes(data)  # the ending in capitals
    assert find_images(tmp_path) == [tmp_path / f"X.{kind}"]
    assert np.array_equal(as_rgb(tmp_path / f"X.{kind}"), found)


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_a_file_of_several_pictures_is_refused(kind):
    both = encoded(kind, save_all=True, append_images=[Image.fromarray(PICTURE[::-1].copy())])
    with pytest.raises(DataError, match="a: holds 2 pictures; expected one"):
        decode_image(both, "a")


@pytest.mark.parametrize("ending", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_bits_of_a_camera_are_not_nearly_black(bits, ending):
    deep = PICTURE.astype(np.uint16) << (bits - 8)
    deep[0, 0] = (1 << bits) - 1
    for stored, whole in ((deep[..., ::-1], deep), (deep[..., 0], np.repeat(deep[..., :1], 3, 2))):
        data = cv2.imencode(ending, np.ascontiguousarray(stored))[1].tobytes()
        assert np.array_equal(decode_image(data, "a"), whole >> (bits - 8))
        assert np.array_equal(LazyImage(data, "a")[0:4, 0:9], (whole >> (bits - 8))[0:4, 0:9]), "as all rows say"


def test_a_range_that_the_file_declares_counts():
    info = {281: 16383}  # MaxSampleValue: 14 bits, though these pixels are dark
    data = encoded("TIFF", Image.fromarray(np.full((20, 20), 400, np.uint16)), tiffinfo=info)
    assert decode_image(data, "a").max() == 400 >> 6


def test_other_colour_spaces_become_rgb():
    photo = Image.fromarray(PICTURE)
    assert np.array_equal(decode_image(encoded("TIFF", photo.convert("CMYK")), "a"), PICTURE)
    assert np.array_equal(decode_image(encoded("BMP", photo.convert("L")), "a")[..., 1], np.asarray(photo.convert("L")))
    few = photo.quantize(16)
    assert np.array_equal(decode_image(encoded("TIFF", few), "a"), np.asarray(few.convert("RGB")))
    with pytest.raises(DataError, match="a: pixels of 32 bits; expected 8 or 16"):
        decode_image(encoded("TIFF", Image.fromarray(np.ones((20, 20), np.float32))), "a")


def test_orientation_is_read_of_webp_and_refused_of_tiff():
    turned = Image.Exif()
    turned[0x0112] = 6
    assert orientation(encoded("WEBP", exif=turned)) == 6
    assert orientation(encoded("WEBP")) == 1
    with pytest.raises(DataError, match="a: a TIFF whose orientation is not upright"):
        decode_image(encoded("TIFF", exif=turned), "a")


LABEL = np.kron(RNG.integers(0, 19, (6, 9)), np.ones((8, 8))).astype(np.uint8)


def in_palette() -> Image.Image:
    made = Image.fromarray(LABEL, "P")
    made.putpalette(list(range(256)) * 3)
    return made


@pytest.mark.parametrize("data", [
    encoded("TIFF", LABEL), encoded("TIFF", LABEL, compression="tiff_lzw"), encoded("TIFF", LABEL.astype(np.uint16)),
    encoded("TIFF", LABEL.astype(np.int32)), encoded("TIFF", in_palette()), encoded("TIFF", np.dstack([LABEL] * 3)),
    cv2.imencode(".tif", LABEL.astype(np.uint16))[1].tobytes(),
])  # fmt: skip
def test_labels_may_be_tiff(data, tmp_path):
    assert np.array_equal(read_indices(data, "a"), LABEL)
    for name, content in (("images/b.jpg", encoded("JPEG")), ("labels/b.tif", data)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    found = open_dataset("folder", tmp_path, images="images/{key}.jpg", labels="labels/{key}.tif")
    assert np.array_equal(found[0][1].numpy(), LABEL)


def test_one_bit_labels_are_0_and_1():
    assert np.array_equal(read_indices(encoded("TIFF", Image.fromarray(LABEL % 2 * 255).convert("1")), "a"), LABEL % 2)


@pytest.mark.parametrize(("data", "said"), [
    (encoded("TIFF", LABEL, compression="jpeg"), "a label as TIFF with jpeg compression; expected PNG or TIFF"),
    (encoded("WEBP"), "a label as WEBP; expected PNG or TIFF"),
    (encoded("TIFF", LABEL.astype(np.float32)), "a label of floats; expected whole numbers"),
    (encoded("TIFF", LABEL.astype(np.int32) - 1), "label values down to -1; expected 0..255, with 255 for no class"),
    (encoded("TIFF", LABEL.astype(np.int32) + 300), "label values up to 318; expected 0..255, is this an instance map"),
    (encoded("TIFF", LABEL, tiffinfo={262: 0}), "a TIFF in which white is zero: are its values turned"),
])  # fmt: skip
def test_label_files_whose_values_cannot_be_trusted_are_refused(data, said):
    with pytest.raises(DataError, match=f"a: {said}"):
        read_indices(data, "a")
