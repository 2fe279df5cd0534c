"""The page of a sweep: settings x domains, mean and spread over seeds, difference to the first row."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clouds.config.runs import SWEEP
from clouds.config.score_records import Results, Sweep, SweepJob
from clouds.report.templating import MODEL_NAMES, setting

Groups = dict[tuple[str, ...], list[SweepJob]]  # by the settings that they share


def is_sweep(path: Path) -> bool:
    """Whether a path is a sweep's folder or its ``sweep.json``."""
    return (path.suffix == ".json" and path.is_file()) or (path / SWEEP).is_file()


def sweep_tables(sweep: Sweep) -> dict[str, Any]:
    """What the page shows: a table a model, and the jobs that have no result yet."""
    groups: Groups = {}
    for job in sweep.jobs:
        groups.setdefault(_lines(job, sweep.keys), []).append(job)
    tables = [_table(title, stage, groups) for stage, title in MODEL_NAMES.items()]
    done = [job for job in sweep.jobs if job.results and (job.results.joint or job.results.warmup)]
    return {
        "recipe": sweep.recipe,
        "varied": sweep.keys,
        "seeds": sweep.seeds or sorted({job.seed for job in sweep.jobs if job.seed is not None}),
        "jobs": len(sweep.jobs),
        "done": len(done),
        "left": [(job.name, job.state or "no result", job.error) for job in sweep.jobs if job not in done],
        "runs": [(job.name, job.seed, job.run) for job in done],
        "rows": len(groups),
        "tables": [table for table in tables if table],
    }


def _lines(job: SweepJob, keys: Sequence[str]) -> tuple[str, ...]:
    """A job's settings, the sweep's keys first; jobs that differ in their seed alone share them."""
    order = [*(key for key in keys if key in job.settings), *(key for key in job.settings if key not in keys)]
    return tuple(f"{key}={setting(job.settings[key])}" for key in order if key != "seed") or ("the recipe as it is",)


def _table(title: str, stage: str, groups: Groups) -> dict[str, Any] | None:
    results = {lines: {job.seed: found for job in jobs if (found := getattr(job.results, stage, None))}
               for lines, jobs in groups.items()}
    every = [each for seeds in results.values() for each in seeds.values()]
    if not every:
        return None
    domains = list(dict.fromkeys(domain.name for each in every for domain in each.domains))
    base = next(iter(results.values()))
    rows: list[dict[str, Any]] = [
        {"lines": lines, "seeds": len(seeds), "cells": [_cell(seeds, base, domain) for domain in ["", *domains]]}
        for lines, seeds in results.items()]
    means = [row["cells"][0] for row in rows if row["cells"][0]["mean"] is not None]
    low = min((cell["mean"] - (cell["std"] or 0) for cell in means), default=0.0)
    high = max((cell["mean"] + (cell["std"] or 0) for cell in means), default=1.0)
    margin = (high - low) * 0.08 or 0.01
    best = max((cell["mean"] for cell in means), default=None)
    return {"title": title, "domains": domains, "rows": rows, "low": low - margin, "high": high + margin, "best": best,
            "alike": all(each.protocol == every[0].protocol for each in every)}


def _cell(seeds: dict[int | None, Results], base: dict[int | None, Results], domain: str) -> dict[str, Any]:
    """Mean and standard deviation over seeds of a domain ("" for the mean of all), and the difference to the first row.

    The difference is taken seed by seed, where both rows have the seed, so that what a seed does to both falls away.
    """
    values = {seed: value for seed, each in seeds.items() if (value := _miou(each, domain)) is not None}
    first = {seed: value for seed, each in base.items() if (value := _miou(each, domain)) is not None}
    gains = [values[seed] - first[seed] for seed in values if seed in first] if seeds is not base else []
    return {
        "mean": statistics.fmean(values.values()) if values else None,
        "std": statistics.stdev(values.values()) if len(values) > 1 else None,
        "seeds": len(values),
        "gain": statistics.fmean(gains) if gains else None,
        "gain_std": statistics.stdev(gains) if len(gains) > 1 else None,
    }


def _miou(results: Results, domain: str) -> float | None:
    if not domain:
        return results.mean_miou
    return next((each.miou for each in results.domains if each.name == domain), None)
