"""Which files of an output folder are made, of what and how: so that work that was interrupted goes on."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clouds.base.files import as_bytes, make_folder, read_jsonl, write_jsonl, writing

NAME = "predictions.jsonl"


class Ledger:
    """Rows {"file", "input", "key"}; a file is made when it is there and its key is that of what is asked for now."""

    def __init__(self, out: Path, settings: str) -> None:
        """``settings``: all that an output follows from, beside its input."""
        self.out, self.settings = out, settings
        path = out / NAME
        rows = read_jsonl(path, cut_is_fine=True) if path.is_file() else []
        self._keys = {row["file"]: row for row in rows}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """While this is open, what is added is written down at once."""
        make_folder(self.out)
        write_jsonl(self.out / NAME, list(self._keys.values()))  # a line that a kill cut short is gone
        with (self.out / NAME).open("a", encoding="utf-8") as self._log:
            yield

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
        with writing(self.out / NAME):
            for file in files:
                row = {"file": self._name(file), "input": shown, "key": key or ""}
                self._keys[row["file"]] = row
                self._log.write(json.dumps(row) + "\n")
            self._log.flush()

    def _name(self, file: Path) -> str:
        return file.relative_to(self.out).as_posix()
