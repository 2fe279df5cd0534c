"""What each task of a stage may use of a machine: threads, and which GPUs."""

import os
from collections.abc import Callable

from clouds.launch.stage import Stage


def threads_each(at_once: int) -> int:
    """Threads of each of so many processes, so that together they take no more than the cores there are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(cores // at_once, 1)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(asked)) if asked.isdecimal() and int(asked) else share


def environment_on(engine: str, at_once: int | None = None) -> Callable[[Stage, int], dict[str, str | None]]:
    """The variables of a stage's k-th task: on this machine its share of cores and GPUs; elsewhere an engine sees to
    GPUs. at_once: how many tasks run at a time; None: all of a stage."""

    def variables(stage: Stage, k: int) -> dict[str, str | None]:
        threads, together = stage.threads, min(at_once or len(stage.tasks), len(stage.tasks))
        if engine == "local" and not threads and together > 1:
            threads = threads_each(together)
        found: dict[str, str | None] = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        if engine == "local":  # submitit would hide all GPUs, or give all tasks the same
            gpus = _gpus(k, stage.gpus) if stage.gpus else []
            found["CUDA_VISIBLE_DEVICES"] = ",".join(gpus) or os.environ.get("CUDA_VISIBLE_DEVICES")
        return found

    return variables


def _gpus(k: int, count: int) -> list[str]:
    """The GPUs of the k-th task, which takes ``count``: tasks go round."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    every = named.split(",") if named else [str(k) for k in range(torch.cuda.device_count())]
    return [every[(k * count + i) % len(every)] for i in range(min(count, len(every)))]
