"""What happens between the scene and the sensor: wet mirrors, fog, glow of lights, rain, snowflakes, and the lens."""

import math
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.streets.scene import Scene
from clouds.streets.surfaces import TILE, fractal, three, window

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


def mirror(picture: F32, wetness: F32, top: int, depth: F32) -> None:
    """Add in place the blurred mirror image of what is above the horizon row `top` to the wet ground below it.

    picture (H, W, 3), wetness (R, C) in 0..1 for rows `top`.., 0 where something stands; depth (R, 1) metres.
    """
    rows, width = wetness.shape
    if top < 2 or rows < 2:
        return
    # a thing on the ground mirrors about its own foot, nearer than the horizon: a smeared column is a fair stand-in
    small = cv2.resize(picture, (max(2, width // 2), max(2, picture.shape[0] // 6)), interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(cv2.GaussianBlur(small, (3, 7), 0), (width, picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    index = np.clip(top - (np.arange(rows) * 0.9).astype(int), 0, None)
    fresnel = np.clip(0.16 + 0.5 * np.exp(-(40.0 / np.maximum(depth, 1.0)) * 0.22), 0, 0.62)
    share = three((wetness * fresnel).astype(np.float32))
    ground = picture[top:]
    ground += (smooth[index] * np.float32(0.95) - ground) * share
    ground += smooth[index] * share * np.float32(0.25)


def fog(picture: F32, depth: F32, scene: Scene, colour: F32) -> None:
    """Mix every pixel in place with the fog's colour (3,) by its depth (H, W), metres: exponential extinction."""
    left = np.minimum(depth, np.float32(600.0))
    left *= np.float32(-scene.fog)
    left = np.asarray(cv2.exp(left), dtype=np.float32)
    picture *= three(left)
    np.subtract(1, left, out=left)
    picture += cv2.merge([left * c for c in colour])


def glow(picture: F32, lights: list[tuple[float, float, float, tuple[float, float, float], float]], scene: Scene,
         wetness: F32, top: int) -> None:
    """Add in place the light around sources (x, y, radius in pixels, colour, depth), and streaks on wet ground."""
    if not lights:
        return
    height, width = picture.shape[:2]
    k = 4  # the glow is soft: a quarter of the size is enough
    layer = np.zeros((height // k + 1, width // k + 1, 3), dtype=np.float32)
    streaks = np.zeros_like(layer)
    for x, y, radius, rgb, depth in lights:
        weight = math.exp(-scene.fog * depth) * min(0.8, 0.25 + radius)
        r = max(1, round(min(radius, 10 * width / 512) * 0.45 / k + 0.5))
        centre = (int(x / k), int(y / k))
        if not (-20 < centre[0] < layer.shape[1] + 20 and -20 < centre[1] < layer.shape[0] + 20):
            continue
        cv2.circle(layer, centre, r, tuple(c * weight for c in rgb), -1)
        if wetness.size:
            cv2.line(
                streaks, centre, (centre[0], centre[1] + int(0.35 * layer.shape[0])), tuple(c * weight for c in rgb), r
            )
    spread = 1.0 + 20 * min(scene.fog, 0.05)
    wide = (cv2.GaussianBlur(layer, (0, 0), 1.4 * width / 512) * 1.1
            + cv2.GaussianBlur(layer, (0, 0), 6 * spread * width / 512) * 1.1)
    picture += cv2.resize(wide, None, fx=k, fy=k, interpolation=cv2.INTER_LINEAR)[:height, :width]
    if wetness.size and scene.wet > 0.1:
        soft = cv2.GaussianBlur(streaks, (0, 0), 1.2, sigmaY=9)
        soft = cv2.resize(soft, None, fx=k, fy=k, interpolation=cv2.INTER_LINEAR)[top:height, :width]
        picture[top:] += soft * three((wetness * np.float32(0.5)).astype(np.float32))


@cache
def _drops(kind: str) -> F32:
    """Tiling cover (TILE, TILE) in 0..1 of 'streaks' of rain, small 'flakes' or large 'tufts' of snow."""
    seed, share, size = {"streaks": (51, 0.9975, 0.6), "flakes": (52, 0.997, 0.8), "tufts": (53, 0.9994, 2.2)}[kind]
    rng = np.random.default_rng([82, seed])
    points = (rng.random((TILE, TILE)) > share) * rng.uniform(0.4, 1.0, (TILE, TILE))
    layer = np.tile(points.astype(np.float32), (3, 3))
    if kind == "streaks":
        kernel = np.zeros((33, 33), dtype=np.float32)
        cv2.line(kernel, (13, 0), (19, 32), 1.0, 1)
        layer = cv2.filter2D(layer, -1, kernel)
        layer = cv2.GaussianBlur(layer, (0, 0), size)
    else:
        layer = cv2.GaussianBlur(layer, (0, 0), size) * (2 * math.pi * size * size)
    return np.asarray(np.clip(layer[TILE:2 * TILE, TILE:2 * TILE], 0, 1), dtype=np.float32)


@cache
def _doubled_drops(kind: str) -> F32:
    return np.tile(_drops(kind), (2, 2))


@cache
def _grain() -> tuple[F32, F32]:
    """Sensor noise (TILE, TILE, 3), deviation about 1, channels partly alike; and the same 2 x 2."""
    a, b = fractal(36, slope=0.15), fractal(37, slope=0.15)
    tile = np.stack([a, 0.6 * a + 0.4 * b, 0.3 * a + 0.7 * b], axis=-1).astype(np.float32)
    return tile, np.tile(tile, (2, 2, 1))


def falling(picture: F32, scene: Scene, colour: F32, rng: np.random.Generator) -> None:
    """Rain streaks and snowflakes, in place; colour (3,) is that of the sky they catch."""
    height, width = picture.shape[:2]
    if scene.rain > 0.05:
        for strength in (0.16, 0.10):
            cover = three(
                window(_drops("streaks"), _doubled_drops("streaks"), height, width, rng)
                * np.float32(strength * scene.rain)
            )
            picture += (np.maximum(colour * 1.1, 60) - picture) * cover
    if scene.snowfall > 0.02:
        for kind, strength in (("flakes", 0.75), ("flakes", 0.55), ("tufts", 0.65)):
            cover = three(
                window(_drops(kind), _doubled_drops(kind), height, width, rng)
                * np.float32(strength * min(1.0, scene.snowfall * 1.3))
            )
            picture += (np.maximum(colour * 1.15, 70) - picture) * cover


def windscreen(picture: F32, scene: Scene, rng: np.random.Generator) -> None:
    """Drops on the glass: small lenses that show a blurred, upside-down patch, in place."""
    if scene.drops < 0.05:
        return
    height, width = picture.shape[:2]
    soft = cv2.resize(
        cv2.resize(picture, (width // 6 + 1, height // 6 + 1), interpolation=cv2.INTER_AREA), (width, height)
    )
    mask = np.zeros((height, width), dtype=np.uint8)
    for _ in range(int(46 * scene.drops)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.gamma(2.0, 1.3) * width / 512 + 0.8
        cv2.ellipse(mask, (int(x), int(y)), (int(r), int(r * rng.uniform(1.0, 1.7))), 0, 0, 360, 200, -1, cv2.LINE_AA)
    alpha = cv2.GaussianBlur(mask, (0, 0), 0.8).astype(np.float32)[..., None] * np.float32(1 / 255)
    shade = 0.86 + 0.28 * (cv2.blur(mask, (1, 7)).astype(np.float32) / 200)[..., None]
    shifted = np.roll(soft[::-1], int(rng.integers(-height // 4, height // 4)), axis=0)
    picture += ((0.55 * soft + 0.4 * shifted) * shade - picture) * alpha * np.float32(0.8)


def lens(picture: F32, scene: Scene, rng: np.random.Generator) -> U8:
    """The camera: exposure and white balance, soft highlights, saturation, vignette, blur, noise, compression."""
    height, width = picture.shape[:2]
    wb, s = scene.white_balance, scene.saturation
    gain = np.array([1 + 0.10 * wb, 1.0, 1 - 0.13 * wb]) * scene.exposure
    matrix = (s * np.eye(3) + (1 - s) * np.array([0.3, 0.59, 0.11])) * gain  # saturation after white balance
    picture = np.asarray(cv2.transform(picture, matrix.astype(np.float32)), dtype=np.float32)
    if scene.vignette > 0.02:
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] ** 2
        picture *= three((1 - np.float32(scene.vignette * 0.5) * (x + y)).astype(np.float32))
    if scene.blur > 0.15:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), scene.blur * width / 512), dtype=np.float32)
    if scene.noise > 0.2:
        picture = np.asarray(cv2.scaleAdd(window(*_grain(), height, width, rng), scene.noise, picture))
    over = picture - np.float32(200.0)  # highlights roll off instead of clipping
    np.maximum(over, 0, out=over)
    base = over + np.float32(55.0)
    over *= over
    over /= base
    picture -= over
    out = np.asarray(cv2.convertScaleAbs(np.maximum(picture, 0, out=picture)), dtype=np.uint8)
    if scene.jpeg:
        _, code = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(scene.jpeg)])
        out = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), dtype=np.uint8)
    return out

