"""From the bytes of an image or label file to an array, or to one clear DataError.

Sizes are checked from the header, before a pixel is decoded. PNG goes through Pillow (it keeps palette indices and
checks the stream), JPEG and 16-bit PNG through OpenCV (twice as fast, and Pillow drops the low byte). EXIF rotation is
not applied, because labels are drawn on the stored pixels; ``orientation`` tells it to who wants it.
"""

import json
import warnings
import zlib
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, JpegImagePlugin, PngImagePlugin

from clouds.classes import IGNORE
from clouds.data.labels import UNKNOWN
from clouds.errors import DataError

MAX_PIXELS = 200_000_000  # images above are refused unread: nothing in this field is larger than 30 million

ENDINGS = (".png", ".jpg", ".jpeg")  # of files that can be read, in lower case

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
# what Pillow raises on damaged files
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, MemoryError)


def _header(data: bytes, where: str, max_pixels: int) -> PngImagePlugin.PngImageFile | JpegImagePlugin.JpegImageFile:
    """The file opened but not decoded; DataError for another format, a broken header or too many pixels."""
    # the plugins' classes, not Image.open: its own limit (89 million pixels) is a warning, and lower than ours
    try:
        if data.startswith(_PNG):
            opened: PngImagePlugin.PngImageFile | JpegImagePlugin.JpegImageFile
            opened = PngImagePlugin.PngImageFile(BytesIO(data))
        elif data.startswith(_JPEG):
            opened = JpegImagePlugin.JpegImageFile(BytesIO(data))
        else:
            kind = "an empty file" if not data else f"a file that starts with {data[:8]!r}"
            raise DataError(f"{where}: {kind}; expected a PNG or JPEG image, fetch it again")
    except _BROKEN as error:
        raise DataError(f"{where}: broken image header ({error}); the file is damaged, fetch it again") from error
    if data.rfind(b"IEND" if opened.format == "PNG" else b"\xff\xd9") < 0:  # from the end: there it is, or nowhere
        raise DataError(f"{where}: the end of the file is missing; truncated, fetch it again")
    width, height = opened.size
    if width * height > max_pixels:
        raise DataError(
            f"{where}: {width}x{height} is {width * height / 1e6:.0f} million pixels; "
            f"more than {max_pixels / 1e6:.0f} million are refused (max_pixels raises the limit)"
        )
    return opened


def image_size(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) from the header alone."""
    width, height = _header(data, where, max_pixels).size
    return height, width


def orientation(data: bytes) -> int:
    """How a PNG or JPEG asks to be turned, EXIF's 1 to 8; 1, upright, where it says nothing or nonsense."""
    try:
        plugin = PngImagePlugin.PngImageFile if data.startswith(_PNG) else JpegImagePlugin.JpegImageFile
        with warnings.catch_warnings():  # Pillow's of damaged EXIF
            warnings.simplefilter("ignore")
            return int(plugin(BytesIO(data)).getexif().get(0x0112, 1))
    except _BROKEN:
        return 1


def decode_image(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Bytes of a PNG or JPEG -> (H, W, 3) uint8 RGB; DataError if it is not a whole image or is too large."""
    opened = _header(data, where, max_pixels)
    if opened.format == "JPEG" or opened.mode.startswith("I"):  # Pillow clips 16-bit grey at 255: nearly all white
        return _opencv(data, where, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    pixels = _pillow(opened, where, "RGB")
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise DataError(f"{where}: expected an RGB image, got an array of {pixels.shape} {pixels.dtype}")
    return pixels


class LazyImage:
    """An RGB image that decodes no more rows than are asked for: ``shape`` and ``[rows, columns]`` as of an array.

    A PNG is a stream from top to bottom, and a training crop rarely reaches the last row.
    """

    def __init__(self, data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> None:
        """``data``: bytes of a PNG or JPEG; DataError if its header is broken or it is too large."""
        self._data, self._where, self._max_pixels = data, where, max_pixels
        opened = _header(data, where, max_pixels)
        self.shape = (opened.height, opened.width, 3)
        self._streams = opened.format == "PNG" and not opened.info.get("interlace")
        self._decoded: NDArray[np.uint8] | None = None

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.uint8]:
        """Rows and columns -> (h, w, 3) uint8; DataError where the part that is decoded is damaged."""
        bottom = window[0].indices(self.shape[0])[1]
        if self._decoded is None or len(self._decoded) < bottom:
            data = _shorter_png(self._data, bottom) if self._streams else self._data
            self._decoded = decode_image(data, self._where, self._max_pixels)
        return self._decoded[window]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return self[0 : self.shape[0], 0 : self.shape[1]]


def _shorter_png(data: bytes, rows: int) -> bytes:
    """The PNG with a header that declares only its first rows: a decoder stops there."""
    header = data[12:20] + max(rows, 1).to_bytes(4, "big") + data[24:29]
    return b"".join((data[:12], header, zlib.crc32(header).to_bytes(4, "big"), data[33:]))


def decode_label(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Bytes of a label PNG -> its stored values: (H, W), or (H, W, 3) where it has colour channels (R first).

    A palette image gives indices, not colours. 16-bit files keep their 16 bits.
    """
    opened = _header(data, where, max_pixels)
    if opened.format != "PNG":
        raise DataError(f"{where}: a label as {opened.format}; expected PNG, lossy compression changes class values")
    if data[24] == 16:
        stored = _opencv(data, where, cv2.IMREAD_UNCHANGED)
        return stored if stored.ndim == 2 else np.ascontiguousarray(stored[..., 2::-1])  # BGR(A) -> RGB
    values = _pillow(opened, where, {"P": "P", "L": "L", "1": "L", "LA": "L"}.get(opened.mode, "RGB"))
    if data[24] < 8 and opened.mode != "P":  # Pillow stretches grey of 1, 2 or 4 bits over 0..255: undo it
        values //= np.uint8(255 // (2 ** data[24] - 1))
    return values


def decode_polygons(
    data: bytes, where: str, names: Mapping[str, int], max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """A Cityscapes-style polygon file -> (H, W) uint8 indices: ``names[label]`` painted in order, later over earlier.

    Pixels under no polygon are 255. A label that ``names`` lacks is an error; so is one that is not such a file.
    """
    try:
        content = json.loads(data)
        width, height = int(content["imgWidth"]), int(content["imgHeight"])
        shapes = [
            (str(each["label"]), [(float(x), float(y)) for x, y in each["polygon"]])
            for each in content["objects"]
            if not each.get("deleted", 0)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: not a polygon label file ({error!r}); fetch it again") from error
    if not 0 < width * height <= max_pixels:
        raise DataError(f"{where}: a size of {width}x{height} pixels; at most {max_pixels / 1e6:.0f} million are read")
    if strange := sorted({name for name, _ in shapes if _base(name, names) not in names}):
        raise DataError(f"{where}: labels {', '.join(strange)} are outside this dataset's label map")
    canvas = Image.new("L", (width, height), IGNORE)
    draw = ImageDraw.Draw(canvas)
    for name, corners in shapes:
        if len(corners) > 2:
            draw.polygon(corners, fill=names[_base(name, names)])
    return np.array(canvas)


def _base(name: str, names: Mapping[str, int]) -> str:
    """A crowd of a class is labelled "<class>group"."""
    return name.removesuffix("group") if name not in names else name


def apply_table(
    raw: NDArray[np.uint8] | NDArray[np.uint16], table: NDArray[np.uint8], where: str
) -> NDArray[np.uint8]:
    """(H, W) stored values -> (H, W) uint8 indices; DataError naming ``where`` and the values ``table`` leaves out."""
    if raw.dtype != np.uint8:
        if raw.size and int(raw.max()) > 255:
            raise DataError(f"{where}: label values up to {int(raw.max())}; expected 0..255, is this an instance map?")
        raw = raw.astype(np.uint8)
    label: NDArray[np.uint8] = cv2.LUT(np.ascontiguousarray(raw), table)
    if (label == UNKNOWN).any():
        strange = np.unique(raw[label == UNKNOWN])
        some = ", ".join(map(str, strange[:12])) + (", ..." if len(strange) > 12 else "")
        raise DataError(
            f"{where}: label values {some} are outside this dataset's label map "
            f"(it defines {_ranges(np.flatnonzero(table != UNKNOWN))}); wrong kind of label file, or a wrong label map"
        )
    return label


def _ranges(values: NDArray[np.intp]) -> str:
    """Sorted integers as text, runs joined: 0-11, 255."""
    runs = np.split(values, np.flatnonzero(np.diff(values) != 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs if len(run))


def _pillow(opened: Image.Image, where: str, mode: str) -> NDArray[np.uint8]:
    try:
        if opened.mode == mode:
            return np.array(opened)
        with warnings.catch_warnings():  # a palette with transparency makes Pillow warn about its conversion
            warnings.simplefilter("ignore")
            return np.array(opened.convert(mode))
    except _BROKEN as error:
        raise DataError(f"{where}: cannot be decoded ({error}); truncated or damaged, fetch it again") from error


def _opencv(data: bytes, where: str, flags: int) -> NDArray[np.uint8]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"{where}: cannot be decoded ({error.err}); damaged, fetch it again") from error
    if pixels is None:
        raise DataError(f"{where}: cannot be decoded; truncated or damaged, fetch it again")
    decoded: NDArray[np.uint8] = pixels
    return decoded
