"""A picture that asks to be turned, and the label drawn on it: which way up both are is said, never guessed."""

import warnings
from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from clouds.data.images import BROKEN, PNG, opened_by, png_chunks
from clouds.errors import DataError

EXIF = ("refuse", "ignore", "apply")  # what may be done about an image with a label

# what an EXIF orientation other than 1 asks for: pixels (H, W, ...) -> the picture as it is meant to be seen
_TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: p.swapaxes(0, 1)[::-1],
}


def orientation(data: bytes) -> int:
    """How an image file asks to be turned, EXIF's 1 to 8; 1, upright, where it says nothing or nonsense."""
    # Pillow decodes a whole PNG to look: ask it only where a chunk may say it
    if data.startswith(PNG) and not any(
        kind == b"eXIf" or data.startswith((b"Raw profile type", b"XML:com.adobe.xmp"), start)
        for kind, start, _ in png_chunks(data)
    ):
        return 1
    try:
        with warnings.catch_warnings():  # Pillow's of damaged EXIF
            warnings.simplefilter("ignore")
            return int(opened_by(data, "")(BytesIO(data)).getexif().get(0x0112, 1))
    except (*BROKEN, DataError):
        return 1


def turned(pixels: NDArray[np.uint8], how: int) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) by an EXIF orientation, 1 to 8; others leave them as they are."""
    return np.ascontiguousarray(_TURNS[how](pixels)) if how in _TURNS else pixels


def label_turn(data: bytes, where: str, exif: str) -> int:
    """The EXIF orientation by which an image is turned to lie under its label; 1 for none.

    A label may be drawn on the stored pixels (``exif`` "ignore") or on the picture as viewers show it ("apply"); half a
    turn leaves no trace in the sizes. So "refuse" is a DataError for an image that asks to be turned.
    """
    how = orientation(data)
    if how not in _TURNS or exif == "ignore":
        return 1
    if exif == "refuse":
        raise DataError(f"{where}: its EXIF orientation is {how}, so its label may be drawn on the stored pixels or on "
                        "the turned picture; say which: exif=ignore or exif=apply (in a recipe data.exif, of refine "
                        "--exif)")  # fmt: skip
    return how


def check_pair(
    image: tuple[int, ...], where: object, label: tuple[int, ...], label_where: object, data: bytes, exif: str
) -> None:
    """DataError unless an image of shape (H, W, ...) has the size of its label (H, W), naming both files.

    ``data``: the image file, whose orientation the message names; ``exif``: what was done about it.
    """
    (h, w), (lh, lw) = image[:2], label
    if (h, w) == (lh, lw):
        return
    hint = ""
    if (how := orientation(data)) in _TURNS:
        done, other = ("applied", "ignore") if exif == "apply" else ("ignored", "apply")
        hint = f" (its EXIF orientation, {how}, was {done}; exif={other}, in a recipe data.exif, does the other)"
    raise DataError(f"{label_where}: label is {lw}x{lh} but its image {where} is {w}x{h}{hint}; not a pair")
