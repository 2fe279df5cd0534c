"""Is a model as right as it is sure? The reliability diagram of a domain, in the coordinates of an SVG view box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clouds.config.score_records import Calibration, Confusion
from clouds.evaluate.metrics import expected_calibration_error

SIDE = 200  # of the diagram, from (0, 0) at the top left
FEW = 0.001  # a bin of a smaller share of the pixels is left out of the diagram, as noise; it stays in the table


def reliability(stages: Mapping[str, Confusion | None]) -> dict[str, Any] | None:
    """Models by stage -> each one's error and curve, and the table of bins; None where no run recorded it."""
    known = {stage: each.calibration for stage, each in stages.items()
             if each is not None and each.calibration is not None and sum(each.calibration.pixels) > 0}
    if not known:
        return None
    bins = max(len(each.pixels) for each in known.values())
    return {
        "models": {stage: _model(each) for stage, each in known.items()},
        "side": SIDE,
        "table": [{"low": k / bins, "high": (k + 1) / bins,
                   **{stage: _bin(each, k) for stage, each in known.items()}} for k in range(bins)],
    }


def error(calibration: Calibration) -> float:
    """Expected calibration error: the bins' gaps between confidence and accuracy, weighted by their pixels; 0..1."""
    return expected_calibration_error(np.array([calibration.pixels, calibration.confidence, calibration.correct]))


def _model(calibration: Calibration) -> dict[str, Any]:
    total = sum(calibration.pixels)
    bins = [each for k in range(len(calibration.pixels)) if (each := _bin(calibration, k)) and each["share"] >= FEW]
    top = max((each["share"] for each in bins), default=1.0)
    dots = [{"x": round(SIDE * each["confidence"], 1), "y": round(SIDE * (1 - each["accuracy"]), 1),
             "share": each["share"], "radius": round(2 + 4 * (each["share"] / top) ** 0.5, 1)} for each in bins]
    sure, right = sum(calibration.confidence) / total, sum(calibration.correct) / total
    return {
        "error": error(calibration),
        "confidence": sure,
        "accuracy": right,
        "dots": dots,
        "line": " ".join(f"{dot['x']:g},{dot['y']:g}" for dot in dots),
    }


def _bin(calibration: Calibration, k: int) -> dict[str, float] | None:
    if k >= len(calibration.pixels) or not calibration.pixels[k]:
        return None
    pixels = calibration.pixels[k]
    return {"share": pixels / sum(calibration.pixels), "confidence": min(1.0, calibration.confidence[k] / pixels),
            "accuracy": min(1.0, calibration.correct[k] / pixels)}


WORDS = 5  # confusions said in words


def matrix(confusion: Confusion, before: Confusion | None, shown: set[str]) -> dict[str, Any]:
    """Rows as whole per cents of the truth's pixels.

    before: the warm-up model's, where ``confusion`` is the joint model's. shown: "truth-prediction" of the confusions
    that the domain's examples show.
    """
    total = sum(map(sum, confusion.confusion))
    alike = before is not None and before.classes == confusion.classes
    rows: list[dict[str, Any]] = []
    mistakes: list[dict[str, Any]] = []
    for truth, counts in enumerate(confusion.confusion):
        pixels, cells = sum(counts), []
        earlier = before.confusion[truth] if before is not None and alike else []
        for other, count in enumerate(counts):
            share = count / pixels if pixels else 0.0
            pair = f"{truth}-{other}" if truth != other and f"{truth}-{other}" in shown else ""
            cells.append({"percent": round(100 * share), "share": share, "pixels": count, "pair": pair})
            if other != truth and pixels >= 0.001 * total and share >= 0.1:
                mistakes.append({
                    "share": share, "truth": confusion.classes[truth], "other": confusion.classes[other], "pair": pair,
                    "before": earlier[other] / sum(earlier) if sum(earlier) else None,
                })
        rows.append({"name": confusion.classes[truth], "pixels": pixels, "cells": cells})
    worst = sorted(mistakes, key=lambda mistake: -mistake["share"])[:WORDS]
    return {"classes": confusion.classes, "rows": rows, "worst": worst}


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
