"""A large JSON object read piece by piece, so that no more than a part of it is in memory at a time."""

import codecs
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from clouds.data.archives import Folder
from clouds.data.samples import Place
from clouds.errors import DataError

CHUNK = 1 << 20  # bytes that are read at a time, and more where one value is longer
PIECE = 1 << 16  # bytes of an archive's member that are packed together
_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST = 20  # characters that a cut word or sign of a number may have after the place where the decoder stops


class Span(NamedTuple):
    """Where a value stands in its file, in bytes."""

    start: int
    length: int


class JsonFile:
    """A JSON object in a file: ``entries`` goes through it once, ``values`` reads single values again.

    An unpacked file is read where it lies. A member of an archive is unpacked into memory for ``entries``; packed
    pieces of it are kept for ``values``.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._path = place.files.path / place.name if isinstance(place.files, Folder) else None
        self._read_as: tuple[int, int] | None = None  # the file's size and time when it was gone through
        self._pieces: list[bytes] = []

    def entries(self) -> Iterator[tuple[str, Any, Span]]:
        """(key, value, where it stands) of the object, and of a list under a key each of its values.

        ValueError where it is not a whole JSON object, DataError where it cannot be read.
        """
        if self._path:
            with self._open() as file:
                self._read_as = _state(file)
                yield from _Reader(file).object()
        else:
            data = self.place.read()
            self._pieces = [zlib.compress(data[k : k + PIECE], 1) for k in range(0, len(data), PIECE)]
            yield from _Reader(io.BytesIO(data)).object()

    def values(self, spans: Iterable[Sequence[int]]) -> Iterator[Any]:
        """The values at these places, (start, length) in bytes; DataError where the file cannot be read, or was
        changed since ``entries``."""
        if not self._path:
            yield from (json.loads(self._packed(*span)) for span in spans)
            return
        with self._open() as file:
            if _state(file) != self._read_as:
                raise DataError(f"{self.place}: was changed while it was in use; start again")
            for start, length in spans:
                file.seek(start)
                yield json.loads(file.read(length))

    def _open(self) -> BinaryIO:
        assert self._path
        try:
            return self._path.open("rb")
        except OSError as error:
            raise DataError(f"{self.place}: cannot be read ({error.strerror})") from error

    def _packed(self, start: int, length: int) -> bytes:
        first, last = start // PIECE, (start + length) // PIECE
        data = b"".join(zlib.decompress(piece) for piece in self._pieces[first : last + 1])
        return data[start - first * PIECE :][:length]


def _state(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


class _Reader:
    """The text of a file from a place on: ``text[at:]`` and what is not yet read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.text, self.at = file, "", 0
        self.decoder, self.characters = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")()
        self.ended = False
        self._known = 0, 0  # a place in the text, and the same in the file
        if file.read(3) == codecs.BOM_UTF8:
            self._known = 0, 3
        else:
            file.seek(0)

    def place(self, at: int) -> int:
        """The byte of the file at which ``text[at]`` begins; places are asked for in their order."""
        known, byte = self._known
        byte += at - known if self.text.isascii() else len(self.text[known:at].encode())
        self._known = at, byte
        return byte

    def more(self) -> None:
        """Read on; what was taken is dropped."""
        self._known = 0, self.place(self.at)
        data = self.file.read(max(CHUNK, len(self.text) - self.at))
        self.ended = not data
        self.text, self.at = self.text[self.at :] + self.characters.decode(data, final=self.ended), 0

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def take(self, sign: str) -> None:
        if self.peek() != sign:
            raise ValueError(f"expected {sign!r}, got {self.peek()!r} at byte {self.place(self.at)}")
        self.at += 1

    def value(self) -> tuple[Any, Span]:
        """The next value, whole."""
        self.peek()
        start = self.place(self.at)
        while True:
            try:
                found, end = self.decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.pos > len(self.text) - _LONGEST or error.msg.startswith("Unterminated string")
                if self.ended or not cut:
                    raise ValueError(f"{error.msg} at byte {self.place(error.pos)}") from error
            else:
                if end < len(self.text) or self.ended:  # a number at the end may go on
                    self.at = end
                    return found, Span(start, self.place(end) - start)
            self.more()

    def follows(self, end: str) -> bool:
        """Take a comma or the ``end`` of a list or an object; whether it was a comma."""
        sign = self.peek()
        if sign not in (",", end):
            raise ValueError(f"expected ',' or {end!r}, got {sign!r} at byte {self.place(self.at)}")
        self.at += 1
        return sign == ","

    def object(self) -> Iterator[tuple[str, Any, Span]]:
        self.take("{")
        more = self.peek() != "}" or self.follows("}")
        while more:
            key = str(self.value()[0])
            self.take(":")
            if self.peek() == "[":
                yield from self.items(key)
            else:
                yield key, *self.value()
            more = self.follows("}")

    def items(self, key: str) -> Iterator[tuple[str, Any, Span]]:
        self.take("[")
        more = self.peek() != "]" or self.follows("]")
        while more:
            yield key, *self.value()
            more = self.follows("]")
