"""From an array to the bytes of an image file, or to the file."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.base.files import whole_file
from clouds.errors import DataError


def encode_image(picture: NDArray[np.uint8], where: str | Path, ending: str = ".png") -> bytes:
    """RGB (H, W, 3) or grey (H, W) uint8 as PNG or, by its ending, JPEG. DataError names ``where`` it was to go."""
    ok, data = cv2.imencode(ending, picture[..., ::-1] if picture.ndim == 3 else picture)
    if not ok:
        raise DataError(f"{where}: OpenCV could not encode a {ending} of shape {picture.shape}")
    return bytes(data.tobytes())


def write_png(path: Path, picture: NDArray[np.uint8]) -> str:
    """Write RGB (H, W, 3) or grey (H, W) uint8 as PNG, whole or not at all; returns the file's SHA-256.

    Encoded first, because cv2.imwrite is silent on a full disk.
    """
    data = encode_image(picture, path)
    with whole_file(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
