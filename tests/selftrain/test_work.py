"""Which of the teacher's pixels are trusted, and what is counted of them."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clouds.selftrain.pseudo import trust
from clouds.selftrain.work import Work, by_class, count

CLASSES = 4
SHAPE = (9, 12)
maps = hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, CLASSES - 1))
sures = hnp.arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32))
refineds = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([*range(CLASSES), 255]))


@given(labels=maps, confidence=sures, least=st.floats(0, 1))
def test_what_the_teacher_is_sure_enough_of_is_trusted(labels, confidence, least):
    assert np.array_equal(trust(labels, confidence, least), np.where(confidence >= least, labels, 255))


@given(teacher=maps, confidence=sures, refined=refineds)
def test_every_pixel_of_the_teachers_is_counted_once(teacher, confidence, refined):
    refinement = SimpleNamespace(components=2, rejected=np.array([True, False]))
    counts = count(teacher, confidence, refinement, refined, 7, CLASSES)
    assert (counts.images, counts.components, counts.rejected, counts.seen) == (1, 2, 1, {7})
    assert sum(counts.teacher) == counts.pixels == teacher.size
    assert counts.pixels_decided == (refined != 255).sum()
    assert counts.pixels_changed == sum(counts.changed)
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
