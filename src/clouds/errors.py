"""The errors CLOUDS raises on purpose.

Each carries one message for a person: the file, key or value at fault, what was expected, and what to do.
The command line prints that message without a traceback (``--debug`` shows it).
"""


class CloudsError(Exception):
    """Something failed while working: exit code 1."""


class Stopped(CloudsError):  # noqa: N818 - nothing went wrong
    """A signal asked for the end, and everything is saved: exit code 128 + signal, as shells have it."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


class UsageError(CloudsError):
    """The request itself is wrong (unknown recipe, key or value): exit code 2, before any work."""


class DataError(CloudsError):
    """An image, a label or a dataset folder is missing, broken or not what it claims to be."""


class BackendError(CloudsError):
    """A foundation model cannot be loaded or used here."""


def cause(error: BaseException) -> str:
    """A library's error for a message in parentheses: its kind, and in one line the first 300 characters."""
    said = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
