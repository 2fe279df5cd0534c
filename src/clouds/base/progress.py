"""Progress of long work, on stderr: a bar with rate and time left on a terminal, plain lines otherwise."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from typing import TypeVar

T = TypeVar("T")
Note = Callable[[], str]

SECONDS_BETWEEN_LINES = 10.0


def say(text: str) -> None:
    """One plain line on stderr. Where that is gone, as with a closed terminal, nobody reads it, and work goes on."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the one place that prints


@cache
def say_once(text: str) -> None:
    """A line on stderr, unless this process has said it before."""
    say(text)


def loading(what: str) -> None:
    """Say that ``what`` is being loaded, where it takes seconds until anything else is seen; once is enough."""
    if "torch" not in sys.modules:
        say(f"loading {what} ...")


def clock(seconds: float) -> str:
    """75 -> '1:15', 4000 -> '1:06:40'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _rate(rate: float) -> str:
    """12.3, 0.5, and of slow work 0.042: never 0.0."""
    return f"{rate:.1f}" if rate >= 0.1 else f"{rate:.2g}"


def track(
    items: Iterable[T], what: str, total: int | None, done: int = 0, unit: str = "it", note: Note = lambda: ""
) -> Iterator[T]:
    """Yield ``items`` while showing progress of ``what``: ``done`` of ``total`` (None: unknown) are behind already.

    note: what else to show beside the rate, as "loss 1.234", asked for whenever something is shown.
    """
    if total is not None and done >= total:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, what, total, done, unit, note)
    else:
        yield from _lines(items, what, total, done, unit, note)


def _bar(items: Iterable[T], what: str, total: int | None, done: int, unit: str, note: Note) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<28}"), BarColumn(bar_width=None), MofNCompleteColumn(),
               TextColumn("{task.fields[rate]:>12}  {task.fields[note]}"),
               TimeRemainingColumn(compact=True))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total, completed=done, rate="", note="")
        began = time.monotonic()
        for made, item in enumerate(items, start=1):
            yield item
            rate = f"{_rate(made / (time.monotonic() - began))} {unit}/s"
            progress.update(task, advance=1, rate=rate, note=note())


def _lines(items: Iterable[T], what: str, total: int | None, done: int, unit: str, note: Note) -> Iterator[T]:
    began = last = time.monotonic()
    for made, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES or done + made == total:
            rate, more = made / max(now - began, 1e-9), f", {note()}" if note() else ""
            if total is None:
                say(f"{what}: {done + made}, {_rate(rate)} {unit}/s{more}")
            else:
                left = max(total - done - made, 0) / rate  # a total may be an estimate
                say(f"{what}: {done + made}/{total}, {_rate(rate)} {unit}/s{more}, {clock(left)} left")
            last = now
