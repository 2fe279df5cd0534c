"""One description of a stage of work, whoever runs it, and what a task of it is."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

CLOUDS = (sys.executable, "-m", "clouds")


@dataclass(frozen=True)
class Task:
    """One command, as a shard of a stage; what it prints is added to ``log``."""

    name: str
    command: list[str]
    log: Path


@dataclass(frozen=True)
class Stage:
    """Tasks that may run at the same time, once the stages named in ``after`` are done.

    makes: what is there when a task is done; without any, a task is never taken as done by an earlier launch. cpus,
    gpus, memory_gb: of each task; 0 leaves it to the engine. threads: of each process of a task; 0 leaves them as they
    are. hours: a task that takes longer is saved, ended and started again. retries: how often a task that fails is
    tried again. nodes: machines of each task; on several, the engine starts its ``processes``, as many on each.
    """

    name: str
    tasks: list[Task]
    after: tuple[str, ...] = ()
    makes: tuple[Path, ...] = ()
    cpus: int = 0
    threads: int = 0
    gpus: int = 0
    memory_gb: float = 0
    hours: float = 24
    retries: int = 1
    nodes: int = 1
    processes: int = 1


@dataclass(frozen=True)
class Attempt:
    """One try at a task, as an engine gets it. ``ended``: the file that will say how it ended; ``environment``:
    variables to set, or with None to remove."""

    task: Task
    ended: Path
    environment: dict[str, str | None] = field(default_factory=dict)


class Executor(Protocol):
    """An engine that runs commands. It knows jobs by their ids, which stay valid when this process is gone."""

    name: str
    seconds_between_looks: float

    def submit(self, stage: Stage, attempts: list[Attempt]) -> list[str]:
        """Start or queue the attempts; -> the id of each one's job."""

    def alive(self, jobs: list[str]) -> dict[str, str]:
        """Of these jobs those that are not over: "waiting" or "running" by id."""

    def cancel(self, jobs: list[str]) -> None:
        """Ask the jobs to save and end."""


def tail(path: Path, lines: int = 12, start: int = 0) -> str:
    """The last lines of a log, of what stands behind byte ``start``; "" where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 20_000, start))
            return "\n".join(file.read().decode("utf-8", "replace").strip().splitlines()[-lines:])
    except OSError:
        return ""
