"""The formats as a table: how each is read, which files it is, where its class names stand."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clouds.data.formats import coco, cvat, datumaro, huggingface, labelme, roboflow, voc, yolo
from clouds.data.formats.found import FoundSpec
from clouds.data.formats.tree import Tree
from clouds.errors import UsageError


class Format(NamedTuple):
    """``read(tree, **options)``: the set in a tree, or by a root where ``by_root``. ``files``: what it is on disk;
    ``names``: the file that has its classes."""

    read: Callable[..., FoundSpec]
    files: str
    names: str
    options: tuple[str, ...] = ()
    by_root: bool = False


FORMATS: dict[str, Format] = {
    "coco": Format(coco.read, coco.FILES, "categories in the JSON file", ("annotations",)),
    "voc": Format(voc.read, voc.FILES, "labelmap.txt, else the 21 of Pascal VOC"),
    "cvat": Format(cvat.read, cvat.FILES, "labels in annotations.xml, or labelmap.txt"),
    "labelme": Format(labelme.read, labelme.FILES, "labels.txt, else the shapes' labels"),
    "yolo": Format(yolo.read, yolo.FILES, "names in data.yaml"),
    "datumaro": Format(datumaro.read, datumaro.FILES, "label_map in dataset_meta.json"),
    "huggingface": Format(
        huggingface.read, huggingface.FILES, "id2label.json, else a column of lists of class labels",
        ("columns", "rows"), True,
    ),
    "roboflow": Format(roboflow.read, roboflow.FILES, "those files, or _classes.csv"),
}

_KEPT = 8  # sets that are read once in a process, as long as their files stay the same
_read: OrderedDict[Any, FoundSpec] = OrderedDict()
_lock = threading.Lock()


def read_format(name: str, root: Path, options: Mapping[str, Any]) -> FoundSpec:
    """What a folder or an archive holds in a format.

    UsageError for an option that the format does not have; DataError where the set cannot be used as a whole.
    """
    row = FORMATS[name]
    if strange := sorted(options.keys() - {*row.options}):
        known = f"it has {', '.join(row.options)}" if row.options else "it has none: its own files say all"
        raise UsageError(f"{name} has no option {', '.join(strange)}; {known}")
    tree = None if row.by_root else Tree(root)
    stamp = tree.stamp(lambda each: not each.lower().endswith((".jpg", ".jpeg", ".png"))) if tree else None
    key = (name, root.absolute() if root.exists() else root, stamp, repr(sorted(options.items())))
    with _lock:
        found = _read.get(key) if tree or not root.exists() else None
    if found is None:
        found = row.read(tree or root, **options)
        with _lock:
            _read[key] = found
            while len(_read) > _KEPT:
                _read.popitem(last=False)
    return found
