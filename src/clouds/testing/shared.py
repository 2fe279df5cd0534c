"""What several contracts ask."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Fails where what is done inside draws from numpy's or torch's generator that everybody shares."""
    _seed()
    wanted = _draw()
    _seed()
    yield
    assert _draw() == wanted, "it draws from a generator that everybody shares"


def _seed() -> None:
    np.random.seed(3)
    torch.manual_seed(3)


def _draw() -> tuple[float, float]:
    return float(np.random.rand()), float(torch.rand(()))
