"""What stands at the kerb and closes the plots: lamps, signs, lights, bollards, boxes, walls, fences, hedges."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.streets.brush import Brush, code_of
from clouds.streets.facades import PALETTES
from clouds.streets.labels import FENCE, LIGHT, POLE, SIGN, VEGETATION, WALL
from clouds.streets.light import LAMP, Rgb
from clouds.streets.plants import LEAF, NEEDLE
from clouds.streets.street import Thing
from clouds.streets.surfaces import WALL_PPM, ramp, wall_crop

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

METAL: tuple[Rgb, ...] = ((112, 114, 114), (84, 88, 88), (60, 72, 66), (140, 142, 142), (48, 50, 52))
ROUND = np.linspace(0, 2 * math.pi, 18, endpoint=False)
DISC = np.stack([np.cos(ROUND), np.sin(ROUND)], axis=1)


def _metal(tag: int) -> Rgb:
    return METAL[tag % len(METAL)]


def _post(brush: Brush, thing: Thing, height: float, width: float, rgb: Rgb, code: int) -> None:
    """An upright post, its sunny side lighter."""
    dark, bright = (brush.lit(rgb, n, thing.x, thing.z) for n in ((-0.7, 0.1, -0.7), (0.7, 0.1, -0.7)))
    brush.line((thing.x, 0.0, thing.z), (thing.x, height, thing.z), width, dark, code)
    brush.line(
        (thing.x + width * 0.25, 0.0, thing.z), (thing.x + width * 0.25, height, thing.z), width * 0.45, bright, code
    )


def lamp(brush: Brush, thing: Thing, depth: float) -> None:
    """A street lamp: tapering post, arm over the road, head that glows at night."""
    code, h = code_of(POLE, depth), thing.height
    _post(brush, thing, h, 0.15, _metal(brush.scene.seed), code)
    s, c = math.sin(thing.heading), math.cos(thing.heading)
    style = thing.variant
    reach = {"0": 1.5, "1": 0.7}.get(style, 0.0)
    top = (thing.x + s * reach, h + (0.25 if reach else 0.0), thing.z + c * reach)
    rgb = brush.lit(_metal(brush.scene.seed), (0.0, 0.3, -0.9), thing.x, thing.z, h)
    if reach:
        brush.line((thing.x, h - 0.05, thing.z), top, 0.09, rgb, code)
        end = (top[0] + s * 0.6, top[1], top[2] + c * 0.6)
        brush.line(top, end, 0.17, rgb, code)
    else:
        end = top
        brush.disc((top[0], top[1] + 0.15, top[2]), 0.2, rgb, code)
    lit = brush.light.night > 0.2
    glass = (255.0 * LAMP[0] + 20, 255.0 * LAMP[1] + 40, 255.0 * LAMP[2] + 60) if lit else brush.lit(
        (190, 190, 180), (0.0, -0.6, -0.7), thing.x, thing.z, h)
    brush.line((end[0] - s * 0.5, end[1] - 0.07, end[2] - c * 0.5), (end[0], end[1] - 0.07, end[2]), 0.12, glass, code)
    if lit:
        brush.glow(end, 0.55, (LAMP[0] * 230, LAMP[1] * 230, LAMP[2] * 230))


def _face(thing: Thing, y: float, shape: NDArray[np.float64], turn: float = 0.0) -> F64:
    """World points (N, 3) of a flat outline (N, 2) facing the traffic, its centre at height y."""
    s, c = math.sin(thing.heading + turn), math.cos(thing.heading + turn)
    ahead = 0.09
    return np.stack([thing.x + shape[:, 0] * c - s * ahead, y + shape[:, 1],
                     thing.z - shape[:, 0] * s - c * ahead], axis=1)


def sign(brush: Brush, thing: Thing, depth: float) -> None:
    """A traffic sign on its post: disc, triangle, rectangle, diamond or octagon with a glyph, or its grey back."""
    rng = brush.dice.of(thing.tag)
    _post(brush, thing, thing.height, 0.075, (128, 130, 130), code_of(POLE, depth))
    code = code_of(SIGN, depth)
    y, turn = thing.height - 0.05, float(rng.uniform(-0.25, 0.25))
    for _ in range(2 if rng.random() < 0.25 else 1):
        kind, r = int(rng.integers(6)), float(rng.uniform(0.30, 0.42))
        ring = DISC * r
        three = np.array([(0, 1), (0.95, -0.65), (-0.95, -0.65)]) * r * 1.1
        square = np.array([(-1, 1), (1, 1), (1, -1), (-1, -1)]) * r
        wide = square * (0.7, 0.9) if rng.random() < 0.5 else square * (1.5, 0.55)
        light = brush.lit((1.0, 1.0, 1.0), (0.0, 0.2, -0.95), thing.x, thing.z, y)
        boost = 1.0 + 0.8 * brush.light.night  # signs throw the headlights back

        def paint(
            shape: F64, rgb: Rgb, at: float = y, light: Rgb = light, boost: float = boost, turn: float = turn
        ) -> None:
            colour = (rgb[0] * light[0] * boost, rgb[1] * light[1] * boost, rgb[2] * light[2] * boost)
            brush.poly(_face(thing, at, shape, turn), colour, code)

        red, blue, white, black = (188, 30, 38), (26, 74, 156), (232, 232, 226), (24, 24, 26)
        outline = (ring, three, -three, wide, ring, square * 0.9)[kind]
        if thing.variant == "back":
            paint(outline, (118, 120, 122))
        elif kind in (0, 4) and rng.random() < 0.6:
            paint(ring, red)
            paint(ring * 0.74, white)
            glyphs = rng.uniform(-0.45, 0.45, (2, 2)) * r
            for g in glyphs:
                paint(square * (0.16, 0.36) + (g[0], 0), black)
        elif kind in (0, 4):
            paint(ring, blue)
            paint(
                np.array([(-0.15, -0.6), (-0.15, 0.1), (-0.4, 0.1), (0, 0.6), (0.4, 0.1), (0.15, 0.1), (0.15, -0.6)])
                * r,
                white,
            )
        elif kind in (1, 2):
            paint(outline, red)
            paint(outline * 0.66, white if rng.random() < 0.8 else (236, 196, 40))
            if kind == 1:
                paint(square * (0.1, 0.25), black)
        elif kind == 3:
            ground = ((34, 84, 160), (232, 232, 228), (28, 104, 70), (226, 178, 36))[int(rng.integers(4))]
            paint(outline, ground)
            ink: Rgb = white if sum(ground) < 450 else black
            for row in (-0.3, 0.25):
                paint(outline * (float(rng.uniform(0.3, 0.7)), 0.14) + (0, row * r * 0.6), ink)
        else:
            diamond = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)]) * r
            paint(diamond, white)
            paint(diamond * 0.8, (236, 190, 30))
        y -= 2.1 * r


def light(brush: Brush, thing: Thing, depth: float) -> None:
    """A traffic light: post, housing with hood and three lenses of which one (or two) shine."""
    rng = brush.dice.of(thing.tag)
    post = (70, 74, 74)
    x, y = thing.x, thing.height
    if thing.variant == "arm":
        _post(brush, thing, y + 0.3, 0.18, post, code_of(POLE, depth))
        end = x - math.copysign(3.2, x)
        brush.line((x, y + 0.2, thing.z), (end, y + 0.3, thing.z), 0.12, brush.lit(post, (0, 0.2, -0.9), x, thing.z, y),
                   code_of(POLE, depth))
        x = end
    else:
        _post(brush, thing, y, 0.13, post, code_of(POLE, depth))
    code = code_of(LIGHT, depth)
    box = np.array([(-0.19, 0.5), (0.19, 0.5), (0.19, -0.5), (-0.19, -0.5)])
    at = Thing(thing.kind, x, thing.z, thing.heading, thing.tag, thing.far)
    back = bool(rng.random() < 0.2)
    shell = (34, 36, 36) if rng.random() < 0.8 else (60, 66, 40)
    brush.poly(_face(at, y, box * 1.1), brush.lit(shell, (0.0, 0.3, -0.9), x, thing.z, y), code)
    if back:
        return
    on = (0, 2, 2, 1)[int(rng.integers(4))]
    for i, (rgb, dim) in enumerate((((255, 70, 50), (70, 26, 24)), ((255, 190, 60), (76, 58, 24)),
                                    ((80, 250, 190), (22, 62, 50)))):
        ring = DISC * 0.12
        colour: Rgb = rgb if i == on else brush.lit(dim, (0, 0, -1), x, thing.z, y)
        brush.poly(_face(at, y + 0.31 * (1 - i), ring), colour, code)
        if i == on and brush.light.night > 0.2:
            s, c = math.sin(thing.heading), math.cos(thing.heading)
            brush.glow(
                (x - s * 0.1, y + 0.31 * (1 - i), thing.z - c * 0.1), 0.22, (rgb[0] * 0.8, rgb[1] * 0.8, rgb[2] * 0.8)
            )


def bollard(brush: Brush, thing: Thing, depth: float) -> None:
    """A bollard, some with a white or red band."""
    code = code_of(POLE, depth)
    _post(brush, thing, thing.height, 0.14, _metal(thing.tag), code)
    if thing.tag % 3 == 0:
        band = brush.lit((214, 210, 204) if thing.tag % 2 else (180, 40, 40), (0, 0, -1), thing.x, thing.z)
        brush.line((thing.x, thing.height * 0.72, thing.z), (thing.x, thing.height * 0.88, thing.z), 0.15, band, code)


def box(brush: Brush, thing: Thing, depth: float) -> None:
    """A bin, cabinet or advertising post: clutter the benchmark labels as its support (pole, wall or sign)."""
    rng = brush.dice.of(thing.tag)
    cls = (POLE, WALL, WALL)[int(rng.integers(3))]
    w, h = float(rng.uniform(0.2, 0.35)), thing.height
    rgb: Rgb = ((70, 84, 76), (120, 122, 120), (52, 56, 60), (150, 142, 120), (60, 74, 104))[int(rng.integers(5))]
    code = code_of(cls, depth)
    if cls == POLE:
        _post(brush, thing, h + 1.6, 0.12, rgb, code)
        return
    x, z = thing.x, thing.z
    inner = x - math.copysign(w, x)
    brush.poly(np.array([(inner, 0, z - w), (inner, h, z - w), (inner, h, z + w), (inner, 0, z + w)]),
               brush.lit(rgb, (-math.copysign(1, x), 0, 0), x, z), code)
    brush.poly(np.array([(x - w, 0, z - w), (x - w, h, z - w), (x + w, h, z - w), (x + w, 0, z - w)]),
               brush.lit(rgb, (0, 0, -1), x, z), code)
    brush.poly(np.array([(x - w, h, z - w), (x - w, h, z + w), (x + w, h, z + w), (x + w, h, z - w)]),
               brush.lit((235, 238, 242) if brush.scene.snow > 0.5 else rgb, (0, 1, 0), x, z), code)


def wire_pole(brush: Brush, thing: Thing, depth: float) -> None:
    """A wooden pole with a cross-arm and wires running along the street."""
    code = code_of(POLE, depth)
    wood = (96, 82, 68)
    _post(brush, thing, thing.height, 0.24, wood, code)
    h = thing.height - 0.6
    brush.line(
        (thing.x - 0.9, h, thing.z),
        (thing.x + 0.9, h, thing.z),
        0.12,
        brush.lit(wood, (0, 0, -1), thing.x, thing.z),
        code,
    )


def boundary(brush: Brush, thing: Thing, depth: float) -> None:
    """A wall, a see-through or boarded fence, or a hedge: an upright strip along a plot."""
    del depth
    rng, scene = brush.dice.of(thing.tag), brush.scene
    s, c = math.sin(thing.heading), math.cos(thing.heading)
    a, b = (thing.x, thing.z), (thing.x + s * thing.length, thing.z + c * thing.length)
    strip = brush.strip(a, b, 0.0, thing.height)
    if strip is None:
        return
    corners, start, end = strip
    nearest = max(min(brush.camera.depth(*a), brush.camera.depth(*b)), 1.0)
    level = 0 if nearest < 9 else 1 if nearest < 25 else 2
    ppm = WALL_PPM[level]
    w, h = max(6, int(thing.length * ppm)), max(4, int(thing.height * ppm))
    normal = (-c * math.copysign(1, thing.width), 0.0, s * math.copysign(1, thing.width))
    lit = brush.light.on(normal, (a[0] + b[0]) / 2, min(max((a[1] + b[1]) / 2, 3), 60), 0.8)
    style, mask, cls = int(thing.variant), None, WALL
    rows = ramp(1.0 / 128, 0.72 / 128, h)[:, None]
    if thing.kind == "hedge":
        cls = VEGETATION
        leaves = LEAF["summer" if scene.season == "winter" else scene.season]
        rgb = NEEDLE[0] if scene.season == "winter" else leaves[style]
        tone = wall_crop("leaves", level, h, w, rng) * ramp(1.25 / 128, 0.5 / 128, h)[:, None]
    elif thing.kind == "wall":
        tone = wall_crop(("brick", "plaster", "stone")[style], level, h, w, rng) * rows
        rgb = PALETTES[scene.palette][thing.tag % 4] if style else (146, 92, 76)
        tone[:max(1, h // 10)] *= 1.12
        tone[max(1, h // 10):max(2, h // 7)] *= 0.7
    else:
        cls = FENCE
        tone = wall_crop("timber" if style == 1 else "metal", level, h, w, rng) * rows
        rgb = ((70, 76, 74), (138, 110, 80), (150, 154, 156))[style]
        if style != 1:  # bars with gaps
            mask = np.full((h, w), 0, dtype=np.uint8)
            mask[:, ::max(2, int((0.14 if style == 0 else 0.08) * ppm))] = 255
            if style == 2 and ppm > 6:
                mask[::max(2, int(0.2 * ppm))] = 255
            for y in (0.06, 0.9):
                cv2.line(mask, (0, int(h * y)), (w, int(h * y)), 255, max(1, int(0.05 * ppm)))
            mask[:, ::max(3, int(2.2 * ppm))] = 255
            mask[:, 1::max(3, int(2.2 * ppm))] = 255
    if scene.snow > 0.3:
        tone[:max(1, h // 9)] = 235 / max(max(rgb), 1)
    full = cv2.merge([tone * (v * k) for v, k in zip(map(np.float32, rgb), map(np.float32, lit), strict=True)])
    picture = np.asarray(cv2.convertScaleAbs(full), dtype=np.uint8)
    i, j = int(start * w), max(int(end * w), int(start * w) + 2)
    code = brush.strip_code(cls, nearest + 2.0)
    brush.image(corners, np.ascontiguousarray(picture[:, i:j]), code,
                np.ascontiguousarray(mask[:, i:j]) if mask is not None else None)
    brush.depth_plane(corners, a, b, start, end)
