"""Locks: one writer a folder at a time, and a second one learns who it is."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from clouds.base.files import make_folder, read_json, write_json
from clouds.errors import DataError, UsageError

WRITER = ".writer.json"  # beside the lock: who holds it


class BusyError(UsageError):
    """Another process writes into the folder."""


@contextmanager
def one_writer(folder: Path, doing: str) -> Iterator[None]:
    """Keep all others out of ``folder`` while this process writes there; ``doing`` says what: "training".

    Raises BusyError where another process is at work on it, naming that one. The lock ends with its process, however
    that ends, and leaves no file behind.
    """
    make_folder(folder)
    path, record = folder / ".writer.lock", folder / WRITER
    descriptor = _acquired(path)
    if descriptor is None:
        raise BusyError(
            f"{folder}: another process is at work on it ({_who(record)}); wait for it, stop it, or choose another "
            "folder"
        )
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        write_json(record, {"doing": doing, "pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        record.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquired(path: Path) -> int | None:
    """The open lock file, locked; None where another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
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
    """A lock that leaves no file behind; Timeout where it is held and ``blocking`` is off.

    Two could hold it where one waits while another lets go, so take it only where that does no harm: where whole files
    of equal content replace each other.
    """
    with FileLock(path, blocking=blocking):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
