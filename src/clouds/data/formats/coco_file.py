"""A JSON file of COCO, read a record at a time: what is kept of it is small beside the file."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clouds.data.formats.json_stream import entries
from clouds.data.formats.tree import Tree
from clouds.data.shapes import Runs
from clouds.errors import DataError

_LISTS = ("images", "annotations", "categories")


class Annotation(NamedTuple):
    """An annotation; ``segments`` are a panoptic one's as (id, category). ``fault``: why it cannot be drawn."""

    id: Any
    image: Any
    category: Any
    crowd: bool = False
    area: float = 0.0  # pixels; 0 where the file does not say
    rings: tuple[NDArray[np.float64], ...] = ()
    runs: Runs | None = None
    segments: tuple[tuple[Any, Any], ...] = ()
    file: str = ""  # of a panoptic one: its PNG
    fault: str = ""


@dataclass
class CocoFile:
    """An annotation file: ``name`` in the tree; ``where`` for messages."""

    name: str
    where: str
    split: str
    panoptic: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)  # of images
    categories: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    ids: dict[Any, str] = field(default_factory=dict)  # category id -> class
    listed: set[Any] = field(default_factory=set)  # ids of images
    # image id -> its sample's name, its file's name in the tree and its record
    images: dict[Any, tuple[str, str, dict[str, Any]]] = field(default_factory=dict)


def read_file(tree: Tree, name: str, split: str) -> CocoFile | None:
    """None where it is no COCO file with annotations; DataError where it is not whole."""
    found = CocoFile(name, tree.where(name), split)
    try:
        for key, value in entries(tree.files[name]):
            if key in _LISTS and not isinstance(value, dict):
                raise DataError(f"{found.where}: {key}: {str(value)[:40]}; expected objects")
            if key == "images":
                found.records.append({k: value.get(k) for k in ("id", "file_name", "height", "width")})
            elif key == "categories":
                found.categories.append(value)
            elif key == "annotations":
                found.panoptic |= "segments_info" in value
                found.annotations.append(_annotation(value))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{found.where}: not a whole JSON object ({error}); export it again") from error
    return found if found.records and found.categories and found.annotations else None


def _annotation(each: dict[str, Any]) -> Annotation:
    area, given = each.get("area"), each.get("segmentation")
    whole = isinstance(area, int | float) and math.isfinite(area) and area > 0
    head = Annotation(_key(each.get("id")), _key(each.get("image_id")), _key(each.get("category_id")),
                      bool(each.get("iscrowd")), float(area) if whole and area else 0.0)  # fmt: skip
    try:
        if "segments_info" in each:
            segments = tuple((_key(s["id"]), _key(s["category_id"])) for s in each["segments_info"])
            return head._replace(segments=segments, file=str(each.get("file_name")))
        if not given:
            return head
        if isinstance(given, list):
            return head._replace(rings=tuple(np.array(ring, float).reshape(-1, 2) for ring in given))
        counts, (height, width) = given["counts"], given["size"]
        runs = counts if isinstance(counts, str) else np.array(counts, np.int64)
        return head._replace(runs=Runs(runs, (0, 0, int(width), int(height)), columns=True))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        return head._replace(fault=f"its segmentation is neither polygons nor run lengths ({error!r})")


def _key(value: Any) -> Any:
    """An id as it is, if it can be one: a number or a text."""
    return value if isinstance(value, int | str) else repr(value)
