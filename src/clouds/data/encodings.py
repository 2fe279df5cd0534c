"""From a label file as published to indices of a label set, by table look-up; one way of reading per encoding."""

import json
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from clouds.base.arrays import Labels
from clouds.data.images import MAX_PIXELS, _header, _opencv, _pillow, check_checksums
from clouds.data.labels import UNKNOWN, LabelSet, class_index, value_table
from clouds.data.layouts import ENCODINGS, Layout
from clouds.data.shapes import Drawing, Shape, paint
from clouds.errors import DataError, UsageError

Raw = Labels | NDArray[np.uint16] | NDArray[np.int32]


class LabelReader:
    """``reader(content, where)``: bytes of a label file -> (H, W) uint8 indices of the label set, 255 ignored.

    Encodings: ``index`` one channel (a palette's indices, not its colours; grey saved as RGB is fine, and an RGB image
    is read by colour where the layout knows the colours), ``red`` the first channel (CARLA; SYNTHIA, in 16 bits),
    ``colour`` RGB colours, also a palette's (and one channel of indices, where the layout has values), ``polygons``
    outlines in JSON. A value, colour or name that the layout does not define is a DataError naming it.
    """

    def __init__(self, layout: Layout, label_set: LabelSet, max_pixels: int = MAX_PIXELS) -> None:
        if layout.encoding not in ENCODINGS:
            raise UsageError(f"unknown label encoding {layout.encoding!r}; there are {', '.join(ENCODINGS)}")
        self.encoding, self.max_pixels = layout.encoding, max_pixels
        self.table, self.indexed = value_table(layout.values, label_set), bool(layout.values)  # (256,)
        self.names = {name: class_index(own, label_set) for name, own in layout.names.items()}
        packed = {r << 16 | g << 8 | b: class_index(own, label_set) for (r, g, b), own in layout.colors.items()}
        self.colors = np.array(sorted(packed), np.uint32)  # (K,) 0xRRGGBB
        self.indices = np.array([packed[c] for c in sorted(packed)], np.uint8)  # (K,)

    def __call__(self, content: bytes, where: str) -> Labels:
        if self.encoding == "polygons":
            return decode_polygons(content, where, self.names, self.max_pixels)
        index = self.encoding == "index"
        raw = decode_label(content, where, self.max_pixels, palette=index)
        if self.encoding == "colour" and raw.ndim == 2 and self.indexed:
            return apply_table(raw, self.table, where)
        if self.encoding == "colour" or (index and len(self.colors) and not _is_grey(raw)):
            return self._color(raw, where)
        return apply_table(one_channel(raw, where) if index else _first(raw), self.table, where)

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


def read_indices(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> Labels:
    """Bytes of a label file -> the class indices it stores, (H, W) uint8; a palette's indices, not its colours."""
    return one_channel(decode_label(data, where, max_pixels), where)


def stored_channel(content: bytes, where: str, encoding: str) -> Labels:
    """The values (H, W) that a label file of encoding "index" or "red" stores."""
    raw = decode_label(content, where, palette=encoding == "index")
    return _eight_bits(_first(raw), where)


def one_channel(raw: Raw, where: str) -> Labels:
    """Stored values, (H, W) or three equal channels (H, W, 3), of 8 or 16 bits -> (H, W) uint8; else a DataError."""
    if not _is_grey(raw):
        raise DataError(f"{where}: a colour image; expected one channel of class indices, is this the preview?")
    return _eight_bits(_first(raw), where)


def _first(raw: Raw) -> Raw:
    return raw if raw.ndim == 2 else raw[..., 0]


def _is_grey(raw: Raw) -> bool:
    return raw.ndim == 2 or bool((raw[..., 0] == raw[..., 1]).all() and (raw[..., 0] == raw[..., 2]).all())


def _eight_bits(raw: Raw, where: str) -> Labels:
    if raw.dtype != np.uint8 and raw.size:
        if int(raw.max()) > 255:
            raise DataError(f"{where}: label values up to {int(raw.max())}; expected 0..255, is this an instance map?")
        if int(raw.min()) < 0:
            raise DataError(f"{where}: label values down to {int(raw.min())}; expected 0..255, with 255 for no class")
    return raw.astype(np.uint8, copy=False)


def decode_label(data: bytes, where: str, max_pixels: int = MAX_PIXELS, palette: bool = True) -> Raw:
    """Bytes of a label PNG or TIFF -> its stored values: (H, W), or (H, W, 3) where it has colour channels (R first).

    ``palette``: a palette image gives indices; else its colours. Files of 16 or 32 bits keep them.
    """
    opened = _header(data, where, max_pixels)
    check_checksums(data, where)
    bits = data[24] if opened.format == "PNG" else _tiff_bits(opened, where)
    if bits == 16:
        stored = _opencv(data, where, cv2.IMREAD_UNCHANGED)
        return stored if stored.ndim == 2 else np.ascontiguousarray(stored[..., 2::-1])  # BGR(A) -> RGB
    kept = {"P": "P" if palette else "RGB", "L": "L", "1": "L", "LA": "L", "I": "I"}
    values = _pillow(opened, where, kept.get(opened.mode, "RGB"))
    if bits < 8 and opened.mode != "P":  # Pillow stretches grey of 1, 2 or 4 bits over 0..255: undo it
        values //= np.uint8(255 // (2**bits - 1))
    return values


def _tiff_bits(opened: Image, where: str) -> int:
    """Bits of a channel of a TIFF whose values can be trusted; DataError for any other file."""
    packed = opened.info.get("compression", "")
    if opened.format != "TIFF" or packed in ("jpeg", "tiff_jpeg", "webp"):
        kind = f"{opened.format} with {packed} compression" if opened.format == "TIFF" else opened.format
        raise DataError(f"{where}: a label as {kind}; expected PNG or TIFF, lossy compression changes class values")
    tags: Any = opened.tag_v2  # type: ignore[attr-defined]
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:
        raise DataError(f"{where}: a TIFF in which white is zero: are its values turned? Save it with black as zero")
    if opened.mode == "F":
        raise DataError(f"{where}: a label of floats; expected whole numbers, save it with 8 or 16 bits")
    return int(np.max(tags.get(BITSPERSAMPLE, 1)))


def decode_polygons(data: bytes, where: str, names: Mapping[str, int], max_pixels: int = MAX_PIXELS) -> Labels:
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
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{where}: not a polygon label file ({error!r}); fetch it again") from error
    if strange := sorted({name for name, _ in shapes if _base(name, names) not in names}):
        raise DataError(f"{where}: labels {', '.join(strange)} are outside this dataset's label map")
    painted = [
        Shape(names[_base(name, names)], f"a {name}", [np.array(corners, float).reshape(-1, 2)])
        for name, corners in shapes
    ]
    return paint(Drawing((height, width), painted), where, max_pixels=max_pixels)[0]


def _base(name: str, names: Mapping[str, int]) -> str:
    """A crowd of a class is labelled "<class>group"."""
    return name.removesuffix("group") if name not in names else name


def apply_table(raw: Raw, table: Labels, where: str) -> Labels:
    """(H, W) stored values -> (H, W) uint8 indices; DataError naming ``where`` and the values ``table`` leaves out."""
    raw = _eight_bits(raw, where)
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
