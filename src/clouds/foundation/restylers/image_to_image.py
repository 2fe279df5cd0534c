"""Any diffusers pipeline that can go from image to image as a restyler: it adds noise, and draws towards a prompt.

Nothing but a low strength ties what it draws to the labels of what it was given.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from clouds.config.backends import Backend
from clouds.config.recipe import Restyle
from clouds.foundation.generators.diffusers import Pipeline
from clouds.foundation.restyler import Image, Style
from clouds.foundation.restylers.pixels import at_most, resized

BACKEND = Backend(
    "restyler", "diffusers/HUB_ID_OR_PATH", "{model} (diffusers)", needs=("diffusers",),
    install="pip install 'clouds[generate]'", build="DiffusersRestyler", takes=("prompt",),
)  # fmt: skip
STEP = 16  # sides are brought to multiples of it: enough for the pipelines there are


class DiffusersRestyler(Pipeline):
    """Works on images of at most ``max_side`` pixels and brings the result back to each image's own size."""

    task = "an image-to-image"
    takes: Literal["image", "prompt"] = "prompt"

    def __init__(self, settings: Restyle, key: str) -> None:
        super().__init__(settings.backend, settings, key, "backend")
        self.settings = settings

    @cached_property
    def record(self) -> dict[str, Any]:
        s = self.settings
        return {"restyler": f"diffusers {self.name}", **self._record(), "strength": s.strength, "max_side": s.max_side}

    def restyle(self, images: Sequence[Image], styles: Sequence[Style], seeds: Sequence[int]) -> list[Image]:
        smaller = [at_most(image, self.settings.max_side, STEP) for image in images]
        if len({image.shape for image in smaller}) > 1:  # no batch
            return [self.restyle([i], [s], [n])[0] for i, s, n in zip(images, styles, seeds, strict=True)]
        height, width = smaller[0].shape[:2]
        given = np.stack(smaller).astype(np.float32) / 255
        drawn = self.ask([str(s) for s in styles], seeds, (height, width), image=given, strength=self.settings.strength)
        if drawn.shape != given.shape:
            raise ValueError(f"{self.name}: was given images of {given.shape}, gave {drawn.shape}")
        return [resized(after, *before.shape[:2]) for after, before in zip(drawn, images, strict=True)]
