"""People on foot and on two wheels, and two-wheelers alone: jointed figures of thick lines in three dimensions."""

import math

import numpy as np
from numpy.typing import NDArray

from clouds.streets.brush import Brush, code_of
from clouds.streets.cars import _Local
from clouds.streets.labels import BICYCLE, MOTORCYCLE, PERSON, RIDER
from clouds.streets.light import Rgb
from clouds.streets.street import Thing

F64 = NDArray[np.float64]

TOPS: tuple[Rgb, ...] = (
    (40, 44, 54),
    (28, 28, 32),
    (70, 78, 92),
    (150, 46, 44),
    (196, 190, 178),
    (54, 76, 116),
    (92, 96, 84),
    (214, 214, 210),
    (120, 86, 60),
    (160, 150, 60),
    (110, 60, 90),
    (60, 104, 98),
    (196, 120, 70),
)
TROUSERS: tuple[Rgb, ...] = ((36, 42, 60), (30, 30, 34), (58, 66, 86), (92, 84, 74), (120, 112, 98), (70, 70, 72))
SKIN: tuple[Rgb, ...] = ((222, 178, 150), (196, 148, 118), (150, 106, 80), (102, 72, 56), (232, 192, 168))
HAIR: tuple[Rgb, ...] = ((40, 32, 28), (24, 22, 22), (98, 72, 48), (150, 120, 78), (130, 128, 126), (70, 50, 38))
RING = np.linspace(0, 2 * math.pi, 16, endpoint=False)


class _Figure:
    """Local points to strokes: fore (forwards), y up, w right, metres; colours take the scene's light."""

    def __init__(self, brush: Brush, thing: Thing, code: int) -> None:
        self.brush, self.thing, self.code, self.local = brush, thing, code, _Local(thing)
        day = brush.light.on((0.0, 0.3, -0.75), thing.x, thing.z, 1.2)
        side = brush.light.on((0.8, 0.2, -0.4), thing.x, thing.z, 1.2)
        other = brush.light.on((-0.8, 0.2, -0.4), thing.x, thing.z, 1.2)
        self.light, self.right, self.left = day, side, other

    def colour(self, rgb: Rgb, k: float = 1.0) -> Rgb:
        return (rgb[0] * self.light[0] * k, rgb[1] * self.light[1] * k, rgb[2] * self.light[2] * k)

    def limb(self, points: list[tuple[float, float, float]], widths: list[float], rgb: Rgb, k: float = 1.0,
             code: int | None = None) -> None:
        s, c, x, z = self.local.s, self.local.c, self.local.x, self.local.z
        world = [(x + fore * s + w * c, y, z + fore * c - w * s) for fore, y, w in points]
        shade = self.colour(rgb, k)
        for i in range(len(points) - 1):
            self.brush.line(world[i], world[i + 1], widths[i], shade, self.code if code is None else code)

    def shape(
        self, points: list[tuple[float, float, float]], rgb: Rgb, k: float = 1.0, code: int | None = None
    ) -> None:
        self.brush.poly(
            self.local(np.array(points, dtype=np.float64)), self.colour(rgb, k), self.code if code is None else code
        )

    def ball(self, at: tuple[float, float, float], radius: float, rgb: Rgb, code: int | None = None) -> None:
        s, c = self.local.s, self.local.c
        self.brush.disc(
            (self.local.x + at[0] * s + at[2] * c, at[1], self.local.z + at[0] * c - at[2] * s),
            radius,
            self.colour(rgb),
            self.code if code is None else code,
        )


def _pick(options: tuple[Rgb, ...], rng: np.random.Generator) -> Rgb:
    rgb, k = options[int(rng.integers(len(options)))], float(rng.uniform(0.8, 1.2))
    return (rgb[0] * k, rgb[1] * k, rgb[2] * k)


def person(brush: Brush, thing: Thing, depth: float) -> None:
    """Someone walking or standing."""
    rng = brush.dice.of(thing.tag)
    f = _Figure(brush, thing, code_of(PERSON, depth))
    h = thing.height
    top, legs, skin, hair = (_pick(o, rng) for o in (TOPS, TROUSERS, SKIN, HAIR))
    stride = float(rng.uniform(0.15, 0.5)) if rng.random() < 0.8 else 0.04
    phase = float(rng.uniform(-1, 1))
    wide = float(rng.uniform(0.9, 1.2))
    coat, skirt = rng.random() < 0.3, rng.random() < 0.15
    lean = 0.02 * h
    for side in (-1, 1):
        swing = side * phase * stride
        hip, knee = (
            (0.0, 0.52 * h, side * 0.055 * h),
            (0.24 * h * math.sin(swing) + 0.02 * h, 0.28 * h, side * 0.06 * h),
        )
        bend = swing - (0.5 if swing < 0 else 0.05) * stride
        foot = (knee[0] + 0.24 * h * math.sin(bend), 0.045 * h + max(0.0, -swing) * 0.06 * h, side * 0.06 * h)
        leg = skin if skirt else legs
        k = 0.82 if side < 0 else 1.0
        f.limb([hip, knee, foot], [0.095 * h * wide, 0.068 * h], leg, k)
        f.limb([foot, (foot[0] + 0.07 * h, foot[1] - 0.02 * h, foot[2])], [0.05 * h], (36, 32, 30), k)
    shoulder = 0.115 * h * wide
    bag = rng.random()
    if bag < 0.2:
        f.limb([(-0.09 * h, 0.78 * h, 0.0), (-0.10 * h, 0.60 * h, 0.0)], [0.17 * h], _pick(TOPS, rng), 0.9)
    for side in (-1, 1):  # arms swing against the legs
        swing = -side * phase * stride * 0.9
        hand_l = 0.30 * h * math.sin(swing) + 0.05 * h
        f.limb([(lean, 0.80 * h, side * shoulder), (0.13 * h * math.sin(swing), 0.645 * h, side * shoulder * 1.25),
                (hand_l, 0.50 * h, side * shoulder * 1.2)], [0.06 * h, 0.05 * h], top, 0.8 if side < 0 else 0.92)
        f.ball((hand_l, 0.485 * h, side * shoulder * 1.2), 0.022 * h, skin)
    hem = 0.33 if coat else 0.36 if skirt else 0.50
    low = 0.10 if coat or skirt else 0.088
    f.limb([(0.0, (hem + 0.05) * h, 0.0), (lean, 0.78 * h, 0.0)], [0.125 * h * wide], top, 0.86)
    body = [(0.0, hem * h, -low * h * wide), (lean, 0.70 * h, -0.10 * h * wide), (lean, 0.815 * h, -shoulder),
            (lean, 0.85 * h, -0.04 * h), (lean, 0.85 * h, 0.04 * h), (lean, 0.815 * h, shoulder),
            (lean, 0.70 * h, 0.10 * h * wide), (0.0, hem * h, low * h * wide)]
    f.shape(body, top)
    half = [(p[0], p[1], max(p[2], 0.01 * h)) for p in body]
    bright = brush.light.on((0.75, 0.2, -0.5), thing.x, thing.z, 1.2)[1] > f.light[1]
    f.shape(half, top, 1.12 if bright else 0.88)
    if not coat and rng.random() < 0.5:
        f.limb([(0.0, 0.50 * h, -0.08 * h), (0.0, 0.50 * h, 0.08 * h)], [0.025 * h], (30, 28, 26))
    if 0.2 < bag < 0.4:
        w = shoulder * 1.35
        f.shape([(0.03, 0.42 * h, w - 0.06 * h), (0.03, 0.52 * h, w - 0.06 * h), (0.03, 0.52 * h, w + 0.05 * h),
                 (0.03, 0.42 * h, w + 0.05 * h)], _pick(TOPS, rng), 0.8)
    _head(f, lean + 0.01 * h, 0.925 * h, 0.064 * h, skin, hair, rng)
    if thing.variant == "umbrella":
        y, r = 1.12 * h, 0.50
        f.limb([(0.1, 0.62 * h, 0.12), (0.1, y, 0.12)], [0.02], (60, 60, 60))
        rgb = _pick(TOPS, rng)
        arc = np.linspace(0, math.pi, 10)
        for turn in (0.0, math.pi / 2):
            dome = [
                (
                    0.1 + r * math.cos(a) * math.sin(turn),
                    y - 0.12 + 0.3 * math.sin(a),
                    0.12 + r * math.cos(a) * math.cos(turn),
                )
                for a in arc
            ]
            f.shape(dome, rgb, 1.0 if turn else 0.85)


def _head(f: _Figure, fore: float, y: float, r: float, skin: Rgb, hair: Rgb, rng: np.random.Generator) -> None:
    f.limb([(fore - 0.01, y - 1.7 * r, 0.0), (fore, y - 0.5 * r, 0.0)], [r * 0.95], skin, 0.85)
    f.ball((fore, y, 0.0), r, skin)
    away = f.local.c * 1.0  # heading away: hair fills the head
    up = 0.1 if away > 0.3 else 0.45
    f.ball((fore - 0.25 * r, y + up * r, 0.0), r * (0.98 if away > 0.3 else 0.86), hair)
    if away <= 0.3:
        f.ball((fore + 0.35 * r, y - 0.25 * r, 0.0), r * 0.78, skin)
    if rng.random() < 0.12:
        f.ball((fore - 0.2 * r, y + 0.4 * r, 0.0), r * 1.02, _pick(TOPS, rng))


def _tyre(f: _Figure, fore: float, radius: float, width: float, code: int, rim: Rgb, filled: bool) -> None:
    """A wheel in the plane w = 0; the region inside the rim belongs to the vehicle whether or not it is see-through."""
    ring = [(fore + radius * math.cos(a), radius + radius * math.sin(a), 0.0) for a in RING]
    world = f.local(np.array(ring))
    if filled:
        f.shape(
            [(fore + radius * math.cos(a), radius + radius * math.sin(a), 0.0) for a in RING], (30, 30, 31), code=code
        )
        f.shape(
            [(fore + 0.55 * radius * math.cos(a), radius + 0.55 * radius * math.sin(a), 0.0) for a in RING],
            rim,
            code=code,
        )
    else:
        f.brush.mark(world, code)
        f.limb([*ring, ring[0]], [width] * 16, (28, 28, 28), code=code)
        for k in (0, 5, 10):
            f.limb([ring[k], ring[(k + 8) % 16]], [0.01], (120, 120, 122), code=code)
    # seen end-on a wheel is a tall thin bar
    f.limb([(fore, 0.03, 0.0), (fore, 2 * radius - 0.02, 0.0)], [width * 1.1], (26, 26, 27), code=code)


def bicycle(f: _Figure, code: int, rng: np.random.Generator) -> None:
    """A bicycle standing in the plane of its heading."""
    rgb = _pick(TOPS, rng)
    for fore in (-0.52, 0.52):
        _tyre(f, fore, 0.34, 0.055, code, (120, 120, 122), False)
    f.brush.mark(
        f.local(
            np.array([(-0.5, 0.36, 0.0), (-0.15, 0.85, 0.0), (0.42, 0.85, 0.0), (0.5, 0.36, 0.0), (0.0, 0.28, 0.0)])
        ),
        code,
    )
    bars = [[(-0.52, 0.34, 0), (-0.02, 0.30, 0), (0.40, 0.78, 0), (-0.16, 0.80, 0), (-0.02, 0.30, 0)],
            [(-0.16, 0.80, 0), (-0.52, 0.34, 0)], [(0.52, 0.34, 0), (0.40, 0.80, 0), (0.36, 1.0, 0)]]
    for bar in bars:
        f.limb([(float(a), float(b), float(c)) for a, b, c in bar], [0.05] * 4, rgb, code=code)
    f.limb([(-0.18, 0.80, 0.0), (-0.20, 0.93, 0.0)], [0.04], (50, 50, 52), code=code)
    f.limb([(-0.32, 0.95, 0.0), (-0.08, 0.96, 0.0)], [0.08], (30, 30, 32), code=code)
    f.limb([(0.36, 1.02, -0.27), (0.36, 1.02, 0.27)], [0.045], (40, 40, 42), code=code)
    if rng.random() < 0.3:
        f.shape([(0.46, 0.8, -0.16), (0.46, 1.02, -0.2), (0.46, 1.02, 0.2), (0.46, 0.8, 0.16)], (96, 74, 50), code=code)


def motorcycle(f: _Figure, code: int, rng: np.random.Generator) -> None:
    """A motorcycle or scooter."""
    rgb = _pick(((150, 30, 30), (40, 44, 50), (24, 24, 26), (180, 180, 178), (40, 70, 120), (196, 150, 50)), rng)
    scooter = rng.random() < 0.4
    for fore in (-0.66, 0.68):
        _tyre(f, fore, 0.25 if scooter else 0.31, 0.14, code, (96, 98, 100), True)
    f.limb([(0.68, 0.3, 0.0), (0.42, 0.95, 0.0)], [0.09], (110, 112, 114), code=code)
    f.shape(
        [(-0.5, 0.3, 0), (-0.55, 0.62, 0), (-0.1, 0.66, 0), (0.42, 0.72, 0), (0.45, 0.35, 0), (0.1, 0.22, 0)],
        (46, 46, 48),
        code=code,
    )
    f.limb([(-0.3, 0.45, 0.0), (0.3, 0.45, 0.0)], [0.34], (54, 55, 57), code=code)
    if scooter:
        f.shape([(0.35, 0.3, -0.2), (0.42, 0.95, -0.16), (0.42, 0.95, 0.16), (0.35, 0.3, 0.2)], rgb, code=code)
        f.limb([(-0.75, 0.6, 0.0), (-0.2, 0.6, 0.0)], [0.34], rgb, code=code)
    else:
        f.limb([(-0.05, 0.82, 0.0), (0.38, 0.86, 0.0)], [0.26], rgb, code=code)
    f.limb([(-0.72, 0.80, 0.0), (-0.08, 0.78, 0.0)], [0.14], (24, 24, 25), code=code)
    f.limb([(0.40, 1.02, -0.36), (0.40, 1.02, 0.36)], [0.05], (40, 40, 42), code=code)
    f.ball((0.55, 0.86, 0.0), 0.10, (205, 205, 200), code=code)
    f.ball((-0.85, 0.72, 0.0), 0.06, (150, 24, 24), code=code)
    for side in (-1.0, 1.0):
        f.limb([(0.40, 1.02, side * 0.3), (0.42, 1.2, side * 0.34)], [0.03], (30, 30, 30), code=code)
    if f.brush.light.night > 0.35 and f.thing.kind == "motorcyclist":
        fore, rgb_glow = (0.6, (230.0, 225.0, 205.0)) if f.local.c < 0 else (-0.9, (210.0, 30.0, 24.0))
        f.brush.glow(f.local(np.array([(fore, 0.8, 0.0)]))[0], 0.3, rgb_glow)


def two_wheeler(brush: Brush, thing: Thing, depth: float) -> None:
    """A parked or ridden bicycle or motorcycle, with its rider if any."""
    rng = brush.dice.of(thing.tag)
    motor = "motorcycl" in thing.kind
    code = code_of(MOTORCYCLE if motor else BICYCLE, depth)
    f = _Figure(brush, thing, code)
    (motorcycle if motor else bicycle)(f, code, rng)
    if thing.kind.startswith("parked"):
        return
    f.code = code_of(RIDER, depth)
    top, legs, skin, hair = (_pick(o, rng) for o in (TOPS, TROUSERS, SKIN, HAIR))
    seat, reach = (0.86, 0.40) if motor else (0.98, 0.34)
    lean = float(rng.uniform(0.05, 0.28)) if not motor else float(rng.uniform(0.0, 0.2))
    neck = (-0.18 + lean + 0.05, seat + 0.52, 0.0)
    turn = float(rng.uniform(0, 2 * math.pi))
    for side in (-1, 1):
        crank = turn + (0 if side > 0 else math.pi)
        foot = (
            (0.0 + 0.16 * math.cos(crank), 0.28 + 0.14 * math.sin(crank), side * 0.13)
            if not motor
            else (0.1, 0.32, side * 0.2)
        )
        knee = (0.22, (seat + foot[1]) / 2 + 0.06, side * (0.14 if not motor else 0.24))
        f.limb([(-0.2, seat, side * 0.09), knee, foot], [0.16, 0.115], legs, 0.85 if side < 0 else 1.0)
        f.limb([foot, (foot[0] + 0.13, foot[1] - 0.02, foot[2])], [0.08], (36, 34, 34))
        f.limb([(neck[0], neck[1] - 0.04, side * 0.19), (0.16, seat + 0.22, side * 0.28), (reach, 1.04, side * 0.26)],
               [0.105, 0.085], top, 0.85 if side < 0 else 0.95)
    f.limb([(-0.2, seat + 0.02, 0.0), neck], [0.26], top, 0.9)
    f.shape([(-0.2, seat - 0.05, -0.15), (neck[0], neck[1] - 0.06, -0.22), (neck[0], neck[1] + 0.02, -0.07),
             (neck[0], neck[1] + 0.02, 0.07), (neck[0], neck[1] - 0.06, 0.22), (-0.2, seat - 0.05, 0.15)], top)
    if rng.random() < 0.25 and not motor:
        f.limb([(neck[0] - 0.2, neck[1] - 0.08, 0.0), (-0.34, seat + 0.2, 0.0)], [0.28], _pick(TOPS, rng))
    at = (neck[0] + 0.06, neck[1] + 0.20)
    _head(f, at[0], at[1], 0.11, skin, hair, rng)
    if motor or rng.random() < 0.5:
        f.ball((at[0] - 0.01, at[1] + (0.02 if motor else 0.06), 0.0), 0.135 if motor else 0.12, _pick(TOPS, rng))
        if motor and f.local.c < 0:
            f.limb([(at[0] + 0.1, at[1], -0.07), (at[0] + 0.1, at[1], 0.07)], [0.06], (20, 22, 26))
