"""A large JSON object read piece by piece, so that no more than a part of it is in memory at a time."""

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from clouds.data.archives import Folder
from clouds.data.pairing import Place
from clouds.errors import DataError

CHUNK = 1 << 20  # bytes that are read at a time, and more where one value is longer
_SPACE = re.compile(r"[ \t\r\n]*")


def entries(place: Place) -> Iterator[tuple[str, Any]]:
    """(key, value) of the object in a file, and of a list under a key each of its values: one pair for each.

    ValueError where it is not a whole JSON object, DataError where it cannot be read. An unpacked file is read as it
    goes; of an archive it is unpacked into memory first.
    """
    if isinstance(place.files, Folder):
        try:
            with (place.files.path / place.name).open("rb") as file:
                yield from _Reader(file).object()
        except OSError as error:
            raise DataError(f"{place}: cannot be read ({error.strerror})") from error
    else:
        yield from _Reader(io.BytesIO(place.read())).object()


class _Reader:
    """The text of a file from a place on: ``text[at:]`` and what is not yet read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.text, self.at = file, "", 0
        self.decoder, self.characters = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8-sig")()
        self.ended = False

    def more(self) -> None:
        """Read on; what was taken is dropped."""
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
            raise ValueError(f"expected {sign!r}, got {self.peek()!r}")
        self.at += 1

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                found, end = self.decoder.raw_decode(self.text, self.at)
            except ValueError:
                if self.ended:
                    raise
            else:
                if end < len(self.text) or self.ended:  # a number at the end may go on
                    self.at = end
                    return found
            self.more()

    def object(self) -> Iterator[tuple[str, Any]]:
        self.take("{")
        while self.peek() != "}":
            key = str(self.value())
            self.take(":")
            if self.peek() == "[":
                self.take("[")
                while self.peek() != "]":
                    yield key, self.value()
                    if self.peek() != "]":
                        self.take(",")
                self.take("]")
            else:
                yield key, self.value()
            if self.peek() != "}":
                self.take(",")
