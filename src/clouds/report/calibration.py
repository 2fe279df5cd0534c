"""Is a model as right as it is sure? The reliability diagram of a domain, in the coordinates of an SVG view box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clouds.evaluate.metrics import expected_calibration_error
from clouds.report.records import Calibration, Confusion

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
