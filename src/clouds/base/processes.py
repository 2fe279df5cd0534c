"""Work shared by the processes that torchrun or accelerate started: which this one is, and what all have found."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from clouds.base.watch import Watch
from clouds.errors import UsageError, cause

T = TypeVar("T")

# of a collective: gradients, or the others while the main one writes a checkpoint. Nothing longer is waited for there:
# work of hours is shared, and its end is waited for by ``Processes.wait``, which has no limit
PATIENCE = timedelta(minutes=30)
MEETING = timedelta(seconds=45)  # in which processes that were started together find each other
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what a launcher sets
LEFT_OVER = ("LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # what else accelerate goes by


@dataclass(frozen=True)
class Processes:
    """This process's ``rank`` of ``world``; the main one alone prints and writes."""

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all have called it, however long that takes; no collective, which would have a limit."""
        if self.world == 1:
            return
        _meeting["waits"] = _meeting.get("waits", 0) + 1
        key, pause = f"clouds/wait/{_meeting['waits']}", 0.01
        _meeting["store"].add(key, 1)
        while _meeting["store"].add(key, 0) < self.world:
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def gather(self, value: T) -> list[T]:
        """Every process's, by rank; all have to call it."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        self.wait()
        found: list[T] = [value] * self.world
        dist.all_gather_object(found, value)
        return found


ALONE = Processes()
_meeting: dict[str, Any] = {}  # of this process: the store and the watch of those that met


def several() -> bool:
    """Whether the environment says that several processes were started together."""
    return os.environ.get("WORLD_SIZE", "") not in ("", "1")


def main_process() -> bool:
    """Whether this is the first of those that were started together, or alone."""
    return not several() or os.environ.get("RANK") == "0"


@contextmanager
def unlaunched() -> Iterator[None]:
    """Inside, ``LEFT_OVER`` variables are hidden from libraries, unless several processes were started together."""
    hidden = {} if several() else {name: os.environ.pop(name) for name in LEFT_OVER if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def meet(backend: str | None = "gloo") -> Processes:
    """The processes that were started together, joined over ``backend`` (None: gloo and, for GPUs, nccl).

    A process that was started alone is alone. Raises UsageError where the environment speaks of others that are not
    there, after ``MEETING`` at most.
    """
    if not several():
        return ALONE
    asked = os.environ["WORLD_SIZE"]
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    if not dist.is_initialized():
        absent = [name for name in LAUNCHED if not os.environ.get(name)]
        try:
            if absent:
                raise ValueError(f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not set")
            store, rank, world = next(iter(rendezvous("env://", timeout=MEETING)))
        except (RuntimeError, ValueError, OSError) as error:
            raise UsageError(
                f"WORLD_SIZE={asked} in the environment says that {asked} processes were started together, but they do "
                f"not find each other ({cause(error)}). To start one process alone: unset {' '.join(LAUNCHED)}. To "
                "start several, use torchrun or accelerate launch"
            ) from error
        store.set_timeout(PATIENCE)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
        _meeting.update(store=store, watch=Watch(store, rank, world), waits=0)
    return Processes(dist.get_rank(), dist.get_world_size())


def watch() -> Watch | None:
    """That of the processes that met; None for one alone."""
    return _meeting.get("watch")


def part() -> None:
    """The end of ``meet``."""
    if "torch.distributed" not in sys.modules:
        return
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
