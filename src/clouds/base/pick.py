"""A few of many, the same ones every time."""

import numpy as np


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` places below ``count``, evenly spaced from the first to the last, in order."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]
