"""The page of ``clouds refine``: label maps before and after, in the report's look. No script, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clouds.config.label_sets import CITYSCAPES, IGNORE, Color
from clouds.report import figures
from clouds.report.display_colors import display_colors
from clouds.report.templating import apart, css, write_page

PICTURED = 60  # pairs shown, so that the page stays a few megabytes; all are in its table
MOST_COLORS = 250  # a palette has 256 entries, some of them used for what has no class


def write_refined_page(
    page: Path,
    rows: Sequence[Mapping[str, Any]],
    sources: Mapping[str, tuple[Path, Path]],
    out: Path,
    result: Mapping[str, Any],
) -> Path:
    """Write the page of ``rows``, whole or not at all.

    A row has name, changed, decided, disputed (shares) and counts; ``sources``: image and labels by name; refined maps
    are ``out``/NAME.png. Those with most changed pixels come first.
    """
    ordered = sorted(rows, key=lambda row: (-row["changed"], row["name"]))
    seen: set[int] = set()
    panels = [_panel(row, *sources[row["name"]], out, seen) for row in ordered[:PICTURED]]
    named = max(seen, default=0) < len(CITYSCAPES.classes)  # they may well be Cityscapes' train ids; the page says so
    legend = [(f"{c} {CITYSCAPES.classes[c]}" if named else f"class {c}", css(color_of(c))) for c in sorted(seen)]
    ordered = sorted(rows, key=lambda row: row["name"])
    write_page(page, "refined.html.j2", panels=panels, rows=ordered, legend=legend, named=named, result=result)
    return page


def color_of(class_: int) -> Color:
    """Cityscapes' colours, as pages show them, for its train ids, then some that differ."""
    return display_colors(CITYSCAPES.colors)[class_] if class_ < len(CITYSCAPES.colors) else apart(class_)


def _panel(row: Mapping[str, Any], image: Path, labels: Path, out: Path, seen: set[int]) -> dict[str, Any]:
    """Pictures of one pair; the classes it shows join ``seen``."""
    before, after = figures.labels(labels, IGNORE), figures.labels(out / f"{row['name']}.png", IGNORE)
    present = np.setdiff1d(before, [IGNORE])
    seen.update(present.tolist())
    table = np.full(IGNORE + 1, IGNORE, np.uint8)  # to places in the palette of this pair
    table[present] = np.minimum(np.arange(len(present)), MOST_COLORS - 1)
    colors = [color_of(c) for c in present.tolist()[:MOST_COLORS]]
    before, after = table[before], table[after]
    return {
        "row": row,
        "photo": figures.photo(image, turn=row["turned"]),
        "before": figures.draw(before, colors),
        "after": figures.draw(after, colors),
        "change": figures.change(before, after, colors)[0],
    }
