"""Stages from the first to the last on an engine: submit, look, try again once, and find everything after a death.

What was submitted stands in ``jobs.jsonl``, how each attempt ended in a file of its own. So whoever looks next, in this
process or another, knows which jobs to wait for and which to start.
"""

import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clouds.base.files import make_folder, read_json
from clouds.base.journal import Journal
from clouds.base.progress import say
from clouds.base.signals import noted_signals
from clouds.errors import CloudsError, DataError, Stopped
from clouds.launch.stage import Attempt, Executor, Stage, Task, tail
from clouds.launch.view import Row, View, hand_over

JOBS = "jobs.jsonl"
SECONDS_TO_APPEAR = 5.0  # of the file that says how a job ended, on a slow shared disk


@dataclass
class _State:
    """What is known of a task: "to do", "waiting", "running", "done" or "failed"."""

    stage: Stage
    task: Task
    state: str = "to do"
    job: str = ""
    attempt: int = 0
    failures: int = 0
    log_from: int = 0  # where the log of this attempt begins
    began: float = 0.0
    gone: float = 0.0  # when its job was first missed
    seconds: float = 0.0

    @property
    def active(self) -> bool:
        return self.state in ("waiting", "running")


class Run:
    """The stages' tasks on an executor, with their files in ``folder``.

    at_once: at most so many jobs at a time, None for all. environment: variables of a stage's k-th task. ended: called
    with a task and its exit code, None for a job that is gone without a word, whenever one ends for good.
    go_on: a failed task does not stop the others. cancel: a signal cancels the jobs, instead of leaving them at work.
    """

    def __init__(
        self, stages: list[Stage], executor: Executor, folder: Path, at_once: int | None = None,
        environment: Callable[[Stage, int], dict[str, str | None]] = lambda _stage, _k: {},
        ended: Callable[[Task, int | None], None] = lambda _task, _code: None,
        go_on: bool = False, cancel: bool = False,
    ) -> None:  # fmt: skip
        make_folder(folder)
        self.stages, self.executor, self.folder = stages, executor, folder
        self.at_once, self.environment, self.ended, self.go_on, self.cancel = at_once, environment, ended, go_on, cancel
        self.journal = Journal(folder / JOBS, skip_damaged=True)
        self.states = [_State(stage, task) for stage in stages for task in stage.tasks]
        self.stopping = False
        self._find_earlier()

    def _find_earlier(self) -> None:
        """Take over what earlier processes submitted: finished tasks, and jobs that are still there."""
        last = {row["task"]: row for row in self.journal.rows}
        for each in self.states:
            row = last.get(each.task.name)
            if row is None:
                continue
            each.attempt = row["attempt"]
            if row["command"] != each.task.command:
                continue
            if self._code(each) == 0 and each.stage.makes and all(path.exists() for path in each.stage.makes):
                # not where a stage before it runs again: what that makes is new to it
                again = each.stage.after and not self._done().issuperset(each.stage.after)
                each.state = "to do" if again else "done"
            elif self._code(each) is None and row["on"] == self.executor.name:
                each.job = row["job"]
        alive = self.executor.alive([each.job for each in self.states if each.job])
        found = [each for each in self.states if each.job in alive]
        for each in found:
            each.state, each.began = alive[each.job], time.monotonic()
        if found:
            say(f"found {len(found)} jobs at work, such as {found[0].task.name} ({self.executor.name} {found[0].job})")

    def _ended(self, each: _State) -> Path:
        return self.folder / f"{re.sub(r'[^A-Za-z0-9._=+~-]+', '-', each.task.name)}.{each.attempt}.json"

    def _code(self, each: _State) -> int | None:
        """The exit code of a task's last attempt; None where there is no file that says so."""
        try:
            found = read_json(self._ended(each))
            each.seconds = float(found["seconds"])
            return int(found["code"])
        except (OSError, DataError, KeyError, TypeError, ValueError):
            return None

    def __call__(self) -> list[dict[str, Any]]:
        """Run to the end; -> {"name", "shards", "done", "failed", "seconds"} a stage.

        Raises CloudsError with a task's log where it failed more often than its stage allows, Stopped when a signal
        asked for the end.
        """
        asked = 0
        with View() as view, noted_signals(note=lambda _: None) as signals:
            while True:
                if not signals:
                    self._submit()
                self._look()
                view.show(self._rows())
                failed = [each for each in self.states if each.state == "failed"]
                if failed and not self.go_on:
                    self._give_up(failed[0])
                if len(signals) > asked:
                    asked = len(signals)
                    self._interrupted(signals)
                active = any(each.active for each in self.states)
                if not active and (signals or not self._ready()):
                    break
                time.sleep(self.executor.seconds_between_looks)
        if signals:
            raise Stopped(signals[0], "stopped by a signal; all is saved. To resume, run the same command")
        return [row.as_dict() for row in self._rows()]

    def _ready(self) -> list[_State]:
        """The tasks that can be submitted now."""
        done = self._done()
        return [each for each in self.states if each.state == "to do" and done.issuperset(each.stage.after)]

    def _done(self) -> set[str]:
        """The names of the stages that are done."""
        return {stage.name for stage in self.stages
                if all(each.state == "done" for each in self.states if each.stage is stage)}  # fmt: skip

    def _submit(self) -> None:
        ready = self._ready()
        if self.at_once is not None:
            ready = ready[: max(self.at_once - sum(each.active for each in self.states), 0)]
        for stage in self.stages:
            mine = [each for each in ready if each.stage is stage]
            if not mine:
                continue
            for each in mine:
                each.attempt += 1
                each.log_from = each.task.log.stat().st_size if each.task.log.exists() else 0
                self._ended(each).unlink(missing_ok=True)
            attempts = [
                Attempt(each.task, self._ended(each).resolve(), self.environment(stage, stage.tasks.index(each.task)))
                for each in mine
            ]
            jobs = self.executor.submit(stage, attempts)
            rows = []
            for each, job in zip(mine, jobs, strict=True):
                each.job, each.state, each.began, each.gone = job, "waiting", time.monotonic(), 0.0
                rows.append({"task": each.task.name, "attempt": each.attempt, "job": job, "on": self.executor.name,
                             "command": each.task.command})  # fmt: skip
            self.journal.add(*rows)  # a death before this line starts these again, and the second of each ends at once

    def _look(self) -> None:
        """Learn what became of the jobs at work."""
        active = [each for each in self.states if each.active]
        alive = self.executor.alive([each.job for each in active])
        for each in active:
            now = time.monotonic()
            if each.job in alive:
                if alive[each.job] != each.state:
                    each.began = now
                each.state = alive[each.job]
                continue
            code = self._code(each)
            each.gone = each.gone or now
            if code is None and now - each.gone < SECONDS_TO_APPEAR:
                continue
            if code == 0:
                each.state = "done"
                self.ended(each.task, code)
                continue
            if self.stopping:
                each.state = "to do"  # it was asked to end, and goes on when it is started again
                continue
            each.failures += 1
            each.state = "to do" if each.failures <= each.stage.retries else "failed"
            if each.state == "failed":
                self.ended(each.task, code)
            else:
                say(f"{each.task.name}: {how(code)}; it is tried again (its log: {each.task.log})")

    def _give_up(self, failed: _State) -> None:
        self.executor.cancel([each.job for each in self.states if each.active])
        log = "\n".join(f"  {line}" for line in tail(failed.task.log, start=failed.log_from).splitlines())
        times = "" if failed.failures == 1 else f" after {failed.failures} tries"
        raise CloudsError(
            f"{failed.task.name}: {how(self._code(failed))}{times}; the end of its log, {failed.task.log}:\n{log}\n"
            "Finished work is kept. To resume, run the same command"
        )

    def _interrupted(self, signals: list[int]) -> None:
        jobs = [each.job for each in self.states if each.active]
        name = signal.Signals(signals[-1]).name
        if not self.cancel:
            raise Stopped(signals[0], hand_over(len(jobs), self.executor.name))
        say(f"{name}: {len(jobs)} jobs are asked to save and end"
            + ("; again, to end them at once" if len(signals) == 1 else " at once"))  # fmt: skip
        self.stopping = True
        self.executor.cancel(jobs)

    def _rows(self) -> list[Row]:
        return [Row.of(stage.name, [each for each in self.states if each.stage is stage]) for stage in self.stages]


def how(code: int | None) -> str:
    """An exit code in words."""
    if code is None:
        return "its job is gone and did not say how it ended (killed, out of memory, or its machine was lost)"
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
