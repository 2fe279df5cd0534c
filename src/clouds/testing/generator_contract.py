"""What an image generator must do."""

import json
from typing import Any, ClassVar

import numpy as np
import pytest

from clouds.base.arrays import Pixels
from clouds.config.recipe import Generate
from clouds.foundation.generator import ImageGenerator, build_generator
from clouds.testing.shared import undisturbed

PROMPTS = ["A photo of a city street in fog, cars.", "A photo of a motorway at night.", "A photo of a village, sheep."]
ROW = {"file_name", "prompt", "seed", "size", "sha256", "restyle", "failed", "keep", "why"}  # of the manifest, ours


class GeneratorContract:
    """Of ``clouds.foundation.generator.ImageGenerator``. A subclass says ``generator_name``, as a recipe does;
    ``settings`` are more keys of ``generate``. ``tolerance``: grey levels by which an image may differ in a batch."""

    generator_name: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = {}
    tolerance: ClassVar[int] = 0
    SIZE: ClassVar[tuple[int, int]] = (48, 64)

    @pytest.fixture
    def generator(self) -> ImageGenerator:
        return build_generator(Generate(generator=self.generator_name, size=self.SIZE, **self.settings))

    @pytest.mark.parametrize("size", [(48, 64), (64, 48), (64, 64)])
    def test_images_have_the_size_asked_for(self, size: tuple[int, int]) -> None:
        name = self.generator_name
        images = build_generator(Generate(generator=name, size=size, **self.settings)).generate(PROMPTS, [1, 2, 3])
        assert [(image.shape, image.dtype) for image in images] == [((*size, 3), np.dtype(np.uint8))] * 3
        assert all(image.std() > 2 for image in images), "an audit would call it blank"

    def test_an_image_follows_from_its_prompt_and_seed(self, generator: ImageGenerator) -> None:
        images = generator.generate(PROMPTS, [1, 2, 2**32 - 1])
        again = generator.generate(PROMPTS, [1, 2, 2**32 - 1])
        assert all(np.array_equal(a, b) for a, b in zip(images, again, strict=True))
        seeded = generator.generate(PROMPTS, [1, 2, 4])
        assert [equal(a, b, self.tolerance) for a, b in zip(images, seeded, strict=True)] == [True, True, False]
        reworded = generator.generate([PROMPTS[1], *PROMPTS[1:]], [1, 2, 2**32 - 1])
        assert not np.array_equal(images[0], reworded[0]), "the prompt matters"

    def test_an_image_is_the_same_alone_and_in_any_order(self, generator: ImageGenerator) -> None:
        images = generator.generate(PROMPTS, [1, 2, 3])
        for k in (2, 0, 1):
            (alone,) = generator.generate(PROMPTS[k : k + 1], [k + 1])
            assert equal(alone, images[k], self.tolerance)

    def test_its_record_is_plain_data_that_drawing_leaves_alone(self, generator: ImageGenerator) -> None:
        before = json.dumps(dict(generator.record))
        generator.generate(PROMPTS[:1], [1])
        assert json.dumps(dict(generator.record)) == before
        assert isinstance(generator.record["generator"], str)
        assert not ROW & set(generator.record), "keys of the manifest's own"

    def test_it_leaves_everybody_elses_draws_alone(self, generator: ImageGenerator) -> None:
        with undisturbed():
            generator.generate(PROMPTS[:1], [1])


def equal(a: Pixels, b: Pixels, tolerance: int) -> bool:
    return int(np.abs(a.astype(int) - b.astype(int)).max()) <= tolerance
