"""The files of a dataset, wherever they lie: unpacked in a folder, or inside zip and tar archives read in place.

An archive is listed once (name -> where its bytes are); a member is then a seek and a read, in any order and from any
number of forked workers. Refused before anything is unpacked: names that would leave the dataset (``../``, absolute),
links and devices, encryption, and members whose declared size is out of proportion to what is stored.
"""

import os
import re
import stat
import tarfile
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from clouds.data.walk import UNREADABLE, is_hidden, names_below
from clouds.errors import DataError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_MEMBER = 1 << 29  # bytes of one unpacked file
MAX_MEMBERS = 2_000_000

_HOSTILE = re.compile(r"^/|^[A-Za-z]:|(^|/)\.\.(/|$)|\x00")


class Files(Protocol):
    """Files under relative posix names."""

    path: Path

    def names(self, under: str = "") -> Iterator[str]:
        """Names of the files in the folder ``under`` ("" for all) and below it, in no order; hidden ones left out."""

    def read(self, name: str) -> bytes:
        """The whole file; DataError where that cannot be."""

    def size(self, name: str) -> int:
        """Its bytes, without reading them; DataError where that cannot be."""

    def where(self, name: str) -> str:
        """The file as a person would name it."""


class Folder:
    """An unpacked dataset."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self, under: str = "") -> Iterator[str]:
        start = self.path / under
        base = f"{under.rstrip('/')}/" if under else ""

        def left(name: str, why: str) -> None:
            if why == UNREADABLE and (start / name).exists():
                raise DataError(f"{start / name}: cannot be read; check its permissions")

        yield from (base + name for name in names_below(start, left))

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise DataError(f"{self.where(name)}: cannot be read ({error.strerror})") from error

    def size(self, name: str) -> int:
        try:
            return (self.path / name).stat().st_size
        except OSError as error:
            raise DataError(f"{self.where(name)}: cannot be read ({error.strerror})") from error

    def where(self, name: str) -> str:
        return str(self.path / name)


class Archive:
    """A zip or tar read in place; holds nothing but its path, so it goes to any worker."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def every_name(self) -> Iterator[str]:
        """Names of all files, hidden ones too."""
        return iter(self._listing().members)

    def names(self, under: str = "") -> Iterator[str]:
        start = under.rstrip("/") + "/" if under else ""
        return (n for n in self._listing().members if n.startswith(start) and not any(map(is_hidden, n.split("/"))))

    def read(self, name: str) -> bytes:
        where, member, gzipped = self.where(name), self._member(name), self._listing().gzipped
        if member.size > MAX_MEMBER or (member.size > 1 << 20 and member.size > MAX_RATIO * max(member.packed, 1)):
            raise DataError(f"{where}: declares {member.size} bytes packed into {member.packed}; refused as a "
                            f"decompression bomb (at most {MAX_MEMBER >> 20} MB and {MAX_RATIO} to 1)")  # fmt: skip
        try:
            if gzipped is not None:
                data = gzipped.read_at(member.offset, member.size)
            else:
                with self.path.open("rb") as file:
                    file.seek(member.offset)
                    data = _unzipped(file, member, where) if member.zipped else file.read(member.size)
        except (OSError, ValueError, OverflowError) as error:  # offsets that a broken listing made up
            raise DataError(f"{where}: cannot be read ({error}); fetch {self.path.name} again") from error
        if len(data) != member.size or (member.zipped and zlib.crc32(data) != member.crc):
            raise DataError(f"{where}: damaged or truncated in the archive, fetch {self.path.name} again")
        return data

    def size(self, name: str) -> int:
        return self._member(name).size

    def _member(self, name: str) -> "_Member":
        if name not in (members := self._listing().members):
            raise DataError(f"{self.where(name)}: no such file in the archive")
        return members[name]

    def where(self, name: str) -> str:
        return f"{self.path}:{name}"

    def _listing(self) -> "_Listing":
        try:
            status = self.path.stat()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
        return _list(self.path, status.st_mtime_ns, status.st_size)


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


MAX_RATIO = 200  # unpacked over packed bytes: images hardly shrink when packed, bombs do
_GZIP = 16 + zlib.MAX_WBITS


class _Point(NamedTuple):
    out: int  # position in the unpacked stream
    at: int  # position in the file
    state: Any  # zlib's decompressor there (its type has no public name)


class Gzipped:
    """``read(n)`` goes through the file once, marking it; ``read_at`` then reads anywhere, from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # half of this is inflated in vain at each read; at most some 256 copies
        self._spacing = max(4 << 20, path.stat().st_size // 256)
        self._points = [_Point(0, 0, zlib.decompressobj(_GZIP))]
        self._stream = self._inflate(self._points[0], mark=True)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end."""
        parts, have = [self._rest], len(self._rest)
        while have < size and (chunk := next(self._stream, b"")):
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]

    def read_at(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` of the unpacked stream; fewer where the file ends."""
        point = self._points[bisect_right(self._points, offset, key=lambda p: p.out) - 1]
        position, parts = point.out, []
        for chunk in self._inflate(point, mark=False):
            parts.append(chunk[max(offset - position, 0) : offset + size - position])
            position += len(chunk)
            if position >= offset + size:
                break
        return b"".join(parts)

    def _inflate(self, point: _Point, mark: bool) -> Iterator[bytes]:
        state, out, rest = point.state.copy(), point.out, b""
        with self.path.open("rb") as file:
            file.seek(point.at)
            while packed := rest or file.read(1 << 17):
                if state.eof:  # gzip files may be several streams one after the other, and end in zeros
                    if not packed.strip(b"\0"):
                        rest = b""
                        continue
                    state = zlib.decompressobj(_GZIP)
                try:
                    chunk = state.decompress(packed, 1 << 20)
                except zlib.error as error:
                    raise DataError(f"{self.path}: damaged ({error}), fetch it again") from error
                rest = state.unused_data or state.unconsumed_tail
                out, at = out + len(chunk), file.tell() - len(rest)
                if out > max(1 << 26, MAX_RATIO * at):
                    raise DataError(f"{self.path}: unpacks to more than {MAX_RATIO} times its size; refused as a bomb")
                if mark and not state.eof and out - self._points[-1].out >= self._spacing:
                    self._points.append(_Point(out, at, state.copy()))
                if chunk:
                    yield chunk
            if not state.eof:
                raise DataError(f"{self.path}: ends too early, fetch it again")


class _Member(NamedTuple):
    """Where one file's bytes lie."""

    offset: int  # of the local header in a zip, of the data in a tar (its unpacked stream, if compressed)
    packed: int
    size: int
    zipped: bool
    deflated: bool = False
    crc: int = 0


class _Listing(NamedTuple):
    members: dict[str, _Member]
    gzipped: Gzipped | None = None


@lru_cache(maxsize=128)  # a changed file is listed anew, by its time and size
def _list(path: Path, _time: int, _size: int) -> _Listing:
    try:
        return _list_zip(path) if path.name.lower().endswith(".zip") else _list_tar(path)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path}: not a complete archive ({error}); fetch it again") from error


def _list_zip(path: Path) -> _Listing:
    members: dict[str, _Member] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            link = stat.S_ISLNK(info.external_attr >> 16)
            name = _checked(path, info.orig_filename, len(members), "a link" if link else "")
            if name.endswith("/"):
                continue
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"{path}: {info.filename} is encrypted or packed in a rare way; unpack the archive")
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            if name in members and (members[name].crc, members[name].size) != (info.CRC, info.file_size):
                raise DataError(f"{path}: holds two different files named {name!r}; keep one, or unpack the archive")
            members[name] = _Member(info.header_offset, info.compress_size, info.file_size, True, deflated, info.CRC)
    return _Listing(members)


def _list_tar(path: Path) -> _Listing:
    gzipped = None if path.name.lower().endswith(".tar") else Gzipped(path)
    members: dict[str, _Member] = {}
    # going forward only, it needs no more of a file than read
    with tarfile.open(fileobj=cast(BinaryIO, gzipped), mode="r|") if gzipped else tarfile.open(path, "r:") as archive:
        for info in archive:
            odd = "" if info.isreg() or info.isdir() else "a link" if info.issym() or info.islnk() else "a device"
            name = _checked(path, info.name, len(members), "sparse" if info.issparse() else odd)
            if info.isreg():
                members[name] = _Member(info.offset_data, info.size, info.size, False)
    return _Listing(members, gzipped)


def _checked(path: Path, name: str, count: int, odd: str) -> str:
    """A member's name with slashes, as tools of Windows may not write it; ``odd``: what it is, if no plain file."""
    name = re.sub(r"^(\./)+", "", name.replace("\\", "/"))
    if _HOSTILE.search(name):
        raise DataError(
            f"{path}: refused, its member {name!r} would leave the dataset's folder; fetch it from the set's own site"
        )
    if odd:
        raise DataError(f"{path}: its member {name!r} is {odd}, and only plain files are read from an archive; "
                        "unpack it into a folder, or pack the files themselves (tar --dereference)")  # fmt: skip
    if count >= MAX_MEMBERS:
        raise DataError(f"{path}: refused, more than {MAX_MEMBERS} members")
    return name


def _unzipped(file: BinaryIO, member: _Member, where: str) -> bytes:
    """``file`` stands at the member's local header."""
    header = file.read(30)
    if header[:4] != b"PK\x03\x04":
        raise DataError(f"{where}: its entry in the archive is damaged, fetch the archive again")
    file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)
    packed = file.read(member.packed)
    if not member.deflated:
        return packed
    try:  # one byte more than declared shows a lie, and never unpacks it
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1)
    except zlib.error as error:
        raise DataError(f"{where}: damaged in the archive ({error}), fetch the archive again") from error


