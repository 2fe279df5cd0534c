"""The promptable segmenter, SAM's role in the paper: points in, crisp masks out. The protocol, and backends by name."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clouds.errors import UsageError

SEGMENTERS: tuple[str, ...] = ("superpixels",)


class PromptableSegmenter(Protocol):
    """Anything that turns points on an image into candidate masks."""

    @property
    def name(self) -> str:
        """Which backend played the role; reports print it."""
        ...

    def encode(self, image: npt.NDArray[np.uint8]) -> Any:
        """What ``masks`` needs to know about ``image`` (H, W, 3) uint8 RGB, computed once an image."""
        ...

    def masks(
        self, embedding: Any, points: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        """Three candidates a prompt, and how good the segmenter thinks they are.

        points (P, K, 2) float32, x then y in pixels of the encoded image, all K on the wanted object.
        Returns masks (P, 3, H, W) bool and quality (P, 3) float32, higher is better.
        """
        ...


def load_segmenter(name: str, device: str = "cpu") -> PromptableSegmenter:
    """The segmenter called ``name``, on ``device`` (the superpixels always run on the CPU).

    Raises UsageError for a name that is not in ``SEGMENTERS``.
    """
    del device  # taken so that every backend loads through one call
    if name == "superpixels":
        from clouds.foundation.superpixels import Superpixels

        return Superpixels()
    raise UsageError(f"segmenter {name!r} is not known; use one of: {', '.join(SEGMENTERS)}")
