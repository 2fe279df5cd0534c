"""What every predictor does, whoever computes: images of any kind in, Results out, one by one or in batches."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from clouds.base.arrays import Pixels
from clouds.errors import UsageError
from clouds.model.inference import Inference
from clouds.predict.pictures import Picture, as_rgb
from clouds.predict.result import Result


class ImagePredictor(ABC):
    """classes, colors: names and RGB (C, 3) uint8 by label. inference: how an image is seen. takes: the one size
    (height, width) of images that are taken, None for any."""

    classes: tuple[str, ...]
    colors: NDArray[np.uint8]
    inference: Inference
    takes: tuple[int, int] | None = None
    _renamed: dict[str | tuple[str, ...], "ImagePredictor"]

    @property
    @abstractmethod
    def backends(self) -> dict[str, str]:
        """What results call the backbone and the text tower, {"vision", "text"}."""

    @property
    @abstractmethod
    def trained_on(self) -> frozenset[str] | None:
        """Fingerprints of the photos without labels that the model learned from; None where that is not known."""

    @abstractmethod
    def with_inference(self, **changes: Any) -> Self:
        """This model looking otherwise, by fields of ``Inference``; UsageError for what it cannot do."""

    @abstractmethod
    def with_classes(self, classes: str | Sequence[str], weights: str | None = None) -> Self:
        """This model asked for other names; UsageError where it cannot be."""

    @abstractmethod
    def alike(self, image: Pixels) -> Hashable:
        """What images must share to be computed together."""

    @abstractmethod
    def _segment(self, pixels: list[Pixels]) -> list[Result]:
        """Images of equal ``alike`` -> Results."""

    def predict(self, image: Picture, classes: str | Sequence[str] | None = None) -> Result:
        """A path, PIL image, or uint8 array or tensor (H, W, 3) or (3, H, W) -> Result at the image's own size.

        A file's EXIF orientation is heeded: labels belong to the upright picture, ``Result.image``.

        The image is brought to the model's shorter side, and the map back to the image's size before the argmax
        (``with_inference`` for windows, scales and flip).
        ``classes``: names to look for instead of the model's own (see ``with_classes``).

        Raises DataError for a file that cannot be read and for an array that is no such image.
        """
        if classes is not None:
            key = classes if isinstance(classes, str) else tuple(classes)
            if key not in self._renamed:  # so that many images load the text tower once
                self._renamed[key] = self.with_classes(key)
            return self._renamed[key].predict(image)
        return self._segment([as_rgb(image)])[0]

    def predict_batch(self, images: Sequence[Picture], batch_size: int = 8) -> list[Result]:
        """Images as ``predict`` takes them, of any sizes -> their Results, in order.

        Those of equal resized sizes go through the network together, at most ``batch_size`` at a time. Raises
        UsageError for a batch below 1 and for one image in place of several, and DataError, before any is segmented,
        for an image that is none.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size: got {batch_size}; expected at least 1")
        if isinstance(images, str | bytes | Path | Image) or getattr(images, "ndim", 4) < 4:
            raise UsageError("predict_batch: got one image; expected a list of them, such as [image], or use predict")
        pixels = [as_rgb(image) for image in images]
        alike: defaultdict[Hashable, list[int]] = defaultdict(list)
        for i, each in enumerate(pixels):
            alike[self.alike(each)].append(i)
        results: dict[int, Result] = {}
        for group in alike.values():
            for start in range(0, len(group), batch_size):
                batch = group[start : start + batch_size]
                results |= zip(batch, self._segment([pixels[i] for i in batch]), strict=True)
        return [results[i] for i in range(len(pixels))]

    def stream(self, images: Iterable[Picture], batch_size: int = 8) -> Iterator[Result]:
        """Images as ``predict`` takes them, as many as there are -> their Results, in order, one by one.

        ``batch_size`` images are taken at a time (1 for a live source, whose next image is yet to come), and those of
        equal resized sizes go through the network together; no more than these are held. Raises UsageError for a batch
        below 1 at once, DataError for an image that is none when its turn comes.
        """
        if batch_size < 1:  # now, not when the first result is asked for
            raise UsageError(f"batch_size: got {batch_size}; expected at least 1")
        return self._stream(iter(images), batch_size)

    def _stream(self, images: Iterator[Picture], batch_size: int) -> Iterator[Result]:
        while some := list(islice(images, batch_size)):
            results = self.predict_batch(some, batch_size)
            del some
            while results:  # handed over one by one: what the caller is done with is freed
                yield results.pop(0)
