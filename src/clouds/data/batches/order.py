"""Which image stands at a position of the endless training stream: a function of (seed, position), never of the past.

Two ways to mix sets. By *repeats*, the paper's: an epoch holds every image of a set so many times, shuffled together.
By *weights*: every position first picks a set, whose images come in shuffled epochs of their own.
"""

import threading
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096  # positions whose sets are drawn together


class Order:
    """``order(position)``: index into the sets counted through, 0 .. sum(sizes) - 1."""

    def __init__(
        self, sizes: Sequence[int], seed: int, repeats: Sequence[float], weights: Sequence[float] | None = None
    ) -> None:
        """sizes: images of each set; repeats: how often each comes in an epoch, on average; weights, if given, decide
        instead how often each set is drawn from. A set that is empty is never drawn."""
        self.sizes, self.seed, self.repeats = list(sizes), seed, list(repeats)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.chances: NDArray[np.float64] | None = None
        if weights is not None:
            present = np.array(weights, np.float64) * (np.array(self.sizes) > 0)
            self.chances = present / present.sum()
        self.epoch = lru_cache(maxsize=8)(self._epoch)
        self.block = lru_cache(maxsize=8)(self._block)
        self._ends = [0]  # positions before epoch e; like the next, grown as far as anybody asked
        self._before = [np.zeros(len(self.sizes), np.int64)]  # draws of each set before block b
        self._growing = threading.Lock()  # loader threads ask together

    def __call__(self, position: int) -> int:
        return self._mixed(position) if self.chances is not None else self._repeated(position)

    def _repeated(self, position: int) -> int:
        with self._growing:
            while self._ends[-1] <= position:
                self._ends.append(self._ends[-1] + len(self.epoch(len(self._ends) - 1)))
        epoch = bisect_right(self._ends, position) - 1
        return int(self.epoch(epoch)[position - self._ends[epoch]])

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        """Every image as often as its set repeats; of a fraction, a random part of the images once more."""
        rng = np.random.default_rng((self.seed, 0x0DE5, epoch))
        parts = []
        for start, size, repeat in zip(self.starts, self.sizes, self.repeats, strict=False):
            whole, part = divmod(repeat, 1)
            times = int(whole) + (rng.random(size) < part) if part else int(whole)
            parts.append(np.repeat(np.arange(size) + start, times))
        return rng.permutation(np.concatenate(parts))

    def _mixed(self, position: int) -> int:
        b, rest = divmod(position, BLOCK)
        with self._growing:
            while len(self._before) <= b:
                last = len(self._before) - 1
                self._before.append(self._before[-1] + np.bincount(self.block(last), minlength=len(self.sizes)))
        chosen = self.block(b)
        which = int(chosen[rest])
        drawn = int(self._before[b][which] + (chosen[:rest] == which).sum())
        epoch, k = divmod(drawn, self.sizes[which])
        return int(self.starts[which] + self._shuffled(which, epoch)[k])

    def _block(self, b: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, 0xB10C, b)).choice(len(self.sizes), BLOCK, p=self.chances)

    def _shuffled(self, which: int, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, 0x5E7, which, epoch)).permutation(self.sizes[which])
