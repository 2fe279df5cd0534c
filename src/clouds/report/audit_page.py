"""The page of an audit: a generated set in pictures, what was dropped and why, what it covers. No script."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clouds.base.progress import track
from clouds.data.exif import orientation
from clouds.data.images import read_file
from clouds.errors import DataError
from clouds.generate.audit import kind
from clouds.report.figures import Picture, photo
from clouds.report.sections import shorten, spread
from clouds.report.templating import write_page

WALL, WALL_WIDTH, WALL_QUALITY = 3000, 128, 55  # images on the wall; about 3 kB each
BLOCK = 60  # of the wall, drawn when it comes into view
SHOWN, SHOWN_WIDTH = 120, 240  # images a reason
ENDS = 12  # best, and worst
BINS = 24

Image = Mapping[str, Any]
NAMES = {
    "spread": "Spread of grey values", "contrast": "Contrast", "sharpness": "Sharpness", "clip": "CLIP score",
    "confidence": "Teacher's confidence", "decided": "Pixels decided by refinement",
    "agreement": "Refinement agrees with the teacher",
}  # fmt: skip
LIMITS = {"spread": "blank"}  # measures whose limit has another name
RANKS = (("clip", "their CLIP score"), ("agreement", "how far refinement agrees with the teacher"),
         ("sharpness", "their sharpness"))  # fmt: skip


class Bar(NamedTuple):
    """A bar of a histogram, in percent of its box; ``low`` and ``high`` bound its values."""

    x: float
    height: float
    low: float
    high: float
    images: int


def write_audit_page(folder: Path, result: Mapping[str, Any], images: Sequence[Image], out: Path) -> Path:
    """Write ``index.html`` into ``out``, whole or not at all; returns its absolute path.

    folder: the set; result and images: what ``generate.audit.audit_set`` gave.
    """
    wall = spread(images, WALL)
    pictures = {
        image["file_name"]: _picture(folder, image, WALL_WIDTH, WALL_QUALITY)
        for image in track(wall, "drawing the page", len(wall), unit="images")
    }
    key, rank = next(each for each in RANKS if each[0] in result["numbers"] or each[0] == "sharpness")
    ranked = sorted((i for i in images if i["keep"] and i.get(key) is not None), key=lambda i: -i[key])
    tiles = [_tile(image, pictures[image["file_name"]]) for image in wall]
    name = folder.resolve().name
    parent = folder.resolve().parent.name
    return write_page(
        out / "index.html",
        "audit.html.j2",
        result=result,
        title=f"{parent}/{name}" if name == "generated" else name,
        reasons=_reasons(folder, images),
        rank=rank,
        best=_shown(folder, ranked[:ENDS]),
        worst=_shown(folder, ranked[max(len(ranked) - ENDS, ENDS) :][::-1]),
        histograms=[each for each in (_histogram(name, result, images) for name in NAMES) if each],
        coverage=_coverage(result),
        classes=_classes(result),
        blocks=[tiles[start : start + BLOCK] for start in range(0, len(tiles), BLOCK)],
        left_out=len(images) - len(wall),
        labels=NAMES,
        photographs=bool(result.get("photographs")),
    )


def _picture(folder: Path, image: Image, width: int, quality: int = 72) -> Picture | None:
    if "broken" in image or "gone" in image:
        return None
    try:
        path = folder / image["file_name"]
        return photo(path, width, quality, orientation(read_file(path)))
    except DataError:
        return None  # it has gone since


def _tile(image: Image, picture: Picture | None) -> dict[str, Any]:
    numbers = [(NAMES[key], _digits(image[key])) for key in NAMES if image.get(key) is not None]
    return {"name": image["file_name"], "picture": picture, "prompt": shorten(image["prompt"]), "keep": image["keep"],
            "why": image["why"], "numbers": numbers}  # fmt: skip


def _shown(folder: Path, images: Sequence[Image]) -> list[dict[str, Any]]:
    return [_tile(image, _picture(folder, image, SHOWN_WIDTH)) for image in images]


def _reasons(folder: Path, images: Sequence[Image]) -> list[dict[str, Any]]:
    """Dropped images by their first reason, each twin with the one that is kept."""
    groups: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        if not image["keep"]:
            groups[kind(image["why"][0])].append(image)
    known = {image["file_name"]: image for image in images}
    shown = []
    for name, group in sorted(groups.items(), key=lambda each: -len(each[1])):
        tiles = _shown(folder, group[:SHOWN])
        for tile, image in zip(tiles, group, strict=False):
            other = known.get(image.get("twin"))
            tile["kept"] = _tile(other, _picture(folder, other, SHOWN_WIDTH)) if other else None
        shown.append({"name": name, "count": len(group), "tiles": tiles})
    return shown


def _histogram(name: str, result: Mapping[str, Any], images: Sequence[Image]) -> dict[str, Any] | None:
    values = np.array([image[name] for image in images if image.get(name) is not None], float)
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    limit = result["limits"].get(LIMITS.get(name, name))
    if limit is not None:
        low, high = min(low, limit), max(high, limit)
    high = high if high > low else low + 1
    counts, edges = np.histogram(values, BINS, (low, high))
    bars = [
        Bar(round(100 * k / BINS, 2), round(100 * n / counts.max(), 2), edges[k], edges[k + 1], int(n))
        for k, n in enumerate(counts.tolist())
    ]
    at = None if limit is None else round(100 * (limit - low) / (high - low), 2)
    return {"title": NAMES[name], "bars": bars, "low": _digits(low), "high": _digits(high), "at": at,
            "limit": None if limit is None else _digits(limit), "median": _digits(float(np.median(values))),
            "count": len(values)}  # fmt: skip


def _digits(value: float) -> str:
    """Three digits, without an exponent: "0.571", "1,170"."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _coverage(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attributes with their phrases: (phrase, images, width in percent, prompts asked for)."""
    parts = []
    for attribute, heard in result["coverage"].items():
        asked = result["request"]["wanted"].get(attribute, {})
        most = max([1, *heard.values()])
        if attribute == "classes" and result["teacher"]:
            asked = {}  # the request goes by what the teacher sees
        rows = [(phrase, n, round(100 * n / most, 1), asked.get(phrase, 0)) for phrase, n in heard.items()]
        parts.append({"name": attribute, "rows": sorted(rows, key=lambda row: -row[1]), "asked": len(asked)})
    return parts


def _classes(result: Mapping[str, Any]) -> list[tuple[str, float, float, int]]:
    """What the teacher sees: (class, share of images, share of pixels, prompts asked for)."""
    if not result["teacher"]:
        return []
    asked = result["request"]["wanted"].get("classes", {})
    seen = result["teacher"]["classes"].items()
    return sorted(((n, e["images"], e["pixels"], asked.get(n, 0)) for n, e in seen), key=lambda row: -row[1])
