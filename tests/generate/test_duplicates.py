"""The search for images that are nearly one: equal to comparing all pairs, and to what an eye would call the same."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds import streets
from clouds.config.recipe import Audit
from clouds.generate import duplicates
from clouds.generate.duplicates import distances, near_pairs, perceptual_hash, twins

WORD = st.integers(0, 2**64 - 1)


@st.composite
def crowds(draw):
    """Hashes in clusters: each is one of few centres with some bits turned."""
    centres = draw(st.lists(WORD, min_size=1, max_size=4))
    turned = st.lists(st.integers(0, 63), max_size=12)
    made = draw(st.lists(st.tuples(st.sampled_from(centres), turned), max_size=30))
    return [centre ^ sum(1 << bit for bit in set(bits)) for centre, bits in made]


def brute(hashes: list[int], radius: int) -> list[list[int]]:
    return [[i, j] for i in range(len(hashes)) for j in range(i + 1, len(hashes))
            if bin(hashes[i] ^ hashes[j]).count("1") <= radius]  # fmt: skip


@given(crowds(), st.integers(0, 14))
def test_the_search_finds_just_the_pairs_that_comparing_all_finds(hashes, radius):
    assert near_pairs(np.array(hashes, np.uint64), radius).tolist() == brute(hashes, radius)


def test_a_search_in_small_blocks_finds_the_same(monkeypatch):
    hashes = np.random.default_rng(0).integers(0, 2**64, 400, np.uint64)
    hashes[200:] = hashes[:200] ^ np.uint64(0b101)
    whole = near_pairs(hashes, 6)
    assert len(whole) >= 200
    monkeypatch.setattr(duplicates, "BLOCK", 3)
    assert np.array_equal(near_pairs(hashes, 6), whole)


@given(crowds(), st.integers(0, 10), st.randoms())
def test_what_is_dropped_resembles_one_that_is_kept_and_better(hashes, radius, random):
    better = [random.randrange(3) for _ in hashes]
    dropped = twins(hashes, better, radius)
    kept = [k for k in range(len(hashes)) if k not in dropped]
    for k, (other, bits) in dropped.items():
        assert other in kept
        assert bits == bin(hashes[k] ^ hashes[other]).count("1") <= radius
    assert brute([hashes[k] for k in kept], radius) == []
    for k, (other, _) in dropped.items():
        assert (better[other], other) < (better[k], k)


def test_distances_are_bits():
    one = np.array([[0], [2**64 - 1]], np.uint64)
    assert distances(one, np.array([0, 1, 2**63 + 1], np.uint64)).tolist() == [[0, 1, 2], [64, 63, 62]]


def grey(seed: int, size: tuple[int, int] = (128, 128)) -> np.ndarray:
    picture = streets.render(streets.sample("source", seed), size)[0]
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def jpeg(picture: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("change", [
    jpeg,
    lambda x: cv2.resize(x, (64, 64), interpolation=cv2.INTER_AREA),
    lambda x: np.clip(x.astype(int) + 20, 0, 255).astype(np.uint8),
    lambda x: np.clip(x + np.random.default_rng(0).normal(0, 8, x.shape), 0, 255).astype(np.uint8),
    lambda x: cv2.GaussianBlur(x, (0, 0), 1.5),
])  # fmt: skip
def test_the_same_picture_saved_anew_is_near(change):
    far = [bin(perceptual_hash(grey(s)) ^ perceptual_hash(change(grey(s)))).count("1") for s in range(8)]
    assert max(far) <= Audit().radius


def test_other_seeds_of_the_renderer_are_not():
    hashes = np.array([perceptual_hash(grey(seed)) for seed in range(120)], np.uint64)
    assert len(near_pairs(hashes, Audit().radius)) == 0
