"""From the bytes of an image or label file to an array, or to one clear DataError.

Sizes are checked from the header, before a pixel is decoded. JPEG goes through simplejpeg, 16-bit PNG and TIFF through
OpenCV (Pillow drops the low byte), all else through Pillow (it keeps palette indices). EXIF rotation is not applied
here: ``clouds.data.exif`` does it.

A damaged file is refused even where a decoder would repair it without a word: OpenCV and Pillow show a JPEG with grey
or shifted parts, and a PNG whose checksum is wrong. Every warning of libjpeg is an error here, and every checksum of a
PNG must hold.
"""

import hashlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from clouds.base.arrays import Pixels
from clouds.base.files import whole_file
from clouds.errors import DataError

MAX_PIXELS = 200_000_000  # images above are refused unread: nothing in this field is larger than 30 million
MAX_SIDE = 65_535  # pixels, as of a JPEG: a PNG may claim a strip of 200,000,000 x 1

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".avif")  # of files that can be read, lower case
KINDS = "PNG, JPEG, TIFF, BMP, WebP or AVIF"

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
# what Pillow raises on damaged files
BROKEN = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, MemoryError, RuntimeError,
    AttributeError, struct.error,
)  # fmt: skip


def opened_by(data: bytes, where: str) -> type[ImageFile.ImageFile]:
    """Pillow's class for a file of these bytes, told by how it begins; DataError for a format that is not read."""
    # the plugins' classes, not Image.open: its own limit (89 million pixels) is a warning, and lower than ours
    if data.startswith(PNG):
        return PngImagePlugin.PngImageFile
    if data.startswith(JPEG):
        return JpegImagePlugin.JpegImageFile
    if data.startswith(_TIFF):
        return TiffImagePlugin.TiffImageFile
    if data.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        try:
            from PIL.AvifImagePlugin import SUPPORTED, AvifImageFile
        except ImportError:
            SUPPORTED = False  # noqa: N806 - Pillow's name
        if SUPPORTED:
            return AvifImageFile
        raise DataError(f"{where}: an AVIF image, which needs Pillow 11.3 or newer; install it, or save as PNG")
    kind = "an empty file" if not data else f"a file that starts with {data[:8]!r}"
    raise DataError(f"{where}: {kind}; expected a {KINDS} image, fetch it again")


def _header(data: bytes, where: str, max_pixels: int | None) -> ImageFile.ImageFile:
    """The file opened but not decoded; DataError for another format, a broken header, several pictures, or (unless
    None) too many pixels."""
    made = opened_by(data, where)
    try:
        with warnings.catch_warnings():  # Pillow's of a damaged TIFF, which fails below
            warnings.simplefilter("ignore")
            opened = made(BytesIO(data))
            frames = getattr(opened, "n_frames", 1)
    except BROKEN as error:
        raise DataError(f"{where}: broken image header ({error}); the file is damaged, fetch it again") from error
    # from the end: there it is, or nowhere
    if (end := {"PNG": b"IEND", "JPEG": b"\xff\xd9"}.get(opened.format or "")) and data.rfind(end) < 0:
        raise DataError(f"{where}: the end of the file is missing; truncated, fetch it again")
    if frames > 1 and opened.format not in ("PNG", "JPEG"):  # theirs have one main picture
        raise DataError(f"{where}: holds {frames} pictures; expected one, save the one that is meant by itself")
    if opened.format == "TIFF" and opened.getexif().get(0x0112, 1) != 1:
        raise DataError(f"{where}: a TIFF whose orientation is not upright; save it upright")
    width, height = opened.size
    if max_pixels is None:
        return opened
    if max(width, height) > MAX_SIDE:
        raise DataError(f"{where}: {width}x{height}; sides above {MAX_SIDE} pixels are refused, cut it into pieces")
    if width * height > max_pixels:
        raise DataError(
            f"{where}: {width}x{height} is {width * height / 1e6:.0f} million pixels; "
            f"more than {max_pixels / 1e6:.0f} million are refused (max_pixels raises the limit)"
        )
    return opened


def image_size(data: bytes, where: str, max_pixels: int | None = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) from the header alone."""
    width, height = _header(data, where, max_pixels).size
    return height, width


def header_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of a file of which little more than the header is read; None where that is no image's."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's of a damaged TIFF
            made = opened_by(file.read(16), str(path))
            file.seek(0)
            width, height = made(file).size
    except (*BROKEN, DataError):
        return None
    return height, width


def decode_image(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Bytes of an image file -> (H, W, 3) uint8 RGB; DataError if it is not a whole image or is too large.

    Pixels of 16 bits become 8 by ``in_eight_bits``.
    """
    opened = _header(data, where, max_pixels)
    check_checksums(data, where)
    return _rgb(data, opened, where)


def _rgb(data: bytes, opened: ImageFile.ImageFile, where: str) -> Pixels:
    if opened.format == "JPEG":
        return _jpeg(data, where)
    if _is_deep(data, opened):  # Pillow clips grey at 255, nearly all white, and keeps the high bytes of colours
        stored = _opencv(data, where, cv2.IMREAD_UNCHANGED)
        deep = in_eight_bits(stored.astype(np.uint16, copy=False), _declared(opened))
        grey = deep.ndim == 2 or deep.shape[2] < 3  # an alpha channel is dropped
        return np.ascontiguousarray(
            np.repeat(deep.reshape(*deep.shape[:2], -1)[..., :1], 3, 2) if grey else deep[..., 2::-1]
        )
    if opened.mode in ("I", "F"):
        raise DataError(f"{where}: pixels of 32 bits; expected 8 or 16, save it so")
    pixels = _pillow(opened, where, "RGB")
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise DataError(f"{where}: expected an RGB image, got an array of {pixels.shape} {pixels.dtype}")
    return pixels


def _is_deep(data: bytes, opened: ImageFile.ImageFile) -> bool:
    """Whether its channels have 16 bits."""
    if opened.format == "TIFF":
        bits = opened.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, 1)  # type: ignore[attr-defined]
        kind = opened.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, (1,))  # type: ignore[attr-defined]
        return max(bits if isinstance(bits, tuple) else (bits,)) == 16 and set(kind) <= {1}
    return opened.format == "PNG" and data[24] == 16


def _declared(opened: ImageFile.ImageFile) -> int | None:
    """The largest value that a TIFF says its pixels may have."""
    value = opened.tag_v2.get(281) if opened.format == "TIFF" else None  # type: ignore[attr-defined]  # MaxSampleValue
    values = value if isinstance(value, tuple) else (value,)
    return max(values) if all(isinstance(each, int) for each in values) else None


def in_eight_bits(stored: NDArray[np.uint16], largest: int | None = None) -> Pixels:
    """Values of 16 bits -> 8 bits. Cameras store 10, 12 or 14 bits in them: the fewest of 8, 10, 12, 14 and 16 that
    hold the ``largest`` value that may occur, or the largest that does, are scaled to 8. So 12 bits are not nearly
    black."""
    peak = max(int(stored.max(initial=0)), largest or 0)
    bits = next(each for each in (8, 10, 12, 14, 16) if peak < 1 << each)
    return (stored >> (bits - 8)).astype(np.uint8)


def _jpeg(data: bytes, where: str) -> Pixels:
    """Decode by libjpeg with its warnings as errors: data that ends early (also a tail of zeros, or a thumbnail's end
    in place of the image's), bytes too many, bad codes, lost restart markers. Bytes after the image's end are fine."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except (ValueError, MemoryError) as error:
        raise DataError(f"{where}: cannot be decoded ({error}); truncated or damaged, fetch it again") from error
    return pixels


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk of a PNG up to its last; ``end`` may lie behind the data's."""
    at, kind = len(PNG), b""
    while at < len(data) and kind != b"IEND":
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        yield kind, at + 8, end
        at = end + 4


def check_checksums(data: bytes, where: str) -> None:
    """DataError where a chunk of a PNG is cut or its checksum wrong (decoders skip that of pixels); a JPEG has none."""
    kind = b""
    for kind, start, end in png_chunks(data) if data.startswith(PNG) else ():
        if zlib.crc32(memoryview(data)[start - 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            name = kind.decode("latin-1")
            raise DataError(f"{where}: cannot be decoded (broken chunk {name!r}); truncated or damaged, fetch it again")
    if data.startswith(PNG) and kind != b"IEND":
        raise DataError(f"{where}: the end of the file is missing; truncated, fetch it again")


class LazyImage:
    """An RGB image that decodes no more rows than are asked for: ``shape`` and ``[rows, columns]`` as of an array.

    A PNG is a stream from top to bottom, and a training crop rarely reaches the last row.
    """

    def __init__(self, data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> None:
        """``data``: bytes of an image file; DataError if its header or a checksum is broken or it is too large."""
        self._data, self._where, self._max_pixels = data, where, max_pixels
        opened = _header(data, where, max_pixels)
        check_checksums(data, where)
        self.shape = (opened.height, opened.width, 3)
        # the scale of 16 bits follows from all rows
        self._streams = opened.format == "PNG" and not opened.info.get("interlace") and data[24] != 16
        self._decoded: Pixels | None = None

    def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
        """Rows and columns -> (h, w, 3) uint8; DataError where the part that is decoded is damaged."""
        bottom = window[0].indices(self.shape[0])[1]
        if self._decoded is None or len(self._decoded) < bottom:
            data = _shorter_png(self._data, bottom) if self._streams else self._data
            self._decoded = _rgb(data, _header(data, self._where, self._max_pixels), self._where)
        return self._decoded[window]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        return self[0 : self.shape[0], 0 : self.shape[1]]


def _shorter_png(data: bytes, rows: int) -> bytes:
    """The PNG with a header that declares only its first rows: a decoder stops there."""
    header = data[12:20] + max(rows, 1).to_bytes(4, "big") + data[24:29]
    return b"".join((data[:12], header, zlib.crc32(header).to_bytes(4, "big"), data[33:]))


def _pillow(opened: Image.Image, where: str, mode: str) -> Pixels:
    try:
        if opened.mode == mode:
            return np.array(opened)
        with warnings.catch_warnings():  # a palette with transparency makes Pillow warn about its conversion
            warnings.simplefilter("ignore")
            return np.array(opened.convert(mode))
    except BROKEN as error:
        raise DataError(f"{where}: cannot be decoded ({error}); truncated or damaged, fetch it again") from error


def _opencv(data: bytes, where: str, flags: int) -> Pixels:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"{where}: cannot be decoded ({error.err}); damaged, fetch it again") from error
    if pixels is None:
        raise DataError(f"{where}: cannot be decoded; truncated or damaged, fetch it again")
    decoded: Pixels = pixels
    return decoded


def read_image(path: Path) -> Pixels:
    """RGB uint8 (H, W, 3); raises DataError naming the file."""
    return decode_image(read_file(path), str(path))


def read_file(path: Path) -> bytes:
    """The bytes of an image or label file; DataError naming it where it cannot be read or is empty."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise DataError(f"{path}: an empty file; delete it to make it again, or restore it")
    return data


def encode_image(picture: Pixels, where: str | Path, ending: str = ".png") -> bytes:
    """RGB (H, W, 3) or grey (H, W) uint8 as PNG or, by its ending, JPEG. DataError names ``where`` it was to go."""
    ok, data = cv2.imencode(ending, picture[..., ::-1] if picture.ndim == 3 else picture)
    if not ok:
        raise DataError(f"{where}: OpenCV could not encode a {ending} of shape {picture.shape}")
    return bytes(data.tobytes())


def write_png(path: Path, picture: Pixels) -> str:
    """Write RGB (H, W, 3) or grey (H, W) uint8 as PNG, whole or not at all; returns the file's SHA-256.

    Encoded first, because cv2.imwrite is silent on a full disk.
    """
    data = encode_image(picture, path)
    with whole_file(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
