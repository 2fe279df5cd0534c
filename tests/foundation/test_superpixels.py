"""The embedded promptable segmenter: nested superpixels under the points."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from clouds.errors import UsageError
from clouds.foundation.segmenter import load_segmenter
from clouds.foundation.segmenters.superpixels import SCALES, Superpixels
from clouds.selftrain.refine import refine_map
from clouds.testing import SegmenterContract


def scene(seed: int = 0, shape: tuple[int, int] = (256, 512)) -> tuple[np.ndarray, np.ndarray]:
    """A sky, a ground and six things of their own colour, with noise: image (H, W, 3) uint8 and labels (H, W)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    labels[: shape[0] // 2] = 10
    for cls, column in zip((2, 5, 8, 11, 13, 17), range(6), strict=True):
        x, y = 20 + column * 80, int(rng.integers(60, 140))
        if cls % 2:
            cv2.rectangle(labels, (x, y), (x + 50, y + 70), cls, -1)
        else:
            cv2.ellipse(labels, (x + 28, y + 35), (28, 38), 0, 0, 360, cls, -1)
    colors = np.random.default_rng(99).integers(40, 215, (19, 3))
    image = colors[labels] + rng.normal(0, 6, (*shape, 3))
    return np.clip(image, 0, 255).astype(np.uint8), labels


def test_regions_are_nested_and_fewer_at_coarser_scales() -> None:
    image, _ = scene()
    embedding = Superpixels().encode(image)
    assert (embedding.shape, embedding.dtype) == ((len(SCALES), *image.shape[:2]), np.uint16)
    counts = [len(np.unique(regions)) for regions in embedding]
    assert counts == [int(regions.max()) + 1 for regions in embedding]
    assert counts == sorted(counts, reverse=True)
    assert 8 <= counts[-1] < counts[0] < 2000
    for fine, coarse in pairwise(embedding):
        assert len(np.unique(fine.astype(int) * 65536 + coarse)) == len(np.unique(fine))


def test_regions_keep_to_the_borders_of_things() -> None:
    image, labels = scene()
    for regions in Superpixels().encode(image):
        votes = np.zeros((int(regions.max()) + 1, 19), int)
        np.add.at(votes, (regions, labels), 1)
        assert votes.max(axis=1).sum() > 0.98 * labels.size


def test_masks_unite_the_regions_under_the_points() -> None:
    image, _ = scene()
    segmenter = Superpixels()
    embedding = segmenter.encode(image)
    points = np.random.default_rng(0).integers(0, [512, 256], (12, 5, 2)).astype(np.float32)
    masks, quality = segmenter.masks(embedding, points)
    assert (masks.shape, masks.dtype) == ((12, 3, 256, 512), np.bool_)
    assert (quality.shape, quality.dtype) == ((12, 3), np.float32)
    assert ((quality > 0) & (quality <= 1)).all()
    for prompt, level in np.ndindex(12, 3):
        x, y = points[prompt].astype(int).T
        assert np.array_equal(masks[prompt, level], np.isin(embedding[level], embedding[level][y, x]))
    assert (masks[:, :-1] <= masks[:, 1:]).all()


class TestContract(SegmenterContract):
    segmenter_name = "superpixels"


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (17, 5), (64, 64), (250, 130)])
def test_any_size_and_flat_images(shape: tuple[int, int]) -> None:
    segmenter = Superpixels()
    for image in (np.full((*shape, 3), 90, np.uint8), np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)):
        embedding = segmenter.encode(image)
        masks, _ = segmenter.masks(embedding, np.float32([[[0, 0], [shape[1] - 1, shape[0] - 1]]]))
        assert masks.shape == (1, 3, *shape)
        assert masks[:, :, 0, 0].all()
        assert masks[:, :, -1, -1].all()


def test_refined_labels_beat_a_blurred_teacher() -> None:
    segmenter = Superpixels()
    for seed in range(3):
        image, truth = scene(seed)
        noise = np.random.default_rng(seed).normal(0, 1, (2, *truth.shape))
        y, x = np.indices(truth.shape) + np.stack([cv2.GaussianBlur(n, (0, 0), 8) * 100 for n in noise]).astype(int)
        teacher = truth[np.clip(y, 0, truth.shape[0] - 1), np.clip(x, 0, truth.shape[1] - 1)]
        result = refine_map(teacher, segmenter.encode(image), segmenter, seed=seed, strategy="central")
        decided = result.labels != 255
        filled = np.where(decided, result.labels, teacher)
        assert result.decided > 0.3
        assert (result.labels != truth)[decided].mean() < (teacher != truth)[decided].mean()
        assert (filled != truth).mean() < (teacher != truth).mean()


def test_segmenters_load_by_name() -> None:
    assert load_segmenter("superpixels").name == "superpixels"
    allowed = r"'sam9'; did you mean sam.?\? allowed: grouped-superpixels, superpixels, mobile-sam/MODEL"
    with pytest.raises(UsageError, match=allowed):
        load_segmenter("sam9")
