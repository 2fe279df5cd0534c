"""What became of a sweep's jobs. Each job's own file is the truth; ``sweep.json`` and ``table.md`` are made from them.

So several processes and machines can work in one folder: each writes its own jobs' files, and whoever writes the sum
reads all of them.
"""

from pathlib import Path
from typing import Any

from clouds.base.files import read_json, write_json, write_text
from clouds.base.locks import locked
from clouds.errors import DataError, UsageError
from clouds.sweep.plan import Job
from clouds.sweep.table import table

RECORD = "job.json"
SWEEP = "sweep.json"
RESULTS = {"warmup": "results-warmup.json", "joint": "results.json"}


def read_sweep(out: Path) -> dict[str, Any] | None:
    """The last ``sweep.json``, None where there is none; raises DataError for one that CLOUDS did not write."""
    if not (out / SWEEP).exists():
        return None
    sweep = read_json(out / SWEEP)
    if not (isinstance(sweep, dict) and isinstance(sweep.get("keys"), list) and isinstance(sweep.get("jobs"), list)):
        raise DataError(f"{out / SWEEP}: is not what CLOUDS wrote; delete it, the runs are kept")
    return sweep


def check_same(sweep: dict[str, Any] | None, out: Path, recipe: str, keys: list[str]) -> None:
    """Raises UsageError where the folder holds a sweep over other keys or of another recipe."""
    if sweep is None:
        return
    if (sweep["recipe"], set(sweep["keys"])) != (recipe, set(keys)):
        there, now = (f"{name} over {', '.join(over) or 'seeds alone'}"
                      for name, over in ((sweep["recipe"], sweep["keys"]), (recipe, keys)))  # fmt: skip
        raise UsageError(f"{out}: holds a sweep of {there}, but this one is of {now}; choose another --out")


def write_record(
    out: Path, job: Job, state: str, error: str | None = None, seconds: float | None = None
) -> None:
    """A job's own file: what it is and what became of it. ``seconds`` of work, over all attempts; None: as they were.
    """
    known = read_record(out / job.name)
    row = {
        "name": job.name,
        "settings": job.settings,
        "seed": job.seed,
        "state": state,
        "error": error,
        "seconds": known.get("seconds", 0.0) if seconds is None else round(seconds, 1),
    }
    write_json(out / job.name / RECORD, row)


def read_record(run: Path) -> dict[str, Any]:
    """A job's file; {} where there is none, or nothing that can be read."""
    try:
        row = read_json(run / RECORD)
    except DataError:
        return {}
    return row if isinstance(row, dict) and {"name", "settings", "seed", "state"} <= row.keys() else {}


def gather(out: Path, recipe: str, keys: list[str], jobs: list[Job]) -> dict[str, Any]:
    """The sweep as ``sweep.json`` has it: the jobs of this plan, then those that earlier plans have begun."""
    planned: list[dict[str, Any]] = [{"name": job.name, "settings": job.settings, "seed": job.seed} for job in jobs]
    names = {row["name"] for row in planned}
    earlier = [read_record(path.parent) for path in sorted(out.glob(f"*/{RECORD}"))]
    rows = [_row(out, row) for row in planned + [row for row in earlier if row and row["name"] not in names]]
    # an earlier plan's seeds stand beside the seeds of the same settings
    order = list({repr(row["settings"]): None for row in rows})
    rows.sort(key=lambda row: (order.index(repr(row["settings"])), row["seed"]))
    return {"recipe": recipe, "keys": keys, "seeds": sorted({row["seed"] for row in rows}), "jobs": rows}


def _row(out: Path, job: dict[str, Any]) -> dict[str, Any]:
    known = read_record(out / job["name"])
    state = known.get("state", "waiting")
    results: dict[str, Any] = {}
    if state == "done":
        try:
            results = {stage: read_json(out / job["name"] / file) for stage, file in RESULTS.items()}
        except DataError:  # scores that other settings of scoring dropped, or that somebody deleted
            state = "waiting"
    return {
        "name": job["name"],
        "settings": job["settings"],
        "seed": job["seed"],
        "run": job["name"],
        "state": state,
        "error": known.get("error") if state == "failed" else None,
        "seconds": known.get("seconds", 0.0),
        "results": results,
    }


def write_sweep(out: Path, recipe: str, keys: list[str], jobs: list[Job]) -> dict[str, Any]:
    """Gather, and write ``sweep.json`` and ``table.md``."""
    with locked(out / ".sweep.lock"):
        sweep = gather(out, recipe, keys, jobs)
        write_json(out / SWEEP, sweep)
        write_text(out / "table.md", table(sweep, markdown=True) + "\n")
    return sweep
