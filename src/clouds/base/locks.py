"""Locks: one writer a folder at a time, and a second one learns who it is."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clouds.base.files import make_folder, read_json, write_json
from clouds.base.signals import Uninterrupted
from clouds.errors import DataError, UsageError

SECONDS_BETWEEN_LOOKS = 0.05  # of one that waits for a lock
WRITER = ".writer.json"  # beside the lock: who holds it


class BusyError(UsageError):
    """Another process writes into the folder."""


class HeldError(Exception):
    """Another process, or another thread, has the lock."""


@contextmanager
def one_writer(folder: Path, doing: str) -> Iterator[None]:
    """Keep all others out of ``folder`` while this process writes there; ``doing`` says what: "training".

    Raises BusyError where another process is at work on it, naming that one. The lock ends with its process, however
    that ends, and leaves no file behind.
    """
    make_folder(folder)
    record = folder / WRITER
    try:
        with locked(folder / ".writer.lock", blocking=False):
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            try:
                write_json(record, {"doing": doing, "pid": os.getpid(), "host": socket.gethostname(), "since": since})
                yield
            finally:
                try:
                    record.unlink(missing_ok=True)
                finally:  # again: Ctrl-C may have come before the first one did it
                    record.unlink(missing_ok=True)
    except HeldError:
        raise _busy(folder) from None


def check_idle(path: Path) -> None:
    """BusyError where another process is the writer of ``path`` or of a folder above it, as of a run at work."""
    for folder in (path.resolve(), *path.resolve().parents):
        try:
            descriptor = os.open(folder / ".writer.lock", os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(folder) from None
        finally:
            os.close(descriptor)


def _busy(folder: Path) -> BusyError:
    who = _who(folder / WRITER)
    return BusyError(
        f"{folder}: another process is at work on it ({who}); wait for it, stop it, or choose another folder"
    )


def _acquired(path: Path) -> list[int]:
    """The open lock file, locked; [] where another holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
                return [descriptor]
        except BlockingIOError:
            os.close(descriptor)
            return []
        except FileNotFoundError:
            pass
        os.close(descriptor)  # its holder deleted it meanwhile: this is nobody's lock any more


def _who(record: Path) -> str:
    try:
        found = read_json(record)
        return f"{found['doing']} since {found['since']}, process {found['pid']} on {found['host']}"
    except (OSError, DataError, KeyError, TypeError):  # it has not yet, or no longer, said so
        return "it does not say which"


@contextmanager
def locked(path: Path, blocking: bool = True) -> Iterator[None]:
    """A lock that leaves no file behind; HeldError where another holds it and ``blocking`` is off.

    It ends with its process, however that ends.
    """
    held: list[int] = []
    try:
        while not held:
            with Uninterrupted():
                held += _acquired(path)
            if not held:
                if not blocking:
                    raise HeldError(str(path))
                time.sleep(SECONDS_BETWEEN_LOOKS)
        yield
    finally:
        try:
            _let_go(path, held)
        finally:  # again: Ctrl-C may have come before the first one did it
            _let_go(path, held)


def _let_go(path: Path, held: list[int]) -> None:
    with Uninterrupted():
        if held:
            path.unlink(missing_ok=True)  # while it is still ours
            os.close(held.pop())
