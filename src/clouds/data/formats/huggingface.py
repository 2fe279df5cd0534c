"""Hugging Face ``datasets``: a folder that save_to_disk wrote, parquet files, or a set of the hub; an image and a label
map a row."""

import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clouds.base.hub import hub_problem
from clouds.base.pick import evenly
from clouds.base.progress import say
from clouds.base.text import some
from clouds.config.label_sets import IGNORE
from clouds.data.archives import Files
from clouds.data.encodings import stored_channel
from clouds.data.formats.found import Finding, FoundSpec
from clouds.data.layouts import Layout
from clouds.data.samples import Place
from clouds.errors import DataError, UsageError, cause

FILES = "a folder of save_to_disk, parquet files, or a hub id OWNER/NAME; id2label.json for the names of the classes"
NEEDED = "datasets"
LOOKED_AT = 100  # label maps that are read to tell unnamed values
_HUB = r"[\w.-]+/[\w.-]+"
_IMAGES = ("image", "pixel_values", "img", "picture")  # names of columns, the likeliest first
_LABELS = ("label", "annotation", "segmentation", "mask", "labels", "semantic", "seg")


class Rows(Files):
    """The encoded pictures of a split: "ROW/COLUMN" -> its bytes."""

    def __init__(self, root: Path, split: str, rows: Any) -> None:
        held = [Path(each["filename"]) for each in rows.cache_files]
        self.path = root if root.exists() or not held else held[0]  # a set of the hub lies in the library's cache
        self.root, self.split, self.rows = root, split, rows

    def names(self, under: str = "") -> Iterator[str]:  # noqa: ARG002 - there are no folders
        return (f"{k}/{column}" for k in range(len(self.rows)) for column in self.rows.column_names)

    def read(self, name: str) -> bytes:
        row, _, column = name.partition("/")
        held = self.rows[int(row)][column] or {}
        if held.get("bytes"):
            return bytes(held["bytes"])
        try:
            return Path(held["path"]).read_bytes()
        except (OSError, KeyError, TypeError) as error:
            raise DataError(f"{self.where(name)}: holds no picture ({error!r})") from error

    def size(self, name: str) -> int:
        return len(self.read(name))

    def where(self, name: str) -> str:
        row, _, column = name.partition("/")
        return f"{self.root}: {self.split} row {row} column {column}"


def read(root: Path, columns: Sequence[str] = (), rows: int | None = None) -> FoundSpec:
    """The set in a folder or on the hub; ``columns``: those of the image and of the label map, where names do not say
    it; ``rows``: no more than the first ones of each split, which are streamed where the set is the hub's. UsageError
    where ``datasets`` is not installed."""
    if importlib.util.find_spec(NEEDED) is None:
        raise UsageError("huggingface: needs the package datasets: pip install 'clouds[datasets]'")
    splits = _load(root, rows)
    found = Finding("huggingface", root)
    for split, held in splits.items():
        image, label = _columns(root, held, columns)
        holder = Rows(root, split, _undecoded(held, image, label))
        for k in range(len(held)):
            found.add(split, f"{split}/{k:07d}", Place(holder, f"{k}/{image}"), Place(holder, f"{k}/{label}"))
    names = _names(root, next(iter(splits.values()))) or _values(found)
    label_set = found.classes([*names.values()], str(root))
    return found.done(label_set, Layout("{key}", "{key}", values=names))


def _load(root: Path, count: int | None) -> dict[str, Any]:
    """Split -> its rows, the first ``count`` of them."""
    import datasets

    try:
        if (root / "dataset_dict.json").is_file() or (root / "dataset_info.json").is_file():
            loaded = datasets.load_from_disk(str(root))
        elif root.is_dir():
            files = sorted(str(path) for path in root.rglob("*.parquet"))
            if not files:
                raise DataError(f"{root}: huggingface: holds no dataset_info.json and no parquet; expected {FILES}")
            loaded = datasets.load_dataset("parquet", data_files=_by_split(files))
        elif re.fullmatch(_HUB, root.as_posix()):
            if problem := hub_problem():
                say(f"{root}: {problem}; looking for what was downloaded before")
            loaded = datasets.load_dataset(root.as_posix(), streaming=count is not None)
        else:
            raise DataError(f"{root}: no such folder; expected {FILES}")
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{root}: huggingface: cannot be loaded ({why}); expected {FILES}") from error
    splits = dict(loaded.items()) if isinstance(loaded, dict) else {"train": loaded}
    return splits if count is None else {split: _first(root, rows, count) for split, rows in splits.items()}


def _first(root: Path, rows: Any, count: int) -> Any:
    """The first rows; of a stream they are fetched, and kept in the library's cache for the next process."""
    import datasets

    if isinstance(rows, datasets.Dataset):
        return rows.select(range(min(count, len(rows))))
    try:
        for name, feature in (rows.features or {}).items():
            if isinstance(feature, datasets.Image):
                rows = rows.cast_column(name, datasets.Image(decode=False))
        return datasets.Dataset.from_generator(
            _fetched, features=rows.features, gen_kwargs={"rows": rows.take(count)}
        )
    except Exception as error:  # the library's kinds and those of its HTTP client
        raise DataError(f"{root}: huggingface: its first {count} rows cannot be fetched ({cause(error)}); try again, "
                        "or leave `rows` out to download the whole set") from error  # fmt: skip


def _fetched(rows: Any) -> Iterator[dict[str, Any]]:
    """Rows with the bytes of pictures that lie in files of their own beside the table."""
    import fsspec

    for row in rows:
        for name, held in row.items():
            if isinstance(held, dict) and held.keys() == {"bytes", "path"} and held["path"] and not held["bytes"]:
                with fsspec.open(held["path"], "rb") as file:
                    row[name] = {"bytes": file.read(), "path": None}
        yield row


def _by_split(files: Sequence[str]) -> dict[str, list[str]]:
    """Files of the hub's parquet sets by split: data/train-00000-of-00002.parquet."""
    found: dict[str, list[str]] = {}
    for file in files:
        name = Path(file).name
        match = re.match(r"(\w+?)-\d+-of-\d+", name)
        found.setdefault(match[1] if match else "train", []).append(file)
    return found


def _columns(root: Path, rows: Any, asked: Sequence[str]) -> tuple[str, str]:
    """The columns of the image and the label map: as asked, else by their names among the columns of pictures."""
    import datasets

    pictures = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if asked:
        if len(asked) != 2 or any(name not in pictures for name in asked):
            raise UsageError(f"{root}: columns={list(asked)}; expected two of its pictures: {', '.join(pictures)}")
        return asked[0], asked[1]
    image = next((name for name in _IMAGES if name in pictures), None)
    label = next((name for name in _LABELS if name in pictures), None)
    if image is None or label is None or len(pictures) > 2:
        raise UsageError(f"{root}: its columns of pictures are {', '.join(pictures) or 'none'} (all: "
                         f"{some(list(rows.column_names), 8)}); say which: columns=[IMAGE, LABEL]")  # fmt: skip
    return image, label


def _undecoded(rows: Any, *columns: str) -> Any:
    """The rows with these columns alone, as the bytes that are stored."""
    import datasets

    rows = rows.select_columns(list(columns))
    for column in columns:
        rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows


def _names(root: Path, rows: Any) -> dict[int, str]:
    """Stored value -> class: of id2label.json, else of a list of class labels; none where nothing says it."""
    import datasets

    if (text := _id2label(root)) is not None:
        try:
            return {int(key): str(name) for key, name in json.loads(text).items()}
        except (ValueError, AttributeError) as error:
            raise DataError(f"{root}: id2label.json: expected number -> class ({error!r})") from error
    for feature in rows.features.values():
        inner = getattr(feature, "feature", None)  # a class label that is no list is the whole image's
        if isinstance(inner, datasets.ClassLabel):
            return dict(enumerate(inner.names))
    return {}


def _values(found: Finding) -> dict[int, str]:
    """Stored value -> its number as a name, up to the largest in some evenly spaced label maps."""
    places = [sample.label for own in found.samples.values() for sample in own if sample.label]
    largest = 0
    for place in (places[k] for k in evenly(len(places), LOOKED_AT)):
        stored = stored_channel(place.read(), str(place), "index")
        largest = max(largest, int(stored[stored != IGNORE].max(initial=0)))
    found.notes.append(f"nothing names its classes; they are called 0 to {largest}, as {min(len(places), LOOKED_AT)} "
                       "label maps show; id2label.json in the folder names them")  # fmt: skip
    return {k: str(k) for k in range(largest + 1)}


def _id2label(root: Path) -> bytes | None:
    if root.is_dir():
        return (root / "id2label.json").read_bytes() if (root / "id2label.json").is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(root.as_posix(), "id2label.json", repo_type="dataset")).read_bytes()
    except EntryNotFoundError:
        return None
