"""The embedded promptable segmenter that groups superpixels around the points."""

import numpy as np
import pytest
from test_superpixels import scene

from clouds import streets
from clouds.config.label_sets import IGNORE
from clouds.foundation.segmenter import load_segmenter
from clouds.foundation.segmenters.grouped_superpixels import MOST, GroupedSuperpixels
from clouds.foundation.segmenters.superpixels import Superpixels
from clouds.selftrain.points import components, draw
from clouds.testing import SegmenterContract


class TestContract(SegmenterContract):
    segmenter_name = "grouped-superpixels"


def test_masks_cover_more_of_true_components_than_superpixels_do() -> None:
    ious: dict[str, list[float]] = {"superpixels": [], "grouped-superpixels": []}
    for seed in range(4):
        image, truth = streets.render(streets.sample("town", 900 + seed), (128, 256))
        found = components(truth, 0.004)
        points = draw(found, 10, "central", seed).points
        for name, rows in ious.items():
            segmenter = load_segmenter(name)
            masks, quality = segmenter.masks(segmenter.encode(image), points)
            for p, candidates in enumerate(masks & (truth != IGNORE)):
                mask, mine = candidates[quality[p].argmax()], found.ids == p + 1
                rows.append((mask & mine).sum() / (mask | mine).sum())
    assert np.mean(ious["grouped-superpixels"]) > np.mean(ious["superpixels"]) + 0.05


def test_candidates_are_nested_hold_their_points_and_follow_superpixels() -> None:
    image, _ = scene()
    segmenter = GroupedSuperpixels()
    embedding = segmenter.encode(image)
    points = np.random.default_rng(0).integers(0, [512, 256], (12, 5, 2)).astype(np.float32)
    masks, quality = segmenter.masks(embedding, points)
    assert (masks[:, :-1] <= masks[:, 1:]).all()
    assert ((quality > 0) & (quality <= 1)).all()
    x, y = points.astype(int).transpose(2, 0, 1)
    assert masks[np.arange(12)[:, None], :, y, x].all()
    assert np.array_equal(segmenter.levels(embedding), Superpixels().encode(image))
    finest = segmenter.levels(embedding)[0].ravel()
    inside = np.stack([np.bincount(finest, mask.ravel()) for mask in masks.reshape(36, -1)]) / np.bincount(finest)
    assert set(np.unique(inside)) == {0.0, 1.0}


def test_many_prompts_are_answered_in_parts() -> None:
    image, _ = scene()
    segmenter = GroupedSuperpixels()
    embedding = segmenter.encode(image)
    points = np.random.default_rng(0).integers(0, [512, 256], (300, 10, 2)).astype(np.float32)
    assert embedding["parents"].shape[1] * 300 * 10 > MOST
    masks, quality = segmenter.masks(embedding, points)
    last, rated = segmenter.masks(embedding, points[-1:])
    assert (masks[-1:] != last).mean() < 1e-3
    assert quality[-1:] == pytest.approx(rated, abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (17, 5)])
def test_any_size_and_flat_images(shape: tuple[int, int]) -> None:
    segmenter = GroupedSuperpixels()
    masks, quality = segmenter.masks(
        segmenter.encode(np.full((*shape, 3), 90, np.uint8)), np.float32([[[0, 0], [shape[1] - 1, shape[0] - 1]]])
    )
    assert masks.shape == (1, 3, *shape)
    assert masks[:, :, 0, 0].all()
    assert masks[:, :, -1, -1].all()
    assert np.isfinite(quality).all()
