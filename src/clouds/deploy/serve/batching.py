"""One thread that owns the models: it takes waiting images that can go through a network together, oldest first.

There is no pause to fill a batch: what has come while the last one was computed is the next one.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from clouds.base.arrays import Pixels
from clouds.predict.image_predictor import ImagePredictor
from clouds.predict.result import Result


@dataclass(frozen=True)
class Served:
    """A model behind two functions. ``segment``: images of equal ``alike`` -> their Results, in order. ``warm_up``: the
    size of the picture that it sees first."""

    name: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    segment: Callable[[list[Pixels]], list[Result]]
    alike: Callable[[Pixels], Hashable]
    warm_up: tuple[int, int] = (64, 64)


def served(name: str, predictor: ImagePredictor) -> Served:
    """A predictor to be served: images that are alike for it go together."""
    return Served(
        name,
        predictor.classes,
        tuple((int(r), int(g), int(b)) for r, g, b in predictor.colors),
        lambda images: predictor.predict_batch(images, len(images)),
        predictor.alike,
        predictor.takes or Served.warm_up,
    )


@dataclass(frozen=True)
class Done:
    """A Result with the seconds it waited, the seconds its batch took, and how many images that had."""

    result: Result
    waited: float
    computed: float
    batch: int


@dataclass(eq=False)
class _Job:
    model: Served
    pixels: Pixels
    alike: Hashable
    future: Future[Done] = field(default_factory=Future)
    since: float = field(default_factory=perf_counter)


class Gone(Exception):  # noqa: N818 - said in an answer
    """The thread of the models has ended by an error of its own: nothing will be computed any more."""


class Batcher:
    """``submit`` returns a future; cancelled in time, its image is never computed."""

    def __init__(
        self, size: int, prepare: Callable[[], None] = lambda: None,
        watch: Callable[[str, int, float], None] = lambda *_: None,
    ) -> None:  # fmt: skip
        """size: images a batch. prepare: runs first, in the thread. watch: gets (model, images, seconds) of each."""
        self._size, self._prepare, self._watch = size, prepare, watch
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = self._dead = False
        self._taken: list[_Job] = []
        self.thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        self.thread.start()

    @property
    def alive(self) -> bool:
        return self.thread.is_alive() and not self._dead

    def submit(self, model: Served, pixels: Pixels) -> Future[Done]:
        job = _Job(model, pixels, (model.name, model.alike(pixels)))
        with self._changed:
            if self._dead:
                job.future.set_exception(Gone())
                return job.future
            if self._closed:
                job.future.cancel()
                return job.future
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self, limit: float) -> None:
        """Cancels what waits and lets the batch that is being computed end, for ``limit`` seconds."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.future.cancel()
            self._jobs.clear()
            self._changed.notify()
        if self.thread.is_alive():
            self.thread.join(limit)

    def _run(self) -> None:
        try:
            self._prepare()
            while (batch := self._next()) is not None:
                self._taken = batch
                if batch:
                    self._compute(batch)
        finally:  # whoever waits is answered at once
            with self._changed:
                self._dead = not self._closed
                for job in (*self._taken, *self._jobs):
                    if not job.future.done():
                        job.future.set_exception(Gone())
                self._jobs.clear()

    def _next(self) -> list[_Job] | None:
        """The oldest image and those that can go with it; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if self._closed:
                return None
            waiting = [job for job in self._jobs if not job.future.cancelled()]
            batch = [job for job in waiting if job.alike == waiting[0].alike][: self._size]
            taken = set(map(id, batch))
            self._jobs = deque(job for job in waiting if id(job) not in taken)
        return [job for job in batch if job.future.set_running_or_notify_cancel()]

    def _compute(self, batch: list[_Job]) -> None:
        start = perf_counter()
        try:
            results = batch[0].model.segment([job.pixels for job in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"the model gave {len(results)} results for {len(batch)} images")
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:  # one image's trouble, or memory for all at once, is not the others'
                for job in batch:
                    self._compute([job])
            return
        seconds = perf_counter() - start
        self._watch(batch[0].model.name, len(batch), seconds)
        for job, result in zip(batch, results, strict=True):
            job.future.set_result(Done(result, start - job.since, seconds, len(batch)))


class Warmth:
    """The state of one server, set by its own threads and read by ``/ready``."""

    status = "starting"
    fault: Exception | None = None
    thread: threading.Thread | None = None  # that computes

    @property
    def ready(self) -> bool:
        return self.status == "ready"

    @property
    def takes_work(self) -> bool:
        """Not before the models are warm; while it stops, what comes before the port closes is still answered."""
        return self.status != "starting"

    def warm(self, models: Sequence[Served]) -> None:
        try:
            for model in models:
                model.segment([np.zeros((*model.warm_up, 3), np.uint8)])  # a first call is slow
        except Exception as error:  # reported by who runs the server: this is the model's thread
            self.fault = error
            return
        if self.status == "starting":
            self.status = "ready"

    def stop(self) -> None:
        self.status = "stopping"
