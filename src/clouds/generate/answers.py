"""What a prompt writer answered, call by call, on disk as it comes: nothing is asked twice."""

from pathlib import Path
from typing import Any

from clouds.base.journal import Journal
from clouds.base.progress import say
from clouds.errors import DataError

KEYS = {"recipe", "n", "model", "revision", "answers"}


class Answers:
    """The calls of one recipe in order. ``next`` gives the stored ones first, then None: ask and ``add``."""

    def __init__(self, path: Path, recipe: str) -> None:
        self.recipe = recipe
        self._journal = _journal(path, recipe)
        self._given = 0

    def next(self) -> dict[str, Any] | None:
        """The next call on disk: {"recipe", "n", "model", "revision", "answers": [text]}."""
        if self._given == len(self._journal.rows):
            return None
        self._given += 1
        call: dict[str, Any] = self._journal.rows[self._given - 1]
        return call

    def add(self, call: dict[str, Any]) -> dict[str, Any]:
        """Append a call, on disk when this returns; the call as stored."""
        call = {"recipe": self.recipe, **call}
        self._journal.add(call)
        self._given += 1
        return call


def answers_file(prompts: Path) -> Path:
    """Beside ``prompts.jsonl``: ``prompts.answers.jsonl``."""
    return prompts.with_name(f"{prompts.stem}.answers.jsonl")


def _journal(path: Path, recipe: str) -> Journal:
    """The calls of this recipe; the file goes if it holds those of another."""
    journal = Journal(path)
    if journal.cut:
        say(f"{path}: its last line was cut when the run was stopped; that call is asked again")
        journal.mend()
    if not all(isinstance(row, dict) and row.keys() >= KEYS and row["n"] > 0 for row in journal.rows):
        raise DataError(f"{path}: has lines that are not answers of a prompt writer; delete it to ask again")
    if any(row["recipe"] != recipe for row in journal.rows):
        say(f"{path}: has answers for other settings; asking again")
        path.unlink()
        return Journal(path)
    return journal
