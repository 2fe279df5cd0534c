"""Cars: a side profile swept across the width, so that every view angle comes out of one model."""

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clouds.streets.brush import Brush, code_of
from clouds.streets.labels import CAR
from clouds.streets.light import Rgb, mix
from clouds.streets.street import Thing

F64 = NDArray[np.float64]

PAINTS: tuple[Rgb, ...] = (
    (214, 216, 218),
    (186, 190, 194),
    (150, 154, 160),
    (98, 102, 108),
    (52, 54, 58),
    (28, 29, 32),
    (232, 232, 230),
    (32, 34, 38),
    (120, 24, 26),
    (160, 34, 32),
    (34, 58, 104),
    (60, 86, 128),
    (48, 66, 56),
    (168, 156, 132),
    (196, 140, 50),
)
GLASS: Rgb = (38, 44, 50)
RING = np.linspace(0, 2 * math.pi, 16, endpoint=False)
CIRCLE = np.stack([np.cos(RING), np.sin(RING), np.zeros(16)], axis=1)
CIRCLES = np.stack([CIRCLE * k for k in (1.16, 1.0, 0.64, 0.22)])  # of a wheel: arch, tyre, rim, hub
INSET = (0.96, 1.0, 0.98, 1.0, 1.0, 1.0, 1.0, 0.98, 1.0, 0.96)  # of the width at the contour's points
OUT = np.repeat(np.arange(4.0), 16)


@dataclass(frozen=True)
class Body:
    """Upper contour from rear to front as (fore, y) in metres; half width, axles and wheel radius."""

    contour: tuple[tuple[float, float], ...]
    half: float
    axles: tuple[float, float]
    wheel: float = 0.31


# contour: rear foot, rear bumper top, rear deck edge, rear glass foot, roof rear, roof front, screen foot, bonnet edge,
# front bumper top, front foot
BODIES: tuple[Body, ...] = (
    Body(((-2.2, 0.28), (-2.24, 0.62), (-2.18, 0.98), (-1.75, 1.02), (-1.05, 1.41), (0.2, 1.44), (0.98, 1.0),
          (1.95, 0.80), (2.2, 0.62), (2.2, 0.26)), 0.89, (-1.35, 1.35)),  # saloon
    Body(((-1.95, 0.30), (-2.0, 0.62), (-1.98, 0.92), (-1.94, 0.98), (-1.55, 1.44), (0.15, 1.48), (0.98, 1.03),
          (1.75, 0.84), (1.98, 0.64), (1.98, 0.27)), 0.87, (-1.25, 1.25)),  # hatchback
    Body(((-2.25, 0.30), (-2.3, 0.64), (-2.26, 0.96), (-2.22, 1.0), (-1.9, 1.44), (0.2, 1.48), (1.0, 1.02),
          (1.98, 0.82), (2.25, 0.62), (2.25, 0.27)), 0.90, (-1.4, 1.4)),  # estate
    Body(((-2.2, 0.38), (-2.26, 0.74), (-2.24, 1.10), (-2.2, 1.14), (-1.85, 1.66), (0.15, 1.70), (0.95, 1.20),
          (1.9, 1.04), (2.2, 0.78), (2.2, 0.34)), 0.95, (-1.38, 1.38), 0.36),  # off-roader
    Body(((-2.45, 0.36), (-2.5, 0.70), (-2.48, 1.08), (-2.47, 1.12), (-2.38, 1.94), (0.95, 1.96), (1.75, 1.18),
          (2.25, 1.02), (2.48, 0.74), (2.48, 0.32)), 0.97, (-1.5, 1.6), 0.34),  # van
    Body(((-1.7, 0.28), (-1.74, 0.60), (-1.73, 0.92), (-1.7, 0.96), (-1.45, 1.46), (0.05, 1.50), (0.95, 1.02),
          (1.5, 0.86), (1.72, 0.62), (1.72, 0.26)), 0.81, (-1.1, 1.15), 0.29),  # small
)
SHARES = (0.24, 0.52, 0.68, 0.84, 0.92)  # of the bodies, summed up
EDGES = ("rear foot", "rear", "deck", "rear glass", "roof", "screen", "bonnet", "front", "front foot")


class _Local:
    """Puts local points (fore (forwards), y up, w right) of a thing into the world."""

    def __init__(self, thing: Thing) -> None:
        self.s, self.c = math.sin(thing.heading), math.cos(thing.heading)
        self.x, self.z = thing.x, thing.z
        self.matrix = np.array([(self.s, 0.0, self.c), (0.0, 1.0, 0.0), (self.c, 0.0, -self.s)])
        self.offset = np.array([thing.x, 0.0, thing.z])

    def __call__(self, points: F64) -> F64:
        world: F64 = points @ self.matrix
        world += self.offset
        return world

    def normal(self, fore: float, y: float, w: float) -> Rgb:
        size = math.sqrt(fore * fore + y * y + w * w) or 1.0
        return ((fore * self.s + w * self.c) / size, y / size, (fore * self.c - w * self.s) / size)


def _scaled(rgb: Rgb, k: Rgb) -> Rgb:
    return (rgb[0] * k[0], rgb[1] * k[1], rgb[2] * k[2])


def wheel(brush: Brush, local: _Local, fore: float, w: float, radius: float, code: int, dark: float, rim: Rgb) -> None:
    """A wheel on the outer side plane w: arch, tyre, rim."""
    side = math.copysign(0.01, w)
    tyre = (34 * dark, 34 * dark, 35 * dark)
    if brush.camera.depth(local.x, local.z) < 32:
        tones = ((14 * dark, 14 * dark, 15 * dark), tyre, rim, (rim[0] * 0.5, rim[1] * 0.5, rim[2] * 0.5))
        rings = (CIRCLES * radius).reshape(-1, 3)
        rings += (fore, radius, w)
        rings[:, 2] += OUT * side
        world = local(rings)
        for k in range(4):
            brush.poly(world[16 * k:16 * k + 16], tones[k], code)
    else:
        brush.poly(local(CIRCLE * radius + (fore, radius, w + side)), tyre, code)


def draw(brush: Brush, thing: Thing) -> None:
    """Paint a car."""
    depth = brush.camera.depth(thing.x, thing.z)
    if depth < 2.2:
        return
    rng = brush.dice.of(thing.tag)
    body = BODIES[bisect_right(SHARES, float(rng.random()))]
    paint = PAINTS[int(rng.integers(len(PAINTS)))]
    contour, local, half = np.array(body.contour), _Local(thing), body.half
    code = code_of(CAR, depth)
    scene, night = brush.scene, brush.light.night
    belt = contour[3, 1]
    narrow = half * 0.76
    width = np.array([(narrow if p[1] > belt + 0.2 else half) * k for p, k in zip(body.contour, INSET, strict=True)])
    outline = np.empty((20, 3))
    outline[:10, :2] = outline[10:, :2] = contour
    outline[:10, 2], outline[10:, 2] = -width, width
    body_points = local(outline)
    left, right = body_points[:10], body_points[10:]
    eye = np.array([brush.camera.x, brush.camera.height, 0.0])
    sky = 0.25 + 0.5 * (1 - night)
    frosty = scene.snow * (1.0 if thing.variant == "parked" else 0.5)

    def tone(rgb: Rgb, normal: Rgb, gloss: float = 0.16) -> Rgb:
        light = brush.light.on(normal, thing.x, thing.z, 0.9)
        shine = gloss * max(0.0, 0.25 + normal[1]) * sky * brush.light.ambient[2] * 200
        return (rgb[0] * light[0] + shine, rgb[1] * light[1] + shine, rgb[2] * light[2] + shine * 1.05)

    # ground contact: the dark underneath, and tyres seen from the end
    to_eye = eye - (thing.x, 0.0, thing.z)
    facing = to_eye[0] * local.s + to_eye[2] * local.c  # > 0: the front is seen
    beside = to_eye[0] * local.c - to_eye[2] * local.s  # > 0: the right side is seen
    end = contour[-1, 0] if facing > 0 else contour[0, 0]
    dark = max(brush.light.on((0, 0, 0), thing.x, thing.z, 0.3))
    shade = (20 * dark, 20 * dark, 22 * dark)
    inset = end * 0.93
    brush.poly(local(np.array([(inset, 0.14, -half * 0.9), (inset, 0.5, -half * 0.9), (inset, 0.5, half * 0.9),
                               (inset, 0.14, half * 0.9)])), shade, code)
    for w in (-half + 0.02, half - 0.22):
        brush.poly(local(np.array([(inset, 0.0, w), (inset, 0.45, w), (inset, 0.45, w + 0.2), (inset, 0.0, w + 0.2)])),
                   (26 * dark, 26 * dark, 27 * dark), code)

    # the swept faces
    for i, edge in enumerate(EDGES):
        (l0, y0), (l1, y1) = contour[i], contour[i + 1]
        normal = local.normal(-(y1 - y0), l1 - l0, 0.0)
        quad = body_points[[i, i + 1, i + 11, i + 10]]
        at = left[i]
        if (eye[0] - at[0]) * normal[0] + (eye[1] - at[1]) * normal[1] + (eye[2] - at[2]) * normal[2] <= 0:
            continue
        rgb = tone(paint, normal)
        if edge in ("roof", "bonnet", "deck") and frosty > 0.3:
            rgb = mix(
                rgb, _scaled((232, 236, 242), brush.light.on((0, 1, 0), thing.x, thing.z)), min(1.0, frosty * 1.2)
            )
        if edge == "rear foot" or edge == "front foot":
            rgb = (rgb[0] * 0.72, rgb[1] * 0.72, rgb[2] * 0.72)
        brush.poly(quad, rgb, code)
        if "glass" in edge or edge == "screen":
            _pane(brush, quad, normal, thing, code)
        elif edge in ("rear", "front") and depth < 60:
            _end(brush, local, contour[i], contour[i + 1], half, edge, thing, code, night, rng)

    # the side that is seen, if any
    if abs(beside) <= half:
        return
    w = half if beside > 0 else -half
    seen = right if beside > 0 else left
    normal = local.normal(0, 0.05, w)
    lower = np.concatenate([seen[:4], seen[6:]])
    base = tone(paint, normal, 0.3)
    brush.poly(lower, base, code)
    if depth < 40:
        sill = local(np.array([(contour[0, 0], 0.28, w), (contour[0, 0], 0.46, w), (contour[-1, 0], 0.46, w),
                               (contour[-1, 0], 0.28, w)]))
        brush.poly(sill, (base[0] * 0.62, base[1] * 0.62, base[2] * 0.62), code)
        crease = local(np.array([(contour[2, 0] + 0.1, belt - 0.16, w), (contour[2, 0] + 0.1, belt - 0.06, w),
                                 (contour[7, 0], belt - 0.14, w), (contour[7, 0], belt - 0.2, w)]))
        brush.poly(crease, (base[0] * 1.12 + 6, base[1] * 1.12 + 6, base[2] * 1.12 + 6), code)
    brush.poly(seen[3:7], (base[0] * 0.9, base[1] * 0.9, base[2] * 0.9), code)
    middle = seen[3:7].mean(0)
    pane = middle + (seen[3:7] - middle) * np.array([0.90, 0.80, 0.90])
    _pane(brush, pane, normal, thing, code)
    if depth < 32:
        for t in (0.36, 0.62):
            foot, head = pane[0] + (pane[3] - pane[0]) * t, pane[1] + (pane[2] - pane[1]) * t
            brush.line(foot, head, 0.07, (base[0] * 0.5, base[1] * 0.5, base[2] * 0.5), code)
        for fore in (contour[3, 0] * 0.45, 0.35):
            brush.line(local(np.array([(fore, 0.4, w)]))[0], local(np.array([(fore, belt, w)]))[0], 0.02,
                       (base[0] * 0.55, base[1] * 0.55, base[2] * 0.55), code)
        mirror = local(np.array([(contour[6, 0] - 0.25, belt + 0.08, w * 1.06)]))[0]
        brush.disc(mirror, 0.09, (base[0] * 0.8, base[1] * 0.8, base[2] * 0.8), code)
    light = brush.light.on(normal, thing.x, thing.z, 0.4)
    rim = _scaled((132, 134, 138), light) if thing.tag % 3 else _scaled((70, 72, 76), light)
    for axle in body.axles:
        wheel(brush, local, axle, w, body.wheel, code, max(light), rim)
    if abs(facing) < 0.35 * abs(beside) and depth < 40:  # lamps seen from the side
        for fore, rgb in ((contour[1, 0] + 0.08, (150.0, 20.0, 20.0)), (contour[8, 0] - 0.15, (210.0, 210.0, 205.0))):
            brush.disc(local(np.array([(fore, 0.72 * belt + 0.05, w)]))[0], 0.08, _scaled(rgb, light), code)


def _pane(brush: Brush, quad: F64, normal: Rgb, thing: Thing, code: int) -> None:
    """Glass over most of a face: dark inside, sky mirrored towards its top."""
    pane = quad * 0.9 + quad.sum(0) * (0.1 / len(quad))
    ambient = brush.light.on((0.0, 0.6, 0.0), thing.x, thing.z, 1.2)
    tilt = 0.25 + 0.5 * max(normal[1], 0.0)
    dark, bright = _scaled(GLASS, ambient), _scaled((150, 166, 182), brush.light.ambient)
    brush.poly(pane, mix(dark, bright, tilt * 0.25), code)
    if (
        len(pane) == 4 and brush.camera.depth(thing.x, thing.z) < 25
    ):  # the upper half is brighter; corners 1 and 2, or 0 and 1, or 2 and 3 lie high
        high = sorted(range(4), key=lambda i: -float(pane[i, 1]))[:2]
        i, j = min(high), max(high)
        if (i, j) == (0, 3):
            i, j = 3, 0
        upper = np.stack([pane[i], pane[j], (pane[j] + pane[(j + 1) % 4]) / 2, (pane[i] + pane[i - 1]) / 2])
        brush.poly(upper, mix(dark, bright, tilt * 0.6), code)


def _end(brush: Brush, local: _Local, low: F64, high: F64, half: float, edge: str, thing: Thing, code: int,
         night: float, rng: np.random.Generator) -> None:
    """Lamps, grille and plate of a front or rear face between two contour points."""
    light = brush.light.on(local.normal(1.0 if edge == "front" else -1.0, 0.1, 0.0), thing.x, thing.z, 0.6)
    bottom, top = (high, low) if edge == "front" else (low, high)  # (fore, y) of the lower and upper border
    out = 0.02 if edge == "front" else -0.02

    def patch(a: float, b: float, w0: float, w1: float, rgb: Rgb) -> None:
        """Rectangle at heights a..b (shares of the face) and widths w0..w1 (shares of the half width)."""
        pa, pb = bottom + (top - bottom) * a, bottom + (top - bottom) * b
        brush.poly(local(np.array([(pa[0] + out, pa[1], w0 * half), (pb[0] + out, pb[1], w0 * half),
                                   (pb[0] + out, pb[1], w1 * half), (pa[0] + out, pa[1], w1 * half)])), rgb, code)

    lit = (night > 0.35 and thing.variant != "parked") or (brush.scene.rain > 0.3 and thing.variant != "parked")
    plate = _scaled((224, 222, 212), light)
    if edge == "front":
        patch(0.1, 0.75, -0.55, 0.55, _scaled((26, 27, 29), light))
        patch(0.36, 0.46, -0.55, 0.55, _scaled((96, 98, 100), light))
        lamp: Rgb = (255.0, 250.0, 232.0) if lit else _scaled((206, 208, 206), light)
        for w in (-0.92, 0.6):
            patch(0.42, 0.98, w, w + 0.32, lamp)
        patch(-0.55, -0.2, -0.28, 0.28, plate)
        if lit:
            for w in (-0.76, 0.76):
                p = local(np.array([(float(bottom[0]) + 0.1, float(bottom[1]) + 0.1, w * half)]))[0]
                brush.glow(p, 0.30 + 0.25 * night, (235.0, 230.0, 212.0))
    else:
        lamp = (255.0, 40.0, 30.0) if lit else _scaled((150, 22, 22), light)
        inner = float(rng.uniform(0.5, 0.75))
        for w0, w1 in ((-0.97, -inner), (inner, 0.97)):
            patch(0.45, 0.98, w0, w1, lamp)
        patch(0.1, 0.42, -0.3, 0.3, plate)
        patch(-0.7, -0.25, -0.8, 0.8, _scaled((40, 41, 43), light))
        if lit:
            for w in (-0.8, 0.8):
                p = local(np.array([(float(top[0]) - 0.1, float(top[1]) - 0.1, w * half)]))[0]
                brush.glow(p, 0.22, (220.0, 30.0, 22.0))
