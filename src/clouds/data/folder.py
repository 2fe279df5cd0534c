"""Any folder of images and labels as a dataset: the caller says where they are and what the label values mean."""

import re
from collections.abc import Mapping, Sequence

from clouds.data.codes import Color
from clouds.data.encodings import ENCODINGS
from clouds.data.labels import LabelSet, find_label_set, make_label_set
from clouds.data.layouts import Layout, Spec
from clouds.errors import UsageError


def folder_spec(
    split: str | None = None,
    *,
    images: str = "images/{key}.{ext}",
    labels: str = "labels/{key}.png",
    label_map: Mapping[int | str, int | str | None] | None = None,
    label_set: str | LabelSet | Mapping[str, Sequence[str]] = "cityscapes19",
    encoding: str = "index",
) -> Spec:
    """A row for the table of datasets.

    ``images``, ``labels``: patterns as in ``layouts``; ``labels=""`` for none. ``label_map``: what a label file stores
    -> class name (or index) in ``label_set``, None to ignore; without it the files store indices of ``label_set``, and
    255. Keys are values 0..255, for ``encoding="colour"`` "#rrggbb" or "r, g, b", for "polygons" names.
    ``label_set``: the name of one, or class -> the Cityscapes classes it holds.
    """
    own = make_label_set("own", label_set) if isinstance(label_set, Mapping) else find_label_set(label_set)
    for what, pattern in (("images", images), ("labels", labels)):
        if (pattern or what == "images") and pattern.count("{key}") != 1:
            raise UsageError(f"{what}={pattern!r}: expected a path with one {{key}}, as 'images/{{key}}.{{ext}}'")
        if set(re.findall(r"\{.*?\}", pattern)) - {"{key}", "{ext}", "{split}"} or ".." in pattern.split("/"):
            raise UsageError(f"{what}={pattern!r}: expected a path below the folder, of {{split}}, {{key}}, {{ext}}")
    if encoding not in ENCODINGS:
        raise UsageError(f"encoding={encoding!r}: expected one of {', '.join(ENCODINGS)}")
    meanings = {key: _class(value, own) for key, value in (label_map or dict(enumerate(own.classes))).items()}
    values: dict[int, str] = {}
    colors: dict[Color, str] = {}
    if encoding == "colour":
        if label_map is None:
            colors = dict(zip(own.colors, own.classes, strict=True)) | {(0, 0, 0): ""}
        else:
            colors = {_color(key): meaning for key, meaning in meanings.items()}
    elif encoding != "polygons":
        values = {_value(key): meaning for key, meaning in meanings.items()}
    names = {str(key): meaning for key, meaning in meanings.items()} if encoding == "polygons" else {}
    if encoding == "polygons" and label_map is None:
        names = {name: name for name in own.classes}
    layout = Layout(images, labels, encoding, values, colors, names)
    chosen = split or ("val" if "{split}" in images else "train")
    parts = (chosen if "{split}" in images else "",)
    return Spec("folder", own, (layout,), {chosen: parts}, chosen, "your own", "any folder")


def _class(value: int | str | None, own: LabelSet) -> str:
    if value is None or value in ("", 255):
        return ""
    if isinstance(value, int) and 0 <= value < len(own.classes):
        return own.classes[value]
    if isinstance(value, str) and value in own.classes:
        return value
    raise UsageError(f"label map: {value!r} is not a class of {own.name}; it has {', '.join(own.classes)}")


def _value(key: int | str) -> int:
    if isinstance(key, int) or str(key).isdecimal():
        return int(key)
    raise UsageError(f"label map: key {key!r}; expected a value 0..255 (colours need encoding: colour)")


def _color(key: int | str) -> Color:
    text = str(key)
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    parts = [int(p) for p in re.findall(r"\d+", text)]
    if len(parts) != 3 or max(parts) > 255:
        raise UsageError(f"label map: key {key!r}; expected a colour as '#rrggbb' or 'r, g, b'")
    return parts[0], parts[1], parts[2]
