"""Stages on SLURM, or as processes of this machine, by submitit."""

import getpass
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from clouds.errors import BackendError, UsageError, cause
from clouds.launch.stage import Attempt, Stage
from clouds.launch.work import Work

SECONDS_TO_SAVE = 120  # before SLURM's time limit, when submitit's signal comes
TIMEOUTS = 1000  # how often a job whose time is over may be queued again


class SubmititJobs:
    """submitit's two executors. A job of SLURM is known by its id there, one of this machine by its process id.

    slurm: options of sbatch, as {"partition": "gpu"}. Raises UsageError where SLURM is not installed.
    """

    def __init__(self, folder: Path, name: str, slurm: dict[str, Any] | None = None) -> None:
        if name == "slurm" and not (shutil.which("sbatch") and shutil.which("squeue")):
            raise UsageError("--on slurm: no sbatch and squeue here; log in to a machine that submits SLURM jobs")
        self.folder, self.name, self.slurm = folder.resolve() / "submitit", name, slurm or {}
        self.seconds_between_looks = 0.2 if name == "local" else 2.0
        self._own: dict[str, Any] = {}  # submitit's jobs of this process
        self._seen: dict[str, str] = {}

    def submit(self, stage: Stage, attempts: list[Attempt]) -> list[str]:
        """Processes at once; in SLURM one array, or one job. BackendError where SLURM does not take it."""
        import submitit

        works = [Work(a.task.command, str(Path.cwd()), str(a.task.log), str(a.ended), a.environment, stage.nodes > 1)
                 for a in attempts]  # fmt: skip
        try:
            if self.name == "local":
                executor: Any = submitit.LocalExecutor(self.folder, max_num_timeout=TIMEOUTS)
                # submitit hides all GPUs or gives every job the same; which one it may use is in its environment
                executor.update_parameters(
                    timeout_min=stage.hours * 60, signal_delay_s=SECONDS_TO_SAVE, stderr_to_stdout=True
                )
                with _left_alone_by_the_terminal():
                    jobs = [executor.submit(work) for work in works]
            else:
                executor = submitit.SlurmExecutor(self.folder, max_num_timeout=TIMEOUTS)
                executor.update_parameters(**self._parameters(stage))
                with executor.batch():
                    jobs = [executor.submit(work) for work in works]
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, ValueError) as error:
            raise BackendError(f"{stage.name}: {self.name} did not take the job ({cause(error)})") from error
        self._own |= {job.job_id: job for job in jobs}
        return [job.job_id for job in jobs]

    def _parameters(self, stage: Stage) -> dict[str, Any]:
        each = stage.processes // stage.nodes if stage.nodes > 1 else 1  # of a node, that srun starts
        cpus = max(stage.cpus // (stage.nodes * each), 1)
        more: dict[str, Any] = {"gpus_per_node": stage.gpus // stage.nodes} if stage.gpus else {}
        if stage.memory_gb:
            more["mem"] = f"{max(round(stage.memory_gb * 1024 / stage.nodes), 1)}MB"
        return {
            "job_name": f"clouds-{stage.name}", "time": max(round(stage.hours * 60), 1), "nodes": stage.nodes,
            "ntasks_per_node": each, "cpus_per_task": cpus, "signal_delay_s": SECONDS_TO_SAVE,
            "stderr_to_stdout": True, **more,
            # since 22.05 srun does not take over the job's CPUs by itself
            "srun_args": [f"--cpus-per-task={cpus}"],
            "additional_parameters": {"requeue": True, **self.slurm},
        }  # fmt: skip

    def alive(self, jobs: list[str]) -> dict[str, str]:
        if self.name == "local":
            return {job: "running" for job in jobs if self._is_process(job)}
        if not jobs:
            return {}
        # squeue and not sacct, which needs a database that small clusters do not have
        command = ["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i %T"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode == 0:  # else the controller is away for a while, and what was known holds
            rows = dict(line.split() for line in asked.stdout.splitlines() if len(line.split()) == 2)
            self._seen = {job: "running" if state in ("RUNNING", "COMPLETING") else "waiting"
                          for job, state in rows.items()}  # fmt: skip
        return {job: self._seen[job] for job in jobs if job in self._seen}

    def _is_process(self, job: str) -> bool:
        import psutil

        if job in self._own:
            return bool(self._own[job].state == "RUNNING")
        try:
            return "submitit.local._local" in psutil.Process(int(job)).cmdline()
        except (psutil.Error, ValueError):
            return False

    def cancel(self, jobs: list[str]) -> None:
        if self.name == "slurm" and jobs:
            subprocess.run(["scancel", *jobs], capture_output=True, check=False)
            return
        for job in jobs:
            if self._is_process(job):
                with suppress(ProcessLookupError):
                    os.kill(int(job), signal.SIGTERM)


@contextmanager
def _left_alone_by_the_terminal() -> Iterator[None]:
    """Processes that are started in here do not hear Ctrl-C and the end of the terminal: they inherit deaf ears."""
    numbers = (signal.SIGINT, signal.SIGHUP)
    try:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
