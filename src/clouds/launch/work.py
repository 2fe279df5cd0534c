"""What a job does, on whatever machine: one command, its output into a log, and a file that says how it ended.

Where a scheduler takes the machine away, the command is asked to save and ends, and the job is queued again.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from clouds.base.files import make_folder, write_json

SECONDS_TO_BE_KILLED = 150.0  # a scheduler that sent SIGTERM ends the whole job soon after, and may queue it again
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


@dataclass
class Work:
    """Runs ``command`` in ``folder``; adds what it prints to ``log``; writes {"code", "seconds"} to ``ended``.

    environment: variables to set, or with None to remove. together: whether SLURM runs this on several nodes at once,
    as processes of one training; the first of them writes ``ended``, and its failure is that of all.
    """

    command: list[str]
    folder: str
    log: str
    ended: str
    environment: dict[str, str | None]
    together: bool = False
    process: "subprocess.Popen[bytes] | None" = None

    def __call__(self) -> None:
        """Run to the end; SystemExit with the command's code where that is not 0."""
        began, asked = time.monotonic(), False

        def hand_on(_number: int, _frame: FrameType | None) -> None:
            nonlocal asked
            asked = True
            self._ask_to_save()

        meeting = _meeting() if self.together else {}
        rank = int(meeting.get("RANK", 0))
        changed = {**os.environ, **meeting, **self.environment}
        environment = {name: value for name, value in changed.items() if value is not None}
        path = Path(self.log) if rank == 0 else Path(self.log).with_suffix(f".process-{rank}.txt")
        make_folder(path.parent)
        signal.signal(signal.SIGTERM, hand_on)
        with path.open("ab") as log:
            # in a session of its own: Ctrl-C at the terminal of `clouds launch` is not meant for it
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_as_a_child,
            )  # fmt: skip
        if asked:  # between the handler and the start
            self._ask_to_save()
        while (code := self.process.poll()) is None:
            time.sleep(0.1)
        if asked and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":  # it is saved; not over, if it is queued again
            time.sleep(SECONDS_TO_BE_KILLED)
        if rank:
            return
        write_json(Path(self.ended), {"code": code, "seconds": round(time.monotonic() - began, 1)})
        if code:
            sys.exit(code if code > 0 else 128 - code)

    def _ask_to_save(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)

    def checkpoint(self) -> Any:
        """What submitit calls when SLURM's signal says that the time is over: save; the same work goes on later."""
        from submitit.helpers import DelayedSubmission

        self._ask_to_save()
        if self.process is not None:
            with suppress(ChildProcessError):  # not poll(): a signal may have come in the middle of one
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(replace(self, process=None))


def _meeting() -> dict[str, str]:
    """The variables by which the processes that srun started on several nodes find each other."""
    slurm = os.environ
    return {
        "RANK": slurm["SLURM_PROCID"], "WORLD_SIZE": slurm["SLURM_NTASKS"], "LOCAL_RANK": slurm["SLURM_LOCALID"],
        "MASTER_ADDR": slurm["SLURM_LAUNCH_NODE_IPADDR"],  # where srun runs: the first node, as the first process does
        "MASTER_PORT": str(20_000 + int(slurm["SLURM_JOB_ID"]) % 10_000),
    }  # fmt: skip


def _as_a_child() -> None:
    """In the new process: deaf to the signals that are meant for the job, and dead when the job is killed."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def as_text(work: Work) -> str:
    return json.dumps({**asdict(replace(work, process=None))})


if __name__ == "__main__":
    Work(**json.loads(sys.argv[1]))()
