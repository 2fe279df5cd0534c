"""A label map as a PNG that people can look at: it stores class ids, and a palette that paints them.

Pillow reads the ids back (mode "P"), as it reads VOC's. OpenCV, and what else turns a palette into colours, does not.
"""

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clouds.base.arrays import Labels
from clouds.base.files import whole_file
from clouds.config.label_sets import IGNORE
from clouds.data.images import PNG, encode_image, png_chunks

VOID = (224, 224, 192)  # what is no class, in VOC's own colour for it

_HEADER = len(PNG) + 25  # bytes: the signature and the first chunk


def encode_labels(labels: Labels, colors: Sequence[Sequence[int]], where: str | Path) -> bytes:
    """Label map (H, W) uint8 -> PNG of one byte a pixel with a palette: colour k for id k; without
    one, ``VOID`` for 255 and black for others.

    DataError names ``where`` it was to go.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[IGNORE] = VOID
    palette[: len(colors)] = colors
    grey = encode_image(labels, where)
    header = grey[len(PNG) + 4 : _HEADER - 4]  # kind, width, height, bits, colour type, ...
    indexed = header[:13] + b"\x03" + header[14:]
    return b"".join((PNG, _chunk(indexed), _chunk(b"PLTE" + palette.tobytes()), grey[_HEADER:]))


def _chunk(content: bytes) -> bytes:
    return (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")


def write_labels(path: Path, labels: Labels, colors: Sequence[Sequence[int]]) -> str:
    """Write ``encode_labels``, whole or not at all; returns the file's SHA-256."""
    data = encode_labels(labels, colors, path)
    with whole_file(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def palette_of(data: bytes) -> list[tuple[int, int, int]] | None:
    """The colours, by id, of a label PNG with a palette; None where it has none."""
    for kind, start, end in png_chunks(data):
        if kind == b"PLTE":
            return [(r, g, b) for r, g, b in np.frombuffer(data[start:end], np.uint8).reshape(-1, 3).tolist()]
    return None
