"""The image-generator role: prompts in, pictures out.

The paper uses Stable Diffusion 2. The embedded default draws the prompt with the procedural street renderer: a
stand-in that needs no weights, is named as such, and draws the scene ``streets`` alone. Any diffusers text-to-image
pipeline plays it by its hub id.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clouds.config.backends import find
from clouds.config.plugins import is_plugged, make
from clouds.config.recipe import Generate
from clouds.config.scene import Scene
from clouds.errors import UsageError
from clouds.foundation.registry import builder, check

INSTEAD = (
    "Take a diffusion model (generate.generator=diffusers/ORGANISATION/NAME), a set that is there already "
    "(generate.folder=DIR), photos (data.unlabelled=FOLDER generate.count=0), or do without: train.stage=warmup"
)


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


def check_generator(settings: Generate, scene: Scene) -> None:
    """Raises UsageError for a name that no generator has, and for one that cannot draw the scene where images are to be
    drawn; loads nothing."""
    name = settings.generator
    check("generator", name)
    row = find(name, "generator")
    if row and row.takes and scene.shipped not in row.takes and settings.folder is None and settings.count:
        raise UsageError(
            f"generate.generator: {name} draws {' and '.join(row.takes)} only, not the scene {scene.name}. {INSTEAD}"
        )


def build_generator(settings: Generate) -> ImageGenerator:
    """The generator of a recipe. Weights are loaded at the first image, not here.

    Raises UsageError for an unknown name, BackendError where its package is not installed.
    """
    name = settings.generator
    own = is_plugged(name)
    made: ImageGenerator = make(name, "generate.generator", settings) if own else builder("generator", name)(settings)
    return made
