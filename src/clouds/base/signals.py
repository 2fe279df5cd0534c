"""Signals that ask work to stop: noted, so that it ends after a whole step."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the last one where a terminal is closed


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

    def handler(number: int, _: FrameType | None) -> None:
        came.append(number)
        note(came)

    try:
        # `nohup` has the end of a terminal ignored
        heard = [n for n in numbers if not (n == signal.SIGHUP and signal.getsignal(n) == signal.SIG_IGN)]
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
