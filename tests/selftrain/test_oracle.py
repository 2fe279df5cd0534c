"""Refinement by points and by regions, held against a segmenter that knows the truth of rendered scenes."""

import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from test_refine import Oracle, iou

from clouds import streets
from clouds.config.label_sets import IGNORE, NAMES
from clouds.selftrain import refine as refine_module
from clouds.selftrain.find_regions import find_regions
from clouds.selftrain.points import Prompts, components, draw
from clouds.selftrain.refine import Refinement, refine, refine_map
from clouds.selftrain.regions import Regions, overlay, vote

FLOOR = 2e-4  # 26 pixels of 256 x 512: most of what a scene shows
SCENES = 6


def rendered(seed: int) -> np.ndarray:
    return streets.render(streets.sample("town", 700 + seed))[1]


def damaged(truth: np.ndarray, seed: int) -> np.ndarray:
    """Borders that jitter by a pixel, holes without a label, and blobs of wrong classes, above the floor and below."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(truth.shape) + rng.integers(-1, 2, (2, *truth.shape))
    labels = truth[np.clip(y, 0, truth.shape[0] - 1), np.clip(x, 0, truth.shape[1] - 1)].copy()
    for wrong in [IGNORE] * 15 + rng.integers(0, len(NAMES), 15).tolist():
        center, axes = rng.integers(0, truth.shape[::-1]), rng.integers(2, 6, 2)
        cv2.ellipse(labels, center.tolist(), axes.tolist(), 0, 0, 360, int(wrong), -1)
    return labels


def everything(truth: np.ndarray) -> Regions:
    """The true objects but specks, their halves and quarters, and the whole image, as segmenting everything gives."""
    objects = components(truth, floor=0).ids
    masks = []
    for name in range(1, int(objects.max()) + 1):
        whole = objects == name
        rows, columns = np.nonzero(whole)
        left = whole & (np.arange(truth.shape[1]) < np.median(columns))
        upper = left & (np.arange(truth.shape[0])[:, None] < np.median(rows))
        masks += [mask for mask in (whole, left, upper) if mask.sum() >= FLOOR * mask.size]
    masks.append(np.ones(truth.shape, np.bool_))
    return overlay((truth.shape[0], truth.shape[1]), masks, [1.0] * len(masks))


def by_points(labels: np.ndarray, truth: np.ndarray, seed: int = 0, **options: Any) -> Refinement:
    oracle = Oracle(truth)
    return refine_map(labels, oracle.objects, oracle, seed=seed, floor=FLOOR, **options)


def by_regions(labels: np.ndarray, truth: np.ndarray, seed: int = 0, **options: Any) -> Refinement:
    return vote(labels, everything(truth), floor=FLOOR, **options)


both = pytest.mark.parametrize("refined_by", [by_points, by_regions])


@both
def test_damaged_truths_of_rendered_scenes_become_the_truth_again(refined_by: Any) -> None:
    truths = np.stack([rendered(seed) for seed in range(SCENES)])
    labels = np.stack([damaged(truth, seed) for seed, truth in enumerate(truths)])
    refined = np.stack([refined_by(a, b, seed).labels for seed, (a, b) in enumerate(zip(labels, truths, strict=True))])
    known, decided = truths != IGNORE, refined != IGNORE
    assert (decided & known).sum() >= 0.85 * known.sum()
    classes = np.setdiff1d(truths, [IGNORE])
    assert classes[0] == 0
    assert len(classes) >= 15
    for cls in classes:
        mine = truths == cls
        where = decided & known
        assert iou(refined[where], truths[where], cls) > 0.98, NAMES[cls]
        assert where[mine].mean() > 0.7, NAMES[cls]
        if mine.sum() > 3000:  # the damage was worth mending
            assert iou(labels[known], truths[known], cls) < 0.98, NAMES[cls]


@both
@pytest.mark.parametrize("cls", [0, 7, 18])
def test_an_object_is_completed_and_a_wrong_blob_in_it_goes(refined_by: Any, cls: int) -> None:
    truth = np.full((120, 160), 10, np.uint8)
    truth[40:100, 20:140] = cls
    labels = truth.copy()
    labels[42:60, 22:60] = IGNORE  # a hole
    labels[70:80, 80:95] = 3  # a blob of another class, above the floor
    labels[36:40, 30:50] = cls  # and one that spills over the border
    assert np.array_equal(refined_by(labels, truth).labels, truth)


@both
def test_maps_without_labels_and_of_one_class(refined_by: Any) -> None:
    truth = np.zeros((90, 120), np.uint8)
    empty = refined_by(np.full_like(truth, IGNORE), truth)
    assert (empty.labels == IGNORE).all()
    assert (empty.components, empty.changed, empty.decided, empty.disputed) == (0, 0, 0, 0)
    for cls in (0, 254):
        one = refined_by(np.full_like(truth, cls), truth)
        assert (one.labels == cls).all()
        assert one.changed == one.disputed == 0


def test_no_regions_decide_nothing() -> None:
    none = overlay((20, 30), [], [])
    result = vote(np.zeros((20, 30), np.uint8), none)
    assert (result.labels == IGNORE).all()
    assert (result.components, len(result.classes)) == (0, 0)


def test_other_label_sets_than_the_19_classes_are_refined() -> None:
    truth = rendered(1)
    table = np.arange(256, dtype=np.uint8)
    table[:19] = 200 + 2 * np.arange(19)  # ids up to 236, with gaps
    labels = table[damaged(truth, 1)]
    image = np.zeros((*truth.shape, 3), np.uint8)
    refined = refine(image, labels, Oracle(truth), seed=3)
    assert set(np.unique(refined)) <= {*table[:19].tolist(), IGNORE}
    assert (refined == table[truth])[refined != IGNORE].mean() > 0.98
    assert np.array_equal(refined, table[refine(image, damaged(truth, 1), Oracle(truth), seed=3)])
    voted = vote(labels, everything(truth), floor=FLOOR).labels
    assert np.array_equal(voted, table[vote(damaged(truth, 1), everything(truth), floor=FLOOR).labels])


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_component_without_points_shifts_no_label(monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    truth = np.repeat(np.uint8([0, 5, 9]), 20)[None].repeat(40, axis=0)

    def losing(*arguments: Any) -> Prompts:
        made = draw(*arguments)
        return Prompts(np.delete(made.points, lost, axis=0), np.delete(made.classes, lost))

    monkeypatch.setattr(refine_module, "draw", losing)
    result = by_points(truth, truth)
    gone = truth == [0, 5, 9][lost]
    assert (result.labels[gone] == IGNORE).all()
    assert np.array_equal(result.labels[~gone], truth[~gone])
    assert (result.components, len(result.classes), len(result.points)) == (3, 2, 2)


@both
def test_nothing_depends_on_how_the_work_is_split(refined_by: Any) -> None:
    truth = rendered(2)
    labels = damaged(truth, 2)
    results = []
    for prompts in (1, 5, 400):
        bound = prompts * 3 * truth.size
        if refined_by is by_points:
            results.append(by_points(labels, truth, mask_bytes=bound).labels)
        else:
            found = find_regions(np.zeros((*truth.shape, 3), np.uint8), Oracle(truth), 12, 0.5, 0.5, mask_bytes=bound)
            results.append(vote(labels, found, floor=FLOOR).labels)
    assert (results[0] != IGNORE).mean() > 0.5
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def blocks() -> np.ndarray:
    """500 components, (480, 600)."""
    classes = np.random.default_rng(0).permutation(500).reshape(20, 25) % 19
    classes += (np.indices(classes.shape).sum(axis=0) % 2) * 19  # neighbours differ
    return np.kron(classes, np.ones((24, 24))).astype(np.uint8)


def peak(work: Any) -> tuple[Any, int]:
    tracemalloc.start()
    try:
        made = work()
        return made, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_500_components_are_refined_in_bounded_memory() -> None:
    truth = blocks()
    oracle = Oracle(truth)
    bound = 8 * 3 * truth.size
    result, used = peak(lambda: refine_map(truth, oracle.objects, oracle, seed=0, floor=0, mask_bytes=bound))
    assert (result.components, len(result.classes)) == (500, 500)
    assert np.array_equal(result.labels, truth)
    assert used < 6 * bound < 500 * truth.size, "the oracle's own copies included; all masks at once are 432 MB"


@pytest.mark.slow
def test_500_regions_are_found_and_voted_in_bounded_memory() -> None:
    truth = blocks()
    bound = 8 * 3 * truth.size
    image = np.zeros((*truth.shape, 3), np.uint8)
    found, used = peak(lambda: find_regions(image, Oracle(truth), 50, 0.7, 0.5, mask_bytes=bound))
    assert len(found) == 500
    assert used < 6 * bound + 2500 * truth.size // 8, "candidates, and a bit a pixel for masks on hold"
    result, used = peak(lambda: vote(truth, found, floor=0))
    assert np.array_equal(result.labels, truth)
    assert used < 100 * truth.size


def test_regions_that_overlap_fully() -> None:
    labels = np.repeat(np.uint8([0, 1, 0]), [20, 5, 20])[None].repeat(30, axis=0)
    whole = np.ones(labels.shape, np.bool_)
    agreeing = vote(labels, overlay(labels.shape, [whole] * 3, [0.9] * 3))
    assert (agreeing.labels == 0).all()
    assert agreeing.disputed == 0
    against = vote(labels, overlay(labels.shape, [whole, whole], [0.9] * 2, [0, 1]), max_swallow=None)
    assert (against.labels == IGNORE).all()
    assert against.disputed == 1
    assert (vote(labels, overlay(labels.shape, [whole], [0.9]), max_swallow=0.1).labels == IGNORE).all()
