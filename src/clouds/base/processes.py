"""Work shared by the processes that torchrun or accelerate started: which this one is, and what all have found."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")

PATIENCE = timedelta(days=2)  # of a process that waits for the others


@dataclass(frozen=True)
class Processes:
    """This process's ``rank`` of ``world``; the main one alone prints and writes."""

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Every process's, by rank; all have to call it."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        found: list[T] = [value] * self.world
        dist.all_gather_object(found, value)
        return found


ALONE = Processes()


def meet() -> Processes:
    """The processes that were started together, joined over gloo; a process that was started alone is alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ALONE
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)
    return Processes(dist.get_rank(), world)


def part() -> None:
    """The end of ``meet``."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
