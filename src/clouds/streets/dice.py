"""Many generators at once: ``np.random.default_rng(key)`` for every key of a list, seeded in one vectorised sweep.

Seeding is most of what a generator costs, and every thing and every field of a scene has its own. The hash is that of
numpy's SeedSequence, so the generators are numpy's.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import DTypeLike, NDArray

U32 = NDArray[np.uint32]
Key = tuple[int, ...]

_POOL = 4


def _constants(first: int, factor: int, count: int) -> list[tuple[np.uint32, np.uint32]]:
    """The hash constants before and after each of `count` steps."""
    values = [first]
    for _ in range(count):
        values.append(values[-1] * factor & 0xFFFFFFFF)
    return [(np.uint32(a), np.uint32(b)) for a, b in pairwise(values)]


_MIXING = _constants(0x43B0D7E5, 0x931E8875, _POOL * _POOL)
_OUTPUT = _constants(0x8B51F9DD, 0x58F38DED, 2 * _POOL)
_LEFT, _RIGHT, _SHIFT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715), np.uint32(16)


def _hashed(value: U32, constants: tuple[np.uint32, np.uint32]) -> U32:
    value = (value ^ constants[0]) * constants[1]
    value ^= value >> _SHIFT
    return value


def _states(keys: Sequence[Key]) -> NDArray[np.uint64]:
    """What ``SeedSequence(key).generate_state(4, np.uint64)`` gives for each key (N, 4)."""
    entropy = np.zeros((_POOL, len(keys)), dtype=np.uint32)
    entropy[: len(keys[0])] = np.array(keys, dtype=np.uint32).T
    steps = iter(_MIXING)
    pool = [_hashed(entropy[i], next(steps)) for i in range(_POOL)]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                mixed = _LEFT * pool[target] - _RIGHT * _hashed(pool[source], next(steps))
                mixed ^= mixed >> _SHIFT
                pool[target] = mixed
    words = [_hashed(pool[i % _POOL], constants).astype(np.uint64) for i, constants in enumerate(_OUTPUT)]
    return np.stack([words[i] | words[i + 1] << np.uint64(32) for i in range(0, 2 * _POOL, 2)], axis=1)


class _Ready(ISeedSequence):
    """A seed sequence whose words are known."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self.words = words

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint64) -> NDArray[np.uint64]:
        del n_words, dtype  # PCG64 asks for four of 64 bits
        return self.words


class Dice:
    """Generators of keys, all of one length (at most 4) and made of numbers from 0; `of` starts a fresh one."""

    def __init__(self, keys: Sequence[Key]) -> None:
        small = bool(keys) and max(map(max, keys)) < 2**32  # larger numbers take several words: left to numpy
        self.words = dict(zip(keys, _states(keys), strict=True)) if small else {}

    def of(self, *key: int) -> Generator:
        words = self.words.get(key)
        return Generator(PCG64(cast(SeedSequence, _Ready(words)))) if words is not None else np.random.default_rng(key)
