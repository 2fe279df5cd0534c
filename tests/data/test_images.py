"""Damaged pictures are named even where decoders repair them without a word; whole ones of every kind are read."""

import struct
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from clouds.data.encodings import read_indices
from clouds.data.images import LazyImage, decode_image, read_image
from clouds.deploy.serve.limits import Refused
from clouds.deploy.serve.limits import decode as decode_upload
from clouds.errors import DataError
from clouds.generate.audit import look
from clouds.predict.pictures import as_rgb
from clouds.report.figures import photo


def picture(height: int = 120, width: int = 160) -> np.ndarray:
    """Noise over soft colours: entropy coding has something to code everywhere."""
    rng = np.random.default_rng(height)
    soft = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(soft.astype(int) + rng.integers(-20, 20, soft.shape), 0, 255).astype(np.uint8)


def encoded(image: np.ndarray | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def thumbnailed() -> bytes:
    small, whole = encoded(picture(16, 16)), encoded(picture())
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + whole[2:]


WHOLE = encoded(picture(), quality=90)
END = len(WHOLE) - 2
DAMAGED = {
    "a tail of zeros": WHOLE[: END // 2] + bytes(END - END // 2) + WHOLE[END:],
    "the second half is gone, the end mark is not": WHOLE[: END // 2] + WHOLE[END:],
    "bytes too many": WHOLE[:END] + b"\x12\x34\x56" * 5 + WHOLE[END:],
    "a restart is lost": (lambda d: d[: d.index(b"\xff\xd3")] + d[d.index(b"\xff\xd4") :])(
        encoded(picture(), restart_marker_blocks=4)
    ),
    "a scan is cut": (lambda d: d[:-1500] + d[-2:])(encoded(picture(), progressive=True)),
    "only its thumbnail ends": thumbnailed()[:-3000],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_jpeg_that_decodes_with_a_warning_is_damaged_for_every_reader(tmp_path: Path, kind: str) -> None:
    data = DAMAGED[kind]
    if kind != "only its thumbnail ends":
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None, "OpenCV repairs it"
    path = tmp_path / "street.jpg"
    path.write_bytes(data)
    readers: list[Callable[[], object]] = [
        lambda: decode_image(data, str(path)),
        lambda: LazyImage(data, str(path))[0:8, 0:8],
        lambda: read_image(path),
        lambda: as_rgb(path),
        lambda: photo(path),
    ]
    for reader in readers:
        with pytest.raises(DataError, match=r"street\.jpg: cannot be decoded \(.*damaged"):
            reader()
    assert "damaged" in look(data, "street.jpg")["broken"]
    with pytest.raises(Refused, match=r"truncated or damaged|end of the JPEG is missing"):
        decode_upload(data, 10**6)


CMYK = Image.fromarray(picture()).convert("CMYK")
GOOD = {
    "plain": WHOLE,
    "bytes after the end": WHOLE + b"\0\xff\xd8 camera" * 100,
    "a second picture after it, as cameras append": WHOLE + encoded(picture(64, 64)),
    "fill bytes before markers": WHOLE[:2] + b"\xff\xff\xff" + WHOLE[2:END] + b"\xff\xff" + WHOLE[END:],
    "progressive": encoded(picture(), progressive=True),
    "restarts": encoded(picture(), restart_marker_rows=1),
    "4:4:4": encoded(picture(), subsampling=0),
    "4:2:2, odd sizes": encoded(picture(121, 163), subsampling=1),
    "grey": encoded(picture()[..., 0]),
    "CMYK": encoded(CMYK),
    "a thumbnail": thumbnailed(),
    "a comment and a profile": encoded(picture(), comment=b"\xff\xd9 not the end", icc_profile=b"x" * 200),
    "a multi-picture object": encoded(
        Image.fromarray(picture()), "MPO", save_all=True, append_images=[Image.fromarray(picture(60, 80))]
    ),
}


@pytest.mark.parametrize("kind", GOOD)
def test_whole_jpegs_of_cameras_and_editors_are_read(kind: str) -> None:
    expected = cv2.imdecode(np.frombuffer(GOOD[kind], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(decode_image(GOOD[kind], "x"), expected)
    assert np.array_equal(decode_upload(GOOD[kind], 10**6), expected)


def test_a_wrong_checksum_of_pixels_or_labels_is_damage() -> None:
    data = bytearray(encoded(picture()[..., 0], "PNG"))
    at = data.rindex(b"IEND") - 5  # the last byte of the pixels' checksum
    data[at] ^= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Image.open(BytesIO(data)).convert("RGB").size == (160, 120), "Pillow does not look"
    readers: list[Callable[[bytes, str], object]] = [decode_image, LazyImage, read_indices]
    for reader in readers:
        with pytest.raises(DataError, match=r"x: cannot be decoded \(broken chunk 'IDAT'\); truncated or damaged"):
            reader(bytes(data), "x")
