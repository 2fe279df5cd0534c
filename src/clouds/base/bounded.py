"""A folder of files that never grows beyond its bound, shared by any number of processes and runs.

Room is reserved, under a lock, before anything is written. When it is full nothing is thrown out for newcomers, for
random epochs over a set that does not fit would otherwise hit nothing; files unused for a month go when the folder is
opened, the least recently used go when its bound was lowered. Only files of the cache's own naming are ever touched.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from filelock import FileLock

from clouds.base.files import age

DAY = 86400.0

T = TypeVar("T")


@dataclass(frozen=True)
class Codec(Generic[T]):
    """How values become files. ``read`` raises one of ``broken`` for a damaged file; ``size`` is that of the file."""

    suffix: str
    read: Callable[[Path], T]
    write: Callable[[BinaryIO, T], None]
    size: Callable[[T], int]
    broken: tuple[type[Exception], ...]


class BoundedFolder(Generic[T]):
    """``get(key, make)`` is what ``make()`` gave the first time. Keys are hexadecimal digits."""

    def __init__(self, folder: Path, max_bytes: int, codec: Codec[T]) -> None:
        """Opens or makes the cache in ``folder``; OSError where it cannot be written."""
        self.folder, self.max_bytes, self.codec = folder, max_bytes, codec
        self.full = False
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        self._tidy()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """The value of ``key``, from the folder or made, and kept where there is room. A damaged file is made anew."""
        path = self.folder / key[:2] / f"{key}{self.codec.suffix}"
        try:
            found = self.codec.read(path)
            if age(path) > DAY:
                os.utime(path)  # last used today
            return found
        except FileNotFoundError:
            pass
        except self.codec.broken:
            path.unlink(missing_ok=True)
        value = make()
        if not self.full:
            self._put(path, value)
        return value

    def _put(self, path: Path, value: T) -> None:
        size = self.codec.size(value)
        temporary = path.with_name(f".{size}.{os.getpid()}.{id(value)}.tmp")
        try:
            with self._lock:  # a reservation and its file come and go together: another process may be counting
                self.full = self._used() + size > self.max_bytes
                if self.full:
                    return
                path.parent.mkdir(exist_ok=True)
                temporary.touch()
                self._add(size)
            with temporary.open("wb") as file:
                self.codec.write(file, value)
            with self._lock:
                if path.exists():  # another process was faster: its room is ours twice
                    self._add(-size)
                temporary.replace(path)
        except OSError:  # a full disk: work goes on without the cache
            self.full = True
            with suppress(OSError), self._lock:
                if temporary.exists():
                    temporary.unlink()
                    self._add(-size)

    def _add(self, size: int) -> None:
        (self.folder / "used").write_text(str(self._used() + size))

    def _used(self) -> int:
        try:
            return int((self.folder / "used").read_text())
        except (FileNotFoundError, ValueError):
            return self._count()

    def _files(self) -> Iterator[Path]:
        """Entries, and those being written."""
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            if path.suffix in (self.codec.suffix, ".tmp"):
                yield path

    def _count(self) -> int:
        return sum(self._size(path) for path in self._files())

    @staticmethod
    def _size(path: Path) -> int:
        """Bytes of an entry; one being written counts with what it will be."""
        try:
            return int(path.name.split(".")[1]) if path.suffix == ".tmp" else path.stat().st_size
        except (FileNotFoundError, ValueError):
            return 0

    def _tidy(self) -> None:
        with self._lock:
            entries = []
            for path in self._files():
                try:
                    unused = age(path)
                except FileNotFoundError:
                    continue
                # left by a killed run, or unused; clocks may be set by hours while another process writes
                if unused > (DAY if path.suffix == ".tmp" else 30 * DAY):
                    path.unlink(missing_ok=True)
                else:
                    entries.append((unused, path))
            used = self._count()
            for _, path in sorted(entries, reverse=True):
                if used <= self.max_bytes:
                    break
                used -= self._size(path)
                path.unlink(missing_ok=True)
            (self.folder / "used").write_text(str(used))
