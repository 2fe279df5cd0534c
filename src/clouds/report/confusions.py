"""What a domain's classes are taken for: the matrix, and its worst entries in words."""

from __future__ import annotations

from typing import Any

from clouds.report.records import Confusion

WORDS = 5  # confusions told in words


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
