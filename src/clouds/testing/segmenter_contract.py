"""What a promptable segmenter must do."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from clouds.base.arrays import Pixels
from clouds.foundation.embeddings import Cached
from clouds.foundation.segmenter import PromptableSegmenter, load_segmenter, segmenter_identity
from clouds.selftrain.refine import refine
from clouds.testing.shared import undisturbed

SIZES = [(45, 83), (64, 64), (130, 97), (3, 200), (1, 1)]


def blocks(height: int = 45, width: int = 83, seed: int = 0) -> Pixels:
    """Noise with a bright block: uint8 (H, W, 3)."""
    image = np.random.default_rng(seed).integers(0, 60, (height, width, 3)).astype(np.uint8)
    image[height // 4 : height // 2, width // 5 : width // 2] += 180
    return image


def asked(count: int, height: int = 45, width: int = 83, points: int = 5) -> NDArray[np.float32]:
    """Points (P, K, 2) float32, x then y."""
    drawn = np.random.default_rng(1).integers(0, [width, height], (count, points, 2))
    return drawn.astype(np.float32)


class SegmenterContract:
    """Of ``foundation.segmenter.PromptableSegmenter``. A subclass says ``segmenter_name``, as a recipe does, or has a
    fixture ``segmenter`` of its own."""

    segmenter_name: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def segmenter(cls) -> PromptableSegmenter:
        return load_segmenter(cls.segmenter_name)

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("points", [1, 5])
    def test_three_candidates_a_prompt_on_images_of_any_size(
        self, segmenter: PromptableSegmenter, size: tuple[int, int], points: int
    ) -> None:
        masks, quality = segmenter.masks(segmenter.encode(blocks(*size)), asked(4, *size, points))
        assert (masks.shape, masks.dtype) == ((4, 3, *size), np.dtype(bool))
        assert (quality.shape, quality.dtype) == ((4, 3), np.dtype(np.float32))
        assert np.isfinite(quality).all()

    def test_no_prompt_gets_no_mask(self, segmenter: PromptableSegmenter) -> None:
        masks, quality = segmenter.masks(segmenter.encode(blocks()), asked(0))
        assert (masks.shape, masks.dtype) == ((0, 3, 45, 83), np.dtype(bool))
        assert (quality.shape, quality.dtype) == ((0, 3), np.dtype(np.float32))

    def test_image_and_points_matter(self, segmenter: PromptableSegmenter) -> None:
        masks, _ = segmenter.masks(segmenter.encode(blocks()), asked(7))
        assert 0.001 < masks.mean() < 0.999
        assert (masks[:, 0] != masks[:, 2]).any(), "the candidates of a prompt differ"
        assert (masks[0] != masks[1]).any(), "the points matter"
        other, _ = segmenter.masks(segmenter.encode(blocks(seed=5)[::-1].copy()), asked(7))
        assert (masks != other).any(), "the image matters"

    def test_a_prompt_is_answered_the_same_alone_and_every_time(self, segmenter: PromptableSegmenter) -> None:
        image, points = blocks(), asked(6)
        embedding = segmenter.encode(image)
        masks, quality = segmenter.masks(embedding, points)
        again, rated = segmenter.masks(segmenter.encode(image.copy()), points)
        assert np.array_equal(masks, again)
        assert np.array_equal(quality, rated)
        for k in range(6):
            alone, score = segmenter.masks(embedding, points[k : k + 1])
            assert (alone[0] != masks[k]).mean() < 1e-3
            assert np.abs(score[0] - quality[k]).max() < 1e-4

    def test_points_past_the_frame_belong_to_the_nearest_pixel(self, segmenter: PromptableSegmenter) -> None:
        embedding = segmenter.encode(blocks())
        outside, q = segmenter.masks(embedding, np.array([[[83, 45]], [[-9, -0.4]]], np.float32))
        inside, p = segmenter.masks(embedding, np.array([[[82, 44]], [[0, 0]]], np.float32))
        assert np.array_equal(outside, inside)
        assert np.array_equal(q, p)

    def test_it_changes_nothing_that_others_use(self, segmenter: PromptableSegmenter) -> None:
        image, points = blocks(), asked(3)
        with undisturbed():
            segmenter.masks(segmenter.encode(image), points)
        assert np.array_equal(image, blocks())
        assert np.array_equal(points, asked(3))

    def test_embeddings_can_be_kept_on_disk(self, segmenter: PromptableSegmenter, tmp_path: Path) -> None:
        kept = Cached(segmenter, tmp_path, 2**30)
        made, found = kept.encode(blocks()), kept.encode(blocks())
        masks, _ = kept.masks(found, asked(5))
        assert np.array_equal(masks, kept.masks(made, asked(5))[0])
        whole, _ = segmenter.masks(segmenter.encode(blocks()), asked(5))
        assert (masks != whole).mean() < 0.02, "half precision moves few pixels"

    def test_it_has_a_name_and_an_identity(self, segmenter: PromptableSegmenter) -> None:
        assert isinstance(segmenter.name, str)
        assert segmenter.name
        assert segmenter_identity(segmenter) == segmenter_identity(segmenter)

    def test_label_maps_are_refined_with_it(self, segmenter: PromptableSegmenter) -> None:
        labels = np.zeros((45, 83), np.uint8)
        labels[:20] = 10
        refined = refine(blocks(), labels, segmenter)
        assert (refined.shape, refined.dtype) == (labels.shape, np.dtype(np.uint8))
        assert set(np.unique(refined)) <= {0, 10, 255}
        assert np.array_equal(refined, refine(blocks(), labels, segmenter))
