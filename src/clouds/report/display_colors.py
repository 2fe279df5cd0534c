"""The colours of pages: a label set's own, made lighter or darker where eyes would take two classes for one.

Hues stay, so that a reader who knows the colours finds them; files keep the label set's own colours. Distances are in
CIE Lab, as three kinds of eyes see them: usual ones, and those without the red or the green receptor (Machado,
Oliveira and Fernandes, 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.config.label_sets import CITYSCAPES, Color

APART = 14.0  # the distance that is aimed at; 2 is the least that one sees, side by side
STEPS = np.arange(-44, 45, 4, dtype=np.float32)  # of lightness, 0..100, that are tried
LIGHTEST, DARKEST = 94.0, 16.0
ROUNDS = 6
COST = 0.06  # of a change of lightness: the least one that is enough is taken

_EYES = np.array([
    np.eye(3),
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
], np.float32)  # fmt: skip


def display_colors(colors: Sequence[Color]) -> list[Color]:
    """RGB colours of classes -> those that a page shows, in the same order. One of Cityscapes' sets, or a part of them,
    has the same colours on every page."""
    own = tuple((int(r), int(g), int(b)) for r, g, b in colors)
    known = dict(zip(CITYSCAPES.colors, _spread(CITYSCAPES.colors), strict=True))
    return [known[each] for each in own] if set(own) <= set(known) else list(_spread(own))


@cache
def _spread(colors: tuple[Color, ...]) -> tuple[Color, ...]:
    if len(colors) < 2:
        return colors
    lab = cv2.cvtColor(np.array(colors, np.float32)[None] / 255, cv2.COLOR_RGB2Lab)[0]  # (C, 3)
    tried = np.repeat(lab[:, None], len(STEPS), 1)  # (C, S, 3)
    tried[..., 0] = (tried[..., 0] + STEPS).clip(DARKEST, LIGHTEST)
    seen = as_seen(_rgb(tried))  # (E, C, S, 3)
    kept = tried[..., 0] == lab[:, None, 0] + STEPS
    cost = COST * STEPS**2 + np.where(kept | (STEPS == 0), 0, 1000)  # (C, S)
    chosen = np.full(len(colors), int(np.flatnonzero(STEPS == 0)[0]))
    for _ in range(ROUNDS):
        for k in range(len(colors)):
            others = np.delete(np.arange(len(colors)), k)
            there = seen[:, others, chosen[others]]  # (E, C - 1, 3)
            far = np.linalg.norm(seen[:, k, :, None] - there[:, None], axis=-1).min(0)  # (S, C - 1)
            lack = (np.maximum(APART - far, 0) ** 2).sum(1) + cost[k]
            chosen[k] = int(lack.argmin())
    found = _rgb(tried[np.arange(len(colors)), chosen])
    start = chosen == int(np.flatnonzero(STEPS == 0)[0])
    bytes_ = (found * 255).round().astype(int).tolist()
    return tuple(old if same else (r, g, b) for old, same, (r, g, b) in zip(colors, start, bytes_, strict=True))


def as_seen(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """sRGB (..., 3) in 0..1 -> CIE Lab as usual, red-blind and green-blind eyes see it, (3, ..., 3)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.einsum("eij,...j->e...i", _EYES, linear).clip(0, 1)
    back = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055).astype(np.float32)
    lab: NDArray[np.float32] = cv2.cvtColor(back.reshape(1, -1, 3), cv2.COLOR_RGB2Lab).reshape(back.shape)
    return lab


def _rgb(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    rgb = cv2.cvtColor(np.ascontiguousarray(lab).reshape(1, -1, 3), cv2.COLOR_Lab2RGB)
    return rgb.reshape(lab.shape).clip(0, 1)  # type: ignore[no-any-return]
