"""Decoded images and labels on disk, so that later epochs read a crop's rows instead of decoding a file.

One ``.npy`` a picture in a bounded folder, mapped into memory: a crop touches its own pages only.
"""

import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from clouds.base.bounded import DAY, BoundedFolder, Codec
from clouds.base.files import as_bytes
from clouds.data.archives import Folder
from clouds.data.samples import Place
from clouds.errors import DataError

__all__ = ["DAY", "DecodedCache", "identity"]

_FORMAT = "1"


def identity(place: Place, *meaning: str | bytes) -> str:
    """A name for the decoded content of a file: its path, size and time, and what its pixels were read as. DataError
    for a file that is not there."""
    path = place.files.path / place.name if isinstance(place.files, Folder) else place.files.path
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror})") from error
    parts = (_FORMAT, str(path.absolute()), place.name, str(status.st_size), str(status.st_mtime_ns), *meaning)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(as_bytes(part) if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()


def _read(path: Path) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def _write(file: BinaryIO, value: NDArray[np.uint8]) -> None:
    np.lib.format.write_array(file, value, version=(1, 0), allow_pickle=False)


def _size(value: NDArray[np.uint8]) -> int:
    return value.nbytes + 128  # numpy's header


class DecodedCache(BoundedFolder[NDArray[np.uint8]]):
    """uint8 arrays, read-only where they come from the cache."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Opens or makes the cache in ``folder``; OSError where it cannot be written."""
        super().__init__(folder, max_bytes, Codec(".npy", _read, _write, _size, (ValueError, EOFError)))
