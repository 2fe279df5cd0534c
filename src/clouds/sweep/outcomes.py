"""What became of a sweep's jobs. Each job's own file is the truth; ``sweep.json`` and ``table.md`` are made from them.

So several processes and machines can work in one folder: each writes its own jobs' files, and whoever writes the sum
reads all of them.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from clouds.base.files import write_json, write_text
from clouds.base.locks import locked
from clouds.config.records import as_json, read_record, write_record
from clouds.config.runs import JOB, RECIPE, RESULTS, SWEEP
from clouds.config.score_records import BothResults, Results, Sweep, SweepJob
from clouds.errors import DataError, UsageError
from clouds.sweep.plan import Job
from clouds.sweep.table import table


def read_sweep(out: Path) -> Sweep | None:
    """The last ``sweep.json``, None where there is none; raises DataError for one that CLOUDS did not write."""
    try:
        return read_record(out / SWEEP, Sweep)
    except DataError as error:
        raise DataError(f"{error}; it is not what CLOUDS wrote. Delete it, the runs are kept") from error


def check_same(sweep: Sweep | None, out: Path, recipe: str, keys: list[str]) -> None:
    """Raises UsageError where the folder holds a single run, or a sweep over other keys or of another recipe."""
    if (out / RECIPE).exists():
        raise UsageError(f"{out}: holds a run; a sweep makes a folder for each of its own: choose another --out")
    if sweep is not None and (sweep.recipe, set(sweep.keys)) != (recipe, set(keys)):
        there, now = (f"{name} over {', '.join(over) or 'seeds alone'}"
                      for name, over in ((sweep.recipe, sweep.keys), (recipe, keys)))  # fmt: skip
        raise UsageError(f"{out}: holds a sweep of {there}, but this one is of {now}; choose another --out")


def write_job(out: Path, job: Job, state: str, error: str | None = None, seconds: float | None = None) -> None:
    """A job's own file: what it is and what became of it. ``seconds`` of work, over all attempts; None: as they were.
    """
    spent = read_job(out / job.name).seconds if seconds is None else round(seconds, 1)
    row = SweepJob(name=job.name, settings=job.settings, seed=job.seed, state=state, error=error, seconds=spent)
    write_record(out / job.name / JOB, row)


def read_job(run: Path) -> SweepJob:
    """A job's file; a job that waits where there is none, or nothing that can be read."""
    try:
        found = read_record(run / JOB, SweepJob)
    except DataError:
        found = None
    return found or SweepJob(name="", state="waiting")


def gather(out: Path, recipe: str, keys: list[str], jobs: Sequence[Job | SweepJob]) -> dict[str, Any]:
    """The sweep as ``sweep.json`` has it: the jobs of this plan, then those that earlier plans have begun."""
    names = {job.name for job in jobs}
    earlier = [read_job(path.parent) for path in sorted(out.glob(f"*/{JOB}"))]
    rows = [_row(out, job) for job in [*jobs, *(job for job in earlier if job.name and job.name not in names)]]
    # an earlier plan's seeds stand beside the seeds of the same settings
    order = list({repr(row.settings): None for row in rows})
    rows.sort(key=lambda row: (order.index(repr(row.settings)), row.seed))
    seeds = sorted({row.seed for row in rows if row.seed is not None})
    return as_json(Sweep(recipe=recipe, keys=keys, seeds=seeds, jobs=rows))


def _row(out: Path, job: Job | SweepJob) -> SweepJob:
    known = read_job(out / job.name)
    state, both = known.state, BothResults()
    if state == "done":
        with suppress(DataError):
            both = BothResults(**{s: read_record(out / job.name / file, Results) for s, file in RESULTS.items()})
        if not (both.warmup and both.joint):  # other settings of scoring dropped them, or somebody deleted them
            state, both = "waiting", BothResults()
    return SweepJob(
        name=job.name, settings=job.settings, seed=job.seed, run=job.name, state=state,
        error=known.error if state == "failed" else None, seconds=known.seconds, results=both,
    )  # fmt: skip


def write_sweep(out: Path, recipe: str, keys: list[str], jobs: list[Job]) -> dict[str, Any]:
    """Gather, and write ``sweep.json`` and ``table.md``."""
    with locked(out / ".sweep.lock"):
        sweep = gather(out, recipe, keys, jobs)
        write_json(out / SWEEP, sweep)
        write_text(out / "table.md", table(sweep, markdown=True) + "\n")
    return sweep
