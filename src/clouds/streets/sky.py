"""The sky, and the shadows things throw on the ground."""

import math
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.streets.camera import NEAR, Camera
from clouds.streets.light import Light
from clouds.streets.scene import Scene
from clouds.streets.street import Thing
from clouds.streets.surfaces import TILE, f32, noise_tile

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

# length, width, height in metres of what casts a box-shaped shadow
BOXES: dict[str, tuple[float, float, float]] = {
    "car": (4.4, 1.8, 1.5), "truck": (8.0, 2.5, 3.4), "bus": (12.0, 2.55, 3.1), "tram": (26.0, 2.5, 3.4),
    "person": (0.4, 0.5, 1.7), "cyclist": (1.7, 0.45, 1.7), "motorcyclist": (2.0, 0.7, 1.6),
    "parked_bike": (1.7, 0.3, 0.9), "parked_motorcycle": (2.0, 0.6, 1.1), "box": (0.7, 0.6, 1.2),
    "sign": (0.1, 0.1, 2.5), "bollard": (0.12, 0.12, 0.9), "lamp": (0.14, 0.14, 7.0), "light": (0.15, 0.15, 3.2),
    "wire_pole": (0.25, 0.25, 8.0),
}


_REACH = {"building": 80.0, "tree": 80.0, "truck": 80.0, "bus": 80.0, "tram": 80.0}  # metres to which shadows are drawn
_AMBIENT = {*BOXES, "bush", "hedge", "wall", "building"}
_CROWN = [(math.cos(a) * k, math.sin(a) * k) for a, k in (
    (i * math.pi / 5, 0.8 + 0.2 * math.cos(3 * i * math.pi / 5)) for i in range(10))]
SUN, SKY = 0.92 / 255, 0.8 / 255  # share of light a step of the shadows takes


def colours(scene: Scene) -> tuple[F32, F32]:
    """Sky colour (3,) at the zenith and at the horizon, 0..255."""
    warm = max(0.0, min(1.0, scene.warmth + 0.6 * max(0.0, 1 - scene.sun_elevation / 30)))
    blue, grey = f32([92, 138, 200]), f32([186, 190, 196])
    over = min(1.0, max(0.0, (scene.cloud - 0.6) / 0.35))
    zenith = blue + (grey - blue) * over
    rim = f32([196, 214, 232]) * (1 - over) + f32([214, 216, 219]) * over
    rim = rim + (f32([250, 196, 140]) - rim) * warm * 0.75 * (1 - 0.7 * over)
    day = 1 - scene.night
    dusk = 4 * scene.night * day * (1 - over)
    zenith = zenith * (0.25 + 0.75 * day) ** 2 * (1 - scene.night) + f32([14, 18, 30]) * scene.night
    glow = f32([62, 50, 44]) * (0.5 + 0.8 * scene.cloud)
    rim = rim * day**1.2 + glow * scene.night + f32([60, 24, 0]) * dusk * 0.6
    return zenith, rim


def paint(scene: Scene, light: Light, camera: Camera, size: tuple[int, int], rng: np.random.Generator) -> U8:
    """The sky over the whole picture (H, W, 3), 0..255 (below the horizon it repeats the rim)."""
    half = (size[0] // 2, size[1] // 2)  # it is smooth: half the size is enough
    sky = _paint(scene, light, camera.scaled(0.5), half, rng)
    small = cv2.convertScaleAbs(np.maximum(sky, 0, out=sky))
    return np.asarray(cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _paint(scene: Scene, light: Light, camera: Camera, size: tuple[int, int], rng: np.random.Generator) -> F32:
    height, width = size
    zenith, rim = colours(scene)
    rows = np.arange(height, dtype=np.float32) + 0.5
    up = np.clip((camera.horizon - rows) / camera.f, 0.0, None)[:, None]  # tangent of elevation
    t = 1 - np.exp(-up * np.float32(3.2))  # (H, 1)
    sky = [np.repeat(rim[i] + (zenith[i] - rim[i]) * t, width, axis=1) for i in range(3)]
    columns = ((np.arange(width, dtype=np.float32) + 0.5 - camera.cx) / camera.f).astype(np.float32)
    last = int(min(height, max(camera.horizon, 0)))
    if last > 2 and scene.cloud > 0.02:
        reach = 1 / (up[:last] + np.float32(0.16))
        shift = rng.integers(0, TILE, 2)
        a = (columns[None, :] * (reach * 60)).astype(np.int32)
        a += np.int32(shift[0])
        a &= TILE - 1
        a += ((reach * 85).astype(np.int32) + np.int32(shift[1]) & TILE - 1) * TILE  # rows of the tile
        field = np.asarray(cv2.GaussianBlur(_cloud_tile()[a], (0, 0), 0.8 * width / 256), dtype=np.float32)
        cover = np.clip((field + np.float32(2.6 * scene.cloud - 1.6)) * np.float32(0.8), 0, 1)
        cover *= np.float32(min(1.0, 0.35 + scene.cloud))
        bright = np.float32((1 - 0.93 * scene.night) * (1 - 0.24 * scene.cloud) * (1 - scene.night)) * (
            1 + np.float32(0.10) * field)
        bright *= 1 - np.clip(field, 0, 2) * np.float32(0.14 * scene.cloud)
        for i, white in enumerate((238, 238, 240)):
            part = sky[i][:last]
            part += (bright * np.float32(white) + np.float32(rim[i] * scene.night * 1.05) - part) * cover
    if scene.sun > 0.3 and scene.night < 0.6:
        sx, sy, sz = (float(v) for v in camera.rotation @ np.array(light.direction))
        if sz > 0.05:
            x, y = columns[None, :] - np.float32(sx / sz), up - np.float32(sy / sz)
            halo = np.sqrt(x * x + y * y)
            halo *= np.float32(-3.0)
            np.exp(halo, out=halo)
            for i, warm in enumerate((110, 90, 60)):
                sky[i] += halo * np.float32(warm * scene.sun * (1 - scene.cloud * 0.6))
    return np.asarray(cv2.merge(sky), dtype=np.float32)


@cache
def _cloud_tile() -> F32:
    return noise_tile("cloud").ravel()


def _outline(thing: Thing, direction: tuple[float, float], slope: float) -> list[tuple[float, float]] | None:
    """Ground points whose convex hull is the shadow of a thing (8, or 10 of a crown).

    `direction` is away from the sun, `slope` metres a metre of height.
    """
    s, c, x, z = math.sin(thing.heading), math.cos(thing.heading), thing.x, thing.z
    dx, dz = direction
    if thing.kind in ("tree", "bush"):
        radius = thing.height * (0.3 if thing.kind == "tree" else 0.5) * (1 + 0.3 * slope)
        high = thing.height * (0.65 if thing.kind == "tree" else 0.4) * slope
        return [(radius * a + x + dx * high, radius * b + z + dz * high) for a, b in _CROWN]
    if thing.kind in ("building", "wall", "hedge", "fence"):
        reach = min(thing.height * slope, 60.0)
        wide = thing.width if thing.kind == "building" else 0.2
        xe, ze, bx, bz = x + s * thing.length, z + c * thing.length, c * wide, -s * wide
        base = [(x, z), (xe, ze), (xe + bx, ze + bz), (x + bx, z + bz)]
    elif thing.kind in BOXES:
        length, width, height = BOXES[thing.kind]
        reach = height * slope
        fs, fc, ws, wc = s * length / 2, c * length / 2, s * width / 2, c * width / 2
        base = [(x + fs + wc, z + fc - ws), (x + fs - wc, z + fc + ws), (x - fs - wc, z - fc + ws),
                (x - fs + wc, z - fc - ws)]
    else:
        return None
    return base + [(px + dx * reach, pz + dz * reach) for px, pz in base]


def _fill(target: U8, outlines: list[list[tuple[float, float]]], camera: Camera, value: int,
          grown: float = 1.0) -> None:
    """Fill the convex hulls of outlines on the ground, all with equally many points, grown about their middles."""
    if not outlines:
        return
    points = np.array(outlines)  # (N, K, 2)
    if grown != 1.0:
        middle = points.mean(1, keepdims=True)
        points = middle + (points - middle) * grown
    world = np.zeros((*points.shape[:2], 3))
    world[..., 0], world[..., 2] = points[..., 0], points[..., 1]
    matrix, offset = camera.pixel_matrix
    pixels = world @ matrix + offset
    ahead = pixels[..., 2].min(1) > NEAR
    flat = pixels[ahead]
    flat = np.clip(flat[..., :2] / flat[..., 2:], -6000, 6000)
    height, width = target.shape
    low, high = flat.min(1), flat.max(1)
    seen = (high[:, 0] > -2) & (low[:, 0] < width + 2) & (high[:, 1] > -2) & (low[:, 1] < height + 2)
    for corners in (flat[seen] * 16).astype(np.int32):
        cv2.fillConvexPoly(target, cv2.convexHull(corners), value, cv2.LINE_AA, 4)
    for outline in points[~ahead]:  # partly behind the camera: cut at the near plane
        hull = cv2.convexHull(outline.astype(np.float32))[:, 0].astype(np.float64)
        cut = camera.clipped(np.stack([hull[:, 0], np.zeros(len(hull)), hull[:, 1]], axis=1))
        if len(cut) >= 3:
            cv2.fillConvexPoly(target, (np.clip(cut, -6000, 6000) * 16).astype(np.int32), value, cv2.LINE_AA, 4)


def shadows(things: list[Thing], camera: Camera, light: Light, size: tuple[int, int], top: int) -> tuple[U8, U8]:
    """Sun and sky light taken away on the ground rows `top`.. of a picture, (R, C) each, in steps of SUN and SKY."""
    sun, sky = np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=np.uint8)
    dx, dy, dz = light.direction
    cast = max(light.sun) > 0.02
    slope = math.hypot(dx, dz) / max(dy, 0.12)
    norm = math.hypot(dx, dz) or 1.0
    away = (-dx / norm, -dz / norm)
    for crowns in (True, False):
        thrown, around = [], []
        for thing in things:
            kind = thing.kind
            if (kind in ("tree", "bush")) != crowns or thing.z < -15 or thing.far > _REACH.get(
                    kind, 45.0 if "car" in kind else 20.0):
                continue
            if cast:
                thrown.append(_outline(thing, away, slope))
            if kind in _AMBIENT and thing.far < 32:
                around.append(_outline(thing, away, 0.0))
        _fill(sun, [o for o in thrown if o], camera, 255)
        _fill(sky, [o for o in around if o], camera, 150, 1.12)
    return (np.asarray(cv2.blur(sun[top:], (3, 3)), dtype=np.uint8),
            np.asarray(cv2.blur(sky[top:], (7, 3)), dtype=np.uint8))
