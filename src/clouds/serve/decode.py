"""From uploaded bytes to pixels: what the header says is checked before anything is decoded.

The pixels are those that ``clouds predict`` sees of the same file, upright.
"""

import re

from clouds.data.images import decode_image, image_size, orientation
from clouds.errors import DataError
from clouds.pictures import Pixels, turned
from clouds.serve.service import Refused

MAX_SCANS = 100  # of a progressive JPEG; cameras and editors write about ten, and each is a pass over all pixels

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # inside a scan, 0xff is followed by 0 or a restart's number


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
    return turned(pixels, orientation(data))


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
