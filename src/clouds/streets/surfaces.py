"""Tileable grey textures, made once from fixed seeds: grounds (with mip levels in one gatherable array), walls, clouds.

A texture is uint8 around 128: a surface's colour times texture / 128 is the textured surface.
"""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

TILE = 512  # pixels of a texture tile
GROUND_TEXEL = 0.02  # metres a texel on the ground
WALL_PPM = (24.0, 12.0, 6.0, 3.0)  # texels a metre of the wall levels
GROUNDS = ("asphalt", "worn", "concrete", "slabs", "bricks", "cobbles", "grass", "dirt", "snow")


def fractal(seed: int, size: int = TILE, slope: float = 1.0, low: float = 1.0, high: float = 1e9) -> F32:
    """Periodic noise (size, size), mean 0, deviation 1, amplitude ~ frequency^-slope between low and high cycles."""
    rng = np.random.default_rng([77, seed])
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]) * size
    keep = (frequency >= low) & (frequency <= high)
    spectrum *= np.where(keep, np.maximum(frequency, 1.0) ** -slope, 0.0)
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)


def _cells(seed: int, rows: int, columns: int, joint: int, jitter: float, shift: bool = True) -> tuple[F32, F32]:
    """A bond of rows x columns blocks: joint mask (TILE, TILE) in 0..1 and one random tone in -1..1 a block."""
    rng = np.random.default_rng([78, seed])
    y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32)
    wobble = fractal(seed, slope=1.4, low=3) * jitter
    row = np.floor((y + wobble) * rows / TILE).astype(int)
    x = x + fractal(seed + 1, slope=1.4, low=3) * jitter + (row % 2) * (TILE / columns / 2 if shift else 0)
    column = np.floor(x * columns / TILE).astype(int)
    tone = rng.uniform(-1, 1, (rows, columns))[row % rows, column % columns]
    fy = ((y + wobble) * rows / TILE) % 1 * TILE / rows
    fx = (x * columns / TILE) % 1 * TILE / columns
    edge = np.minimum(np.minimum(fy, TILE / rows - fy), np.minimum(fx, TILE / columns - fx))
    return np.clip(1.2 - edge / joint, 0, 1).astype(np.float32), tone.astype(np.float32)


def _grey(value: F32) -> U8:
    return np.clip(128 * (1 + value), 0, 255).astype(np.uint8)


def _ground(name: str) -> U8:
    fine, mid, rough = fractal(1, slope=0.4), fractal(2, slope=1.0, low=6), fractal(3, slope=1.7)
    grit = 0.09 * fine + 0.03 * mid
    if name in ("asphalt", "worn"):
        cracks = np.clip(1 - np.abs(fractal(5, slope=1.8)) * 18, 0, 1) * (fractal(6, slope=2) > 0.4)
        return _grey(grit + 0.025 * rough - cracks * (0.35 if name == "worn" else 0.12))
    blocks = {"concrete": (3, 2, 3, 1.0), "slabs": (20, 20, 2, 0.8), "bricks": (102, 51, 1, 0.5),
              "cobbles": (64, 56, 2, 2.0)}
    if name in blocks:
        rows, columns, joint, jitter = blocks[name]
        mask, tone = _cells(len(name), rows, columns, joint, jitter)
        return _grey(0.6 * grit + 0.05 * rough + 0.10 * tone - 0.38 * mask)
    if name == "grass":
        return _grey(0.20 * fractal(8, slope=0.5, low=8) + 0.12 * rough)
    if name == "dirt":
        return _grey(0.16 * fine + 0.14 * mid + 0.1 * rough)
    return _grey(0.05 * rough + 0.05 * mid + 0.02 * fine)  # snow


@cache
def ground_atlas() -> tuple[U8, NDArray[np.int64], NDArray[np.int64]]:
    """All ground textures and mip levels, flat.

    Returns texels (N,), start of each level (L,) and size of each level (L,): a texel is at
    ``start[l] + (material * size[l] + row) * size[l] + column``.
    """
    level = np.stack([_ground(name) for name in GROUNDS])  # (K, TILE, TILE)
    parts, starts, sizes, at = [], [], [], 0
    while level.shape[1] >= 8:
        parts.append(level.reshape(-1))
        starts.append(at)
        sizes.append(level.shape[1])
        at += level.size
        half = [cv2.resize(tile, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for tile in level]
        level = np.stack(half).astype(np.uint8)
    return np.concatenate(parts), np.array(starts), np.array(sizes)


def _wall(name: str) -> U8:
    fine, mid, rough = fractal(11, slope=0.5), fractal(12, slope=1.0, low=5), fractal(13, slope=1.6)
    streaks = cv2.blur(np.tile(fractal(14, slope=0.8, low=4), (3, 1)), (1, 161))[TILE:2 * TILE] * 2
    dirt = 0.04 * rough + 0.05 * streaks + 0.03 * mid
    blocks = {"brick": (256, 86, 1, 0.3, 0.16, 0.22), "stone": (40, 22, 1, 1.0, 0.13, 0.30),
              "panel": (7, 7, 1, 0.0, 0.05, 0.35), "timber": (128, 5, 1, 0.2, 0.09, 0.30),
              "glass": (9, 14, 1, 0.0, 0.22, 0.30), "roof": (96, 64, 2, 0.8, 0.16, 0.30)}
    if name in blocks:
        rows, columns, joint, jitter, tones, depth = blocks[name]
        if name == "brick":  # joints are thinner than a texel: paint rows, then let them blur
            mask, tone = _cells(3, 128, 64, 1, jitter)
        else:
            mask, tone = _cells(len(name) + 20, rows, columns, joint, jitter, shift=name in ("stone", "roof"))
        return _grey(dirt + 0.05 * fine + tones * tone - depth * mask)
    if name == "metal":
        ribs = np.sin(np.arange(TILE) * 2 * np.pi * 80 / TILE).astype(np.float32)[None, :]
        return _grey(dirt + 0.10 * ribs + 0.02 * fine)
    if name == "leaves":
        return _grey(0.32 * fractal(15, slope=0.6, low=10, high=180) + 0.16 * fractal(16, slope=1.2, low=4))
    return _grey(dirt + 0.05 * fine + 0.05 * mid)  # plaster


@cache
def wall_levels(name: str) -> tuple[U8, ...]:
    """One wall texture at each of WALL_PPM, each repeated 3 x 3 so that large crops need no wrapping."""
    levels, tile = [], _wall(name)
    for _ in WALL_PPM:
        levels.append(np.tile(tile, (3, 3)))
        tile = np.asarray(cv2.resize(tile, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return tuple(levels)


def wall_crop(name: str, level: int, height: int, width: int, rng: np.random.Generator) -> U8:
    """A random (height, width) crop of a wall texture; larger than the tile allows is stretched."""
    texture = wall_levels(name)[level]
    tile = texture.shape[0] // 3
    h, w = min(height, 2 * tile), min(width, 2 * tile)
    y, x = int(rng.integers(tile)), int(rng.integers(tile))
    crop = texture[y:y + h, x:x + w]
    if (h, w) != (height, width):
        crop = np.asarray(cv2.resize(crop, (width, height)), dtype=np.uint8)
    return crop


@cache
def noise_tile(kind: str) -> F32:
    """Named noise fields (TILE, TILE), mean 0, deviation 1: 'broad', 'fine', 'grain', 'cloud', 'puddle', 'uneven'."""
    table = {"broad": (31, 1.6, 1.0), "fine": (32, 0.7, 4.0), "grain": (33, 0.15, 1.0), "cloud": (34, 1.75, 1.0),
             "puddle": (35, 1.9, 2.0), "uneven": (38, 1.0, 10.0)}
    seed, slope, low = table[kind]
    return fractal(seed, slope=slope, low=low)


def f32(values: Sequence[float] | Sequence[Sequence[float]]) -> F32:
    """Numbers as a float32 array."""
    return np.asarray(values, dtype=np.float32)


def ramp(first: float, last: float, count: int) -> F32:
    """`count` evenly spaced float32 numbers from first to last (np.linspace without its overhead)."""
    return np.arange(count, dtype=np.float32) * np.float32((last - first) / max(count - 1, 1)) + np.float32(first)


_STEPS = np.arange(256, dtype=np.float32)[:, None] / 128 - 1


def coloured(grain: U8, rgb: Sequence[float], light: Sequence[float], texture: float = 1.0) -> U8:
    """A grey texture (H, W) in a colour (0..255) under a light, (H, W, 3); `texture` scales its contrast."""
    table = np.maximum(np.minimum((1 + np.float32(texture) * _STEPS) * (f32(rgb) * f32(light)), 255), 0)
    return np.asarray(cv2.applyColorMap(grain, table.astype(np.uint8)[:, None, :]), dtype=np.uint8)


def three(field: F32) -> F32:
    """A field (H, W) as three equal channels (H, W, 3): far faster than broadcasting the last axis."""
    return np.asarray(cv2.merge([field, field, field]), dtype=np.float32)


@cache
def _doubled(kind: str) -> F32:
    return np.tile(noise_tile(kind), (2, 2))


def noise_window(kind: str, height: int, width: int, rng: np.random.Generator) -> F32:
    """A random (height, width) part of a noise field, wrapping around."""
    return window(noise_tile(kind), _doubled(kind), height, width, rng)


def window(tile: F32, doubled: F32, height: int, width: int, rng: np.random.Generator) -> F32:
    """A random (height, width) part of a tiling field (TILE, TILE[, C]), given also repeated 2 x 2."""
    y, x = (int(v) for v in rng.integers(0, TILE, 2))
    if height <= TILE and width <= TILE:
        return doubled[y:y + height, x:x + width]
    return tile[((np.arange(height) + y) % TILE)[:, None], ((np.arange(width) + x) % TILE)[None, :]]
