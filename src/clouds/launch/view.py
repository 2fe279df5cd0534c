"""How stages stand: one table that is renewed on a terminal, a line for each change otherwise."""

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from clouds.base.progress import clock, say
from clouds.launch.stage import Task, tail

HEAD = ("stage", "shards", "done", "running", "waiting", "failed", "time left")
_LEFT = re.compile(r"(?:(\d+):)?(\d+):(\d+) left")  # as base/progress prints it


class Progress(Protocol):
    """What is shown of a task."""

    task: Task
    state: str
    began: float
    seconds: float


@dataclass
class Row:
    """A stage's line. seconds: of work, of the tasks that are done; left: seconds, None where nothing says."""

    name: str
    shards: int
    done: int
    running: int
    waiting: int
    failed: int
    seconds: float
    left: float | None

    @classmethod
    def of(cls, name: str, tasks: Sequence[Progress]) -> "Row":
        by_state = {state: sum(each.state == state for each in tasks) for state in ("done", "running", "failed")}
        waiting = len(tasks) - sum(by_state.values())
        seconds = sum(each.seconds for each in tasks if each.state == "done")
        return cls(name, len(tasks), by_state["done"], by_state["running"], waiting, by_state["failed"], seconds,
                   time_left(tasks))  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key in ("name", "shards", "done", "failed")} | {
            "seconds": round(self.seconds, 1)
        }

    def cells(self) -> list[str]:
        numbers = (self.shards, self.done, self.running, self.waiting, self.failed)
        return [self.name, *(str(number) for number in numbers), "-" if self.left is None else clock(self.left)]

    def line(self) -> str:
        counts = [f"{count} {what}" for count, what in ((self.running, "running"), (self.waiting, "waiting"),
                                                        (self.failed, "failed")) if count]  # fmt: skip
        left = f", {clock(self.left)} left" if self.left and self.running else ""
        return f"{self.name}: {', '.join([f'{self.done} of {self.shards} done', *counts])}{left}"


def time_left(tasks: Sequence[Progress]) -> float | None:
    """Seconds until a stage is done with as many tasks at a time as run now.

    By the mean of the tasks that are done; while there are none, by what the running ones say in their logs.
    """
    running, done = ([each for each in tasks if each.state == state] for state in ("running", "done"))
    if not running:
        return None
    if done:
        mean, now = sum(each.seconds for each in done) / len(done), time.monotonic()
        rest = sum(max(mean - (now - each.began), 0.0) for each in running)
        rest += mean * (len(tasks) - len(running) - len(done))
        return rest / len(running)
    said = [found[-1] for each in running if (found := _LEFT.findall(tail(each.task.log, 3)))]
    seconds = [int(hours or 0) * 3600 + int(minutes) * 60 + int(rest) for hours, minutes, rest in said]
    return max(seconds) if seconds else None


class View:
    """``show`` the rows: as a live table on stderr where that is a terminal, else as lines of what changed."""

    def __enter__(self) -> "View":
        self._live: Any = None
        self._shown: dict[str, tuple[int, ...]] = {}
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=2)
            self._live.__enter__()
        return self

    def show(self, rows: list[Row]) -> None:
        if self._live is not None:
            self._live.update(_table(rows))
            return
        for row in rows:
            counts = (row.done, row.running, row.failed)
            if self._shown.get(row.name, (0, 0, 0)) != counts:
                say(row.line())
            self._shown[row.name] = counts

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)


def _table(rows: list[Row]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in HEAD:
        table.add_column(name, justify="left" if name == "stage" else "right")
    for row in rows:
        style = "red" if row.failed else "green" if row.done == row.shards else "bold" if row.running else "dim"
        table.add_row(*row.cells(), style=style)
    return table


def hand_over(jobs: int, engine: str) -> str:
    """What is said when the launcher ends and its jobs do not."""
    return (
        f"stopped watching; {jobs} {'job goes' if jobs == 1 else 'jobs go'} on ({engine}). The same command finds "
        "them again; with --cancel-on-interrupt it ends them at the next Ctrl-C"
    )
