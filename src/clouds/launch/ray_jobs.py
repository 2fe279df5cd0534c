"""Stages on a Ray cluster, by its job interface: a laptop's, a cluster's by address, or one in Kubernetes."""

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from clouds.errors import BackendError, UsageError, cause
from clouds.launch.stage import Attempt, Stage
from clouds.launch.work import Work, as_text


class RayJobs:
    """A Ray job an attempt. Jobs belong to the cluster and outlive this process.

    The cluster is the one of RAY_ADDRESS, else the one on this machine. Raises UsageError where Ray is not installed
    or no cluster answers.
    """

    name = "ray"
    seconds_between_looks = 1.0

    def __init__(self) -> None:
        try:
            from ray.job_submission import JobSubmissionClient
        except ImportError as error:
            raise UsageError(
                "--on ray: Ray and its job interface are not installed; pip install 'clouds[ray]'"
            ) from error
        try:
            self.client: Any = JobSubmissionClient()
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(
                "--on ray: no cluster answers; start one on this machine with `ray start --head`, or set RAY_ADDRESS "
                f"to the address of one, such as http://head:8265 ({cause(error)})"
            ) from error
        self._seen: dict[str, str] = {}

    def submit(self, stage: Stage, attempts: list[Attempt]) -> list[str]:
        return [self._submit(stage, attempt) for attempt in attempts]

    def _submit(self, stage: Stage, attempt: Attempt) -> str:
        task = attempt.task
        work = Work(task.command, str(Path.cwd()), str(task.log.resolve()), str(attempt.ended.resolve()),
                    attempt.environment)  # fmt: skip
        resources: dict[str, Any] = {"entrypoint_num_cpus": max(stage.cpus, 1), "entrypoint_num_gpus": stage.gpus}
        if stage.memory_gb:
            resources["entrypoint_memory"] = int(stage.memory_gb * 2**30)
        own = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        try:
            return str(self.client.submit_job(
                entrypoint=shlex.join([sys.executable, "-m", "clouds.launch.work", as_text(work)]),
                runtime_env={"env_vars": own}, metadata={"task": task.name}, **resources,
            ))  # fmt: skip
        except (RuntimeError, ConnectionError) as error:
            raise BackendError(f"{task.name}: Ray did not take the job ({cause(error)})") from error

    def alive(self, jobs: list[str]) -> dict[str, str]:
        for job in jobs:
            try:
                status = str(self.client.get_job_status(job))
            except RuntimeError:  # no such job: the cluster is another one now
                status = "GONE"
            except (ConnectionError, OSError):  # it is away for a while, and what was known holds
                continue
            self._seen[job] = {"PENDING": "waiting", "RUNNING": "running"}.get(status.rpartition(".")[2], "")
        return {job: self._seen[job] for job in jobs if self._seen.get(job)}

    def cancel(self, jobs: list[str]) -> None:
        for job in jobs:
            with suppress(RuntimeError, ConnectionError, OSError):
                self.client.stop_job(job)
