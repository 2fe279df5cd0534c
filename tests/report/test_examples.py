"""Which images of a domain become examples."""

from hypothesis import given
from hypothesis import strategies as st

from clouds.config.score_records import ImageScore
from clouds.evaluate.examples import EACH, choose


def images(*scores):
    return [ImageScore(name=str(k), miou=score, accuracy=score) for k, score in enumerate(scores)]


def test_the_worst_the_best_and_some_between():
    chosen = choose(images(*(k / 20 for k in (7, 3, 12, 0, 19, 1, 18, 5, 17, 9, 11, 2, 14))))
    score = {name: [7, 3, 12, 0, 19, 1, 18, 5, 17, 9, 11, 2, 14][place] for name, place in chosen.items()}
    assert [score[f"worst-{k}"] for k in range(3)] == [0, 1, 2]
    assert [score[f"best-{k}"] for k in range(3)] == [19, 18, 17]
    assert [score[f"typical-{k}"] for k in range(3)] == [5, 9, 12]  # of 3 5 7 9 11 12 14


def test_few_images_are_typical_first():
    assert choose(images(0.5)) == {"typical-0": 0}
    assert choose(images(0.5, 0.2)) == {"typical-0": 1, "typical-1": 0}
    assert choose(images(0.5, 0.2, 0.3)) == {"worst-0": 1, "typical-0": 2, "best-0": 0}
    assert choose([]) == {}


def test_images_without_a_score_are_left_out_unless_none_has_one():
    assert choose(images(None, 0.2, None)) == {"typical-0": 1}
    assert choose(images(None, None)) == {"typical-0": 0, "typical-1": 1}


@given(st.lists(st.none() | st.floats(0, 1), max_size=40))
def test_no_image_is_chosen_twice_and_ends_are_ends(scores):
    chosen = choose(images(*scores))
    assert len(set(chosen.values())) == len(chosen)
    known = sum(score is not None for score in scores)
    assert known < 3 * EACH or len(chosen) == 3 * EACH
    assert known or len(chosen) == min(EACH, len(scores))
    by_kind = {kind: [scores[place] for name, place in chosen.items() if name.startswith(kind)]
               for kind in ("worst", "typical", "best")}  # fmt: skip
    if known and by_kind["worst"]:
        assert max(by_kind["worst"]) <= min(by_kind["typical"]) <= max(by_kind["typical"]) <= min(by_kind["best"])
