"""Signals that ask work to stop: noted, so that it ends after a whole step."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# SIGHUP where a terminal is closed; the last two are what SLURM is asked to send before a job's time is over
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
ALWAYS = (signal.SIGTERM, signal.SIGINT)  # also where a process was started with them ignored
ECHO = 2.0  # seconds in which a second signal is the first one again: schedulers and torchrun send it to a process and
# to its launcher, which hands it on. Ctrl-C, which a person types, counts each time


def interrupt_again(came: list[int]) -> None:
    """Raise KeyboardInterrupt at the second signal."""
    if len(came) > 1:
        raise KeyboardInterrupt


@contextmanager
def noted_signals(
    note: Callable[[list[int]], None] = interrupt_again, numbers: tuple[int, ...] = STOPPING
) -> Iterator[list[int]]:
    """Yield the list of signals that came in here so far, which is what ``note`` is called with at each.

    Outside the main thread no signal comes: somebody else sees to them.
    """
    came: list[int] = []
    last = 0.0

    def handler(number: int, _: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if came and number != signal.SIGINT and last - before < ECHO:
            return
        came.append(number)
        note(came)

    try:
        # `nohup` has the end of a terminal ignored, `clouds launch` the signals that are meant for its job
        heard = [n for n in numbers if n in ALWAYS or signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, handler) for number in heard}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield came
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class Uninterrupted:
    """Ctrl-C that comes in here raises KeyboardInterrupt at the end: what is made and noted inside belongs together.

    Only for work of milliseconds. Outside the main thread no signal comes, and where somebody else sees to SIGINT, as
    ``noted_signals`` does, it stays with that one.
    """

    def __enter__(self) -> None:
        self.came: list[int] = []
        main = threading.current_thread() is threading.main_thread()
        self.held = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self.held:
            signal.signal(signal.SIGINT, lambda number, _: self.came.append(number))

    def __exit__(self, *_: object) -> None:
        if self.held:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.came:
            raise KeyboardInterrupt
