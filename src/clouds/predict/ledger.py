"""Which files of an output folder are made, of what and how: so that work that was interrupted goes on."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from clouds.base.files import as_bytes
from clouds.base.journal import Journal

NAME = "predictions.jsonl"


class Ledger:
    """Rows {"file", "input", "key"}; a file is made when it is there and its key is that of what is asked for now."""

    def __init__(self, out: Path, settings: str) -> None:
        """``settings``: all that an output follows from, beside its input."""
        self.out, self.settings = out, settings
        self._journal = Journal(out / NAME)
        self._keys = {row["file"]: row for row in self._journal.rows}

    def begin(self) -> None:
        """Write the file with one row for each output; what is added from now on is written down at once."""
        self._journal.rewrite(list(self._keys.values()))

    def key(self, source: object) -> str | None:
        """Of an input file as it is now; None for what cannot be seen twice (stdin, a camera), or not at all."""
        if not isinstance(source, Path):
            return None
        try:
            about = source.stat()
        except OSError:
            return None
        text = f"{self.settings}\0{source.resolve()}\0{about.st_size}\0{about.st_mtime_ns}"
        return hashlib.sha256(as_bytes(text)).hexdigest()[:32]

    def has(self, files: Iterable[Path], key: str | None) -> bool:
        """Whether all of these are made."""
        return key is not None and all(
            self._keys.get(self._name(file), {}).get("key") == key and file.is_file() for file in files
        )

    def add(self, files: Iterable[Path], shown: str, key: str | None) -> None:
        """These were made from the input ``shown``."""
        rows = [{"file": self._name(file), "input": shown, "key": key or ""} for file in files]
        self._keys |= {row["file"]: row for row in rows}
        self._journal.add(*rows)

    def _name(self, file: Path) -> str:
        return file.relative_to(self.out).as_posix()
