"""Refinement as a tool of its own: anybody's label maps, as files, sharpened by a promptable segmenter.

Two folders (or two files) in, refined maps under the labels' names out, with a page that shows before and after.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clouds.base.arrays import Labels
from clouds.base.files import DISK, make_folder, reason
from clouds.base.journal import Journal
from clouds.base.locks import check_idle, locked
from clouds.base.machine import usable_device
from clouds.base.progress import say, track
from clouds.base.text import some
from clouds.config.backends import takes
from clouds.data.encodings import read_indices
from clouds.data.exif import EXIF, check_pair, label_turn, turned
from clouds.data.images import ENDINGS, decode_image, write_png
from clouds.data.label_files import palette_of, write_labels
from clouds.data.walk import find_images
from clouds.errors import DataError, UsageError
from clouds.foundation.registry import backend_name
from clouds.foundation.segmenter import (
    PromptableSegmenter,
    check_second_pass,
    check_segmenter,
    load_segmenter,
    segmenter_identity,
)
from clouds.report.refined import write_refined_page
from clouds.selftrain.points import FLOOR
from clouds.selftrain.refine import SWALLOW, check_options, refine_map

RECORD, PAGE = "refined.jsonl", "index.html"
SHOWN = 3  # names in a message
DTYPES = ("float32", "float16", "bfloat16")

Row = dict[str, Any]
Pair = tuple[str, Path, Path]  # name below both folders without its ending, image, labels


def refine_files(
    images: Path,
    labels: Path,
    out: Path,
    segmenter: str = "superpixels",
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    second_pass: bool = False,
    strategy: str = "random",
    points: int = 5,
    floor: float | None = None,
    max_swallow: float = SWALLOW,
    overlaps: str = "ignore",
    seed: int = 0,
    exif: str = "refuse",
) -> dict[str, Any]:
    """Refine label maps (class ids 0..254, 255 = none; a palette's indices) of images; the object that ``clouds refine
    --json`` prints.

    ``images`` and ``labels`` are two folders, matched by their files' paths without ending, or two files. Refined maps
    get the labels' names below ``out``; what was done before with these settings and files is kept. ``max_swallow`` 1
    keeps every mask; ``floor`` None is the paper's. ``exif``: of an image that asks to be turned, as for a dataset:
    "refuse" it, "ignore" that or "apply" it. Other options as in ``refine_map`` and ``load_segmenter``; every
    pair is refined with ``seed``.

    A pair that cannot be read does not stop the others and is listed under ``failed``. UsageError before any work for
    options that cannot be, and where nothing matches or an input would be overwritten.
    """
    floor = FLOOR if floor is None else floor
    options: dict[str, Any] = {"points": points, "floor": floor, "strategy": strategy, "overlaps": overlaps,
                               "max_swallow": max_swallow}  # fmt: skip
    check_options(**options)
    if exif not in EXIF:
        raise UsageError(f"--exif: got {exif!r}; expected {', '.join(EXIF)}")
    check_second_pass(segmenter, second_pass)
    if "points" not in takes(segmenter):
        raise UsageError(f"--segmenter: {segmenter} takes class names and no points; use sam3/MODEL")
    check_segmenter(segmenter, revision, fetch=True)
    usable_device(device, "--device")
    if dtype not in DTYPES:
        raise UsageError(f"--dtype: got {dtype!r}; expected {', '.join(DTYPES)}")
    pairs, unmatched = match(images, labels, out)
    for name, *inputs in pairs:
        if blocked := [path for path in inputs if path.resolve() == (out / f"{name}.png").resolve()]:
            raise UsageError(f"{blocked[0]}: an input would be overwritten; choose another --out")
    if unmatched:
        say(f"left out, without a partner of the same name: {some(unmatched, SHOWN)}")
    model = load_segmenter(segmenter, device, dtype, revision, second_pass)
    asked = {**options, "seed": seed, "exif": exif, "second_pass": second_pass, "segmenter": segmenter_identity(model)}
    check_idle(out)
    make_folder(out)
    with locked(out / f".{RECORD}.lock"):
        rows, failed, made = _refine_all(pairs, out, model, {**options, "seed": seed}, exif, json.dumps(asked))
    total = sum(row["pixels"] for row in rows) or 1
    result = {
        "images": len(rows), "made": made, "failed": failed, "unmatched": len(unmatched),
        **{key: sum(row[key] * row["pixels"] for row in rows) / total for key in ("changed", "decided", "disputed")},
        "segmenter": backend_name(segmenter, revision),
        "folder": str(out.resolve()),
    }  # fmt: skip
    if rows:
        sources = {name: (image, label) for name, image, label in pairs}
        result["page"] = str(write_refined_page(out / PAGE, rows, sources, out, result).resolve())
    return result


def result_text(result: dict[str, Any]) -> str:
    """The result for a person."""
    shares = ", ".join(f"{100 * result[key]:.1f} % of pixels {key}" for key in ("decided", "changed", "disputed"))
    return f"{result['images']} label maps refined in {result['folder']}: {shares}\nbefore and after: {result['page']}"


def match(images: Path, labels: Path, out: Path | None = None) -> tuple[list[Pair], list[str]]:
    """Pairs in order of their names, and files without a partner, without those in ``out``; UsageError where nothing
    matches."""
    for path in (images, labels):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    if images.is_dir() != labels.is_dir():
        raise UsageError(f"{images} and {labels}: expected two folders or two files, got one of each")
    if not images.is_dir():
        return [(labels.stem, images, labels)], []
    pictures, maps = _named(images, ENDINGS, out), _named(labels, (".png", ".tif", ".tiff"), out)
    names = sorted(pictures.keys() & maps.keys())
    if not names:
        here, there = (next(iter(found.values()), None) for found in (pictures, maps))
        raise UsageError(
            f"{images} and {labels}: no image has a label map of its name ({len(pictures)} images, as "
            f"{here or 'none'}; {len(maps)} maps, as {there or 'none'}); expected a/b.png beside a/b.jpg"
        )
    alone = sorted(str(found[name]) for found in (pictures, maps) for name in found.keys() - set(names))
    return [(name, pictures[name], maps[name]) for name in names], alone


def _named(folder: Path, endings: Sequence[str], out: Path | None) -> dict[str, Path]:
    """Files by their path below ``folder`` without ending."""
    found: dict[str, Path] = {}
    earlier = out if out and out.resolve() != folder.resolve() else None  # else the inputs, not to be overwritten
    for path in find_images(folder, out=earlier):
        if path.suffix.lower() in endings:
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise UsageError(f"{found[name]} and {path}: two files of one name; keep one of them")
            found[name] = path
    return found


def _refine_all(
    pairs: list[Pair], out: Path, model: PromptableSegmenter, options: dict[str, Any], exif: str, asked: str
) -> tuple[list[Row], list[dict[str, str]], int]:
    """Rows of all pairs that are done, those that failed and why, and how many were made now."""
    journal = Journal(out / RECORD)
    known: dict[str, Row] = {row["name"]: row for row in journal.rows}
    journal.rewrite(list(known.values()))
    rows: list[Row] = []
    failed: list[dict[str, str]] = []

    def work() -> Iterator[bool]:
        for name, image, labels in pairs:
            try:
                data = image.read_bytes(), labels.read_bytes()
                key = hashlib.sha256(b"\0".join([asked.encode(), *(hashlib.sha256(d).digest() for d in data)]))
                old = known.get(name)
                if old and old["key"] == key.hexdigest() and _is(out / f"{name}.png", old["sha256"]):
                    rows.append(old)
                    yield False
                    continue
                done = _refine(image, labels, data, out / f"{name}.png", model, options, exif)
                row = {"name": name, "key": key.hexdigest(), **done}
            except (DataError, UsageError, OSError) as error:
                if isinstance(error, OSError) and error.errno in DISK:
                    raise
                culprit, text = (image if str(error).startswith(f"{image}:") else labels), reason(error)
                failed.append({"path": str(culprit), "what": text.removeprefix(f"{culprit}: ")})
                yield False
                continue
            rows.append(row)
            journal.add(row)
            yield True

    made = sum(track(work(), "refining", len(pairs), unit="maps"))
    return rows, failed, made


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def _refine(
    image: Path, labels: Path, data: tuple[bytes, bytes], target: Path, model: PromptableSegmenter,
    options: dict[str, Any], exif: str,
) -> Row:  # fmt: skip
    """Refine one pair and write it to ``target``; its numbers."""
    before = read_indices(data[1], str(labels))
    turn = label_turn(data[0], str(image), exif)
    pixels = turned(decode_image(data[0], str(image)), turn)
    check_pair(pixels.shape, image, before.shape, labels, data[0], exif)
    done = refine_map(before, model.encode(pixels), model, **options)
    return {
        "sha256": _write(target, done.labels, data[1]), "pixels": int(before.size), "turned": turn,
        "classes": len(np.unique(before[before != 255])),
        "components": done.components, "rejected": int(done.rejected.sum()),
        "changed": done.changed, "decided": done.decided, "disputed": done.disputed,
    }  # fmt: skip


def _write(target: Path, labels: Labels, given: bytes) -> str:
    """Write a refined map in the palette of the label file it was made of, or grey where that has none. Its SHA-256."""
    colors = palette_of(given)
    return write_labels(target, labels, colors) if colors else write_png(target, labels)
