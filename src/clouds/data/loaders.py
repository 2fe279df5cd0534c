"""Training batches: the batch of a step depends on (seed, step) only, so any worker can make it and a run can go on
from any step."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from clouds.classes import IGNORE
from clouds.config import Augment
from clouds.data.augment import jitter, scale_crop
from clouds.data.decode import decode_image
from clouds.errors import DataError


class Batch(TypedDict):
    """images, the student's view, uint8 (B, 3, h, w); labels uint8 (B, h, w), all 255 where ``generated``;
    the G generated samples of the batch: their slots (G,), set indices (G,), whether flipped (G,), and the clean
    unflipped images uint8 (G, 3, h, w) for the teacher."""

    images: Tensor
    labels: Tensor
    slots: Tensor
    ids: Tensor
    flipped: Tensor
    clean: Tensor


def read_image(path: Path) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3); raises DataError naming the file."""
    return decode_image(_bytes(path), str(path))


def read_label(path: Path) -> NDArray[np.uint8]:
    """A map of train ids written by CLOUDS: uint8 (H, W); raises DataError naming the file."""
    label: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if label is None or label.ndim != 2 or label.dtype != np.uint8:
        raise DataError(f"{path}: no readable 8-bit label map; delete it to have it made again, or restore it")
    return label


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise DataError(f"{path}: an empty file; delete it to have it made again, or restore it")
    return data


@dataclass
class Batches(Dataset[Batch]):
    """source: (image, label) paths; generated: image paths, each repeated ``repeat`` times as often per epoch."""

    source: list[tuple[Path, Path]]
    generated: list[Path]
    augment: Augment
    batch_size: int
    steps: int
    seed: int
    repeat: float = 2.0
    _orders: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        samples = [self._sample(step, slot) for slot in range(self.batch_size)]
        made = [(slot, s) for slot, s in enumerate(samples) if s[2] >= 0]
        h, w = self.augment.crop
        clean = np.stack([s[4] for _, s in made]) if made else np.zeros((0, h, w, 3), np.uint8)
        return {
            "images": _channels_first(np.stack([s[0] for s in samples])),
            "labels": torch.from_numpy(np.stack([s[1] for s in samples])),
            "slots": torch.tensor([slot for slot, _ in made], dtype=torch.long),
            "ids": torch.tensor([s[2] for _, s in made], dtype=torch.long),
            "flipped": torch.tensor([s[3] for _, s in made], dtype=torch.bool),
            "clean": _channels_first(clean),
        }

    def _sample(
        self, step: int, slot: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int, bool, NDArray[np.uint8]]:
        index = self._index(step * self.batch_size + slot)
        rng = np.random.default_rng((self.seed, step, slot))
        made = index - len(self.source)
        if made >= 0:
            clean = image = read_image(self.generated[made])
            if image.shape[:2] != self.augment.crop:
                raise DataError(
                    f"{self.generated[made]}: is {image.shape[:2]} (height, width), expected {self.augment.crop}"
                )
            label = np.full(image.shape[:2], IGNORE, np.uint8)
        else:
            paths = self.source[index]
            image, label = read_image(paths[0]), read_label(paths[1])
            if image.shape[:2] != label.shape:
                raise DataError(f"{paths[1]}: is {label.shape} (height, width), but its image is {image.shape[:2]}")
            image, label = scale_crop(image, label, self.augment.crop, self.augment.scale, rng)
            clean = image
        if self.augment.jitter:
            image = jitter(image, rng)
        flip = self.augment.flip and bool(rng.random() < 0.5)
        if flip:
            image, label = image[:, ::-1], label[:, ::-1]
        return image, label, made, flip, clean

    def _index(self, position: int) -> int:
        """Sample at a position of the endless stream of shuffled epochs."""
        epoch = 0
        while position >= len(order := self._order(epoch)):
            position -= len(order)
            epoch += 1
        return int(order[position])

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            rng = np.random.default_rng((self.seed, 0x0DE5, epoch))
            whole, part = divmod(self.repeat, 1)
            repeats = int(whole) + (rng.random(len(self.generated)) < part)
            made = np.repeat(np.arange(len(self.generated)), repeats) + len(self.source)
            self._orders[epoch] = rng.permutation(np.concatenate([np.arange(len(self.source)), made]))
        return self._orders[epoch]


def _channels_first(images: NDArray[np.uint8]) -> Tensor:
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
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
