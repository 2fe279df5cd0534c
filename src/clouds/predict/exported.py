"""A predictor of an exported file: the same Results as of the model it was made of, computed by the file's runtime."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from clouds.base.arrays import Pixels
from clouds.errors import BackendError, DataError, UsageError, cause
from clouds.model.inference import Inference
from clouds.predict.image_predictor import ImagePredictor
from clouds.predict.result import Result
from clouds.predict.runtimes import Opened, open_exported, planes


class ExportedPredictor(ImagePredictor):
    """``clouds.load`` of an .onnx or .xml file that ``clouds export`` wrote.

    Its graph looks at an image one way, whole and at one scale, and knows the classes it was exported with.
    """

    def __init__(self, file: str | Path, device: str = "cpu", threads: int | None = None) -> None:
        """Errors as of ``open_exported``."""
        self.file = Path(file)
        self.opened: Opened = open_exported(self.file, device, threads)
        try:
            about = {name: json.loads(value) for name, value in self.opened.about.items()}
            self.classes = tuple(about["classes"])
            self.colors = np.array(about["colors"], np.uint8).reshape(len(self.classes), 3)
            self.inference = Inference(about["protocol"]["shorter_side"])
            self._backends = dict(about["backends"])
            self._trained_on = frozenset(about["trained_on"]) if "trained_on" in about else None
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"{self.file}: does not say what its labels mean ({cause(error)}); expected a file that `clouds "
                "export` wrote"
            ) from error
        _, height, width = self.opened.shape
        self.takes = (height, width) if height and width else None
        self._renamed = {}

    @property
    def backends(self) -> dict[str, str]:
        """As the model's own results call them."""
        return self._backends

    @property
    def trained_on(self) -> frozenset[str] | None:
        return self._trained_on

    def with_inference(self, **changes: Any) -> Self:
        """Itself, if nothing is to differ; else UsageError: the way of looking is a part of the graph."""
        asked = replace(self.inference, **changes).as_record()
        own = self.inference.as_record()
        if other := [name for name, value in asked.items() if value != own.get(name)]:
            raise UsageError(
                f"{self.file}: an exported file sees images whole, at the shorter side {own['shorter_side']} and one "
                f"scale; {', '.join(other)} cannot be changed. Leave it out, or name the model folder"
            )
        return self

    def with_classes(self, classes: str | Sequence[str], weights: str | None = None) -> Self:  # noqa: ARG002
        raise UsageError(
            f"{self.file}: an exported file knows only the {len(self.classes)} classes it was exported with, as their "
            "names are numbers in its graph and the text tower is not in it; name the model folder for other classes"
        )

    def alike(self, image: Pixels) -> tuple[int, int]:
        """The image's own size; DataError where the file takes one other size."""
        size = (image.shape[0], image.shape[1])
        if self.takes and self.takes != size:
            raise DataError(
                f"an image of {size[0]}x{size[1]} pixels (height x width), but the exported model takes "
                f"{self.takes[0]}x{self.takes[1]}; bring images to that size, or export with --size dynamic"
            )
        return size

    def _segment(self, pixels: list[Pixels]) -> list[Result]:
        for image in pixels:
            self.alike(image)
        count = self.opened.shape[0] or len(pixels)
        results: list[Result] = []
        for start in range(0, len(pixels), count):
            part = pixels[start : start + count]
            filled = part + [part[-1]] * (count - len(part))
            try:
                labels, scores = self.opened.run(planes(filled))
            except Exception as error:  # a runtime's errors have no common class
                raise BackendError(f"{self.file}: {self.opened.runtime} failed ({cause(error)})") from error
            results += [
                Result(labels[i], scores[i], image, self.classes, self.colors) for i, image in enumerate(part)
            ]
        return results
