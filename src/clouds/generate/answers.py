"""What a writer answered, kept as it comes: one line a call, so that an interrupted run asks nothing twice.

Everything after the answers is a pure function of them: a run that goes on from this file ends like one never stopped.
"""

import json
from pathlib import Path
from typing import Any

from clouds.base.files import make_folder, read_jsonl
from clouds.base.progress import say
from clouds.errors import DataError

KEYS = {"recipe", "n", "model", "revision", "answers"}


class Answers:
    """The calls of one recipe in order. ``next`` gives the stored ones first, then None: ask and ``add``."""

    def __init__(self, path: Path, recipe: str) -> None:
        self.path, self.recipe = path, recipe
        self._stored = _read(path, recipe)
        self._told = 0

    def next(self) -> dict[str, Any] | None:
        """The next call on disk: {"recipe", "n", "model", "revision", "answers": [text]}."""
        if self._told == len(self._stored):
            return None
        self._told += 1
        return self._stored[self._told - 1]

    def add(self, call: dict[str, Any]) -> dict[str, Any]:
        """Append a call, on disk when this returns; the call as stored."""
        call = {"recipe": self.recipe, **call}
        make_folder(self.path.parent)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(call) + "\n")  # ASCII: a model may answer half a surrogate pair
        self._stored.append(call)
        self._told += 1
        return call


def answers_file(prompts: Path) -> Path:
    """Beside ``prompts.jsonl``: ``prompts.answers.jsonl``."""
    return prompts.with_name(f"{prompts.stem}.answers.jsonl")


def _read(path: Path, recipe: str) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        say(f"{path}: its last line was cut when the run was stopped; that call is asked again")
        with path.open("r+b") as file:
            file.truncate(len(whole))
    rows = read_jsonl(path)
    if not all(isinstance(row, dict) and row.keys() >= KEYS and row["n"] > 0 for row in rows):
        raise DataError(f"{path}: holds lines that are no answers of a prompt writer; delete it to ask anew")
    if any(row["recipe"] != recipe for row in rows):
        say(f"{path}: holds answers to other settings; asking anew")
        path.unlink()
        return []
    return rows
