"""Trees and bushes: crowns are sprites grown once from fixed seeds, then scaled, tinted and lit in place."""

import math
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.streets.brush import Brush, code_of, write_code
from clouds.streets.labels import VEGETATION
from clouds.streets.light import Rgb
from clouds.streets.street import Thing
from clouds.streets.surfaces import f32, fractal

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

SIZE = 224  # pixels of a sprite
STEPS = np.arange(256, dtype=np.float32)[:, None] / 128 - 1  # what a sprite's tones do to its colour
LEAF: dict[str, tuple[Rgb, ...]] = {
    "summer": ((70, 94, 38), (88, 108, 48), (58, 84, 42), (98, 112, 56)),
    "spring": ((106, 136, 58), (124, 148, 70), (92, 126, 56), (190, 160, 160)),
    "autumn": ((168, 116, 42), (148, 86, 38), (116, 108, 48), (184, 142, 58), (132, 66, 40)),
    "winter": ((84, 74, 62), (96, 84, 70), (74, 68, 60)),
}
NEEDLE: tuple[Rgb, ...] = ((48, 70, 44), (56, 80, 52), (44, 64, 50))
BARK: tuple[Rgb, ...] = ((88, 74, 60), (104, 94, 82), (72, 62, 54), (120, 112, 102))


def _clumps(seed: int, shape: str) -> tuple[F32, F32]:
    """Cover field (SIZE, SIZE), above 0 inside, and light on the clumps in about -1..1."""
    rng = np.random.default_rng([79, seed])
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    cover, lit = np.full((SIZE, SIZE), -1.0, dtype=np.float32), np.zeros((SIZE, SIZE), dtype=np.float32)
    count = {"broadleaf": 80, "conifer": 90, "palm": 0, "bush": 22}[shape]
    order = np.sort(rng.random(count))
    for t in order:
        angle = rng.uniform(0, 2 * math.pi)
        if shape == "conifer":
            cy = 0.06 + 0.88 * t
            cx, r = 0.5 + (0.04 + 0.30 * t) * math.cos(angle) * rng.uniform(0.5, 1), 0.035 + 0.075 * t
        elif shape == "bush":
            cx, cy, r = 0.5 + 0.36 * math.cos(angle) * rng.random() ** 0.5, 0.40 + 0.55 * t, rng.uniform(0.10, 0.18)
        else:
            q = rng.random() ** 0.5
            cx, cy, r = 0.5 + 0.36 * q * math.cos(angle), 0.48 + 0.37 * q * math.sin(angle), rng.uniform(0.07, 0.15)
        d = 1 - np.hypot(x - cx, (y - cy) * (1.5 if shape == "conifer" else 1.15)) / r
        inside = d > 0
        lit[inside] = (0.9 * (cy - y + (cx - x) * 0.25) / r)[inside] * 0.55 + rng.uniform(-0.3, 0.3)
        cover = np.maximum(cover, d)
    lit += (0.5 - y) * 0.7
    return cover, lit


def _tile(seed: int, slope: float, low: float) -> F32:
    return fractal(seed, 256, slope, low)[:SIZE, :SIZE]


@cache
def crown(shape: str, index: int) -> tuple[U8, U8, U8]:
    """One crown: tone (SIZE, SIZE) around 128, leaf cover 0 or 255, and region 0 or 255 (the labelled outline).

    Shapes: broadleaf, conifer, bush, palm, bare (a winter crown in the region of the broadleaf of the same index).
    """
    base = "broadleaf" if shape == "bare" else shape
    seed = 900 + 13 * index + len(base)
    leaf, soft = _tile(seed, 0.45, 6), _tile(seed + 5000, 1.0, 5)
    if base == "palm":
        return _palm(seed)
    cover, lit = _clumps(seed, base)
    body = cover + 0.20 * soft + 0.13 * leaf
    solid = (body > 0.16).astype(np.uint8) * 255
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    region = np.asarray(cv2.morphologyEx(solid, cv2.MORPH_CLOSE, kernel), dtype=np.uint8)
    outlines, _ = cv2.findContours(np.asarray(cv2.medianBlur(region, 7)), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    region = np.zeros_like(solid)
    cv2.drawContours(region, outlines, -1, (255.0,), -1)
    if shape == "bare":
        tone, twigs = _branches(seed)
        return tone, np.asarray(cv2.bitwise_and(twigs, region), dtype=np.uint8), region
    solid = np.asarray(cv2.bitwise_and(solid, region), dtype=np.uint8)
    tone = 128 * (0.92 + 0.42 * lit + 0.22 * leaf + 0.14 * soft)
    return np.clip(tone, 18, 255).astype(np.uint8), solid, region


def _branches(seed: int) -> tuple[U8, U8]:
    rng = np.random.default_rng([80, seed])
    twigs = np.zeros((SIZE, SIZE), dtype=np.uint8)
    tone = np.full((SIZE, SIZE), 118, dtype=np.uint8)
    stack = [(SIZE / 2, SIZE * 0.98, -math.pi / 2, SIZE * 0.20, 9.0)]
    while stack:
        x, y, angle, length, thick = stack.pop()
        x1, y1 = x + length * math.cos(angle), y + length * math.sin(angle)
        cv2.line(twigs, (int(x), int(y)), (int(x1), int(y1)), 255, max(1, int(thick)))
        cv2.line(tone, (int(x) - 1, int(y)), (int(x1) - 1, int(y1)), int(rng.integers(90, 165)), max(1, int(thick / 2)))
        if thick > 0.5:
            for _ in range(3 if thick < 6 else 2):
                stack.append((x1, y1, angle + float(rng.normal(0, 0.5)), length * float(rng.uniform(0.66, 0.86)),
                              thick * 0.62))
    return tone, twigs


def _palm(seed: int) -> tuple[U8, U8, U8]:
    rng = np.random.default_rng([81, seed])
    cover, tone = np.zeros((SIZE, SIZE), dtype=np.uint8), np.full((SIZE, SIZE), 110, dtype=np.uint8)
    for angle in np.linspace(-math.pi, math.pi, 22) + rng.normal(0, 0.12, 22):
        reach, t = SIZE * rng.uniform(0.32, 0.46), np.linspace(0, 1, 12)
        x = SIZE / 2 + reach * t * math.cos(angle)
        y = SIZE * 0.42 + reach * t * math.sin(angle) * 0.7 + SIZE * 0.26 * t**2
        for i in range(11):
            leaf = int(10 * (1 - abs(t[i] - 0.4)))
            p, q = (int(x[i]), int(y[i])), (int(x[i + 1]), int(y[i + 1]))
            cv2.line(cover, p, q, 255, max(2, leaf))
            cv2.line(tone, p, q, int(rng.integers(80, 190)), max(1, leaf // 2))
    return tone, cover, np.asarray(cv2.morphologyEx(cover, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)), dtype=np.uint8)


@cache
def sprite(shape: str, index: int) -> tuple[U8, ...]:
    """The crown as (tone, cover, region) channels at SIZE, SIZE / 2, ... pixels."""
    levels = [np.dstack(crown(shape, index))]
    for _ in range(4):
        levels.append(
            np.asarray(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        )
    return tuple(levels)


@cache
def extent(shape: str, index: int) -> tuple[float, float, float, float]:
    """The part (x0, y0, x1, y1) of a sprite, in shares of its size, outside of which it is empty."""
    region = crown(shape, index)[2]
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    around = 0.04  # what the coarsest level smears
    return (max(0.0, float(columns[0]) / SIZE - around), max(0.0, float(rows[0]) / SIZE - around),
            min(1.0, float(columns[-1] + 1) / SIZE + around), min(1.0, float(rows[-1] + 1) / SIZE + around))


def stamp(brush: Brush, levels: tuple[U8, ...], box: tuple[float, float, float, float], rgb: Rgb, light: Rgb,
          code: int, flip: bool, snow: float, part: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)) -> None:
    """Draw a sprite, of which only `part` (see extent) holds anything, into the canvas box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    height, width = brush.canvas.shape[:2]
    first, last = (1 - part[2], 1 - part[0]) if flip else (part[0], part[2])
    left, right = max(0, math.floor(x0 + first * (x1 - x0))), min(width, math.ceil(x0 + last * (x1 - x0)))
    top, bottom = max(0, math.floor(y0 + part[1] * (y1 - y0))), min(height, math.ceil(y0 + part[3] * (y1 - y0)))
    if right - left < 1 or bottom - top < 1 or x1 - x0 < 1:
        return
    sx, sy = (x1 - x0) / SIZE, (y1 - y0) / SIZE
    matrix = np.array([[-sx, 0, x1 - left] if flip else [sx, 0, x0 - left], [0, sy, y0 - top]], dtype=np.float32)
    k = min(len(levels) - 1, max(0, int(-math.log2(max(sx, sy, 1e-3)) + 0.3)))
    matrix[:, :2] *= 2**k
    layers = cv2.warpAffine(levels[k], matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    tone, cover, region = cv2.split(layers)
    steps = 1 + np.float32(brush.scene.texture) * STEPS
    table = steps * (f32(rgb) * f32(light))
    if snow > 0:
        white = f32([228, 233, 240]) * f32(light)
        t = np.minimum(np.maximum((steps - np.float32(1.55 - 0.6 * snow)) * 3, 0), 1) * np.float32(snow)
        table += (white - table) * t
    lut = np.empty((256, 1, 4), dtype=np.uint8)
    lut[:, 0, :3] = np.maximum(np.minimum(table, 255), 0)
    lut[:, 0, 3] = code
    patch = cv2.LUT(cv2.merge([tone, tone, tone, tone]), lut)
    view = brush.canvas[top:bottom, left:right]
    write_code(view, cv2.compare(region, 127, cv2.CMP_GT), code)
    cv2.copyTo(patch, cv2.compare(cover, 127, cv2.CMP_GT), view)


def draw(brush: Brush, thing: Thing) -> None:
    """Paint a tree or a bush."""
    scene = brush.scene
    rng = brush.dice.of(thing.tag)
    depth = brush.camera.depth(thing.x, thing.z)
    if depth < 1.5:
        return
    kind = scene.tree_kind
    if kind == "mixed":
        kind = ("broadleaf", "conifer")[int(rng.integers(2))]
    shape = "bush" if thing.kind == "bush" else kind
    index, flip = int(rng.integers(6)), bool(rng.random() < 0.5)
    h = thing.height * (1.25 if shape == "conifer" else 1.0)
    spread = h * float(rng.uniform(0.62, 0.95)) * {"conifer": 0.75, "palm": 0.8, "bush": 1.5}.get(shape, 1.0)
    lean = float(rng.normal(0, 0.02)) * h
    low = {"conifer": 0.10, "palm": 0.62, "bush": -0.05}.get(shape, float(rng.uniform(0.22, 0.36))) * h
    code = code_of(VEGETATION, depth)
    normal = (0.0, 0.75, -0.65)
    light = brush.light.on(normal, thing.x, thing.z, 3.0)
    season = scene.season
    bare = season == "winter" and shape == "broadleaf"
    palette = NEEDLE if shape in ("conifer",) else LEAF["summer" if shape == "palm" else season]
    rgb = palette[int(rng.integers(len(palette)))]
    k = float(rng.uniform(0.85, 1.15))
    rgb = (rgb[0] * k, rgb[1] * k, rgb[2] * float(rng.uniform(0.85, 1.1)))
    bark = BARK[int(rng.integers(len(BARK)))]
    wide = 0.022 * h + 0.05
    if shape != "bush":
        base, fork = (thing.x, 0.0, thing.z), (thing.x + lean, low + (h - low) * 0.35, thing.z)
        shades = [
            brush.lit(bark, n, thing.x, thing.z) for n in ((-0.9, 0.1, -0.3), (-0.2, 0.1, -0.9), (0.9, 0.1, -0.3))
        ]
        if depth > 35:
            brush.line(base, fork, wide * 1.8, (shades[1][0] * 0.8, shades[1][1] * 0.8, shades[1][2] * 0.8), code)
        for i in range(3 if depth <= 35 else 0):
            p, q = (wide * (-1.0, -0.35, 0.4, 1.0)[i + k] for k in range(2))
            flare = 1.5 if shape != "palm" else 1.2
            outline = [(base[0] + p * flare, 0.0), (base[0] + p * 0.9, 0.12 * h), (fork[0] + p * 0.6, fork[1]),
                       (fork[0] + q * 0.6, fork[1]), (base[0] + q * 0.9, 0.12 * h), (base[0] + q * flare, 0.0)]
            tone3 = shades[i]
            brush.poly(np.array([(x, y, thing.z) for x, y in outline]),
                       (tone3[0] * 0.8, tone3[1] * 0.8, tone3[2] * 0.8), code)
        if depth < 22:  # furrows of the bark
            for _ in range(12):
                w, y = wide * float(rng.uniform(-0.8, 0.8)), fork[1] * float(rng.uniform(0, 0.8))
                tone = shades[1][0] * float(rng.uniform(0.45, 1.05))
                brush.line(
                    (base[0] + w, y, base[2]),
                    (base[0] + w * 0.9, y + float(rng.uniform(0.1, 0.5)), base[2]),
                    0.03,
                    (tone, tone * 0.9, tone * 0.8),
                    code,
                )
    xa, foot, _ = brush.camera.pixel(thing.x + lean, low, thing.z)
    xb, tip, _ = brush.camera.pixel(thing.x + lean, h, thing.z)
    half = spread / 2 * brush.camera.f / depth
    x = (xa + xb) / 2
    box = (x - half, tip, x + half, foot)
    strong = (light[0] * 0.92, light[1] * 0.92, light[2] * 0.92)
    look = "bare" if bare else shape
    stamp(brush, sprite(look, index), box, bark if bare else rgb, strong, code, flip, scene.snow, extent(look, index))
