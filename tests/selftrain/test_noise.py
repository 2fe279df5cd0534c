"""What self-training does about noise: thresholds, borders, gates and weights; and what it counts."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tiny
from clouds.config.recipe import SelfTrain
from clouds.selftrain.noise import Thresholds, class_weights, passes_gate, without_borders
from clouds.selftrain.work import Work, by_class, count

CLASSES = 4
SHAPE = (9, 12)
maps = hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, CLASSES - 1))
sures = hnp.arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32))
refineds = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([*range(CLASSES), 255]))


plain = tiny.recipe("selftrain.confidence=0").selftrain


def settings(**values):
    return SelfTrain.model_validate(plain.model_dump() | values)


@given(labels=maps, confidence=sures, least=st.floats(0, 1))
def test_a_fixed_threshold_trusts_what_is_sure_enough(labels, confidence, least):
    trusted = Thresholds(settings(confidence=least), CLASSES).trusted(labels, confidence)
    assert np.array_equal(trusted, np.where(confidence >= least, labels, 255))


dense = np.linspace(0, 1, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)  # every bin, the last one's end too

one_pixel = np.zeros(SHAPE, np.uint8)
one_pixel[5, 5] = 1


@given(labels=maps, confidence=sures, portion=st.floats(0.05, 1))
@example(labels=np.full(SHAPE, CLASSES - 1, np.uint8), confidence=dense, portion=0.4)
def test_a_class_threshold_keeps_the_most_confident_portion_of_each_class(labels, confidence, portion):
    trusted = Thresholds(settings(threshold="class", portion=portion), CLASSES).trusted(labels, confidence)
    bins = np.minimum((confidence * 64).astype(int), 63)
    for class_ in np.unique(labels):
        mine = labels == class_
        kept = mine & (trusted == class_)
        assert kept.sum() >= portion * mine.sum() - 1e-9
        assert set(np.unique(trusted[mine])) <= {class_, 255}
        if kept.any() and not kept[mine].all():  # without its least confident pixels it would be too few
            least = bins[kept].min()
            assert (bins[mine] > least).sum() < portion * mine.sum()
            assert bins[mine & ~kept].max() < least


@given(first=maps, second=maps, before=sures, confidence=sures)
@example(np.zeros(SHAPE, np.uint8), np.ones(SHAPE, np.uint8), np.full(SHAPE, 0.99, np.float32), dense)
@example(np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8), np.full(SHAPE, 0.99, np.float32), dense)
def test_an_adaptive_threshold_is_the_mean_of_late_times_how_sure_its_class_is(first, second, before, confidence):
    """Pixels one by one: an image before counts 0.99 of this one, a confidence is its bin's centre."""
    adaptive = Thresholds(settings(threshold="adaptive"), CLASSES)
    adaptive.trusted(first, before)
    trusted = adaptive.trusted(second, confidence)
    labels, sure = np.stack([first, second]), np.stack([before, confidence])
    bins = np.minimum((sure * 64).astype(int), 63)
    share = np.broadcast_to(np.array([0.99, 1])[:, None, None], labels.shape)

    def mean(where):
        return np.average((bins[where] + 0.5) / 64, weights=share[where])

    means = {class_: mean(labels == class_) for class_ in np.unique(labels)}
    for class_ in np.unique(second):
        least = mean(labels >= 0) * means[class_] / max(means.values()) * 64
        mine = second == class_
        if abs(least - round(least)) > 1e-6:
            assert np.array_equal(trusted[mine] != 255, bins[1][mine] >= int(least))
        assert set(np.unique(trusted[mine])) <= {class_, 255}


def test_thresholds_remember_and_their_state_is_the_histogram():
    rng = np.random.default_rng(0)
    images = [(rng.integers(0, CLASSES, SHAPE).astype(np.uint8), rng.random(SHAPE, np.float32)) for _ in range(5)]
    one, two = (Thresholds(settings(threshold="class"), CLASSES) for _ in range(2))
    for labels, confidence in images[:3]:
        one.trusted(labels, confidence)
    two.histogram = one.histogram.copy()
    for labels, confidence in images[3:]:
        assert np.array_equal(one.trusted(labels, confidence), two.trusted(labels, confidence))
    fresh = Thresholds(settings(threshold="class"), CLASSES)
    assert not np.array_equal(fresh.trusted(*images[4]), one.trusted(*images[4]))


def test_the_band_where_classes_meet_is_left_out():
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 30:], labels[30:, :20] = 1, 255
    for share, width in ((0.025, 1), (0.05, 2), (0.1, 4)):
        found = without_borders(labels, share)
        left_out = (found == 255) & (labels != 255)
        assert np.flatnonzero(left_out[5]).tolist() == list(range(30 - width, 30 + width))
        assert np.array_equal(without_borders(labels.T, share).T, found)
        assert not left_out[:, :20].any(), "beside undecided pixels nothing is left out"
    assert without_borders(labels, 0.0) is labels


@given(labels=refineds, share=st.floats(0, 0.1))
def test_borders_only_take_labels_away(labels, share):
    found = without_borders(labels, share)
    assert ((found == labels) | (found == 255)).all()


def test_a_gate_asks_for_a_sure_teacher_and_for_agreement():
    teacher, refined = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    refined[0], refined[1] = 255, 1  # of 12 decided pixels 8 agree
    sure = np.full((4, 4), 0.5, np.float32)
    for confidence, agreement, passes in ((0, 0, True), (0.5, 0.6, True), (0.7, 0, False), (0, 0.7, False)):
        s = settings(gate_confidence=confidence, gate_agreement=agreement)
        assert passes_gate(teacher, sure, refined, s) is passes
    nothing = np.full((4, 4), 255, np.uint8)
    one = nothing.copy()
    one[2, 2] = 0
    assert passes_gate(teacher, sure, one, settings(gate_agreement=1.0))
    assert passes_gate(teacher, sure, nothing, settings())
    assert not passes_gate(teacher, sure, nothing, settings(gate_agreement=0.1))


@given(teacher=maps, confidence=sures, refined=refineds)
@example(one_pixel, dense, one_pixel)
def test_weights_are_those_of_a_plain_loop(teacher, confidence, refined):
    decided = refined != 255
    confident, agreeing = np.ones(CLASSES), np.ones(CLASSES)
    for class_ in range(CLASSES):
        mine, seen = refined == class_, decided & (teacher == class_)
        both, either = mine & seen, mine | seen
        confident[class_] = confidence[both].sum() / max(mine.sum(), 1)
        agreeing[class_] = both.sum() / max(either.sum(), 1)
    for by, wanted in (
        ([], np.ones(CLASSES)),
        (["confidence"], confident),
        (["agreement"], agreeing),
        (["confidence", "agreement"], confident * agreeing),
    ):
        found = class_weights(teacher, confidence, refined, CLASSES, settings(weight_by=by))
        assert np.allclose(found, wanted, atol=1e-5)
        assert found.min() >= 0
        assert found.max() <= 1 + 1e-6


@given(teacher=maps, confidence=sures, refined=refineds)
def test_every_pixel_of_the_teachers_is_counted_once(teacher, confidence, refined):
    counts = count(teacher, confidence, refined, CLASSES)
    assert sum(counts.teacher) == teacher.size
    assert counts.decided == (refined != 255).sum()
    for class_ in range(CLASSES):
        mine = refined[teacher == class_]
        assert counts.teacher[class_] == len(mine)
        assert counts.kept[class_] == (mine == class_).sum()
        assert counts.changed[class_] == ((mine != class_) & (mine != 255)).sum()
    assert np.isclose(sum(counts.confidence), confidence.sum(dtype=np.float64), atol=1e-3)


def test_shares_by_class_add_up_to_one():
    work = Work(teacher=[4, 0, 10], kept=[1, 0, 5], changed=[2, 0, 1], confidence=[2.0, 0.0, 9.0])
    found = by_class(work, ["road", "car", "sky"])
    assert found["sky"] == {"pixels": 10, "kept": 0.5, "changed": 0.1, "ignored": 0.4, "confidence": 0.9}
    assert set(found) == {"road", "sky"}
