"""A generator that paints sky, road and blocks in the colours that the prompt speaks of: ``clouds generate demo
generate.generator=generator:Blocks``.

It shows what the method asks of a generator, and draws nothing that a street model should learn from.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.config.recipe import Generate

SKIES = {"night": (15, 15, 40), "fog": (190, 190, 190), "rain": (110, 115, 125), "dusk": (200, 120, 80)}
DAY = (120, 170, 230)


class Blocks:
    record: dict[str, Any] = {"generator": "blocks", "revision": "1"}  # noqa: RUF012 - another one is drawn anew

    def __init__(self, settings: Generate) -> None:
        self.size = settings.size

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """N prompts, N seeds -> N images uint8 (H, W, 3), RGB."""
        return [self._paint(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _paint(self, prompt: str, seed: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng((seed, *prompt.encode()))  # never the generator that everybody shares
        height, width = self.size
        image = np.full((height, width, 3), 90, np.uint8)  # road
        horizon = int(height * rng.uniform(0.4, 0.6))
        image[:horizon] = next((color for word, color in SKIES.items() if word in prompt.lower()), DAY)
        for _ in range(8):
            x, w, h = rng.integers(0, width), rng.integers(width // 16, width // 4), rng.integers(4, height // 3)
            top_left, color = (int(x), int(horizon - h // 2)), tuple(map(int, rng.integers(30, 225, 3)))
            cv2.rectangle(image, top_left, (int(x + w), int(horizon + h // 2)), color, -1)
        return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
