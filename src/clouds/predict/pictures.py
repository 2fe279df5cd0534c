"""Whatever a picture comes as, made RGB pixels that stand upright."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clouds.base.arrays import Pixels
from clouds.data.exif import orientation, turned
from clouds.data.images import decode_image, in_eight_bits
from clouds.errors import DataError

if TYPE_CHECKING:
    import torch

Picture: TypeAlias = "str | Path | bytes | Image.Image | NDArray[Any] | torch.Tensor"

EXPECTED = (
    "expected a path, the bytes of an image file, a PIL image, or an array or tensor of (H, W, 3), (3, H, W) or (H, W) "
    "with uint8, uint16, or floats from 0 to 1"
)


def as_rgb(image: Picture) -> Pixels:
    """A path, the bytes of an image file, a PIL image, or an array or tensor -> uint8 (H, W, 3).

    Arrays are RGB, (H, W, 3) or (3, H, W), or grey, (H, W): uint8, uint16 (see ``in_eight_bits``), or floats from 0 to
    1. Files and PIL images are turned as their EXIF orientation says, so that a phone's photo stands upright. Raises
    DataError naming what is wrong.
    """
    if isinstance(image, str) and "://" in image:
        raise DataError(f"{image}: a web address; download the image and name the file")
    if isinstance(image, str | Path):
        return read_upright(Path(image))
    if isinstance(image, bytes):
        return upright_image(image, f"{len(image)} bytes")
    if isinstance(image, Image.Image):
        return _of_pil(image)
    torch = sys.modules.get("torch")  # where it was never imported, there is no tensor of it
    given: Any = image
    tensor = torch is not None and isinstance(given, torch.Tensor)
    pixels = given.detach().cpu().numpy() if tensor else np.asarray(given)
    if pixels.ndim == 4:
        raise DataError(f"{EXPECTED}, got {pixels.shape}: a batch; predict_batch and stream take several images")
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    first, last = (pixels.ndim == 3 and pixels.shape[axis] == 3 for axis in (0, 2))
    # where both readings fit, a tensor's is channels first and an array's channels last, as each is used
    if first and (tensor or not last):
        pixels = pixels.transpose(1, 2, 0)
    elif not last:
        raise DataError(f"{EXPECTED}, got {pixels.dtype} {pixels.shape}")
    if pixels.size and pixels.dtype == np.uint16:
        pixels = in_eight_bits(pixels)
    elif pixels.size and np.issubdtype(pixels.dtype, np.floating):
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN is neither
            raise DataError(f"{EXPECTED}, got floats from {pixels.min():g} to {pixels.max():g}")
        pixels = (pixels * 255).round().astype(np.uint8)
    if pixels.dtype != np.uint8 or not pixels.size:
        raise DataError(f"{EXPECTED}, got {pixels.dtype} {pixels.shape}")
    return np.ascontiguousarray(pixels)


def read_upright(path: Path) -> Pixels:
    """An image file as it is meant to be seen; DataError naming the file."""
    if not path.is_file():
        raise DataError(f"{path}: no such image")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return upright_image(data, str(path))


def upright_image(data: bytes, where: str) -> Pixels:
    """The bytes of an image file -> RGB pixels, upright; DataError naming ``where``."""
    return turned(decode_image(data, where), orientation(data))


def _of_pil(image: Image.Image) -> Pixels:
    how = image.getexif().get(0x0112, 1)
    deep = image.mode.startswith("I;16")  # Pillow's own conversion clips at 255: nearly all white
    image = Image.fromarray(in_eight_bits(np.asarray(image))) if deep else image
    pixels = np.asarray(image if image.mode in ("I", "F") else image.convert("RGB"))
    if pixels.dtype != np.uint8 or not pixels.size:
        raise DataError(f"{EXPECTED}, got a PIL image of mode {image.mode} and {image.width}x{image.height} pixels")
    return turned(pixels, how)
