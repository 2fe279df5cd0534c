"""Where and how a stage of training is computed: processes, device, precision, trackers, all by accelerate.

A step's batch is one batch however it is split: ``train.batch_size`` images, shared by the processes, each of which
goes through its share in ``train.accumulate`` parts. Samples, their random points and the totals that losses are
divided by do not depend on the split, so one process and several take the same steps up to rounding.
"""

import importlib.util
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from clouds.base.processes import meet, unlaunched, watch
from clouds.base.progress import say
from clouds.base.shards import Shard
from clouds.base.signals import interrupt_again, noted_signals
from clouds.base.text import counted
from clouds.base.watch import watched
from clouds.config.recipe import Recipe, Train
from clouds.config.runs import flat
from clouds.errors import UsageError
from clouds.model.segmenter import Segmenter

T = TypeVar("T")

PRECISION = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}
TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}  # tracker: its package


class Engine:
    """accelerate's Accelerator, with what the loop asks of it.

    Raises UsageError for a batch that cannot be split among the processes, and for a tracker that is not installed.
    """

    def __init__(self, settings: Train, run: Path | None = None) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        check_trackers(settings)
        self.processes = meet("gloo" if settings.device == "cpu" else None)
        AcceleratorState._reset_state()  # the precision of a stage before, in this process, may have been another
        self.settings = settings
        with unlaunched():
            self.accelerator = Accelerator(
                cpu=settings.device == "cpu",
                mixed_precision=PRECISION[settings.precision],
                log_with=list(settings.trackers) or None,
                project_dir=run,
            )
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.main = self.accelerator.is_main_process
        self.parts = settings.accumulate
        if settings.batch_size % (self.world * self.parts):
            raise UsageError(f"train.batch_size: got {settings.batch_size}; {self.world} processes with "
                             f"train.accumulate={self.parts} need a multiple of {self.world * self.parts}")  # fmt: skip
        torch.backends.cuda.matmul.allow_tf32 = settings.tf32
        torch.backends.cudnn.allow_tf32 = settings.tf32
        self.device = self.accelerator.device if self.world > 1 else torch.device(settings.device)
        self.shards = settings.shard_backbone and self.world > 1  # train/shard.py
        self.stopped = 0  # the signal that asked to stop

    @property
    def learning_rate_scale(self) -> float:
        """Of ``train.learning_rate``, which is meant for batches of ``train.learning_rate_at``."""
        at = self.settings.learning_rate_at
        return self.settings.batch_size / at if at else 1.0

    def batch_text(self) -> str:
        """The batch's arithmetic, for a person."""
        whole, each = self.settings.batch_size, self.settings.batch_size // (self.world * self.parts)
        split = [f"{self.world} processes"] * (self.world > 1) + [f"{self.parts} parts"] * (self.parts > 1)
        shares = f" ({' x '.join([*split, counted(each, 'image')])})" if split else ""
        return f"{counted(whole, 'image')} a step{shares}"

    def wrap(self, model: Segmenter) -> nn.Module:
        """The model as the loop calls it: synchronised between processes, compiled where asked."""
        model.head.pixel_decoder.checkpointing = model.head.decoder.checkpointing = self.settings.checkpointing
        if self.settings.compile:
            model.compile()
        if self.shards:  # accelerate refuses DDP around tensors in parts; these are left to FSDP
            from torch.distributed.tensor import DTensor
            from torch.nn.parallel import DistributedDataParallel

            parts = [name for name, p in model.named_parameters() if isinstance(p, DTensor)]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, parts)
            return DistributedDataParallel(model)
        wrapped: nn.Module = self.accelerator.prepare(model) if self.world > 1 else model
        return wrapped

    def autocast(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self.accelerator.autocast()
        return context

    @contextmanager
    def only_last_synchronises(self, model: nn.Module, last: bool) -> Iterator[None]:
        """Gradients of all but the last part of a batch stay on their process."""
        if last or self.world == 1:
            yield
        else:
            with self.accelerator.no_sync(model):
                yield

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss that is a part of the whole batch's: they are added up, where DDP takes their mean."""
        self.accelerator.backward(loss * self.world)

    def clip(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], most: float) -> float:
        """Scale the gradients to norm ``most`` at most; their norm before, equal in all processes."""
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.unscale_(optimizer)
        return float(nn.utils.clip_grad_norm_(parameters, most))

    def skip(self) -> None:
        """In place of ``step`` after ``clip``: fp16's loss scaler is ready for the next step, with a lower scale."""
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimiser's step; fp16's loss scaler leaves out one whose gradients overflowed."""
        if self.accelerator.scaler is None:
            optimizer.step()
        else:
            self.accelerator.scaler.step(optimizer)
            self.accelerator.scaler.update()

    def sum(self, values: Sequence[float]) -> list[float]:
        """Numbers, added up over the processes."""
        if self.world == 1:
            return list(values)
        own = torch.tensor(values, dtype=torch.float64, device=self.device)
        total: list[float] = self.accelerator.reduce(own, reduction="sum").tolist()
        return total

    def gather(self, value: T) -> list[T]:
        """Every process's, by rank."""
        if self.world == 1:
            return [value]
        from accelerate.utils import gather_object

        found: list[T] = gather_object([value])
        return found

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    @contextmanager
    def first(self) -> Iterator[None]:
        """What stands in here, the main process does first; the others find it done."""
        if not self.main:
            self.processes.wait()
        yield
        if self.main:
            self.processes.wait()

    def by_main(self, make: Callable[[], T]) -> T:
        """What ``make`` gives in the main process, which alone calls it, for all of them."""
        found: list[Any] = self.processes.gather(make() if self.main else None)
        return found[0]  # type: ignore[no-any-return]

    def share(self, work: Callable[[Shard], object]) -> None:
        """Each process does its shard of a work that files hold, and then all go on. One alone does nothing here: who
        looks for the files makes what is missing."""
        if self.world > 1:
            work(Shard(self.rank, self.world))
            self.processes.wait()

    def together(self) -> AbstractContextManager[None]:
        """Inside, a process that dies ends the others within a minute, and they name it."""
        return watched(watch())

    def track(self, recipe: Recipe) -> None:
        """Begin the trackers that the recipe names."""
        if self.settings.trackers:
            config = {k: v if isinstance(v, int | float) else str(v) for k, v in flat(recipe.model_dump()).items()}
            self.accelerator.init_trackers("clouds", config=config)

    def log(self, values: dict[str, Any], step: int) -> None:
        if self.settings.trackers:
            self.accelerator.log({k: v for k, v in values.items() if isinstance(v, int | float)}, step=step)

    def log_images(self, images: dict[str, Any], step: int) -> None:
        """uint8 (H, W, 3) images by name, to trackers that take some."""
        for tracker in self.accelerator.trackers if self.settings.trackers else ():
            if hasattr(tracker, "log_images"):
                order = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}  # which wants channels first
                tracker.log_images({name: image[None] for name, image in images.items()}, step=step, **order)

    def finish(self) -> None:
        """What trackers still hold is written."""
        for tracker in self.accelerator.trackers if self.settings.trackers else ():
            tracker.finish()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C are noted in here, for the loop to stop after a whole step; a second one stops at once."""

        def note(came: list[int]) -> None:
            interrupt_again(came)
            self.stopped = came[0]
            say(f"{signal.Signals(came[0]).name}: saving after this step")

        with noted_signals(note):
            yield


def check_trackers(settings: Train) -> None:
    """Raises UsageError for a tracker whose package is not installed."""
    for name in settings.trackers:
        if importlib.util.find_spec(TRACKERS[name]) is None:
            raise UsageError(f"train.trackers: {name} is not installed; pip install {TRACKERS[name]}, or leave it out")

