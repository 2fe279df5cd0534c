"""Uploads to pixels: the pixels that ``clouds predict`` sees, upright; and nothing but a clear answer for the rest."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from clouds.deploy.serve import limits as module
from clouds.deploy.serve.limits import Refused, decode, pixel_count
from clouds.predict.pictures import as_rgb
from serving import RGB, encoded

MOST = 10_000


def refusal(data: bytes, most: int = MOST) -> Refused:
    with pytest.raises(Refused) as caught:
        decode(data, most)
    return caught.value


def attempt(data: bytes) -> np.ndarray | Refused:
    try:
        return decode(data, MOST)
    except Refused as refused:
        return refused


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with a chunk after its header."""
    return png[:33] + chunk(kind, data) + png[33:]


def deep() -> bytes:
    return encoded(Image.fromarray(RGB[..., 0].astype(np.uint16) * 257))


def transparent_palette() -> bytes:
    picture = Image.fromarray(RGB).quantize(16)
    return encoded(picture, transparency=bytes(range(0, 256, 16)))


KINDS = {
    "png": encoded(),
    "jpeg": encoded(kind="JPEG"),
    "progressive": encoded(kind="JPEG", progressive=True),
    "grey": encoded(RGB[..., 0]),
    "grey jpeg": encoded(RGB[..., 0], "JPEG"),
    "16 bit": deep(),
    "cmyk": encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "rgba": encoded(Image.fromarray(RGB).convert("RGBA")),
    "palette with alpha": transparent_palette(),
    "1 bit": encoded(Image.fromarray(RGB[..., 0] > 99)),
    "animated": encoded(Image.fromarray(RGB), save_all=True, append_images=[Image.fromarray(255 - RGB)]),
    "tiff": encoded(kind="TIFF", compression="tiff_lzw"),
    "tiff cmyk": encoded(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
    "bmp": encoded(kind="BMP"),
    "webp": encoded(kind="WEBP"),
    **({"avif": encoded(kind="AVIF")} if features.check("avif") else {}),
    "with a profile": with_chunk(encoded(), b"gAMA", struct.pack(">I", 45455)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_are_those_that_predict_sees(kind, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(KINDS[kind])
    pixels = decode(KINDS[kind], MOST)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, as_rgb(path))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(10))
def test_photos_are_turned_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(kind=kind, exif=exif)
    from PIL import ImageOps

    plain = Image.fromarray(decode(encoded(kind=kind), MOST))
    plain.info["exif"] = exif.tobytes()
    assert np.array_equal(decode(data, MOST), np.asarray(ImageOps.exif_transpose(plain)))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_leaves_the_picture_as_it_is():
    data = encoded(kind="JPEG", exif=b"Exif\0\0MM\0*" + b"\xff" * 40)
    assert np.array_equal(decode(data, MOST), decode(encoded(kind="JPEG"), MOST))


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (b"", 400, "no bytes"),
        (b"\x89PNG\r\n\x1a\n", 400, "header"),
        (b"\xff\xd8", 400, "header"),
        (encoded()[:-40], 400, "truncated"),
        (encoded(kind="JPEG")[:-500], 400, "truncated"),
        (encoded(kind="GIF"), 415, "GIF8"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "<svg"),
        (b"\0" * 5000, 415, "expected a PNG, JPEG"),
        (encoded(np.zeros((101, 100, 3), np.uint8)), 413, "at most 0.01 million"),
    ],
)
def test_what_is_no_picture_is_named(data, status, word):
    found = refusal(data)
    assert found.status == status
    assert word in found.detail
    assert "fetch it again" not in found.detail


def test_a_bomb_is_refused_by_its_header(monkeypatch):
    def decoded(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(module, "decode_image", decoded)
    side = 50_000
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(3 * side), 9) * 10
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    found = refusal(bomb, 16_000_000)
    assert (found.status, found.error) == (413, "too_many_pixels")
    assert "50000 x 50000" in found.detail


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_bomb_beside_the_pixels_is_harmless(kind):
    data = with_chunk(encoded(), kind, b"name\0\0" + zlib.compress(bytes(200_000_000), 9))
    found = attempt(data)
    assert found.status == 400 if isinstance(found, Refused) else np.array_equal(found, RGB)


def test_a_jpeg_of_many_scans_is_refused():
    whole = encoded(kind="JPEG", progressive=True)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + b"\x00"
    assert "scans" in refusal(whole[:-2] + scan * 200 + b"\xff\xd9").detail
    assert pixel_count(whole, MOST) == 48 * 80


def test_extreme_shapes_are_decoded():
    for size in ((1, 100), (900, 10), (1, 1)):
        assert decode(encoded(np.zeros((*size, 3), np.uint8)), MOST).shape == (*size, 3)


@settings(max_examples=400)
@given(kind=st.sampled_from(sorted(KINDS)), data=st.data())
def test_damage_is_refused_or_decoded_within_the_limit(kind, data):
    broken = bytearray(KINDS[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(broken), 200) if data.draw(st.booleans()) else len(broken)))
        how = data.draw(st.sampled_from(["flip", "cut", "insert", "drop", "repeat"]))
        if how == "flip" and at < len(broken):
            broken[at] ^= data.draw(st.integers(1, 255))
        elif how == "cut":
            del broken[at:]
        elif how == "insert":
            broken[at:at] = data.draw(st.binary(max_size=20))
        elif how == "drop":
            del broken[at : at + data.draw(st.integers(1, 30))]
        else:
            broken[at:at] = broken[at : at + 50]
    found = attempt(bytes(broken))
    if isinstance(found, Refused):
        assert found.status in (400, 413, 415)
        assert found.detail
    else:
        assert found.dtype == np.uint8
        assert found.ndim == 3
        assert 0 < found.shape[0] * found.shape[1] <= MOST


@given(st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"]), st.binary(max_size=300))
def test_noise_is_refused(start, noise):
    assert refusal(start + noise).status in (400, 413, 415)
