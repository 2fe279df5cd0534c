"""Pictures as data URIs and curves as SVG coordinates."""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clouds.base.pick import evenly
from clouds.config.label_sets import IGNORE
from clouds.config.records import Step
from clouds.data.encodings import read_indices
from clouds.data.exif import turned
from clouds.data.images import read_file, read_image
from clouds.data.labels import Color
from clouds.errors import DataError
from clouds.report.templating import apart

Labels = NDArray[np.uint8]
WIDTH = 480  # pixels of a thumbnail: sharp at its place on the page, a few kilobytes
POINTS = 200  # a curve has no more corners than that
BANDS = 60  # places of a chart that say their values


@dataclass(frozen=True)
class Picture:
    """An image inside the page; ``full`` is the size it had on disk."""

    uri: str
    width: int
    height: int
    full: tuple[int, int]


def photo(path: Path, width: int = WIDTH, quality: int = 72, turn: int = 1) -> Picture:
    """An image file as a small WebP, at most ``width`` pixels wide, turned by an EXIF orientation."""
    image = Image.fromarray(turned(read_image(path), turn))
    small = image.resize(_fit(image.size, width), Image.Resampling.LANCZOS, reducing_gap=3)
    return _picture(small, image.size, format="WEBP", quality=quality, method=4)


def labels(path: Path, classes: int) -> Labels:
    """(H, W) uint8 class indices of a label PNG; DataError for anything else than those and 255."""
    label = read_indices(read_file(path), str(path))
    strange = label[(label >= classes) & (label != IGNORE)]
    if strange.size:
        raise DataError(f"{path}: label value {int(strange[0])} is not a class; expected 0..{classes - 1} or {IGNORE}")
    return label


def draw(label: Labels, colors: Sequence[Color], width: int = WIDTH) -> Picture:
    """A label map in its classes' colours as a palette PNG; 255 is transparent, the page hatches it."""
    full = (label.shape[1], label.shape[0])
    small = resize(label, _fit(full, width))
    index = np.where(small == IGNORE, len(colors), small)
    return _palette(index, [*((*color, 255) for color in colors), (0, 0, 0, 0)], full)


def tell_apart(path: Path) -> Picture:
    """A map of mask numbers in colours that differ from number to number; 0, no mask, is transparent."""
    return _palette(labels(path, 256), [(0, 0, 0, 0), *((*apart(number), 255) for number in range(255))])


def change(before: Labels, after: Labels, colors: Sequence[Color]) -> tuple[Picture, float]:
    """Changed pixels in their new class's colour and undecided ones in grey, and the changed share of the image."""
    before = resize(before, (after.shape[1], after.shape[0]))
    decided = after != IGNORE
    same = decided & (before == after)
    index = np.where(same, len(colors) + 1, np.where(decided, after, len(colors)))
    picture = _palette(index, [*((*color, 255) for color in colors), (128, 138, 150, 120), (0, 0, 0, 0)])
    return picture, float((decided & ~same).mean())


def mistakes(truth: Labels, prediction: Labels, width: int = WIDTH) -> Picture:
    """Where a prediction is wrong, in orange; what is right is darkened, what has no label is left as it is."""
    full = (truth.shape[1], truth.shape[0])
    small = _fit(full, width)
    true, found = resize(truth, small), resize(prediction, small)
    index = np.where(true == IGNORE, 0, np.where(true == found, 1, 2))
    return _palette(index, [(0, 0, 0, 0), (8, 14, 22, 175), (255, 122, 0, 255)], full)


def agreement(truth: Labels, prediction: Labels) -> float | None:
    """Share of the labelled pixels that are right; None where nothing is labelled."""
    known = truth != IGNORE
    right = resize(prediction, (truth.shape[1], truth.shape[0])) == truth
    return float(right[known].mean()) if known.any() else None


def resize(label: Labels, size: tuple[int, int]) -> Labels:
    """Nearest neighbour to (width, height)."""
    if (label.shape[1], label.shape[0]) == size:
        return label
    return np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))


def _fit(size: tuple[int, int], width: int = WIDTH) -> tuple[int, int]:
    """The size scaled down to the thumbnail's width (and a height of twice that)."""
    scale = min(1.0, width / size[0], 2 * width / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _palette(
    index: NDArray[np.integer], colors: Sequence[tuple[int, int, int, int]], full: tuple[int, int] | None = None
) -> Picture:
    full = full or (index.shape[1], index.shape[0])
    small = (index.shape[1], index.shape[0])
    image = Image.fromarray(resize(index.astype(np.uint8), _fit(small)))
    image.putpalette([channel for color in colors for channel in color[:3]])
    return _picture(image, full, format="PNG", optimize=True, transparency=bytes(color[3] for color in colors))


def _picture(image: Image.Image, full: tuple[int, int], format: str, **options: object) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/{format.lower()};base64,{data}", *image.size, full)


@dataclass(frozen=True)
class Line:
    """A curve: its corners as measured and smoothed ("x,y x,y"), and where it ended."""

    name: str
    raw: str
    smooth: str
    last: str
    end: tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """A small line chart, in the coordinates of its SVG view box."""

    title: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    hover: list[tuple[float, float, str]]  # bands from left to right: (x, width, what is read there)
    width: int = 360
    height: int = 190
    left: int = 44
    right: int = 10
    top: int = 10
    bottom: int = 24


def chart(title: str, steps: Sequence[Step], fields: Mapping[str, str], share: bool = False) -> Chart | None:
    """The named fields of the steps over the step; None where there is nothing to draw."""
    series = {name: points for field, name in fields.items() if (points := _series(steps, field))}
    if not series:
        return None
    values = [y for points in series.values() for _, y in points]
    ends = [x for points in series.values() for x in (points[0][0], points[-1][0])]
    x_low, x_high = min(ends), max(max(ends), min(ends) + 1)
    y_ticks = _ticks(min(0.0, *values), max(values))
    y_low, y_high = min(y_ticks[0], *values), max(y_ticks[-1], *values)
    box = Chart(title, [], [], [], [])

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x_low) / (x_high - x_low), (y - y_low) / (y_high - y_low)
        return (round(box.left + across * (box.width - box.left - box.right), 1),
                round(box.height - box.bottom - up * (box.height - box.top - box.bottom), 1))

    def text(value: float) -> str:
        return f"{100 * value:.3g}%" if share else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"

    def corners(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x:g},{y:g}" for x, y in (place(*point) for point in points))

    lines = []
    for name, points in series.items():
        smooth = _smooth(points)
        lines.append(Line(name, corners(points), corners(smooth), text(smooth[-1][1]), place(*smooth[-1])))
    read: dict[float, list[str]] = {}
    for name, points in series.items():
        for x, y in points:
            read.setdefault(x, []).append(f"{name} {text(y)}")
    steps_read = sorted(read)
    shown = [steps_read[k] for k in evenly(len(steps_read), BANDS)]
    middles = [place((a + b) / 2, y_low)[0] for a, b in itertools.pairwise(shown)]
    bounds = itertools.pairwise([box.left, *middles, box.width - box.right])
    return Chart(title, lines, [(place(x, y_low)[0], f"{x:,.0f}") for x in inner_ticks(x_low, x_high, whole=True)],
                 [(place(x_low, y)[1], text(y)) for y in y_ticks],
                 [(left, round(right - left, 1), f"step {x:,.0f}: {', '.join(read[x])}")
                  for x, (left, right) in zip(shown, bounds, strict=True)])


def _series(steps: Sequence[Step], field: str) -> list[tuple[float, float]]:
    """(step, value), the last row of a step winning (a resumed run repeats some), thinned by averaging."""
    values = {step.step: getattr(step, field) for step in steps}
    points = sorted((step, value) for step, value in values.items() if value is not None and math.isfinite(value))
    size = math.ceil(len(points) / POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size or 1)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean over a twentieth of the curve to either side, less at its ends; a short curve stays as it is."""
    reach = len(points) // 20
    windows = [points[max(0, here - reach) : here + reach + 1] for here in range(len(points))]
    return [(point[0], sum(y for _, y in window) / len(window)) for point, window in zip(points, windows, strict=True)]


def inner_ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Two to five round values between low and high, with both; ``whole`` numbers where they are to be, then perhaps
    only one."""
    for wanted in (4, 5, 6, 8):
        found = [x for x in _ticks(low, high, wanted) if low <= x <= high and (not whole or x == int(x))]
        if len(found) > 1:
            return found
    return [low, high] if high > low and (not whole or low == int(low)) else [low]


def _ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round values that span low to high."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= wanted)
    return [index * step for index in range(math.floor(low / step), math.ceil((low + span) / step) + 1)]
