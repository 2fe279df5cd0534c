"""A recipe trained and scored over a grid of settings and several seeds, with one table at the end.

``plan`` makes checked jobs of the words, ``jobs`` does them and shares equal warm-ups, ``outcomes`` knows what
became of the jobs, ``table`` shows it.
"""

import os
from pathlib import Path
from typing import Any

from clouds.base.files import make_folder
from clouds.base.machine import usable_device
from clouds.base.processes import several
from clouds.base.progress import say
from clouds.base.shards import parse_shard
from clouds.base.text import counted
from clouds.errors import UsageError
from clouds.evaluate.domains import unseen_domains
from clouds.launch.engines import executor_of
from clouds.launch.graph import Needs
from clouds.sweep.jobs import LAUNCH, is_done, run_apart, run_here
from clouds.sweep.outcomes import check_same, gather, read_sweep, write_sweep
from clouds.sweep.plan import Job, check_fits, parse_seeds, plan
from clouds.sweep.table import table as sweep_table

__all__ = ["failure_text", "sweep", "sweep_table"]


def sweep(
    recipe: str,
    words: list[str],
    out: Path | None = None,
    seeds: str = "1",
    at_once: int = 1,
    minutes: float | None = None,
    shard: str | None = None,
    listing: bool = False,
    share: bool = False,
    on: str | None = None,
    needs: Needs | None = None,
    sbatch: list[str] | None = None,
) -> dict[str, Any]:
    """Do what is not done yet of every combination of the words' values and every seed; -> the object of
    ``sweep.json``.

    at_once: processes at a time; 1 is this one. on: an engine of ``clouds launch`` that gets a job of its own for each,
    which takes ``needs``; 1 at a time then means all. minutes: as in ``demo``. shard: "i/n", every n-th job from the
    i-th. share: one warm-up for all jobs that would train the same. listing: nothing is done, only gathered. Raises
    UsageError before any work, Stopped when a signal asked for the end.
    """
    if listing and not recipe:
        return _listed(out)
    if not recipe:
        raise UsageError("name a recipe, such as demo; without one there is only --list --out DIR")
    if at_once < 1:
        raise UsageError(f"--jobs: got {at_once}; expected at least 1")
    if several():
        raise UsageError("a sweep starts its own processes (--jobs, --shard); leave the launcher out")
    part = parse_shard(shard, {key: value for key, value in os.environ.items() if key.startswith("SLURM_")})
    chosen = parse_seeds(seeds)
    out = out or Path("runs") / f"{Path(recipe).stem}-sweep"
    known = read_sweep(out)
    keys, jobs = plan(recipe, words, chosen, minutes, known.keys if known else [])
    name = jobs[0].recipe.name
    check_same(known, out, name, keys)
    check_fits(jobs, out, keys)
    if listing:
        return gather(out, name, keys, jobs)
    mine = [(k, job) for k, job in enumerate(jobs) if k % part.count == part.index]
    todo = {job.name: k for k, job in mine if not is_done(job, out)}
    left = [job for _, job in mine if job.name in todo]
    _check_work(left, here=on in (None, "local"))
    make_folder(out)

    def after() -> dict[str, Any]:
        return write_sweep(out, name, keys, jobs)

    after()
    combined = len(jobs) // len(chosen)
    ours = "" if part.count == 1 else f"; {part} has {len(mine)}"
    say(f"{counted(len(jobs), 'job')}: {counted(combined, 'combination')} x {counted(len(chosen), 'seed')}{ours}; "
        f"{len(mine) - len(todo)} done")  # fmt: skip

    def command(job: Job) -> list[str]:
        scale = [] if minutes is None else ["--minutes", repr(minutes)]
        which = ",".join(map(str, chosen)) + ","
        place = f"{todo[job.name]}/{len(jobs)}"
        shared = ["--share-warmup"] if share else []
        return ["sweep", recipe, *words, "--seeds", which, "--out", str(out), "--shard", place, *scale, *shared]

    if left and (on or at_once > 1):
        together = None if on and at_once == 1 else at_once
        run_apart(left, out, together, command, after, executor_of(on or "local", out / LAUNCH, sbatch), needs)
    else:
        run_here(left, out, after, share)
    return after()


def _listed(out: Path | None) -> dict[str, Any]:
    if out is None:
        raise UsageError("--list: name a recipe and its values, or the folder of a sweep by --out DIR")
    known = read_sweep(out)
    if known is None:
        raise UsageError(f"{out}: holds no sweep (no sweep.json there)")
    return gather(out, known.recipe, known.keys, known.jobs)


def _check_work(jobs: list[Job], here: bool) -> None:
    """What can be found before any work: the device, and the photos to score on. Raises UsageError or DataError."""
    for device in {job.recipe.train.device for job in jobs if here}:
        usable_device(device)
    looked_at = set()
    for job in jobs:
        where = repr((job.recipe.data.root, job.recipe.evaluate))
        if where not in looked_at:
            looked_at.add(where)
            unseen_domains(job.recipe)


def failure_text(result: dict[str, Any]) -> str | None:
    """What the command ends with where jobs failed; None where none did."""
    failed = sum(job["state"] == "failed" for job in result["jobs"])
    if not failed:
        return None
    return (
        f"{failed} of {len(result['jobs'])} jobs failed, for what stands below the table and in sweep.json; the others "
        "are kept, and the same command tries these again"
    )
