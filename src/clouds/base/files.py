"""Files that appear whole or not at all: write to a temporary name beside the target, then rename."""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from clouds.base.signals import Uninterrupted
from clouds.errors import CloudsError, DataError, UsageError

T = TypeVar("T")


def make_folder(path: Path) -> None:
    """Make a folder and those above it; raises UsageError where a file stands in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        blocking = next(p for p in (path, *path.parents) if p.exists() and not p.is_dir())
        raise UsageError(f"{blocking}: is a file where a folder is needed; choose another place") from None


# errors of a disk: they end the work, for the next file would meet the same
DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@contextmanager
def writing(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Inside, an OSError of a write that names no file, or the ``temporary`` one, names ``path``; so does what a
    library raises in its own words while the disk is full."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and error.errno in DISK | {errno.EIO, errno.EFBIG}
        if unnamed or (temporary and str(error.filename) == str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except Exception as error:
        if isinstance(error, CloudsError) or shutil.disk_usage(path.absolute().parent).free > 1 << 16:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def as_bytes(text: str) -> bytes:
    """Text for a digest: UTF-8, also of file names that are none."""
    return text.encode("utf-8", "surrogatepass")


def reason(error: Exception) -> str:
    """An error for a person: of the system's, the file and what the system says."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def beside(path: Path) -> str:
    """The beginning of a temporary name for ``path``: hidden, and never longer than a name may be."""
    return f".{path.stem[:24]}-"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; on success it becomes ``path``, on any failure it is removed.

    UsageError where a folder or file stands in the way; OSError that names ``path`` where it cannot be written.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise UsageError(f"{path}: is a folder where a file is to be written; choose another place")
    # its name is known before it is made: Ctrl-C between the two must not leave it behind
    temporary = path.with_name(f"{beside(path)}{secrets.token_hex(4)}{path.suffix[:16]}")
    try:
        with writing(path, temporary):
            # no file object: Ctrl-C inside the finaliser of one would be swallowed by the interpreter
            os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            yield temporary
            temporary.chmod(0o644)
            _sync(temporary)
            temporary.replace(path)
    finally:
        try:
            temporary.unlink(missing_ok=True)
        finally:  # again: Ctrl-C may have come before the first one did it
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Put a file's bytes on the disk: after a power cut, a name must not stand for nothing or a half."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_TEMPORARY = re.compile(r"\..{0,24}-[a-z0-9_]{8}(-old|\..{0,15})?", re.DOTALL)  # of ``beside`` and ``tempfile``


def age(path: Path) -> float:
    """Seconds since a file was written; below 0 where the clock was set back since then."""
    return time.time() - path.lstat().st_mtime  # noqa: TID251 - a file's time has no other clock


def sweep_temporaries(folder: Path, older: float = 0.0) -> None:
    """Remove what a kill left half-written in ``folder``: nobody else may be writing there.

    older: only what is so many seconds old, where others may be writing.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name) and (not older or age(path) >= older):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Fill a temporary folder beside ``folder``, then put it in its place: a reader sees the old or the new one."""
    make_folder(folder.parent)
    temporary = folder.with_name(f"{beside(folder)}{secrets.token_hex(4)}")
    old = temporary.with_name(temporary.name + "-old")
    try:
        temporary.mkdir(mode=0o700)
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.iterdir():
            file.chmod(0o644)  # safetensors writes files only their owner can read
            if file.is_file():
                _sync(file)
        with Uninterrupted():  # between the two there is no folder
            if folder.exists():
                folder.rename(old)
            temporary.rename(folder)
    finally:
        try:
            _remove(temporary, old)
        finally:  # again: Ctrl-C may have come before the first one did it
            _remove(temporary, old)


def _remove(*folders: Path) -> None:
    with Uninterrupted():  # Ctrl-C inside rmtree may have it close a descriptor twice, and raise that instead
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8; the odd bytes of a file's name that is none become backslash escapes."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json_text(value, indent=1) + "\n")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    write_text(path, "".join(json_text(row) + "\n" for row in rows))


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that can be written as UTF-8 whatever names and texts it holds."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if re.search("[\ud800-\udfff]", text):  # half a surrogate pair, as a model may answer, is no UTF-8
        return json.dumps(value, indent=indent)
    return text


def read_json(path: Path) -> Any:
    """Raises DataError naming the file when it is absent or no JSON."""
    return parse_file(path, json.loads)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file. Raises DataError as ``read_json``."""
    return parse_file(path, _rows)


def _rows(data: bytes) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            rows.append(json.loads(line))
            if not isinstance(rows[-1], dict):
                raise ValueError(f"line {number} is not a JSON object")
    return rows


def lies_inside(name: Any) -> bool:
    """Whether a name out of a list of files is a path that stays inside the list's own folder."""
    try:
        path = PurePosixPath(name if isinstance(name, str) else "")
        str(path).encode("utf-8", "surrogateescape")  # half a surrogate pair is not a file's name
    except UnicodeEncodeError:
        return False
    return bool(path.name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def parse_file(path: Path, parse: Callable[[bytes], T]) -> T:
    """What ``parse`` makes of a file's bytes; raises DataError where the file is absent or ``parse`` a ValueError."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: not there") from None
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it to make it again") from error


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_written(path: Path, digest: str | None) -> bool:
    """Whether a file is there and has the SHA-256 that was noted of it; True where none was."""
    if not path.is_file():
        return False
    status = path.stat()
    return digest is None or _known_sha256(path, status.st_ino, status.st_mtime_ns, status.st_size) == digest


@lru_cache(maxsize=1 << 17)  # sets are looked through more than once a run
def _known_sha256(path: Path, _file: int, _time: int, _size: int) -> str:
    return sha256(path)


def decode(data: bytes, origin: str) -> str:
    """UTF-8 or UTF-16 by its byte order mark, UTF-8, else what old Windows editors save; DataError for binaries."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    if b"\0" in data:
        raise DataError(f"{origin}: is not a text file (it holds zero bytes); expected one prompt per line")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
