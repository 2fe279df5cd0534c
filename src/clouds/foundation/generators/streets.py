"""The embedded image generator: the procedural street renderer draws what the prompt says."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clouds import streets
from clouds.config.backends import Backend
from clouds.config.recipe import Generate

BACKEND = Backend(
    "generator",
    "streets",
    "streets renderer",
    stand_in="procedural street scenes; embedded default, not Stable Diffusion",
    takes=("streets",),
    better="a diffusion model, best on a GPU: generate.generator=diffusers/ORGANISATION/NAME",
    build="StreetsGenerator",
)


class StreetsGenerator:
    """The words of the prompt set the scene's parameters; what it does not say is drawn at random."""

    def __init__(self, settings: Generate) -> None:
        self.size = settings.size
        self.record = {"generator": "streets renderer", "revision": "1", "steps": None, "guidance": None}

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        scenes = (streets.from_prompt(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True))
        return [streets.render(scene, self.size)[0] for scene in scenes]
