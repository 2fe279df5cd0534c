"""The image-generator role: prompts in, pictures out.

The paper uses Stable Diffusion 2. The embedded default draws the prompt with the procedural street renderer: a
stand-in that needs no weights, and is named as such. Any diffusers text-to-image pipeline plays it by its hub id.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clouds import streets
from clouds.config.plugins import OWN, is_plugged, make, plugged
from clouds.config.recipe import Generate
from clouds.errors import UsageError

STREETS, DIFFUSERS = "streets", "diffusers/"


class ImageGenerator(Protocol):
    """Draws one image per prompt; an image depends on its prompt, its seed and ``record`` only.

    A class of one's own is called with the recipe's ``Generate``, whose ``size`` (height, width) its images have.
    """

    @property
    def record(self) -> Mapping[str, Any]:
        """What else decides the pixels, as manifest entries: name, revision, steps, guidance, ..."""
        ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """N prompts, N seeds -> N images uint8 (H, W, 3), RGB."""
        ...


class StreetsGenerator:
    """The words of the prompt set the scene's parameters; what it does not say is drawn at random."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.record: dict[str, Any] = {
            "generator": "streets renderer",
            "revision": "1",
            "steps": None,
            "guidance": None,
        }

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        scenes = (streets.from_prompt(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True))
        return [streets.render(scene, self.size)[0] for scene in scenes]


def check_generator(name: str) -> None:
    """Raises UsageError for a name that no generator has; loads nothing."""
    if is_plugged(name):
        plugged(name, "generate.generator")
        return
    if name == STREETS or (name.startswith(DIFFUSERS) and name != DIFFUSERS):
        return
    near = difflib.get_close_matches(name, [STREETS], 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"generate.generator: unknown {name!r}; {hint}allowed: {STREETS}, {DIFFUSERS}ORGANISATION/NAME, "
        f"{DIFFUSERS}FOLDER, {OWN}"
    )


def build_generator(settings: Generate) -> ImageGenerator:
    """The generator of a recipe. Weights are loaded at the first image, not here."""
    check_generator(settings.generator)
    if is_plugged(settings.generator):
        generator: ImageGenerator = make(settings.generator, "generate.generator", settings)
        return generator
    if settings.generator == STREETS:
        return StreetsGenerator(settings.size)
    from clouds.foundation.generators.diffusers import DiffusersGenerator

    return DiffusersGenerator(settings.generator.removeprefix(DIFFUSERS), settings)
