"""Pseudo-label refinement: components, points and claims, against a segmenter that knows the truth."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from clouds.config.label_sets import IGNORE, NAMES
from clouds.errors import DataError, UsageError
from clouds.selftrain.points import FLOOR, components, draw
from clouds.selftrain.refine import refine, refine_map

MAPS = arrays(np.uint8, (9, 13), elements=st.sampled_from([0, 1, 2, IGNORE]))


class Oracle:
    """Returns the true object under most of a prompt's points, between two worse candidates of lower quality."""

    name = "oracle"

    def __init__(self, truth: np.ndarray) -> None:
        self.objects = components(truth, floor=0).ids
        self.requests: list[int] = []

    def encode(self, image: np.ndarray) -> np.ndarray:
        return self.objects

    def masks(self, embedding: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.requests.append(len(points))
        under = embedding[points[..., 1].astype(int), points[..., 0].astype(int)]  # (P, K)
        objects = np.array([np.bincount(row).argmax() for row in under])
        true = embedding == objects[:, None, None]
        half = true & (np.arange(embedding.shape[1]) % 2 == 0)
        masks = np.stack([half, true, np.ones_like(true)], axis=1)
        return masks, np.tile(np.float32([0.6, 0.9, 0.3]), (len(points), 1))


class Fixed:
    """Answers prompt i of all prompts with mask i, whatever the points: for rules about claims."""

    name = "fixed"

    def __init__(self, masks: np.ndarray) -> None:
        self.answers = masks
        self.next = 0

    def encode(self, image: np.ndarray) -> None:
        return None

    def masks(self, embedding: Any, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.answers[self.next : self.next + len(points)]
        self.next += len(points)
        return np.repeat(chosen[:, None], 3, axis=1), np.tile(np.float32([0.1, 0.2, np.nan]), (len(points), 1))


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """Every class, on a road: a grid of 19 alternating rectangles and ellipses, 8 px apart. (304, 400)"""
    scene = np.zeros((304, 400), np.uint8)
    for cls in range(1, len(NAMES)):
        row, column = divmod(cls, 5)
        x, y = column * 80 + 4, row * 76 + 4
        if cls % 2:
            cv2.rectangle(scene, (x, y), (x + 71, y + 67), cls, -1)
        else:
            cv2.ellipse(scene, (x + 36, y + 34), (35, 33), 0, 0, 360, cls, -1)
    return scene


def damage(truth: np.ndarray, seed: int) -> np.ndarray:
    """The truth as a weak teacher sees it: shifted, ragged at the borders, with wrong specks and unsure holes."""
    rng = np.random.default_rng(seed)
    dy, dx = rng.integers(-2, 3, (2, *truth.shape))
    y, x = np.indices(truth.shape)
    damaged = truth[np.clip(y + dy - 2, 0, truth.shape[0] - 1), np.clip(x + dx + 2, 0, truth.shape[1] - 1)]
    for _ in range(60):
        y, x = rng.integers(0, truth.shape[0] - 12), rng.integers(0, truth.shape[1] - 12)
        damaged[y : y + 12, x : x + 12] = rng.choice([*range(len(NAMES)), IGNORE])
    return damaged


def iou(map_: np.ndarray, truth: np.ndarray, cls: int) -> float:
    return float(((map_ == cls) & (truth == cls)).sum() / ((map_ == cls) | (truth == cls)).sum())


@pytest.mark.parametrize("seed", range(3))
def test_the_oracle_turns_a_damaged_truth_back_into_the_truth(truth: np.ndarray, seed: int) -> None:
    damaged = damage(truth, seed)
    assert min(iou(damaged, truth, cls) for cls in range(19)) < 0.9
    refined = refine(np.zeros((*truth.shape, 3), np.uint8), damaged, Oracle(truth), seed=seed)
    assert refined.dtype == np.uint8
    assert (refined != IGNORE).mean() >= 0.85
    for cls in range(19):
        assert iou(refined, truth, cls) > 0.98, NAMES[cls]


def test_a_mask_that_swallows_other_classes_can_be_refused(truth: np.ndarray) -> None:
    damaged = truth.copy()
    damaged[170:204, 260:294] = 5  # a wrong component, above the floor, inside the one object of class 13
    oracle = Oracle(truth)
    trusting = refine_map(damaged, oracle.encode(truth), oracle, seed=0, max_swallow=None)
    wary = refine_map(damaged, oracle.encode(truth), oracle, seed=0)
    assert trusting.disputed > 0
    assert not trusting.rejected.any()
    assert wary.rejected.sum() == 1
    assert np.array_equal(wary.labels, truth)
    halves = np.repeat(np.uint8([0, 254]), 15)[None].repeat(30, axis=0)
    left = np.stack([halves == 0] * 2)
    assert refine_map(halves, None, Fixed(left), seed=0).rejected.tolist() == [False, True]


def test_results_do_not_depend_on_the_batch_split(truth: np.ndarray) -> None:
    damaged = damage(truth, 7)
    results, batches = [], []
    for prompts in (1, 3, 7, 1000):
        oracle = Oracle(truth)
        results.append(refine_map(damaged, oracle.objects, oracle, seed=1, mask_bytes=prompts * 3 * truth.size))
        batches.append(max(oracle.requests))
    assert batches[:3] == [1, 3, 7]
    for other in results[1:]:
        assert np.array_equal(results[0].labels, other.labels)
        assert np.array_equal(results[0].points, other.points)


def test_a_report_says_what_happened(truth: np.ndarray) -> None:
    damaged = damage(truth, 0)
    oracle = Oracle(truth)
    result = refine_map(damaged, oracle.objects, oracle, seed=0, points=4)
    assert result.components == len(result.classes) == len(result.quality) == 19
    assert result.points.shape == (19, 4, 2)
    assert np.allclose(result.quality, 0.9)
    assert result.decided == pytest.approx((result.labels != IGNORE).mean())
    assert result.changed == pytest.approx(((result.labels != damaged) & (result.labels != IGNORE)).mean())


def test_a_map_without_labels_stays_undecided(truth: np.ndarray) -> None:
    oracle = Oracle(truth)
    result = refine_map(np.full(truth.shape, IGNORE, np.uint8), oracle.objects, oracle, seed=0)
    assert (result.labels == IGNORE).all()
    assert (result.components, result.points.shape, result.decided, result.changed) == (0, (0, 5, 2), 0, 0)
    assert oracle.requests == []


@pytest.mark.parametrize("cls", [0, 18, 254])
def test_one_class(cls: int) -> None:
    labels = np.full((40, 50), cls, np.uint8)
    labels[:20] = IGNORE
    refined = refine(np.zeros((40, 50, 3), np.uint8), labels, Oracle(np.zeros((40, 50), np.uint8)))
    assert (refined == cls).all()


def test_500_components_keep_their_classes_in_bounded_memory() -> None:
    truth = np.kron(np.random.default_rng(0).permutation(500).reshape(20, 25) % 19, np.ones((16, 16))).astype(np.uint8)
    oracle = Oracle(truth)
    result = refine_map(truth, oracle.objects, oracle, seed=0, floor=0, mask_bytes=2**22)
    assert result.components > 400
    assert max(oracle.requests) <= 2**22 // (3 * truth.size)
    assert np.array_equal(result.labels, truth)


def test_masks_that_overlap_fully() -> None:
    labels = np.repeat(np.uint8([0, 1, 0]), 10)[None].repeat(30, axis=0)
    everything = np.ones((3, 30, 30), bool)
    assert (refine_map(labels, None, Fixed(everything), seed=0, max_swallow=None).labels == IGNORE).all()
    same = np.where(labels == 1, IGNORE, labels)  # two pieces of one class agree, the reference drops them
    assert (refine_map(same, None, Fixed(everything), seed=0).labels == 0).all()
    assert (refine_map(same, None, Fixed(everything), seed=0, overlaps="reference").labels == IGNORE).all()


@settings(max_examples=60, deadline=None)
@given(MAPS, st.integers(0, 2**31), st.sampled_from(["ignore", "reference"]), st.sampled_from([None, 0.0, 0.5, 1.0]))
def test_a_decided_pixel_is_claimed_by_its_class_alone(
    labels: np.ndarray, seed: int, overlaps: Any, max_swallow: float | None
) -> None:
    labels = np.where(labels == 2, np.uint8(254), labels)
    found = components(labels, floor=0.02)
    rng = np.random.default_rng(seed)
    masks = rng.random((len(found), *labels.shape)) < rng.choice([0.02, 0.3], (len(found), 1, 1))
    options: Any = {"floor": 0.02, "overlaps": overlaps, "max_swallow": max_swallow, "mask_bytes": 1000}
    result = refine_map(labels, None, Fixed(masks), seed=seed, **options)
    kept = []
    for mask, owner in zip(masks, found.classes, strict=True):
        under = labels[mask & (labels != IGNORE)]
        kept.append(max_swallow is None or (under != owner).sum() <= max_swallow * len(under))
    assert result.rejected.tolist() == [not keep for keep in kept]
    expected, last = np.full(labels.shape, IGNORE), np.zeros(labels.shape, int)
    for y, x in np.ndindex(labels.shape):
        claiming = np.flatnonzero(masks[:, y, x] & np.array(kept, bool))
        claims = found.classes[claiming]
        if len(claims if overlaps == "reference" else set(claims)) == 1:
            expected[y, x] = claims[0]
        if len(claims):
            last[y, x] = claiming[-1] + 1
    assert np.array_equal(result.labels, expected)
    assert np.array_equal(result.masks, last)


@settings(max_examples=60, deadline=None)
@given(MAPS, st.sampled_from([0.0, 0.03, 0.1]))
def test_components_are_those_of_each_class(labels: np.ndarray, floor: float) -> None:
    found = components(labels, floor)
    expected = set()
    for cls in (0, 1, 2):
        pieces, count = ndimage.label(labels == cls)
        for piece in range(1, count + 1):
            if (pieces == piece).sum() >= floor * labels.size:
                expected.add((cls, (pieces == piece).tobytes()))
    assert {(int(c), (found.ids == i + 1).tobytes()) for i, c in enumerate(found.classes)} == expected
    assert found.areas.tolist() == [(found.ids == i + 1).sum() for i in range(len(found))]
    assert (np.diff(found.classes.astype(int)) >= 0).all()


def test_components_are_4_connected_and_the_floor_is_the_papers_share() -> None:
    diagonal = np.where(np.eye(6, dtype=bool), np.uint8(3), np.uint8(IGNORE))
    assert len(components(diagonal, 0)) == 6
    labels = np.full((768, 768), IGNORE, np.uint8)
    labels[:50, :100] = 1
    assert components(labels, FLOOR).areas.tolist() == [5000]
    labels[0, 0] = IGNORE
    assert len(components(labels, FLOOR)) == 0


@settings(max_examples=80, deadline=None)
@given(MAPS, st.integers(1, 12), st.sampled_from(["random", "central", "eroded"]), st.integers(0, 2**31))
def test_points_lie_inside_their_own_component(labels: np.ndarray, count: int, strategy: Any, seed: int) -> None:
    found = components(labels, floor=0)
    prompts = draw(found, count, strategy, seed)
    assert prompts.points.dtype == np.float32
    assert prompts.points.shape == (len(found), count, 2)
    x, y = prompts.points.astype(int).transpose(2, 0, 1)
    assert (found.ids[y, x] == np.arange(1, len(found) + 1)[:, None]).all()
    assert np.array_equal(prompts.classes, found.classes)
    if strategy == "random":
        distinct = np.array([len(np.unique(row, axis=0)) for row in prompts.points])
        assert (distinct == count)[found.areas >= count].all()


def test_every_pixel_of_a_component_is_as_likely() -> None:
    found = components(np.zeros((3, 4), np.uint8), floor=0)
    drawn = np.concatenate([draw(found, 5, seed=seed).points[0] for seed in range(2000)]).astype(int)
    counts = np.bincount(drawn[:, 1] * 4 + drawn[:, 0], minlength=12)
    assert np.abs(counts - 2000 * 5 / 12).max() < 130  # five standard deviations


def test_central_and_eroded_points_keep_away_from_borders() -> None:
    quarters = np.kron(np.uint8([[1, 2], [3, 4]]), np.ones((100, 100), np.uint8))
    found = components(quarters)
    for strategy, least in (("eroded", 2), ("central", 24)):
        inside = draw(found, 200, strategy, seed=0).points % 100  # type: ignore[arg-type]
        assert min(inside.min(), (99 - inside).min()) >= least


def test_90000_components_keep_their_order_and_their_points() -> None:
    board = (np.indices((300, 300)).sum(axis=0) % 2).astype(np.uint8)
    found = components(board, floor=0)
    places = [np.argwhere(board == cls)[:, ::-1] for cls in (0, 1)]  # in reading order
    assert np.array_equal(draw(found, 1).points[:, 0], np.concatenate(places))
    assert found.classes.tolist() == [0] * 45000 + [1] * 45000


def test_seeds_fix_the_points(truth: np.ndarray) -> None:
    found = components(truth)
    assert np.array_equal(draw(found).points, draw(found, 5, "random", 0).points)
    assert np.array_equal(draw(found, seed=3).points, draw(found, seed=3).points)
    assert not np.array_equal(draw(found, seed=3).points, draw(found, seed=4).points)


def test_a_component_without_points_takes_its_class_with_it() -> None:
    from clouds.selftrain.points import _sample

    eligible = np.repeat(np.int32([1, 0, 3, 4, 0]), 6)[None].repeat(6, axis=0)  # components 2 and 5 yield no points
    prompts = _sample(eligible, np.uint8([0, 1, 2, 7, 9]), 5, np.random.default_rng(0))
    assert prompts.classes.tolist() == [0, 2, 7]
    assert (prompts.points[..., 0] // 6).astype(int).tolist() == [[0] * 5, [2] * 5, [3] * 5]


def test_wrong_input_is_refused_by_name() -> None:
    image, labels = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.uint8)
    oracle = Oracle(labels)
    for bad, message in (
        ((image[..., 0], labels), r"image must be uint8 \(H, W, 3\), got uint8 \(20, 30\)"),
        ((image.astype(np.float32), labels), "image must be uint8"),
        ((image, labels[:10]), r"\(10, 30\) but the image is \(20, 30\)"),
        ((image, labels[None]), r"labels must be \(H, W\)"),
        ((image, labels.astype(float)), "labels must be integers"),
        ((image, labels.astype(int) - 1), r"0\.\.255, got -1\.\.-1"),
    ):
        with pytest.raises(DataError, match=message):
            refine(*bad, oracle)
    wide = labels.astype(np.int64)
    wide[0, 0] = IGNORE
    assert (refine(image, wide, oracle) == 0).all()
    with pytest.raises(DataError, match=r"labels must be \(H, W\), got \(0, 30\)"):
        refine_map(labels[:0], None, oracle, seed=0)
    with pytest.raises(UsageError, match="random, central, eroded"):
        draw(components(labels), strategy="middle")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="ignore, reference"):
        refine_map(labels, None, oracle, seed=0, overlaps="drop")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the segmenter returned masks"):
        refine_map(labels, None, Fixed(np.ones((1, 5, 5), bool)), seed=0)
