"""Images that decode only the rows a crop needs."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clouds.data.images import LazyImage, decode_image
from clouds.errors import DataError


def encoded(picture: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def picture(height: int = 60, width: int = 40) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "grey", "palette"])
@given(rows=st.tuples(*[st.integers(0, 60)] * 2), columns=st.tuples(*[st.integers(0, 40)] * 2))
def test_a_window_is_that_of_the_whole_image(kind, rows, columns):
    image = {"grey": picture()[..., 0], "palette": picture()}.get(kind, picture())
    if kind == "palette":
        buffer = io.BytesIO()
        Image.fromarray(image).quantize(16).save(buffer, "PNG")
        data = buffer.getvalue()
    else:
        data = encoded(image, "JPEG" if kind == "JPEG" else "PNG")
    lazy, whole = LazyImage(data, "x"), decode_image(data, "x")
    (top, bottom), (left, right) = sorted(rows), sorted(columns)
    if top == bottom or left == right:
        return
    assert lazy.shape == whole.shape
    assert np.array_equal(lazy[top:bottom, left:right], whole[top:bottom, left:right])
    assert np.array_equal(lazy[0:60, 0:40], whole), "asked for more after"
    assert np.array_equal(lazy[top:bottom, left:right], whole[top:bottom, left:right]), "and for less again"
    assert np.array_equal(np.asarray(lazy), whole)


def test_rows_below_the_window_are_not_decoded():
    data = encoded(picture(2000, 300), "PNG")
    lazy = LazyImage(data, "x")
    lazy[0:10, 0:300]
    assert lazy._decoded.shape == (10, 300, 3)
    lazy[5:8, 0:300]
    assert lazy._decoded.shape == (10, 300, 3)


def test_damage_anywhere_is_named_before_a_row_is_decoded():
    data = bytearray(encoded(picture(2000, 300), "PNG"))
    middle = len(data) * 3 // 4
    data[middle : middle + 4000] = bytes(4000)
    with pytest.raises(DataError, match=r"street\.png: cannot be decoded"):
        LazyImage(bytes(data), "street.png")
    with pytest.raises(DataError, match=r"cut\.png: the end of the file is missing"):
        LazyImage(bytes(data[:middle]), "cut.png")
