"""From a label file as published to indices of a label set, by table look-up; one way of reading per encoding."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clouds.data.decode import MAX_PIXELS, apply_table, decode_label, decode_polygons
from clouds.data.labels import UNKNOWN, LabelSet, class_index, value_table
from clouds.data.layouts import Layout
from clouds.errors import DataError, UsageError

Raw = NDArray[np.uint8] | NDArray[np.uint16]


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

    def __call__(self, content: bytes, where: str) -> NDArray[np.uint8]:
        if self.encoding == "polygons":
            return decode_polygons(content, where, self.names, self.max_pixels)
        return self._by_encoding[self.encoding](self, decode_label(content, where, self.max_pixels), where)

    def _index(self, raw: Raw, where: str) -> NDArray[np.uint8]:
        if raw.ndim == 3 and not ((raw[..., 0] == raw[..., 1]).all() and (raw[..., 0] == raw[..., 2]).all()):
            if len(self.colors):
                return self._color(raw, where)
            raise DataError(f"{where}: a colour image; expected one channel of class indices, is this the preview?")
        return apply_table(raw if raw.ndim == 2 else raw[..., 0], self.table, where)

    def _red(self, raw: Raw, where: str) -> NDArray[np.uint8]:
        return apply_table(raw if raw.ndim == 2 else raw[..., 0], self.table, where)

    def _color(self, raw: Raw, where: str) -> NDArray[np.uint8]:
        if raw.ndim != 3 or raw.dtype != np.uint8:
            raise DataError(f"{where}: one channel or 16 bits; expected an 8-bit RGB image of class colours")
        packed = raw.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)  # (H, W)
        place = np.searchsorted(self.colors, packed).clip(max=len(self.colors) - 1)
        label: NDArray[np.uint8] = np.where(self.colors[place] == packed, self.indices[place], np.uint8(UNKNOWN))
        if (label == UNKNOWN).any():
            strange = np.unique(packed[label == UNKNOWN])
            some = ", ".join(f"#{c:06x}" for c in strange[:6]) + (", ..." if len(strange) > 6 else "")
            raise DataError(f"{where}: colours {some} are outside the label map; resized, or another palette?")
        return label

    _by_encoding: dict[str, Callable[["LabelReader", Raw, str], NDArray[np.uint8]]] = {  # noqa: RUF012
        "index": _index,
        "red": _red,
        "colour": _color,
    }


ENCODINGS = ("index", "red", "colour", "polygons")
