"""A domain image by image: how far apart the scores lie, and which images the examples are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clouds.report.records import Confusion

WIDTH, HEIGHT = 360, 110  # of the chart's view box
MOST = 1000  # rows of the table


def images(stages: Mapping[str, Confusion | None], group: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Every image's scores, the worst first, with the example that shows it; None where no run recorded them."""
    scores = {stage: {image.name: image for image in each.per_image} for stage, each in stages.items()
              if each is not None and each.per_image}
    if not scores:
        return None
    last = "joint" if "joint" in scores else "warmup"
    example = {row["name"]: row["id"] for row in group["rows"]} if group else {}
    rows: list[dict[str, Any]] = [
        {"name": name, **{stage: each[name].miou if name in each else None for stage, each in scores.items()},
         "example": example.get(name)} for name in scores[last]
    ]
    rows.sort(key=lambda row: (row[last] is None, row[last] or 0.0, row["name"]))
    ranked = [row for row in rows if row[last] is not None]
    top = max((row[stage] or 0.0 for row in ranked for stage in scores), default=0.0) or 1.0
    across = WIDTH / max(len(ranked), 1)
    dots = {stage: " ".join(f"M{across * (place + 0.5):.1f},{HEIGHT * (1 - row[stage] / top):.1f}h0"
                            for place, row in enumerate(ranked) if row[stage] is not None) for stage in scores}
    return {"rows": rows[:MOST], "total": len(rows), "dots": dots, "top": top, "width": WIDTH, "height": HEIGHT,
            "spread": [ranked[round(share * (len(ranked) - 1))][last] for share in (0.1, 0.5, 0.9)] if ranked else []}
