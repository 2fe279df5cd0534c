"""Doing a sweep's jobs: one after the other here, or each as a job of an engine."""

import hashlib
import json
import shutil
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from clouds.base.files import make_folder
from clouds.base.locks import BusyError, HeldError, locked
from clouds.base.progress import clock, say
from clouds.config.kinds import Mark
from clouds.config.recipe import Generate, Recipe
from clouds.config.runs import (
    CHECKPOINTS,
    CLASS_PIXELS,
    METRICS,
    MODELS,
    RESULTS,
    RUNNING,
    SOURCE,
    differences,
    flat,
    open_run,
)
from clouds.errors import CloudsError, Stopped
from clouds.evaluate.domains import unseen_domains
from clouds.launch.graph import Needs
from clouds.launch.run import Run, how
from clouds.launch.share import environment_on
from clouds.launch.stage import CLOUDS, Executor, Stage, Task, tail
from clouds.model.folder_config import has_model
from clouds.sweep.outcomes import read_job, write_job
from clouds.sweep.plan import FOLDER, Job
from clouds.sweep.table import last_line

LOG = "log.txt"
ERROR_LINES = 5  # of a crash's traceback or of a log, kept as the job's error
LAUNCH = ".launch"  # in the sweep's folder: the jobs of `--jobs` and `--on`

After = Callable[[], object]


def is_done(job: Job, out: Path) -> bool:
    """Trained and scored, by these very settings."""
    run = out / job.name
    if read_job(run).state != "done" or not all((run / file).exists() for file in RESULTS.values()):
        return False
    return differences(job.recipe, run).keys() <= RUNNING


def run_here(jobs: list[Job], out: Path, after: After, share: bool = False) -> None:
    """Each job in this process, as ``clouds train`` and scoring do it; ``after`` each, whatever became of it.

    share: jobs that would train the same warm-up have one together.

    A job that fails is recorded and the next one begins. Raises Stopped when a signal asked training to save.
    """
    for k, job in enumerate(jobs, start=1):
        say(f"job {k}/{len(jobs)}: {job.name}")
        make_folder(out)
        try:
            with locked(out / f".{job.name}.lock", blocking=False):
                _run(job, out, share)
        except HeldError:
            say(f"{job.name}: another process is at work on it; it is skipped here")
            continue
        finally:
            after()
        _tell(job, out)


def _run(job: Job, out: Path, share: bool) -> None:
    if is_done(job, out):  # by somebody else, meanwhile
        return
    run, state, error = out / job.name, "waiting", None
    began = time.monotonic()
    open_run(job.recipe, run)
    before = read_job(run).seconds
    write_job(out, job, state)
    from clouds.pipeline import train  # torch: a sweep that cannot be is refused before

    try:
        domains = unseen_domains(job.recipe)
        if share:
            share_warmup(job.recipe, run, out)
        train(job.recipe, run, domains=domains)
        state = "done"
    except Stopped as stopped:
        raise Stopped(
            stopped.signal, f"{job.name}: stopped by a signal; all is saved. To resume, run the same command"
        ) from stopped
    except BusyError as busy:  # trained by somebody who knows nothing of this sweep
        say(str(busy))
    except CloudsError as failure:
        state, error = "failed", str(failure)
    except Exception:  # the other jobs of a night must not end with this one
        traceback.print_exc()
        state, error = "failed", "\n".join(traceback.format_exc().strip().splitlines()[-ERROR_LINES:])
    finally:
        write_job(out, job, state, error, before + time.monotonic() - began)


def _tell(job: Job, out: Path) -> None:
    row = read_job(out / job.name)
    error = f": {last_line(row.error)}" if row.error else ""
    say(f"{job.name}: {'stopped' if row.state == 'waiting' else row.state} after {clock(row.seconds)}{error}")


def run_apart(jobs: list[Job], out: Path, at_once: int | None, command: Callable[[Job], list[str]], after: After,
              on: Executor, needs: Needs | None = None) -> None:  # fmt: skip
    """Each job by the engine ``on``, ``at_once`` at a time; what one prints goes into its run's ``log.txt``.

    command: the words after ``clouds`` that do this job alone. A signal has the jobs save and end, and then Stopped is
    raised; again, they end at once.
    """
    needs = needs or Needs()
    by_name = {job.name: job for job in jobs}
    for job in jobs:
        open_run(job.recipe, out / job.name)  # a folder with nothing but a log would be no run's
    gpu = any(job.recipe.train.device != "cpu" for job in jobs)
    gpus = needs.gpus if needs.gpus is not None else int(gpu and on.name != "local")
    tasks = [Task(job.name, [*CLOUDS, *command(job)], out / job.name / LOG) for job in jobs]
    stage = Stage("jobs", tasks, cpus=needs.cpus, threads=needs.cpus, gpus=gpus, memory_gb=needs.memory_gb,
                  hours=needs.hours, retries=0)  # fmt: skip

    def ended(task: Task, code: int | None) -> None:
        job = by_name[task.name]
        if code != 0 and read_job(out / job.name).state != "failed":  # it ended without a word about its job
            write_job(out, job, "failed", "\n".join(filter(None, [tail(out / job.name / LOG, ERROR_LINES), how(code)])))
        after()
        _tell(job, out)

    try:
        Run([stage], on, out / LAUNCH, at_once, environment_on(on.name, at_once), ended, go_on=True, cancel=True)()
    except Stopped as stopped:
        raise Stopped(stopped.signal, f"{out}: the sweep was {stopped}") from stopped
    finally:
        after()


def warmup_recipe(recipe: Recipe) -> Recipe | None:
    """The recipe of a job's warm-up, the same for all jobs that can share it: what only joint training reads is at its
    defaults.

    None where the warm-up may depend on more: restyled source images can take the generated ones as their styles.
    """
    if recipe.data.restyle is not None:
        return None
    fields = Recipe.model_fields.items()
    joint = {name: f.get_default(call_default_factory=True) for name, f in fields if Mark.JOINT in f.metadata}
    return recipe.model_copy(update={
        **joint,
        "generate": Generate(size=recipe.augment.crop),
        "data": recipe.data.model_copy(update={"unlabelled": []}),
        "train": recipe.train.model_copy(update={"stage": "warmup"}),
    })  # fmt: skip


def warmup_folder(recipe: Recipe, out: Path) -> Path:
    """Where the warm-up of this recipe stands: a name that follows from every setting that can change it."""
    settings = {key: value for key, value in flat(recipe.model_dump(mode="json")).items() if key not in RUNNING}
    return out / f"{FOLDER}{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]}"


def share_warmup(recipe: Recipe, run: Path, out: Path) -> None:
    """Give a run that has not begun its warm-up the sweep's, trained now if it is the first to ask.

    Several processes may ask: one trains, the others wait for it.
    """
    shared = warmup_recipe(recipe)
    if shared is None or has_model(run / MODELS["warmup"]) or (run / CHECKPOINTS).exists():
        return
    folder = warmup_folder(shared, out)
    make_folder(out)
    with FileLock(out / f".{folder.name}.lock"):  # stays: who waits for a lock must not get one that was deleted
        if not has_model(folder / MODELS["warmup"]):
            say(f"{folder}: the warm-up that jobs of these settings share")
            from clouds.pipeline import train

            train(shared, folder)
    for name in (METRICS, CLASS_PIXELS):
        if (folder / name).exists():
            shutil.copyfile(folder / name, run / name)
    if (folder / SOURCE).exists():
        shutil.copytree(folder / SOURCE, run / SOURCE, dirs_exist_ok=True)
    # last, and whole: with it the run counts as warmed up
    shutil.copytree(folder / MODELS["warmup"], run / ".warmup", dirs_exist_ok=True)
    (run / ".warmup").rename(run / MODELS["warmup"])
