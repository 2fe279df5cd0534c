"""A JSON file of COCO, read a record at a time: of an annotation some forty bytes are kept, it is read again when it
is drawn."""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clouds.data.formats.json_stream import JsonFile, Span
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


class ImageRecord(NamedTuple):
    """An image as the file lists it."""

    id: Any
    file_name: Any
    height: Any
    width: Any


class Annotations:
    """Columns with a row for each annotation, in the order of the file.

    ``images``, ``categories`` and ``masks`` give a number to each image id, category id and size (width, height) of run
    lengths, None where there are none; the columns of these names hold the numbers. A panoptic annotation has
    ``segments`` categories, one after the other in ``segment_categories``, and a PNG file in ``files``.
    """

    def __init__(self, file: JsonFile) -> None:
        self.file = file
        self.images, self.categories = dict[Any, int](), dict[Any, int]()
        self.masks: dict[tuple[int, int] | None, int] = {None: 0}
        self.start, self.length = array("q"), array("q")  # bytes
        self.image, self.category, self.mask = array("i"), array("i"), array("i")
        self.drawn, self.crowd = array("b"), array("b")  # 0 or 1
        self.segments, self.segment_categories = array("i"), array("i")
        self.files: list[str] = []
        self.faulty: list[int] = []  # rows

    def __len__(self) -> int:
        return len(self.start)

    def add(self, each: Annotation, span: Span) -> None:
        faulty = bool(each.fault)
        self.start.append(span.start)
        self.length.append(span.length)
        self.image.append(_number(self.images, each.image))
        self.category.append(_number(self.categories, each.category))
        self.mask.append(_number(self.masks, (each.runs.box[2], each.runs.box[3]) if each.runs else None))
        self.drawn.append(bool(each.rings or each.runs))
        self.crowd.append(each.crowd)
        self.segments.append(len(each.segments))
        self.files.append(each.file)
        for number, category in each.segments:
            self.segment_categories.append(_number(self.categories, category))
            faulty |= not isinstance(number, int)
        if faulty:
            self.faulty.append(len(self) - 1)

    def spans(self) -> NDArray[np.int64]:
        """(N, 2): where each begins in the file and its length, in bytes."""
        return np.stack([np.array(self.start, np.int64), np.array(self.length, np.int64)], 1)


def _number(numbers: dict[Any, int], key: Any) -> int:
    return numbers.setdefault(key, len(numbers))


class Part(NamedTuple):
    """What labels are read from: an annotation file, the class of each category id, and places in it, (N, 2)."""

    file: JsonFile
    classes: dict[Any, int]
    spans: NDArray[np.int64]

    def read(self, first: int, end: int) -> Iterator[Annotation]:
        """The annotations of these rows; errors as of ``JsonFile.values``."""
        return map(_annotation, self.file.values(self.spans[first:end].tolist()))


@dataclass
class CocoFile:
    """An annotation file: ``name`` in the tree; ``where`` for messages."""

    name: str
    where: str
    split: str
    annotations: Annotations
    panoptic: bool = False
    records: list[ImageRecord] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    ids: dict[Any, str] = field(default_factory=dict)  # category id -> class
    listed: set[Any] = field(default_factory=set)  # ids of images
    # image id -> its sample's name, its file's name in the tree and its record
    images: dict[Any, tuple[str, str, ImageRecord]] = field(default_factory=dict)


def read_file(tree: Tree, name: str, split: str) -> CocoFile | None:
    """None where it is no COCO file with annotations; DataError where it is not whole."""
    file = JsonFile(tree.files[name])
    found = CocoFile(name, tree.where(name), split, Annotations(file))
    try:
        for key, value, span in file.entries():
            if key in _LISTS and not isinstance(value, dict):
                raise DataError(f"{found.where}: {key}: {str(value)[:40]}; expected objects")
            if key == "images":
                found.records.append(ImageRecord(*(value.get(k) for k in ImageRecord._fields)))
            elif key == "categories":
                found.categories.append(value)
            elif key == "annotations":
                found.panoptic |= "segments_info" in value
                found.annotations.add(_annotation(value), span)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{found.where}: not a complete JSON object ({error}); export it again") from error
    return found if found.records and found.categories and found.annotations else None


def _annotation(each: dict[str, Any]) -> Annotation:
    given = each.get("segmentation")
    head = (_key(each.get("id")), _key(each.get("image_id")), _key(each.get("category_id")),
            bool(each.get("iscrowd")), _area(each.get("area")))  # fmt: skip
    try:
        if "segments_info" in each:
            segments = tuple((_key(s["id"]), _key(s["category_id"])) for s in each["segments_info"])
            return Annotation(*head, segments=segments, file=str(each.get("file_name")))
        if not given:
            return Annotation(*head)
        if isinstance(given, list):
            return Annotation(*head, tuple([np.array(ring, float).reshape(-1, 2) for ring in given]))
        counts, (height, width) = given["counts"], given["size"]
        runs = counts if isinstance(counts, str) else np.array(counts, np.int64)
        return Annotation(*head, runs=Runs(runs, (0, 0, int(width), int(height)), columns=True))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        return Annotation(*head, fault=f"its segmentation is neither polygons nor run lengths ({error!r})")


def _area(value: Any) -> float:
    """Pixels; 0 where it is no number of them."""
    try:
        area = float(value) if isinstance(value, int | float) else 0.0
    except OverflowError:
        return 0.0
    return area if 0 < area < math.inf else 0.0


def _key(value: Any) -> Any:
    """An id as it is, if it can be one: a number or a text."""
    return value if isinstance(value, int | str) else repr(value)
