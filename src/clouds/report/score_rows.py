"""The scores of a run: what the table, the bars and the confusion matrices show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clouds.config.score_records import DomainScore, Results
from clouds.evaluate.domains import RENDERED
from clouds.model.inference import protocol_text
from clouds.report.domain import images, matrix, reliability
from clouds.report.figures import inner_ticks
from clouds.report.read import Run
from clouds.report.templating import css, gain, tone

MEASURES = {  # of a domain's row of results: what the page calls it, whether more is better
    "miou": ("mean IoU", True), "fwiou": ("frequency-weighted IoU", True), "accuracy": ("pixel accuracy", True),
    "boundary_iou": ("boundary IoU", True), "ece": ("calibration error", False),
}  # fmt: skip


def scoreboard(run: Run, examples: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Domain by domain: warm-up, joint, difference; a difference only where both were scored alike.

    examples: the groups of ``examples.pictured`` by domain, which numbers lead to.
    """
    if run.warmup is None and run.joint is None:
        return None
    warmup, joint = _by_name(run.warmup), _by_name(run.joint)
    alike = run.warmup is None or run.joint is None or run.warmup.protocol == run.joint.protocol
    rows = [_row(run, name, warmup.get(name), joint.get(name), alike, examples.get(name))
            for name in {**joint, **warmup}]
    for number, row in enumerate(rows):
        row["id"] = f"d{number}"
    both = [row for row in rows if row["difference"] is not None]
    fair = len(both) == len(rows) and bool(rows)
    means = [run.warmup.mean_miou if run.warmup else None, run.joint.mean_miou if run.joint else None]
    return {
        "rows": rows,
        "missing": [(each.name, each.why) for each in (run.joint or run.warmup or Results()).missing],
        "axis": axis([score for row in rows for score in (row["warmup"], row["joint"]) if score]),
        "means": [_mean("all domains", rows, means, fair), *_group_means(rows, fair)],
        "protocols": _protocols(run, alike),
        "fair": fair,
        "pair": run.warmup is not None and run.joint is not None,
        "better": sum(row["difference"] > 0 for row in both),
        "worse": sum(row["difference"] < 0 for row in both),
        "overlaps": any(row["overlap"] for row in both),
        "compared": len(both),
        "marked": sum(row["trained_on"] > 0 for row in rows),
    }


def axis(scores: Sequence[DomainScore]) -> dict[str, Any]:
    """The part of 0..1 that intervals lie in, a little wider: its ends, and the round values of it."""
    known = [value for score in scores for value in (score.ci95 or (score.miou,)) if value is not None] or [0.0, 1.0]
    margin = max(0.04 * (max(known) - min(known)), 0.005)
    low, high = max(0.0, min(known) - margin), min(1.0, max(known) + margin)
    return {"low": low, "high": high, "ticks": inner_ticks(low, high)}


def _by_name(results: Results | None) -> dict[str, DomainScore]:
    return {domain.name: domain for domain in results.domains} if results else {}


def _row(
    run: Run, name: str, warmup: DomainScore | None, joint: DomainScore | None, alike: bool,
    group: Mapping[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    """One domain: its scores, its classes' bars, its confusions, calibration and images."""
    domain = joint or warmup
    assert domain is not None  # the name came from one of them
    names, colors = run.palette(name)
    swatches = {each: css(color) for each, color in zip(names, colors, strict=True)}
    before, after = (score.iou if score else {} for score in (warmup, joint))
    number = {each: index for index, each in enumerate(names)}
    pictured = group["classes"] if group else set()
    bars = [
        {"name": each, "index": number[each] if number.get(each) in pictured else None,
         "color": swatches.get(each, "transparent"), "warmup": before.get(each), "joint": after.get(each),
         "difference": gain(before.get(each), after.get(each))}
        for each in {**after, **before}
    ]
    overlap = warmup is not None and joint is not None and inside(joint.miou, warmup)
    difference = gain(warmup.miou, joint.miou) if warmup and joint else None
    same = alike and warmup is not None and joint is not None and (
        (warmup.images, warmup.label_set) == (joint.images, joint.label_set))
    stages = {stage: each[name] for stage, each in run.evaluations.items() if name in each}
    shown = stages.get(run.confused)
    return {
        "name": name, "images": domain.images, "label_set": domain.label_set, "rendered": name in RENDERED,
        "trained_on": joint.trained_on_unlabelled if joint else 0,
        "present": sum(value is not None for value in domain.iou.values()), "classes": len(domain.iou),
        "warmup": warmup, "joint": joint, "bars": bars,
        "noun": "scene" if name in RENDERED else "photo",
        "difference": difference if same else None,
        "overlap": bool(same and overlap),
        "tone": tone(difference) if same and overlap is False else "same",
        "measures": _measures(warmup, joint, bool(same)),
        "confusion": matrix(shown, stages.get("warmup") if run.confused == "joint" else None,
                            group["pairs"] if group else set()) if shown else None,
        "calibration": reliability({stage: stages.get(stage) for stage in ("warmup", "joint")}),
        "per_image": images({stage: stages.get(stage) for stage in ("warmup", "joint")}, group),
        "examples": group["id"] if group else None,
    }


def inside(value: float | None, score: DomainScore) -> bool | None:
    """Whether a value lies in the 95 % interval of a score; None where one is not known."""
    if value is None or score.ci95 is None:
        return None
    return score.ci95[0] <= value <= score.ci95[1]


def _measures(warmup: DomainScore | None, joint: DomainScore | None, same: bool) -> list[dict[str, Any]]:
    """Every measure that a model was scored by; none for runs that know mean IoU alone."""
    rows = []
    for key, (name, rises) in MEASURES.items():
        pair = [getattr(score, key) if score else None for score in (warmup, joint)]
        if any(value is not None for value in pair):
            rows.append({"name": name if rises else f"{name}, less is better", "warmup": pair[0], "joint": pair[1],
                         "difference": gain(*pair) if same else None})
    return rows if len(rows) > 1 else []


def _mean(name: str, rows: Sequence[dict[str, Any]], pair: Sequence[float | None], fair: bool) -> dict[str, Any]:
    """``within``: half of the 95 % interval of the warm-up's mean, of domains that vary independently."""
    bounds = [row["warmup"].ci95 for row in rows if row["warmup"] and row["warmup"].ci95]
    within = sum(((high - low) / 2) ** 2 for low, high in bounds) ** 0.5 / len(bounds) if bounds else None
    difference = gain(*pair) if fair else None
    outside = difference is not None and within is not None and len(bounds) == len(rows) and abs(difference) > within
    return {"name": name, "domains": len(rows), "warmup": pair[0], "joint": pair[1], "difference": difference,
            "within": within, "tone": tone(difference) if outside else "same"}


def _group_means(rows: Sequence[dict[str, Any]], fair: bool) -> list[dict[str, Any]]:
    """Rendered worlds and photos apart, where a run has both: an average over both hides which one moved."""
    groups = {"rendered worlds": [row for row in rows if row["rendered"]],
              "real photos": [row for row in rows if not row["rendered"]]}
    if not all(groups.values()):
        return []
    means = []
    for name, group in groups.items():
        scored = [[row[stage].miou for row in group if row[stage] and row[stage].miou is not None]
                  for stage in ("warmup", "joint")]
        pair = [sum(values) / len(values) if values else None for values in scored]
        means.append(_mean(name, group, pair, fair))
    return means


def _protocols(run: Run, alike: bool) -> list[tuple[str, list[tuple[str, str]]]]:
    """What decides the numbers: one protocol, or both where the two models were scored differently."""
    scored = [("", run.joint or run.warmup)] if alike else [("Warm-up", run.warmup), ("Joint", run.joint)]
    return [(stage, _protocol_rows(results.protocol)) for stage, results in scored if results and results.protocol]


def _protocol_rows(protocol: dict[str, Any]) -> list[tuple[str, str]]:
    if "name" in protocol:  # a publication's: a row a domain
        ways = [(name, protocol_text(view)) for name, view in protocol["domains"].items()]
        return [("protocol", protocol["name"]), *ways]
    return [(key.replace("_", " "), _setting(key, value)) for key, value in protocol.items()
            if value is not None or key == "window"]  # fmt: skip


def _setting(key: str, value: object) -> str:
    if value is None:
        return "none (whole image)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (", " if key == "scales" else " × ").join(map(str, value)) if isinstance(value, list) else str(value)
