"""Which part of a generated set a process makes, and who is at work on it.

Batch b of a set belongs to shard b % n. Each shard keeps its rows in a part of the manifest of its own, so that
machines need share nothing; the one that finishes last puts the parts together.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clouds.base.files import make_folder
from clouds.base.locks import BusyError, HeldError, locked
from clouds.errors import UsageError

MANIFEST = "metadata.jsonl"
PARTS = "metadata-*-of-*.jsonl"


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, from 0."""

    index: int = 0
    count: int = 1

    @property
    def manifest(self) -> str:
        return MANIFEST if self.count == 1 else f"metadata-{self.index:05d}-of-{self.count:05d}.jsonl"

    def __str__(self) -> str:
        return f"shard {self.index}/{self.count}"


WHOLE = Shard()


def parse_shard(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """``i/n`` as a shard; without it, this process's place among those a launcher started, or the whole.

    Launchers: torchrun and accelerate (RANK, WORLD_SIZE), SLURM arrays and tasks. UsageError for what is not a shard.
    """
    if text is not None:
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not found or not int(found[1]) < int(found[2]):
            raise UsageError(f"--shard: got {text!r}; expected i/n with i from 0 to n - 1, such as 0/4")
        return Shard(int(found[1]), int(found[2]))
    for first, index, count in (
        (None, "RANK", "WORLD_SIZE"),
        ("SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
        (None, "SLURM_PROCID", "SLURM_NTASKS"),
    ):
        place, total = environment.get(index, ""), environment.get(count, "")
        if place.isdecimal() and total.isdecimal() and int(total) > 1:
            shard = Shard(int(place) - int(environment.get(first or "", "0")), int(total))
            if not 0 <= shard.index < shard.count:
                raise UsageError(f"{index}={place} of {count}={total} is not a shard; use --shard i/n")
            return shard
    return WHOLE


@contextmanager
def held(folder: Path, shard: Shard) -> Iterator[None]:
    """Keep others off this shard of the set; UsageError where another process is at work on it."""
    make_folder(folder)
    try:
        with locked(folder / f".{shard.manifest}.lock", blocking=False):
            yield
    except HeldError:
        raise BusyError(
            f"{folder}: another process is drawing {'this set' if shard == WHOLE else shard} there; wait for it, or "
            "split the set with --shard i/n"
        ) from None
