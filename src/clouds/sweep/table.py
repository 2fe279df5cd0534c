"""The one table of a sweep: a row a combination, mean ± standard deviation over its seeds."""

import json
from typing import Any

import numpy as np

from clouds.base.progress import clock
from clouds.base.text import columns
from clouds.evaluate.domains import RENDERED

Row = dict[str, Any]


def table(sweep: Row, markdown: bool = False) -> str:
    """mIoU in % of warm-up, joint and their difference, over all domains and by group; the best joint mean is marked.

    Text columns for a terminal, or Markdown. Below it the counts of jobs and what failed.
    """
    groups = groups_of(sweep)
    head = ["", *(sweep["keys"] or ["settings"]), "seeds", "warm-up", "joint", "difference"]
    head += [name for group in groups for name in (group, "difference")]
    named = _names(sweep)
    rows = [[*names, *_cells(same, groups)] for names, same in zip(named, by_settings(sweep), strict=True)]
    best = best_row(sweep)
    for k, row in enumerate(rows):
        row.insert(0, ("**best**" if markdown else "best") if k == best else "")
    if markdown:
        lines = [f"| {' | '.join(each)} |" for each in ([_safe(name) for name in head], ["---"] * len(head), *rows)]
        return "\n".join([*lines, "", *notes(sweep)])
    left = 1 + max(len(sweep["keys"]), 1)  # the mark and the settings
    return "\n".join([*columns([head, *rows], left), "", *notes(sweep)])


def by_settings(sweep: Row) -> list[list[Row]]:
    """The jobs of each combination, in order."""
    found: dict[str, list[Row]] = {}
    for job in sweep["jobs"]:
        found.setdefault(json.dumps(job["settings"], sort_keys=True), []).append(job)
    return list(found.values())


def groups_of(sweep: Row) -> list[str]:
    """The groups of domains that were scored: rendered, photos, or only one of them."""
    names = {row["name"] for job in sweep["jobs"] if job["results"] for row in job["results"]["joint"]["domains"]}
    return [group for group, there in (("rendered", names & {*RENDERED}), ("photos", names - {*RENDERED})) if there]


def scores(job: Row, stage: str, group: str | None = None) -> float:
    """Mean mIoU of a job's model, 0..1, over all domains or one group's; NaN where nothing was scored."""
    results = job["results"][stage]
    if group is None:
        return float(results["mean_miou"])
    rows = [row for row in results["domains"] if (row["name"] in RENDERED) == (group == "rendered")]
    values = [row["miou"] for row in rows if row["miou"] is not None]
    return float(np.mean(values)) if values else float("nan")


def best_row(sweep: Row) -> int | None:
    """The combination with the best mean of its joint models; one whose seeds are not all done comes after all that
    are. None without two combinations to choose from."""
    ranked = []
    for k, jobs in enumerate(by_settings(sweep)):
        done = [scores(job, "joint") for job in jobs if job["state"] == "done"]
        if done:
            ranked.append((len(done) == len(jobs), float(np.mean(done)), k))
    return max(ranked, key=lambda row: row[:2])[2] if len(ranked) > 1 else None  # of equals the first


def spread(values: list[float], sign: bool = False) -> str:
    """0.412, 0.418 -> '41.5 ± 0.4' (sample deviation); one value alone has none."""
    known = [100 * value for value in values if not np.isnan(value)]
    if not known:
        return "-"
    deviation = f" ± {np.std(known, ddof=1):.1f}" if len(known) > 1 else ""
    return f"{np.mean(known):{'+' if sign else ''}.1f}{deviation}"


def _names(sweep: Row) -> list[list[str]]:
    """What each combination sets, a value a key; long ones in short, unless two would look alike."""
    columns = []
    for key in sweep["keys"]:
        values = [jobs[0]["settings"][key] for jobs in by_settings(sweep)]
        whole, named = [_whole(value) for value in values], [_text(value) for value in values]
        short = [text if len(text) <= 40 else f"{text[:18]}...{text[-18:]}" for text in named]
        columns.append(next(texts for texts in (short, named, whole) if len({*texts}) == len({*whole})))
    return [[_safe(text) for text in row] for row in zip(*columns, strict=True)] or [["the recipe's"]]


def _cells(jobs: list[Row], groups: list[str]) -> list[str]:
    done = [job for job in jobs if job["state"] == "done"]
    cells = [f"{len(done)} of {len(jobs)}"]
    before, after = ([scores(job, stage) for job in done] for stage in ("warmup", "joint"))
    cells += [spread(before), spread(after), spread(list(np.subtract(after, before)), sign=True)]
    for group in groups:
        before, after = ([scores(job, stage, group) for job in done] for stage in ("warmup", "joint"))
        cells += [spread(after), spread(list(np.subtract(after, before)), sign=True)]
    return cells


def _text(value: Any) -> str:
    """A setting as a person writes it; of sets of images their names."""
    if isinstance(value, list):
        names = [each.get("name") or each.get("folder") or each.get("dataset") if isinstance(each, dict) else None
                 for each in value]  # fmt: skip
        if all(names):
            return ", ".join(map(str, names)) or "none"
    return _whole(value)


def _whole(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


def _safe(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def last_line(error: str) -> str:
    """Of an error, what says most."""
    return (error.strip().splitlines() or ["unknown"])[-1]


def notes(sweep: Row) -> list[str]:
    """How many jobs there are in which state, the unit, and the last line of each error."""
    jobs = sweep["jobs"]
    counts = [f"{sum(job['state'] == state for job in jobs)} {state}" for state in ("done", "failed", "waiting")]
    seconds = sum(job["seconds"] for job in jobs)
    lines = [
        "Mean IoU in %, mean ± standard deviation over seeds; the groups' columns are the joint model's.",
        f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}: {', '.join(counts)}; {clock(seconds)} of work.",
    ]
    for job in jobs:
        if job["state"] == "failed":
            lines.append(f"- failed: {job['name']}: {_safe(last_line(job['error']))}")
    return lines
