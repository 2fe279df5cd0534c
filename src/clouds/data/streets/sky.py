"""The sky, and the shadows things throw on the ground."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.data.streets.camera import Camera
from clouds.data.streets.light import Light
from clouds.data.streets.scene import Scene
from clouds.data.streets.street import Thing
from clouds.data.streets.surfaces import TILE, f32, noise_tile

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# length, width, height in metres of what casts a box-shaped shadow
BOXES: dict[str, tuple[float, float, float]] = {
    "car": (4.4, 1.8, 1.5), "truck": (8.0, 2.5, 3.4), "bus": (12.0, 2.55, 3.1), "tram": (26.0, 2.5, 3.4),
    "person": (0.4, 0.5, 1.7), "cyclist": (1.7, 0.45, 1.7), "motorcyclist": (2.0, 0.7, 1.6),
    "parked_bike": (1.7, 0.3, 0.9), "parked_motorcycle": (2.0, 0.6, 1.1), "box": (0.7, 0.6, 1.2),
    "sign": (0.1, 0.1, 2.5), "bollard": (0.12, 0.12, 0.9), "lamp": (0.14, 0.14, 7.0), "light": (0.15, 0.15, 3.2),
    "wire_pole": (0.25, 0.25, 8.0),
}


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


def paint(scene: Scene, light: Light, camera: Camera, size: tuple[int, int], rng: np.random.Generator) -> F32:
    """The sky over the whole picture (H, W, 3), 0..255 (below the horizon it repeats the rim)."""
    half = (size[0] // 2, size[1] // 2)  # it is smooth: half the size is enough
    sky = _paint(scene, light, camera.scaled(0.5), half, rng)
    return np.asarray(cv2.resize(sky, size[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _paint(scene: Scene, light: Light, camera: Camera, size: tuple[int, int], rng: np.random.Generator) -> F32:
    height, width = size
    zenith, rim = colours(scene)
    rows = np.arange(height, dtype=np.float32) + 0.5
    up = np.clip((camera.horizon - rows) / camera.f, 0.0, None)[:, None]  # tangent of elevation
    t = (1 - np.exp(-up * 3.2))[..., None]
    sky = np.broadcast_to(rim + (zenith - rim) * t, (height, width, 3)).astype(np.float32)
    columns = (np.arange(width, dtype=np.float32) + 0.5 - camera.cx) / camera.f
    last = int(min(height, max(camera.horizon, 0)))
    if last > 2 and scene.cloud > 0.02:
        reach = 1 / (up[:last] + 0.16)
        shift = rng.integers(0, TILE, 2)
        noise = noise_tile("cloud")
        a = (columns[None, :] * reach * 60).astype(np.int32) + shift[0] & TILE - 1
        b = np.broadcast_to((reach * 85).astype(np.int32) + shift[1] & TILE - 1, a.shape)
        field = cv2.GaussianBlur(noise[b, a], (0, 0), 0.8 * width / 256)
        cover = np.clip((field + 2.6 * scene.cloud - 1.6) * 0.8, 0, 1)[..., None]
        bright = (1 - 0.93 * scene.night) * (1 + 0.10 * field[..., None])
        white = (f32([238, 238, 240]) * (1 - 0.24 * scene.cloud) * bright
                 * (1 - 0.14 * np.clip(field[..., None], 0, 2) * scene.cloud))
        white = white * (1 - scene.night) + rim * scene.night * 1.05
        sky[:last] += (white - sky[:last]) * cover * min(1.0, 0.35 + scene.cloud)
    if scene.sun > 0.3 and scene.night < 0.6:
        sx, sy, sz = (float(v) for v in camera.rotation @ np.array(light.direction))
        if sz > 0.05:
            x, y = columns[None, :] - sx / sz, up + 0 * columns[None, :] - sy / sz
            halo = np.exp(-np.sqrt(x * x + y * y) * 3.0)[..., None] * scene.sun
            sky += f32([110, 90, 60]) * halo * (1 - scene.cloud * 0.6)
    return sky


def _outline(thing: Thing, direction: tuple[float, float], slope: float) -> F64 | None:
    """Ground points (N, 2) of the shadow of a thing; direction is away from the sun, slope metres a metre of height."""
    s, c = math.sin(thing.heading), math.cos(thing.heading)
    if thing.kind in ("building", "wall", "hedge", "fence"):
        reach = min(thing.height * slope, 60.0)
        a, b = np.array([thing.x, thing.z]), np.array([thing.x + s * thing.length, thing.z + c * thing.length])
        back = np.array([c, -s]) * (thing.width if thing.kind == "building" else 0.2)
        base = np.stack([a, b, b + back, a + back])
        return np.concatenate([base, base + np.array(direction) * reach])
    if thing.kind in ("tree", "bush"):
        radius = thing.height * (0.3 if thing.kind == "tree" else 0.5)
        angle = np.arange(10) * (2 * math.pi / 10)
        ring = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1) * (0.8 + 0.2 * np.cos(angle * 3))[:, None]
        high = thing.height * (0.65 if thing.kind == "tree" else 0.4) * slope
        return np.asarray(
            ring * (1 + 0.3 * slope) + np.array([thing.x + direction[0] * high, thing.z + direction[1] * high])
        )
    if thing.kind not in BOXES:
        return None
    length, width, height = BOXES[thing.kind]
    box = np.array([(fore * length / 2, w * width / 2) for fore, w in ((1, 1), (1, -1), (-1, -1), (-1, 1))])
    ground = np.stack([thing.x + box[:, 0] * s + box[:, 1] * c, thing.z + box[:, 0] * c - box[:, 1] * s], axis=1)
    return np.concatenate([ground, ground + np.array(direction) * height * slope])


def shadows(things: list[Thing], camera: Camera, light: Light, size: tuple[int, int], top: int) -> F32:
    """Shares (R, C, 2) of sun and of sky light taken away on the ground rows `top`.. of a picture."""
    height, width = size
    sun = np.zeros((height, width), dtype=np.uint8)
    sky = np.zeros((height, width), dtype=np.uint8)
    dx, dy, dz = light.direction
    cast = max(light.sun) > 0.02
    slope = math.hypot(dx, dz) / max(dy, 0.12)
    norm = math.hypot(dx, dz) or 1.0
    away = (-dx / norm, -dz / norm)
    for thing in things:
        reach = (
            80.0
            if thing.kind in ("building", "tree", "truck", "bus", "tram")
            else 45.0
            if "car" in thing.kind
            else 20.0
        )
        if thing.far > reach or thing.z < -15:
            continue
        shapes = [(sun, _outline(thing, away, slope), 255)] if cast else []
        if thing.kind in BOXES or thing.kind in ("bush", "hedge", "wall", "building"):
            ambient = _outline(thing, away, 0.0)
            if ambient is not None and thing.far < 32:
                middle = ambient.mean(0)
                shapes.append((sky, middle + (ambient - middle) * 1.12, 150))
        for target, outline, value in shapes:
            if outline is None:
                continue
            hull = cv2.convexHull(outline.astype(np.float32))[:, 0].astype(np.float64)
            points = camera.clipped(np.stack([hull[:, 0], np.zeros(len(hull)), hull[:, 1]], axis=1))
            if len(points) >= 3:
                corners = (np.clip(points, -6000, 6000) * 16).astype(np.int32)
                cv2.fillConvexPoly(target, corners, value, cv2.LINE_AA, 4)
    soft = np.stack([cv2.blur(sun[top:], (3, 3)), cv2.blur(sky[top:], (7, 3))], axis=-1)
    return soft.astype(np.float32) * f32([0.92 / 255, 0.8 / 255])
