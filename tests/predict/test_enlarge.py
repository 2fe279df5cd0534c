"""Winners of an enlarged semantic map, found without making all of it, are those of the whole map."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clouds.predict import enlarge as module
from clouds.predict.enlarge import Enlarged, enlarge

SIDES = st.integers(1, 12)


def whole(maps: list[torch.Tensor], size: tuple[int, int]) -> list[torch.Tensor]:
    """Plainly: the sum of the enlarged maps, its winner, its best score, its sum."""
    everything = slice(0, size[0]), slice(0, size[1])
    total = torch.stack([enlarge(each, size, *everything) for each in maps]).sum(0)
    best, winners = total.max(0)
    return [winners.to(torch.uint8), best, total.sum(0), total]


def assert_same(found: tuple[torch.Tensor, ...], wanted: list[torch.Tensor]) -> None:
    winners, best, total = found
    torch.testing.assert_close(best, wanted[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(total, wanted[2], rtol=1e-5, atol=1e-5)
    theirs = wanted[3].gather(0, winners[None].long())[0]  # where two classes are level, rounding decides
    torch.testing.assert_close(theirs, wanted[1], rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.booleans(), st.integers(0, 2**20))
def test_is_the_plain_way(h: int, w: int, height: int, width: int, classes: int, rough: bool, seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    scores = torch.rand(classes, h, w, generator=drawn)
    if not rough:  # a class for the left half and one for the right
        scores[0, :, : w // 2] += 2
        scores[-1, :, w // 2 :] += 2
    size = (height, width)
    assert_same(Enlarged([scores], size).band(slice(0, height), slice(0, width)), whole([scores], size))


@pytest.mark.parametrize("at_a_time", [7, 10**6])
def test_bands_are_parts_of_the_whole(monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    monkeypatch.setattr(module, "AT_A_TIME", at_a_time)
    scores, size = torch.rand(6, 9, 14, generator=torch.Generator().manual_seed(0)), (61, 83)
    enlarged, wanted = Enlarged([scores], size), whole([scores], size)
    assert enlarged.mixed
    for rows in (slice(0, 20), slice(20, 61)):
        for columns in (slice(0, 50), slice(50, 83)):
            parts = [each[..., rows, columns] for each in wanted]
            assert_same(enlarged.band(rows, columns), parts)


@pytest.mark.parametrize(("count", "size"), [(2, (61, 83)), (1, (9, 14)), (1, (5, 6)), (1, (10, 15))])
def test_several_scales_and_little_or_no_enlarging_go_the_plain_way(count: int, size: tuple[int, int]) -> None:
    maps = [torch.rand(6, 9 + k, 14, generator=torch.Generator().manual_seed(k)) for k in range(count)]
    enlarged = Enlarged(maps, size)
    assert not enlarged.mixed
    before = [each.clone() for each in maps]
    assert_same(enlarged.band(slice(0, size[0]), slice(0, size[1])), whole(before, size))


def test_one_winner_needs_no_scores_of_all_classes() -> None:
    scores = torch.rand(3, 4, 5)
    scores[1] += 1
    enlarged = Enlarged([scores], (40, 50))
    enlarged.cells = None  # type: ignore[assignment]
    winners, *_ = enlarged.band(slice(0, 40), slice(0, 50))
    assert (winners == 1).all()
