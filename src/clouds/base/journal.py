"""A file of one JSON value a line, each on disk as soon as it is added: work that was killed goes on behind the last.

    journal = Journal(out / "made.jsonl")
    made = {row["file"] for row in journal.rows}
    journal.add({"file": "a.png"})
"""

import json
from pathlib import Path
from typing import Any

from clouds.base.files import json_text, make_folder, parse_file, write_jsonl, writing


class Journal:
    """``rows``: the values of the whole lines, none where there is no file yet. ``cut``: the last line was not whole.

    A cut line is what a kill leaves behind; it is no row, and ``mend`` or the first ``add`` removes it. Reading changes
    nothing, because another process may be writing.
    """

    def __init__(self, path: Path, skip_damaged: bool = False) -> None:
        """Raises DataError for a line that is no JSON; ``skip_damaged`` leaves it out instead."""
        self.path, self.cut = path, False
        self._skip_damaged = skip_damaged
        self.rows: list[Any] = parse_file(path, self._parse) if path.is_file() else []

    def _parse(self, data: bytes) -> list[Any]:
        *lines, rest = data.split(b"\n")
        self.cut = bool(rest)
        rows = []
        for line in filter(bytes.strip, lines):
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                if not self._skip_damaged:
                    raise
        return rows

    def add(self, *rows: Any) -> None:
        """Append rows; they are on disk when this returns."""
        make_folder(self.path.parent)
        self.mend()
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.writelines(json_text(row) + "\n" for row in rows)
        self.rows += rows

    def mend(self) -> None:
        """Remove a cut line from the file; only for a file that no other process is writing."""
        if self.cut:
            with self.path.open("r+b") as file:
                file.truncate(self.path.read_bytes().rfind(b"\n") + 1)
            self.cut = False

    def rewrite(self, rows: list[Any]) -> None:
        """Hold these rows and no others, in a new file that appears whole."""
        write_jsonl(self.path, rows)
        self.rows, self.cut = list(rows), False
