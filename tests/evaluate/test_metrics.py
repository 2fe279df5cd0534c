"""The numbers of an evaluation, against loops, cases done by hand and each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clouds.config.label_sets import IGNORE
from clouds.errors import DataError
from clouds.evaluate.metrics import (
    accuracy,
    bootstrap_interval,
    bootstrap_means,
    boundary_parts,
    calibration,
    confusion,
    expected_calibration_error,
    fwiou,
    iou,
    iou_of_parts,
    mean_iou,
    mean_present,
    parts,
)


def counts_of(truth, prediction, classes: int = 3) -> np.ndarray:
    return confusion(np.array(truth, np.uint8), np.array(prediction, np.uint8), classes)


labels = arrays.arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 2, 3, IGNORE]))


@given(truth=labels, prediction=arrays.arrays(np.uint8, (4, 5)))
def test_confusion_is_what_a_loop_counts(truth, prediction):
    expected = np.zeros((4, 5), np.int64)
    for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if t != IGNORE:
            expected[t, p if p < 4 else 4] += 1
    assert np.array_equal(confusion(truth, prediction, 4), expected)


def test_iou_of_a_case_done_by_hand():
    counts = counts_of([0, 0, 0, 0, 1, 1, IGNORE], [0, 0, 1, 2, 1, 0, 1])
    # class 0: 2 hits, 4 true, 3 predicted; class 1: 1 hit, 2 true, 2 predicted; class 2 never shown
    assert iou(counts)[:2] == pytest.approx([2 / 5, 1 / 3])
    assert np.isnan(iou(counts)[2])
    assert mean_iou(counts) == pytest.approx((2 / 5 + 1 / 3) / 2)


def test_a_prediction_outside_the_label_set_is_a_miss_of_its_true_class_only():
    counts = counts_of([0, 0, 1, 1], [0, IGNORE, 1, 1])
    assert iou(counts)[:2] == pytest.approx([1 / 2, 1])
    assert mean_iou(counts) == pytest.approx(3 / 4)


def test_a_class_shown_but_never_found_is_zero_and_in_the_mean():
    counts = counts_of([0, 0, 1, 1], [0, 0, 0, 0])
    assert iou(counts)[:2] == pytest.approx([1 / 2, 0])
    assert mean_iou(counts) == pytest.approx(1 / 4)


def test_where_nothing_is_labelled_the_mean_is_zero_and_no_warning_is_raised(recwarn):
    assert mean_iou(counts_of([IGNORE], [0])) == 0
    assert len(recwarn) == 0


def test_scores_of_many_matrices_are_those_of_each():
    rng = np.random.default_rng(0)
    many = rng.integers(0, 9, (5, 3, 4))
    assert np.array_equal(iou(many), [iou(one) for one in many])
    assert np.array_equal(mean_iou(many), [mean_iou(one) for one in many])


def images_of(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([parts(counts_of(truth := rng.integers(0, 3, 400), np.where(rng.random(400) < rng.uniform(0.3, 0.9),
                                                                         truth, rng.integers(0, 3, 400))))
                     for _ in range(n)])  # fmt: skip


@pytest.mark.parametrize("n", [2, 10, 60])
def test_the_interval_holds_the_mean(n):
    images = images_of(n)
    low, high = bootstrap_interval(images)
    assert low < mean_present(iou_of_parts(images.sum(0))) < high


def test_the_interval_shrinks_with_more_images():
    def width(n: int) -> float:
        low, high = bootstrap_interval(images_of(n))
        return high - low

    assert width(10) > 1.5 * width(40) > 2 * width(160)


def test_the_interval_follows_from_its_seed():
    images = images_of(8)
    assert bootstrap_interval(images, seed=1) == bootstrap_interval(images, seed=1)
    assert bootstrap_interval(images, seed=1) != bootstrap_interval(images, seed=2)


def test_one_image_has_an_interval_of_no_width():
    images = images_of(1)
    assert bootstrap_interval(images) == pytest.approx([mean_present(iou_of_parts(images[0]))] * 2)


def test_a_label_out_of_range_is_named():
    with pytest.raises(DataError, match="label value 7; expected 0 to 2, or 255 where ignored"):
        counts_of([0, 7, IGNORE], [0, 1, 2])


def test_accuracy_and_weighted_iou_of_a_case_done_by_hand():
    counts = counts_of([0, 0, 0, 0, 1, 1, IGNORE], [0, 0, 1, 2, 1, 0, 1])
    assert accuracy(counts) == pytest.approx(3 / 6)
    assert fwiou(counts) == pytest.approx(4 / 6 * 2 / 5 + 2 / 6 * 1 / 3)


# -- calibration


def test_calibration_of_a_case_done_by_hand():
    truth = np.array([[0, 0, 1, 1, IGNORE]], np.uint8)
    prediction = np.array([[0, 1, 1, IGNORE, 0]], np.uint8)
    bins = calibration(truth, prediction, np.array([[1.0, 0.5, 0.51, 0.0, 0.9]], np.float32))
    expected = np.zeros((3, 15))
    expected[:, 14], expected[:, 7], expected[:, 0] = (1, 1, 1), (2, 1.01, 1), (1, 0, 0)
    assert bins == pytest.approx(expected, abs=2e-5)
    assert expected_calibration_error(bins) == pytest.approx((0 + 0.01 + 0) / 4, abs=1e-5)


def test_confidence_that_is_right_as_often_as_it_says_has_no_error():
    rng = np.random.default_rng(0)
    sure = rng.random((500, 500)).astype(np.float32)
    truth = np.zeros(sure.shape, np.uint8)
    bins = calibration(truth, (rng.random(sure.shape) > sure).astype(np.uint8), sure)
    assert expected_calibration_error(bins) < 0.01
    assert expected_calibration_error(calibration(truth, truth + 1, sure)) == pytest.approx(sure.mean(), rel=1e-4)


# -- boundaries


def by_definition(truth, prediction, classes: int, reach: int) -> np.ndarray:
    """Cheng et al.: each class's mask minus its eroded mask, outside and ignored pixels being no mask."""
    import cv2

    def rim(mask):
        outside = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        return mask & ~cv2.erode(outside, np.ones((3, 3), np.uint8), iterations=reach)[1:-1, 1:-1].astype(bool)

    known, rows = truth != IGNORE, []
    for k in range(classes):
        mine, theirs = rim(truth == k), rim((prediction == k) & known)
        rows.append([(mine & theirs).sum(), mine.sum(), theirs.sum()])
    return np.array(rows).T


SIZES = st.sampled_from([(40, 60), (3, 200), (90, 70)])


@given(seed=st.integers(0, 10_000), cell=st.sampled_from([1, 5, 20]), size=SIZES)
def test_boundaries_are_those_of_the_definition(seed, cell, size):
    rng = np.random.default_rng(seed)
    small = rng.choice([0, 1, 2, IGNORE], (2, size[0] // cell + 1, size[1] // cell + 1)).astype(np.uint8)
    truth, prediction = small.repeat(cell, 1).repeat(cell, 2)[:, : size[0], : size[1]]
    reach = max(round(0.02 * float(np.hypot(*size))), 1)
    assert np.array_equal(boundary_parts(truth, prediction, 3), by_definition(truth, prediction, 3, reach))


def test_a_shift_costs_more_at_the_boundary_than_inside():
    truth, moved = np.zeros((2, 200, 200), np.uint8)
    truth[50:150, 50:150] = moved[52:152, 50:150] = 1
    inside, at_rim = iou(confusion(truth, moved, 2)), iou_of_parts(boundary_parts(truth, moved, 2))
    assert at_rim[1] < inside[1] - 0.1
    assert iou_of_parts(boundary_parts(truth, truth, 2)).tolist() == [1, 1]


# -- intervals


def test_the_draws_of_two_models_on_the_same_images_are_pairs():
    images = images_of(20)
    assert np.array_equal(bootstrap_means(images, draws=120), bootstrap_means(images, draws=120))
    worse = images.copy()
    worse[:, 0] = worse[:, 0] * 9 // 10
    assert (bootstrap_means(worse) < bootstrap_means(images)).all()
