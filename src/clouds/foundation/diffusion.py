"""The image-generator role: prompts in, pictures out.

The paper uses Stable Diffusion 2. The embedded default draws the prompt with the procedural street renderer: a
stand-in that needs no weights, and is named as such.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clouds.data import streets
from clouds.errors import UsageError


class ImageGenerator(Protocol):
    """Draws one image per prompt; image i depends on (prompt i, seed i) only."""

    name: str
    revision: str

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """N prompts, N seeds -> N images uint8 (H, W, 3), RGB."""
        ...


class StreetsGenerator:
    """The words of the prompt set the scene's parameters; what it does not say is drawn at random."""

    name, revision = "streets renderer", "1"

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        scenes = (streets.from_prompt(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True))
        return [streets.render(scene, self.size)[0] for scene in scenes]


def build_generator(name: str, size: tuple[int, int]) -> ImageGenerator:
    """The generator ``name`` for images of ``size`` (height, width)."""
    if name != "streets":
        raise UsageError(f"generate.generator: unknown {name!r}; allowed: streets")
    return StreetsGenerator(size)
