"""From uploaded bytes to pixels: what the header says is checked before anything is decoded.

The pixels are those of ``clouds.predict.as_rgb`` on the same file, turned as its EXIF orientation says: a phone's photo
is looked at upright. (Files of a dataset are not turned, because their labels are drawn on the stored pixels.)
"""

import re
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from clouds.data.decode import decode_image, image_size
from clouds.errors import DataError
from clouds.predict import Pixels
from clouds.serve.service import Refused

MAX_SCANS = 100  # of a progressive JPEG; cameras and editors write about ten, and each is a pass over all pixels
ORIENTATION = 0x0112

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # inside a scan, 0xff is followed by 0 or a restart's number

# EXIF orientation -> upright; 1 and what is not listed stay
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[::-1],
}


def pixel_count(data: bytes, max_pixels: int) -> int:
    """Pixels of an upload by its header; raises Refused 400, 413 or 415 for what will not be decoded."""
    if not data:
        raise Refused(400, "empty", "the image has no bytes; send the content of a PNG or JPEG file")
    if not data.startswith((_PNG, _JPEG)):
        raise Refused(415, "unsupported_type", f"the image starts with {data[:8]!r}; expected a PNG or JPEG file")
    try:
        height, width = image_size(data, "image", max_pixels=2**62)
    except DataError as error:
        raise _undecodable(error) from error
    if height * width > max_pixels:
        raise Refused(
            413, "too_many_pixels",
            f"the image has {width} x {height} pixels, {height * width / 1e6:.1f} million; at most "
            f"{max_pixels / 1e6:g} million are taken, send a smaller one",
        )  # fmt: skip
    if not height * width:
        raise Refused(400, "undecodable", "the image has no pixels")
    if data.startswith(_JPEG):
        _check_scans(data)
    return height * width


def decode(data: bytes, max_pixels: int) -> Pixels:
    """Bytes of a PNG or JPEG -> uint8 (H, W, 3) RGB, upright; of an animated PNG the first image. Raises Refused."""
    pixel_count(data, max_pixels)
    try:
        pixels = decode_image(data, "image", max_pixels)
    except DataError as error:
        raise _undecodable(error) from error
    turned = _UPRIGHT.get(_orientation(data))
    return np.ascontiguousarray(turned(pixels) if turned else pixels)


def _undecodable(error: DataError) -> Refused:
    return Refused(400, "undecodable", str(error).replace("fetch it again", "send a whole one"))


def _check_scans(data: bytes) -> None:
    """Refused where the end of a JPEG is missing (a thumbnail's end hides it from a plain search) or it is a bomb."""
    at, scans = 2, 0
    while found := _MARKER.search(data, at):
        kind, at = found[1][0], found.end()
        if kind == 0xD9:
            return
        scans += kind == 0xDA
        if scans > MAX_SCANS:
            raise Refused(400, "undecodable", f"a JPEG of more than {MAX_SCANS} scans; save it anew")
        at += max(int.from_bytes(data[at : at + 2], "big"), 2)
    raise Refused(400, "undecodable", "the end of the JPEG is missing; truncated, send a whole one")


def _orientation(data: bytes) -> int:
    """The EXIF orientation, 1 where there is none that can be read."""
    stream = BytesIO(data)
    try:
        opened: Image.Image
        png = data.startswith(_PNG)
        opened = PngImagePlugin.PngImageFile(stream) if png else JpegImagePlugin.JpegImageFile(stream)
        exif = Image.Exif()
        exif.load(opened.info.get("exif", b""))
        return int(exif.get(ORIENTATION, 1))
    except Exception:  # whatever a damaged EXIF block makes Pillow raise: the picture itself is whole
        return 1
