"""Training batches: the batch of a step depends on (seed, step) only, so any worker can make it and a run can go on
from any step."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from clouds.base.arrays import Labels, Pixels
from clouds.base.progress import clock, say
from clouds.config.label_sets import IGNORE
from clouds.config.recipe import Recipe
from clouds.data.batches.augment import distort, jitter, paste, scale_crop
from clouds.data.batches.order import Order
from clouds.data.batches.rare import RareClasses
from clouds.data.batches.unlabelled import Unlabelled
from clouds.data.source import Restyled, Source
from clouds.errors import DataError

TRIES = 100  # samples in a row that may be bad
ONTO_PHOTOGRAPHS = 0.5  # the chance of pasting, where the recipe gives none
PATIENCE = 60.0  # seconds without a batch before a message says so


class Batch(TypedDict):
    """images, the student's view, uint8 (B, 3, h, w); labels uint8 (B, h, w), where there are none 255 but for what
    was pasted; their places (B,) in the step's whole batch, of which this may be one process's part, and their numbers
    (B,) among all samples, the source's first; the G samples without labels, drawn or photographs: their slots (G,)
    here, the numbers of their looks (G,), see ``Unlabelled``, whether flipped (G,), and the clean unflipped images
    uint8 (G, 3, h, w) for the teacher."""

    images: Tensor
    labels: Tensor
    places: Tensor
    numbers: Tensor
    slots: Tensor
    ids: Tensor
    flipped: Tensor
    clean: Tensor


class Sample(NamedTuple):
    """image (h, w, 3), label (h, w), number of the look at an image without labels or -1, flipped, the image before
    jitter and flip, number among all samples."""

    image: Pixels
    label: Labels
    look: int
    flipped: bool
    clean: Pixels
    number: int = -1


class Batches(Dataset[Batch]):
    """Batches of source crops and images without labels; ``[step]`` depends on the seed and the step only.

    A sample that cannot be read is replaced by another of its kind, drawn from (seed, step, slot) like everything else;
    ``bad`` counts them, and DataError ends the run when they are more than ``data.max_bad`` of all.
    """

    def __init__(
        self, source: Source, unlabelled: Sequence[Path] | Unlabelled, recipe: Recipe, steps: int, seed: int,
        rare: RareClasses | None = None, restyled: Restyled | None = None, process: tuple[int, int] = (0, 1)
    ) -> None:
        """``unlabelled``: also the files of drawn images alone.
        ``rare``: draws the source images, in place of their shuffled epochs; ``restyled``: may show them anew.
        ``process``: (rank, world), of whose batches this is to make every world-th sample, from rank on; a sample does
        not depend on it."""
        self.source, self.rare, self.restyled = source, rare, restyled
        self.unlabelled = (
            unlabelled if isinstance(unlabelled, Unlabelled) else Unlabelled(unlabelled, recipe.augment)
        )
        self.places = range(process[0], recipe.train.batch_size, process[1])
        self.mix, self.augment, self.seed = recipe.selftrain.mix, recipe.augment, seed
        self.batch_size, self.steps = recipe.train.batch_size, steps
        pools = self.unlabelled.pools
        labelled = [each.weight for each in recipe.data.source]
        others = [recipe.train.generated_weight, *(pool.weight for pool in pools)]
        weighted = any(labelled) or any(others) or any(pool.photographs for pool in pools)
        # however many they are, they do not crowd out the labels: docs/design/data.md
        free = sum(bool(size) and not weight for size, weight in zip(self.unlabelled.sizes, others, strict=True))
        self.order = Order(
            [*source.sizes, *self.unlabelled.sizes],
            seed,
            [1.0] * len(source.sizes) + [recipe.train.generated_repeat] + [pool.repeat for pool in pools],
            [w or 1.0 for w in labelled] + [w or 1.0 / max(free, 1) for w in others] if weighted else None,
        )
        self.bad = BadFiles(len(source) + len(self.unlabelled), recipe.data.max_bad)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        samples = [self._sample(step, place) for place in self.places]
        made = [(slot, s) for slot, s in enumerate(samples) if s.look >= 0]
        h, w = self.augment.crop
        clean = np.stack([s.clean for _, s in made]) if made else np.zeros((0, h, w, 3), np.uint8)
        return {
            "images": channels_first(np.stack([s.image for s in samples])),
            "labels": torch.from_numpy(np.stack([s.label for s in samples])),
            "places": torch.tensor(self.places, dtype=torch.long),
            "numbers": torch.tensor([s.number for s in samples], dtype=torch.long),
            "slots": torch.tensor([slot for slot, _ in made], dtype=torch.long),
            "ids": torch.tensor([s.look for _, s in made], dtype=torch.long),
            "flipped": torch.tensor([s.flipped for _, s in made], dtype=torch.bool),
            "clean": channels_first(clean),
        }

    def name(self, number: int) -> str:
        """The file of a sample."""
        index = number - len(self.source)
        return self.unlabelled.name(index) if index >= 0 else self.source.name(number)

    def looks(self) -> list[int]:
        """The looks that the steps draw, of all processes, ascending; files that cannot be read are taken for whole."""
        found = set()
        for position in range(self.steps * self.batch_size):
            index = self.order(position) - len(self.source)
            if index >= 0:
                rng = np.random.default_rng((self.seed, *divmod(position, self.batch_size)))
                found.add(self.unlabelled.draw(index, rng))  # a sample's first draw: ``_read``
        return sorted(found)

    def lacks(self, batch: Batch) -> Tensor | None:
        """(B, C) bool: the classes that the label set of each sample does not have, though another source teaches them;
        none of a generated sample. None where all sources have all."""
        if self.source.lacks is None:
            return None
        rows = np.vstack([self.source.lacks, np.zeros_like(self.source.lacks[:1])])
        return torch.from_numpy(rows[[self.source.set_of(number) for number in batch["numbers"].tolist()]])

    def _sample(self, step: int, place: int) -> Sample:
        index = self.order(step * self.batch_size + place)
        rng = np.random.default_rng((self.seed, step, place))
        sample = self._whole(index, rng)
        if sample.look >= 0 and len(self.source):
            rng = np.random.default_rng((self.seed, step, place, 1))  # of its own: switches leave the rest as it was
            image, label = sample.image, sample.label
            mix = self.mix
            if mix is None:  # photos alone lost rare classes: docs/results.md
                mix = ONTO_PHOTOGRAPHS if self.unlabelled.is_photograph(sample.look) else 0.0
            if rng.random() < mix:
                other = self._whole(int(rng.integers(len(self.source))), rng)
                image, label = paste(image, label, other.image, other.label, rng)
            sample = sample._replace(image=image, label=label)
        return sample

    def _whole(self, index: int, rng: np.random.Generator) -> Sample:
        """Sample ``index``, or another of its kind where that cannot be read."""
        first, count = 0, len(self.source)
        if index >= count:
            mine = self.unlabelled.set_of(index - count)
            first, count = count + mine.start, len(mine)
        for _ in range(TRIES):
            wanted = -1
            if self.rare and not first:
                wanted, index = self.rare.draw(rng)
            try:
                sample = self._view(*self._read(index, wanted, rng), rng)
                return sample._replace(number=index)
            except DataError as error:
                self.bad.note(index, error)
            index = first + int(rng.integers(count))
        raise DataError(f"{TRIES} samples in a row cannot be read, the last one: {list(self.bad.found.values())[-1]}")

    def _read(self, index: int, wanted: int, rng: np.random.Generator) -> tuple[Pixels, Labels, int]:
        """Image and label at the crop's size, and the number of the look or -1; a source crop shows the class
        ``wanted``, if any of ten does."""
        crop, scale, side = self.augment.crop, self.augment.scale, self.augment.shorter_side
        if index >= len(self.source):
            look = self.unlabelled.draw(index - len(self.source), rng)
            return self.unlabelled.pixels(look), np.full(crop, IGNORE, np.uint8), look
        picture, label = self.restyled.pair(index, rng) if self.restyled else self.source[index]
        found = scale_crop(picture, label, crop, scale, rng, side)
        if self.rare and wanted >= 0:
            for _ in range(9):
                if (found[1] == wanted).sum() >= self.rare.enough / 2:
                    break
                found = scale_crop(picture, label, crop, scale, rng, side)
        return *found, -1

    def _view(self, clean: Pixels, label: Labels, look: int, rng: np.random.Generator) -> Sample:
        image = jitter(clean, rng) if self.augment.jitter else clean
        flip = bool(rng.random() < 0.5)
        if self.augment.distort and rng.random() < self.augment.distort:
            image = distort(image, rng)
        if flip:
            image, label = image[:, ::-1], label[:, ::-1]
        return Sample(image, label, look, flip, clean)


def channels_first(images: Pixels) -> Tensor:
    """uint8 (N, 3, H, W) of uint8 (N, H, W, 3)."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def batches(dataset: Batches, start: int, workers: int) -> Iterator[Batch]:
    """The batches of steps ``start`` .. ``len(dataset) - 1``, in order, made ahead by ``workers`` threads.

    Threads, not processes: decoding and resizing leave the interpreter lock, nothing is copied between processes, and
    OpenCV's thread pool does not survive a fork (a forked worker hangs in ``cv2.setNumThreads``).
    """
    steps = range(start, len(dataset))
    if not workers:
        yield from map(dataset.__getitem__, steps)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
    try:
        ahead: deque[Future[Batch]] = deque()
        for step in steps:
            ahead.append(pool.submit(dataset.__getitem__, step))
            if len(ahead) > 2 * workers:
                yield _patiently(ahead.popleft(), step)
        while ahead:
            yield _patiently(ahead.popleft(), len(dataset))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _patiently(batch: Future[Batch], step: int) -> Batch:
    """A batch once it is made; says so when that takes suspiciously long."""
    waited = 0.0
    while True:
        try:
            return batch.result(timeout=PATIENCE)
        except TimeoutError:
            if batch.done():
                raise
            waited += PATIENCE
            say(f"no batch for {clock(waited)} (steps before {step}): the disk may not respond; Ctrl-C ends the run")


class BadFiles:
    """What a stage of training could not read."""

    def __init__(self, total: int, share: float) -> None:
        """total: samples there are; share: more than this part of them bad is an error."""
        self.total, self.share = total, share
        self.found: dict[int, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.found)

    def note(self, index: int, error: DataError) -> None:
        """Warn once of sample ``index``; DataError where that makes too many."""
        with self._lock:
            new = index not in self.found
            self.found[index] = str(error)
            if len(self.found) > self.share * self.total:
                listed = "\n  ".join(list(self.found.values())[:10])
                raise DataError(
                    f"{len(self.found)} of {self.total} samples cannot be read, more than data.max_bad allows "
                    f"({100 * self.share:g} %); `clouds check --full` lists what is damaged:\n  {listed}"
                ) from error
        if new:
            say(f"skipped: {error}")
