"""Signals that ask work to stop: noted, so that it ends after a whole step."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def interrupt_again(came: list[int]) -> None:
    """Raise KeyboardInterrupt at the second signal."""
    if len(came) > 1:
        raise KeyboardInterrupt


@contextmanager
def noted_signals(
    note: Callable[[list[int]], None] = interrupt_again, numbers: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT)
) -> Iterator[list[int]]:
    """Yield the list of signals that came in here so far, which is what ``note`` is called with at each.

    Outside the main thread no signal comes: somebody else sees to them.
    """
    came: list[int] = []

    def handler(number: int, _: FrameType | None) -> None:
        came.append(number)
        note(came)

    try:
        before = {number: signal.signal(number, handler) for number in numbers}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield came
    finally:
        for number, old in before.items():
            signal.signal(number, old)
