"""Read the manifest of a set that may have been hurt: what can be mended is mended and said, the rest is named."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clouds.base.files import decode, lies_inside
from clouds.base.shards import MANIFEST, PARTS
from clouds.config.records import Drawn
from clouds.config.runs import GENERATED
from clouds.data.images import ENDINGS
from clouds.errors import DataError, UsageError

DAMAGED = "metadata.damaged.jsonl"  # a copy of the manifest as it was, kept when lines of it were lost

Row = dict[str, Any]


def set_folder(folder: Path) -> Path:
    """The folder with the manifest: ``folder`` or a run's ``generated``; UsageError where there is none."""
    for each in (folder, folder / GENERATED):
        if (each / MANIFEST).is_file():
            return each
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected a generated set, images with {MANIFEST}")
    if next(folder.glob(PARTS), None):
        raise UsageError(f"{folder}: holds parts of a set only; finish it with `clouds generate`, then audit it")
    raise UsageError(f"{folder}: holds no {MANIFEST}; draw a set with `clouds generate`, or adopt one (--adopt)")


def read_manifest(folder: Path, keep_damaged: bool = False) -> tuple[list[Row], list[str]]:
    """The rows of a set, one an image, and what was mended on the way, as sentences.

    A last line that was cut is left out (``keep_damaged``: the file is kept as ``metadata.damaged.jsonl``), text that
    is not UTF-8 is read as what it is, of two rows for an image the later one counts. DataError names a line that is
    no row, UsageError an empty set.
    """
    path = folder / MANIFEST
    data = path.read_bytes()
    if b"\0" in data and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: holds zero bytes and cannot be read; restore it, or delete it and draw the set again")
    text, mended = decode(data, str(path)), list[str]()
    if data.startswith(b"\xef\xbb\xbf") or text.encode("utf-8", "replace") != data:
        mended.append(f"{MANIFEST} was not plain UTF-8; it is written again as UTF-8")
    lines = text.split("\n")
    last = max((k for k, line in enumerate(lines) if line.strip()), default=-1)
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number != last:
                raise DataError(f"{path}, line {number + 1}: is not JSON ({error}); fix or delete that line") from error
            kept = ""
            if keep_damaged:
                (folder / DAMAGED).write_bytes(data)
                kept = f", the file as it was is kept as {DAMAGED}"
            mended.append(f"{MANIFEST}'s last line was cut; it is left out{kept}")
            continue
        name = checked(row, f"{path}, line {number + 1}")["file_name"]
        if name in rows:
            mended.append(f"{MANIFEST} has two rows for {name}; the later one counts")
            del rows[name]
        rows[name] = row
    if not rows:
        raise UsageError(f"{path}: holds no row: an empty set; draw one with `clouds generate`")
    return list(rows.values()), mended


def checked(row: Any, where: str) -> Row:
    """A row of a manifest as it is; DataError where it names no image inside the set, or is no ``Drawn``."""
    name = row.get("file_name") if isinstance(row, dict) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise DataError(f"{where}: expected a row with a file_name; fix or delete that line")
    if not lies_inside(name):
        raise DataError(f"{where}: file_name {name!r} is outside the set; expected a path inside its folder")
    if not isinstance(row.get("prompt", ""), str):
        raise DataError(f"{where}: prompt is {row['prompt']!r}; expected a text")
    try:
        Drawn.model_validate(row)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise DataError(f"{where}: {fault['loc'][0]} is {fault['input']!r}; {fault['msg'].lower()}") from error
    return dict(row)


def strays(folder: Path, rows: list[Row]) -> list[str]:
    """Images that lie in the set's folders but have no row, by name."""
    known = {row["file_name"] for row in rows}
    places = {folder, *((folder / name).parent for name in known)}
    here = (path for place in places if place.is_dir() for path in place.iterdir())
    images = (path for path in here if path.suffix.lower() in ENDINGS and path.name[0] != "." and path.is_file())
    return sorted(name for path in images if (name := path.relative_to(folder).as_posix()) not in known)
