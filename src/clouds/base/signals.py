"""Signals that ask work to stop: noted, so that it ends after a whole step."""

import signal
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
