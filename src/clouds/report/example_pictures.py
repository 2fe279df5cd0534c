"""Example predictions: pictures of a few images a domain, their scores, the confusions they show."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clouds.base.progress import track
from clouds.base.text import natural
from clouds.config.records import read_record
from clouds.config.runs import EXAMPLE, EXAMPLES
from clouds.config.score_records import Example
from clouds.evaluate.metrics import confusion, mean_iou
from clouds.report import figures
from clouds.report.read import Run
from clouds.report.sections import legend

KINDS = ("typical", "worst", "best")  # the order on the page; what older versions numbered comes last
MANY, SMALL = 100, 320  # from so many examples on, pictures are at most so wide
SHARE, LEAST = 0.05, 0.001  # a confusion counts from this share of the class's pixels, and of the image's
NAMED = 3  # confusions named under an example
PICTURES = {"truth": "Truth", "warmup": "Warm-up", "joint": "Joint"}

Counts = NDArray[np.int64]


def pictured(run: Run) -> list[dict[str, Any]]:
    """Photo, truth, warm-up, joint of each domain's examples, and their numbers; domains as the results order them."""
    root = run.folder / EXAMPLES
    order = [domain.name for results in (run.joint, run.warmup) if results for domain in results.domains]
    domains = sorted((path for path in root.glob("*") if path.is_dir()),
                     key=lambda path: (order.index(path.name) if path.name in order else len(order), path.name))
    folders = [(domain.name, folder) for domain in domains
               for folder in sorted((path for path in domain.glob("*") if path.is_dir()), key=_rank)]
    width = SMALL if len(folders) > MANY else figures.WIDTH
    with ThreadPoolExecutor(2) as pool:  # decoding and encoding leave the interpreter lock
        made = pool.map(lambda each: _example(run, each[0], each[1], width), folders)
        if len(folders) > MANY:
            made = track(made, "drawing the page", len(folders), unit="examples")
        rows = list(made)
    shown: list[dict[str, Any]] = []
    for name, group in itertools.groupby(zip(folders, rows, strict=True), key=lambda each: each[0][0]):
        inside = [row for _, row in group if row]
        names, colors = run.palette(name)
        if inside:
            for number, row in enumerate(inside):
                row["id"] = f"x{len(shown)}-{number}"
            shown.append({"id": f"x{len(shown)}", "name": name, "label_set": run.label_set(name), "rows": inside,
                          "names": names, "colors": colors, "legend": [],
                          "seen": set[int]().union(*(row["seen"] for row in inside)),
                          "pairs": set[str]().union(*(row["pairs"] for row in inside)),
                          "classes": set[int]().union(*(row["classes"] for row in inside))})
    for _, group_of in itertools.groupby(shown, key=lambda domain: domain["names"]):  # neighbours share one legend
        first, *others = group_of
        first["legend"] = legend(first["names"], first["colors"],
                                  first["seen"].union(*(domain["seen"] for domain in others)))
    return shown


def _rank(folder: Path) -> tuple[int, list[tuple[int, str]]]:
    kind = folder.name.partition("-")[0]
    return KINDS.index(kind) if kind in KINDS else len(KINDS), natural(folder.name)


def _example(run: Run, domain: str, folder: Path, width: int) -> dict[str, Any] | None:
    names, colors = run.palette(domain)
    maps = {key: figures.labels(folder / f"{key}.png", len(names))
            for key in PICTURES if (folder / f"{key}.png").is_file()}
    photo = next((figures.photo(path, width) for path in sorted(folder.glob("photo.*"))), None)
    if not maps and photo is None:
        return None
    record = read_record(folder / EXAMPLE, Example) or Example()  # older versions wrote none
    counts: dict[str, Counts] = {key: _counts(maps["truth"], maps[key], len(names)) for key in ("warmup", "joint")
                                 if key in maps and "truth" in maps}
    kind, _, rank = folder.name.partition("-")
    shown = counts.get(run.confused or "joint", next(reversed(counts.values()), None))
    mistakes = _mistakes(shown) if shown is not None else []
    number = f"{int(rank) + 1}" if rank.isdecimal() else rank
    miou = _recorded({"warmup": record.warmup, "joint": record.joint}, counts)
    return {
        "name": record.name or f"{domain} {folder.name}",
        "kind": f"{kind} {number}" if kind in KINDS and rank else "",
        "photo": photo,
        "maps": {key: figures.draw(label, colors, width) for key, label in maps.items()},
        "wrong": {key: figures.mistakes(maps["truth"], maps[key], width) for key in counts},
        "scores": json.dumps({"": [miou.get("warmup"), miou.get("joint")], **_by_class(counts, names)}),
        "miou": miou,
        "right": {key: figures.agreement(maps["truth"], maps[key]) for key in counts},
        "seen": set[int]().union(*(np.unique(label).tolist() for label in maps.values())),
        "classes": {int(k) for k in np.flatnonzero(shown.sum(1))} if shown is not None else set(),
        "pairs": {f"{truth}-{other}" for _, _, truth, other in mistakes},
        "mistakes": [(share, names[truth], names[other], f"{truth}-{other}")
                     for _, share, truth, other in mistakes[:NAMED]],
    }


def _recorded(scores: Mapping[str, float | None], counts: Mapping[str, Counts]) -> dict[str, float | None]:
    """The recorded scores, and for examples of older versions those of the label maps in the folder."""
    return {key: scores[key] if scores[key] is not None else float(mean_iou(each)) if each.any() else None
            for key, each in counts.items()}


def _by_class(counts: Mapping[str, Counts], names: Sequence[str]) -> dict[str, list[float | None]]:
    """Classes of the truth -> the IoU of each model in this image, warm-up first."""
    found: dict[str, list[float | None]] = {}
    for stage, each in counts.items():
        both = each.sum(1) + each[:, :-1].sum(0)  # truth and prediction
        for k in np.flatnonzero(each.sum(1)).tolist():
            hit = int(each[k, k])
            pair = found.setdefault(names[k], [None, None])
            pair[("warmup", "joint").index(stage)] = round(hit / (int(both[k]) - hit), 3)
    return found


def _counts(truth: figures.Labels, prediction: figures.Labels, classes: int) -> Counts:
    """Pixels (K, K + 1), rows truth, columns prediction; the last column is what the model gave no class."""
    return confusion(truth, figures.resize(prediction, (truth.shape[1], truth.shape[0])), classes)


def _mistakes(counts: Counts) -> list[tuple[int, float, int, int]]:
    """(pixels, share of the class, true class, predicted class) of what counts as a confusion, most pixels first."""
    total = counts.sum()
    found = []
    for truth, row in enumerate(counts[:, :-1].tolist()):
        pixels = int(counts[truth].sum())
        found += [(count, count / pixels, truth, other) for other, count in enumerate(row)
                  if other != truth and count and count >= SHARE * pixels and count >= LEAST * total]
    return sorted(found, reverse=True)
