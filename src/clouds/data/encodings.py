"""From a label file as published to indices of a label set, by table look-up; one way of reading per encoding."""

import json
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clouds.base.arrays import Labels
from clouds.data.classes import IGNORE
from clouds.data.images import MAX_PIXELS, _header, _opencv, _pillow
from clouds.data.labels import UNKNOWN, LabelSet, class_index, value_table
from clouds.data.layouts import ENCODINGS, Layout
from clouds.errors import DataError, UsageError

Raw = Labels | NDArray[np.uint16]


class LabelReader:
    """``reader(content, where)``: bytes of a label file -> (H, W) uint8 indices of the label set, 255 ignored.

    Encodings: ``index`` one channel (a palette's indices, not its colours; grey saved as RGB is fine, and an RGB image
    is read by colour where the layout knows the colours), ``red`` the first channel (CARLA; SYNTHIA, in 16 bits),
    ``colour`` RGB colours, ``polygons`` outlines in JSON. A value, colour or name that the layout does not define is a
    DataError naming it.
    """

    def __init__(self, layout: Layout, label_set: LabelSet, max_pixels: int = MAX_PIXELS) -> None:
        if layout.encoding not in ENCODINGS:
            raise UsageError(f"unknown label encoding {layout.encoding!r}; there are {', '.join(ENCODINGS)}")
        self.encoding, self.max_pixels = layout.encoding, max_pixels
        self.table = value_table(layout.values, label_set)  # (256,)
        self.names = {name: class_index(own, label_set) for name, own in layout.names.items()}
        packed = {r << 16 | g << 8 | b: class_index(own, label_set) for (r, g, b), own in layout.colors.items()}
        self.colors = np.array(sorted(packed), np.uint32)  # (K,) 0xRRGGBB
        self.indices = np.array([packed[c] for c in sorted(packed)], np.uint8)  # (K,)

    def __call__(self, content: bytes, where: str) -> Labels:
        if self.encoding == "polygons":
            return decode_polygons(content, where, self.names, self.max_pixels)
        return self._by_encoding[self.encoding](self, decode_label(content, where, self.max_pixels), where)

    def _index(self, raw: Raw, where: str) -> Labels:
        if raw.ndim == 3 and not ((raw[..., 0] == raw[..., 1]).all() and (raw[..., 0] == raw[..., 2]).all()):
            if len(self.colors):
                return self._color(raw, where)
            raise DataError(f"{where}: a colour image; expected one channel of class indices, is this the preview?")
        return apply_table(raw if raw.ndim == 2 else raw[..., 0], self.table, where)

    def _red(self, raw: Raw, where: str) -> Labels:
        return apply_table(raw if raw.ndim == 2 else raw[..., 0], self.table, where)

    def _color(self, raw: Raw, where: str) -> Labels:
        if raw.ndim != 3 or raw.dtype != np.uint8:
            raise DataError(f"{where}: one channel or 16 bits; expected an 8-bit RGB image of class colours")
        packed = raw.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)  # (H, W)
        place = np.searchsorted(self.colors, packed).clip(max=len(self.colors) - 1)
        label: Labels = np.where(self.colors[place] == packed, self.indices[place], np.uint8(UNKNOWN))
        if (label == UNKNOWN).any():
            strange = np.unique(packed[label == UNKNOWN])
            some = ", ".join(f"#{c:06x}" for c in strange[:6]) + (", ..." if len(strange) > 6 else "")
            raise DataError(f"{where}: colours {some} are outside the label map; resized, or another palette?")
        return label

    _by_encoding: dict[str, Callable[["LabelReader", Raw, str], Labels]] = {  # noqa: RUF012
        "index": _index,
        "red": _red,
        "colour": _color,
    }


def decode_label(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> Labels | NDArray[np.uint16]:
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
) -> Labels:
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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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
    raw: Raw, table: NDArray[np.uint8], where: str
) -> Labels:
    """(H, W) stored values -> (H, W) uint8 indices; DataError naming ``where`` and the values ``table`` leaves out."""
    if raw.dtype != np.uint8:
        if raw.size and int(raw.max()) > 255:
            raise DataError(f"{where}: label values up to {int(raw.max())}; expected 0..255, is this an instance map?")
        raw = raw.astype(np.uint8)
    label: Labels = cv2.LUT(np.ascontiguousarray(raw), table)
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
