"""Random reads from a gzip file, for ``.tar.gz`` datasets that are not unpacked.

Inflating can only go forward, but its state can be copied. One pass over the file keeps a copy every few megabytes of
output; a later read starts from the copy before its offset. About 200 KB of memory a copy.
"""

import zlib
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from clouds.errors import DataError

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
