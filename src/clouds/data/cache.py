"""Decoded images and labels on disk, so that later epochs read a crop's rows instead of decoding a file.

One ``.npy`` a picture, mapped into memory: a crop touches its own pages only. Any number of processes and runs may
share a cache. It never grows beyond its bound: room is reserved, under a lock, before anything is written. When it is
full nothing is thrown out for newcomers, for random epochs over a set that does not fit would otherwise hit nothing;
pictures unused for a month go when the cache is opened, the least recently used go when its bound was lowered.
"""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from clouds.data.archives import Archive
from clouds.data.pairing import Place

DAY = 86400.0
_FORMAT = "1"


def identity(place: Place, *meaning: str | bytes) -> str:
    """A name for the decoded content of a file: its path, size and time, and what its pixels were read as."""
    path = place.files.path if isinstance(place.files, Archive) else place.files.path / place.name
    status = path.stat()
    parts = (_FORMAT, str(path.absolute()), place.name, str(status.st_size), str(status.st_mtime_ns), *meaning)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()


class DecodedCache:
    """``get(key, make)`` is what ``make()`` gave the first time."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Opens or makes the cache in ``folder``; OSError where it cannot be written."""
        self.folder, self.max_bytes = folder, max_bytes
        self.full = False
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        self._tidy()

    def get(self, key: str, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """A uint8 array, read-only where it comes from the cache. A damaged entry is made anew."""
        path = self.folder / key[:2] / f"{key}.npy"
        try:
            found: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
            if time.time() - path.stat().st_mtime > DAY:
                os.utime(path)  # last used today
            return found
        except FileNotFoundError:
            pass
        except (ValueError, EOFError):
            path.unlink(missing_ok=True)
        value = make()
        if not self.full:
            self._put(path, value)
        return value

    def _put(self, path: Path, value: NDArray[np.uint8]) -> None:
        size = value.nbytes + 128  # numpy's header
        with self._lock:
            used = self._used()
            self.full = used + size > self.max_bytes
            if self.full:
                return
            self._set_used(used + size)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{size}.{os.getpid()}.{id(value)}.tmp")
        try:
            with temporary.open("wb") as file:
                np.lib.format.write_array(file, value, version=(1, 0), allow_pickle=False)
            if path.exists():  # another process was faster: its room is ours twice
                self._give_back(size)
            temporary.replace(path)
        except OSError:  # a full disk: training goes on without the cache
            temporary.unlink(missing_ok=True)
            self._give_back(size)
            self.full = True

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._set_used(self._used() - size)

    def _used(self) -> int:
        try:
            return int((self.folder / "used").read_text())
        except (FileNotFoundError, ValueError):
            return self._count()

    def _set_used(self, size: int) -> None:
        (self.folder / "used").write_text(str(size))

    def _count(self) -> int:
        return sum(self._size(path) for path in self.folder.glob("*/*") if path.suffix in (".npy", ".tmp"))

    @staticmethod
    def _size(path: Path) -> int:
        """Bytes of an entry; one being written counts with what it will be."""
        try:
            return path.stat().st_size if path.suffix == ".npy" else int(path.name.split(".")[1])
        except FileNotFoundError:
            return 0

    def _tidy(self) -> None:
        with self._lock:
            now = time.time()
            entries = []
            for path in self.folder.glob("*/*"):
                try:
                    last = path.stat().st_mtime
                except FileNotFoundError:
                    continue
                if now - last > (30 * DAY if path.suffix == ".npy" else DAY / 24):  # unused, or left by a killed run
                    path.unlink(missing_ok=True)
                else:
                    entries.append((last, path))
            used = self._count()
            for _, path in sorted(entries):
                if used <= self.max_bytes:
                    break
                used -= self._size(path)
                path.unlink(missing_ok=True)
            self._set_used(used)
