"""The prompt writer that somebody else was: a text file, one prompt per line."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from clouds.base.files import decode
from clouds.config.backends import Backend
from clouds.config.recipe import Prompts
from clouds.config.scene import Scene
from clouds.errors import DataError, UsageError

BACKEND = Backend("writer", "file/PATH", "text file {file}", build="TextFile")


class TextFile:
    """All its lines in order, however many are asked for; ``revision`` is the SHA-256 of its bytes.

    Raises UsageError where there is no such file, DataError where it holds no text.
    """

    def __init__(self, settings: Prompts, _device: str = "cpu", _scene: Scene | None = None) -> None:
        path = settings.writer.partition("/")[2]
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise UsageError(f"prompts.writer: file/{path}: no such file; expected a text file, one prompt per line")
        data = self.path.read_bytes()
        self.model, self.revision = self.path.name, hashlib.sha256(data).hexdigest()
        self.lines = [line.strip() for line in decode(data, str(path)).splitlines() if line.strip()]
        if not self.lines:
            raise DataError(f"{path}: holds no line of text; expected one prompt per line")
        self.scenes = sys.maxsize  # a file is read whole, once: the checks choose

    def write(self, request: Sequence[str], n: int, seed: int) -> list[str]:  # noqa: ARG002 - it says what it says
        return self.lines


def check(name: str, _key: str) -> None:
    """Raises as ``TextFile``."""
    TextFile(Prompts(writer=name))
