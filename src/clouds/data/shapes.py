"""Labels that are drawn: polygons, ellipses, masks and run lengths in an image, painted over one another."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clouds.base.arrays import Labels
from clouds.config.label_sets import IGNORE
from clouds.data.images import MAX_PIXELS
from clouds.errors import DataError

FAR = 1e6  # pixels: no corner of a polygon lies further out; beyond, painting takes long or overflows
OUTSIDE = 1.0  # pixels a shape may reach beyond its image without being counted as clipped


class Runs(NamedTuple):
    """A mask as run lengths, the first one of zeros.

    ``counts``: the runs, or COCO's compressed text of them. ``box``: left, top, width and height of the mask, in
    pixels. ``columns``: the runs go down the columns, as COCO's; else along the rows, as CVAT's.
    """

    counts: str | NDArray[np.int64]
    box: tuple[int, int, int, int]
    columns: bool


@dataclass(frozen=True)
class Shape:
    """One region: ``label``, an index or 255, and how it is drawn. Coordinates are pixels, x before y.

    ``what`` names it in messages, such as "annotation 17". ``rings``: filled polygons (N, 2). ``ellipse``: left, top,
    right, bottom. ``mask``: (h, w) bool with its left upper corner at ``at``.
    """

    label: int
    what: str
    rings: Sequence[NDArray[np.float64]] = ()
    ellipse: tuple[float, float, float, float] | None = None
    runs: Runs | None = None
    mask: NDArray[np.bool_] | None = None
    at: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Drawing:
    """The regions of one image in the order of painting; ``size``: its height and width in pixels."""

    size: tuple[int, int]
    shapes: Sequence[Shape] = field(default=())


def paint(
    drawing: Drawing, where: str, background: int = IGNORE, max_pixels: int = MAX_PIXELS
) -> tuple[Labels, list[str]]:
    """The label map (H, W) uint8, later shapes over earlier ones, ``background`` under none of them; and which
    shapes reach beyond the image and are clipped.

    DataError, beginning with ``where``, for a size that is none or too large, a corner far away and run lengths that
    do not fill their mask.
    """
    height, width = drawing.size
    if width < 1 or height < 1 or width * height > max_pixels:
        raise DataError(f"{where}: a size of {width}x{height} pixels; at most {max_pixels / 1e6:.0f} million are read")
    canvas = Image.new("L", (width, height), background)
    draw, clipped = ImageDraw.Draw(canvas), list[str]()
    for shape in drawing.shapes:
        corners = [*shape.rings, np.array(shape.ellipse).reshape(2, 2)] if shape.ellipse else [*shape.rings]
        for ring in corners:
            if far := [value for value in ring.ravel().tolist() if not abs(value) <= FAR]:  # NaN too
                raise DataError(f"{where}: a corner of {shape.what} is at {far[0]}; expected pixels, draw it again")
        for ring in shape.rings:
            if len(ring) > 2:
                draw.polygon(ring.ravel().tolist(), fill=shape.label)
        if shape.ellipse:
            draw.ellipse(shape.ellipse, fill=shape.label)
        mask, (left, top) = shape.mask, shape.at
        if shape.runs:
            if shape.runs.box[2] * shape.runs.box[3] > max_pixels:
                raise DataError(f"{where}: {shape.what}: a mask of {shape.runs.box[2]}x{shape.runs.box[3]} pixels; "
                                f"at most {max_pixels / 1e6:.0f} million are read")  # fmt: skip
            mask, (left, top) = filled(shape.runs, f"{where}: {shape.what}"), shape.runs.box[:2]
        if mask is not None:
            h, w = mask.shape
            corners.append(np.array([[left, top], [left + w, top + h]], float))
            canvas.paste(shape.label, (left, top, left + w, top + h), Image.fromarray(mask.astype(np.uint8) * 255))
        if any(
            ring.size and (ring.min() < -OUTSIDE or (ring.max(0) > np.array([width, height]) + OUTSIDE).any())
            for ring in corners
        ):
            clipped.append(shape.what)
    return np.array(canvas), clipped


def filled(runs: Runs, where: str) -> NDArray[np.bool_]:
    """(h, w) bool of run lengths; DataError where they are no run lengths or do not fill their mask."""
    _, _, width, height = runs.box
    counts = uncompressed(runs.counts, where) if isinstance(runs.counts, str) else runs.counts
    total = int(counts.sum())
    if (counts < 0).any() or total != width * height:
        raise DataError(f"{where}: its run lengths fill {total} of {width}x{height} pixels; cut, or of another image?")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T if runs.columns else flat.reshape(height, width)


def uncompressed(text: str, where: str) -> NDArray[np.int64]:
    """COCO's compressed run lengths as numbers: five bits a character from the lowest, a sixth says that more follow;
    from the fourth run on the difference to the one before the last."""
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1) if len(ends) and ends[-1] == len(codes) - 1 \
        else np.array([99])  # fmt: skip
    if not len(ends) or ((codes < 0) | (codes > 63)).any() or places.max() > 11:
        raise DataError(f"{where}: its run lengths are cut or damaged; export them again")
    values = np.add.reduceat((codes & 31) << (5 * places), starts)
    values -= np.where(codes[ends] & 16, 1 << (5 * (ends - starts + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def area_of(ring: NDArray[np.float64]) -> float:
    """The area of a polygon (N, 2)."""
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
