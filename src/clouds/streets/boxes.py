"""Trucks, buses and trams: boxes whose faces are small painted textures."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.streets.brush import Brush, code_of
from clouds.streets.cars import PAINTS, _Local, wheel
from clouds.streets.labels import BUS, TRAIN, TRUCK
from clouds.streets.light import Rgb
from clouds.streets.street import Thing
from clouds.streets.surfaces import TILE, noise_tile, ramp

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

PPM = 18  # texture pixels a metre
LIVERIES: tuple[Rgb, ...] = ((196, 40, 38), (222, 184, 44), (38, 84, 150), (226, 226, 222), (58, 120, 78),
                             (120, 124, 130), (216, 122, 40), (92, 48, 96))
CARGO: tuple[Rgb, ...] = ((222, 222, 218), (200, 200, 196), (70, 92, 130), (150, 52, 44), (92, 96, 92), (188, 160, 92),
                          (58, 84, 70))


def _ints(rgb: Rgb, light: Rgb) -> tuple[int, int, int]:
    a, b, c = (int(min(255.0, max(0.0, v * k))) for v, k in zip(rgb, light, strict=True))
    return a, b, c


def _blank(w: float, h: float, rgb: Rgb, light: Rgb, rng: np.random.Generator) -> U8:
    """A painted panel (h, w metres) with dirt towards its foot."""
    rows, columns = max(6, int(h * PPM)), max(6, int(w * PPM))
    y, x = (int(v) for v in rng.integers(0, 512, 2))
    noise = noise_tile("broad")[(np.arange(rows) + y)[:, None] % TILE, (np.arange(columns) + x)[None, :] % TILE]
    tone = ramp(1.08, 0.84, rows)[:, None] * (1 + np.float32(0.018) * noise)
    full = cv2.merge([tone * np.float32(v * k) for v, k in zip(rgb, light, strict=True)])
    return np.asarray(cv2.convertScaleAbs(full), dtype=np.uint8)


def _glass(
    picture: U8, box: tuple[float, float, float, float], light: Rgb, lit: float, rng: np.random.Generator
) -> None:
    """A window at shares (x0, y0, x1, y1) of a panel."""
    rows, columns = picture.shape[:2]
    x0, y0, x1, y1 = int(box[0] * columns), int(box[1] * rows), int(box[2] * columns), int(box[3] * rows)
    if x1 <= x0 or y1 <= y0:
        return
    shine = ramp(float(rng.uniform(0.7, 1.2)), 0.5, y1 - y0)[:, None, None] * (np.array([62.0, 70.0, 78.0]) * light)
    glass = shine + lit * np.array([190.0, 176.0, 140.0]) * rng.uniform(0.5, 0.9)
    picture[y0:y1, x0:x1] = np.minimum(glass, 255)


def _bus_side(length: float, height: float, rgb: Rgb, second: Rgb, light: Rgb, night: float, rng: np.random.Generator,
              doors: int) -> U8:
    picture = _blank(length, height, rgb, light, rng)
    rows, columns = picture.shape[:2]
    if rng.random() < 0.6:
        picture[int(rows * 0.62):int(rows * 0.8)] = _ints(second, light)
    top, foot = 0.16, float(rng.uniform(0.5, 0.58))
    count = max(3, round(length / 1.6))
    lit = 0.75 * night
    picture[int(rows * top):int(rows * foot)] = _ints((24, 26, 28), light)
    for i in range(count):
        _glass(picture, ((i + 0.06) / count, top, (i + 0.94) / count, foot), light, lit, rng)
    for k in range(doors):
        a = (k + 0.5) / doors + float(rng.uniform(-0.05, 0.05))
        w = 0.55 / length
        cv2.rectangle(picture, (int((a - w - 0.005) * columns), int(rows * 0.13)),
                      (int((a + w + 0.005) * columns), int(rows * 0.95)), _ints((34, 36, 38), light), -1)
        for s in (-1, 0):
            _glass(picture, (a + s * w + 0.06 * w, 0.18, a + (s + 1) * w - 0.06 * w, 0.88), light, lit, rng)
    picture[int(rows * 0.9):] = picture[int(rows * 0.9):] // 2
    return picture


def _bus_end(
    width: float, height: float, rgb: Rgb, light: Rgb, night: float, front: bool, rng: np.random.Generator
) -> U8:
    picture = _blank(width, height, rgb, light, rng)
    rows, columns = picture.shape[:2]
    foot = 0.62 if front else 0.45
    cv2.rectangle(picture, (int(columns * 0.04), int(rows * 0.08)), (int(columns * 0.96), int(rows * foot)),
                  _ints((22, 24, 26), light), -1)
    _glass(picture, (0.06, 0.2, 0.94, foot - 0.01), light, 0.35 * night, rng)
    if front:
        lamp = (250, 170, 40) if night > 0.3 else _ints((190, 130, 40), light)
        for x in np.arange(0.25, 0.75, 0.07):
            cv2.line(
                picture, (int(columns * x), int(rows * 0.12)), (int(columns * (x + 0.04)), int(rows * 0.16)), lamp, 1
            )
        cv2.line(
            picture, (columns // 2, int(rows * 0.2)), (columns // 2, int(rows * foot)), _ints((20, 20, 20), light), 1
        )
    for x in (0.06, 0.8):
        shine = ((255, 250, 230) if front else (250, 40, 30)) if night > 0.3 else _ints(
            (214, 214, 208) if front else (150, 26, 24), light)
        cv2.rectangle(
            picture, (int(columns * x), int(rows * 0.78)), (int(columns * (x + 0.14)), int(rows * 0.85)), shine, -1
        )
    cv2.rectangle(picture, (int(columns * 0.38), int(rows * 0.86)), (int(columns * 0.62), int(rows * 0.91)),
                  _ints((220, 216, 200), light), -1)
    picture[int(rows * 0.93):] = picture[int(rows * 0.93):] // 2
    return picture


def _cargo(length: float, height: float, rgb: Rgb, light: Rgb, rng: np.random.Generator) -> U8:
    picture = _blank(length, height, rgb, light, rng)
    rows, columns = picture.shape[:2]
    for x in range(0, columns, max(4, int(rng.uniform(0.5, 2.0) * PPM))):
        picture[:, x:x + 1] = picture[:, x:x + 1] // 8 * 7
    if rng.random() < 0.35:
        ink = _ints((30, 40, 80) if sum(rgb) > 380 else (230, 230, 226), light)
        x0, y0, k = columns * 0.15, rows * float(rng.uniform(0.25, 0.45)), rows * 0.2
        for i in range(int(rng.integers(3, 8))):
            x = x0 + i * k * 0.9
            if x + k > columns * 0.95:
                break
            cv2.line(
                picture,
                (int(x), int(y0)),
                (int(x + k * float(rng.uniform(0, 0.5))), int(y0 + k)),
                ink,
                max(1, int(k / 5)),
            )
            cv2.line(picture, (int(x), int(y0 + k)), (int(x + k * 0.6), int(y0 + k * float(rng.random()))), ink,
                     max(1, int(k / 5)))
    cv2.rectangle(picture, (0, 0), (columns - 1, rows - 1), _ints((90, 90, 90), light), 1)
    return picture


def _box(brush: Brush, thing: Thing, l0: float, l1: float, half: float, y0: float, y1: float, code: int,
         faces: dict[str, U8], top: Rgb) -> None:
    """Paint the visible faces of a box between local l0 (rear) and l1 (front): textures 'side', 'front', 'rear'."""
    local = _Local(thing)
    corner = {(fore, w): local(np.array([(fore, 0.0, w * half)]))[0] for fore in (l0, l1) for w in (-1, 1)}
    eye = np.array([brush.camera.x, brush.camera.height, 0.0])
    middle = local(np.array([((l0 + l1) / 2, 0.0, 0.0)]))[0]
    to_eye = eye - middle
    facing, beside = to_eye[0] * local.s + to_eye[2] * local.c, to_eye[0] * local.c - to_eye[2] * local.s
    walls = []
    if abs(beside) > half:
        w = 1 if beside > 0 else -1
        walls.append(("side", corner[l0, w], corner[l1, w]))
    if abs(facing) > (l1 - l0) / 2:
        walls.append(
            ("front", corner[l1, -1], corner[l1, 1]) if facing > 0 else ("rear", corner[l0, -1], corner[l0, 1])
        )
    if y1 < brush.camera.height:
        brush.poly(
            np.array([corner[l0, -1], corner[l0, 1], corner[l1, 1], corner[l1, -1]]) + np.array([0, y1, 0]), top, code
        )
    for name, a, b in walls:
        strip = brush.strip((a[0], a[2]), (b[0], b[2]), y0, y1)
        if strip is None:
            continue
        corners, start, end = strip
        texture = faces[name]
        i = int(start * texture.shape[1])
        brush.image(corners, np.ascontiguousarray(texture[:, i:max(int(end * texture.shape[1]), i + 2)]), code)


def _wheels(brush: Brush, thing: Thing, axles: tuple[float, ...], half: float, radius: float, code: int) -> None:
    local = _Local(thing)
    to_eye = (brush.camera.x - thing.x, -thing.z)
    beside = to_eye[0] * local.c - to_eye[1] * local.s
    if abs(beside) <= half:  # neither flank is seen
        return
    light = brush.light.on((0.0, 0.0, -1.0), thing.x, thing.z, 0.4)
    w = math.copysign(half, beside)
    for axle in axles:
        wheel(brush, local, axle, w, radius, code, max(light), (110 * light[0], 110 * light[1], 112 * light[2]))


def _under(brush: Brush, thing: Thing, length: float, half: float, code: int, height: float) -> None:
    """The dark below the body, with the tyres at the end that is seen."""
    dark = max(brush.light.on((0, 0, -0.5), thing.x, thing.z, 0.3))
    face = np.full((4, 4, 3), int(min(255, 22 * dark)), dtype=np.uint8)
    _box(brush, thing, -length / 2 * 0.95, length / 2 * 0.95, half * 0.9, 0.06, height, code,
         {"side": face, "front": face, "rear": face}, (0, 0, 0))


def draw(brush: Brush, thing: Thing) -> None:
    """Paint a truck, a bus or a tram."""
    depth = brush.camera.depth(thing.x, thing.z)
    local, night = _Local(thing), brush.light.night
    length = {"truck": 8.0, "bus": 12.0, "tram": 26.0}[thing.kind]
    if depth < 3 and abs(thing.x - brush.camera.x) < 2:
        return
    rng = brush.dice.of(thing.tag)
    to_eye = (brush.camera.x - thing.x, -thing.z)
    beside = to_eye[0] * local.c - to_eye[1] * local.s
    near = min(max(thing.z - length / 2, 4.0), 80.0)
    side_light = brush.light.on(local.normal(0, 0.05, math.copysign(1, beside)), thing.x, max(thing.z, 3), 1.5)
    front_light, rear_light = (brush.light.on(local.normal(k, 0.05, 0), thing.x, near, 1.2) for k in (1, -1))
    rgb, second = (LIVERIES[int(rng.integers(len(LIVERIES)))] for _ in range(2))
    depth = max(depth - length / 2 * abs(local.c), 3.0)
    if thing.kind == "truck":
        _truck(brush, thing, depth, (side_light, front_light, rear_light), rng)
        return
    code = code_of(BUS if thing.kind == "bus" else TRAIN, depth)
    half, low, high = (1.27, 0.3, 3.05) if thing.kind == "bus" else (1.25, 0.25, 3.4)
    _under(brush, thing, length, half, code, 0.5)
    sections = 1 if thing.kind == "bus" else 3
    side = _bus_side(length / sections, high - low, rgb, second, side_light, night, rng, 2)
    faces = {"side": side, "front": _bus_end(2 * half, high - low, rgb, front_light, night, True, rng),
             "rear": _bus_end(2 * half, high - low, rgb, rear_light, night, thing.kind == "tram", rng)}
    pieces = [(-length / 2 + length * i / sections, -length / 2 + length * (i + 1) / sections - 0.25 * (sections > 1))
              for i in range(sections)]
    facing = to_eye[0] * local.s + to_eye[1] * local.c
    for l0, l1 in pieces if facing > 0 else pieces[::-1]:
        _box(brush, thing, l0, l1, half, low, high, code, faces, (120, 120, 120))
    if thing.kind == "bus":
        _wheels(brush, thing, (-length * 0.27, length * 0.3), half, 0.48, code)
    else:
        x, _, z = local(np.array([(0.0, 0.0, 0.0)]))[0]
        grey = brush.lit((60, 62, 64), (0, 0.2, -0.8), x, z, 4)
        brush.line(
            local(np.array([(0.0, high, 0.0)]))[0], local(np.array([(1.2, high + 1.0, 0.0)]))[0], 0.08, grey, code
        )


def _truck(brush: Brush, thing: Thing, depth: float, light: tuple[Rgb, Rgb, Rgb], rng: np.random.Generator) -> None:
    side, front, rear = light
    code, night = code_of(TRUCK, depth), brush.light.night
    length = float(rng.uniform(6.5, 9.5))
    tall, cab = float(rng.uniform(2.8, 3.8)), float(rng.uniform(2.3, 2.9))
    paint, cargo = PAINTS[int(rng.integers(len(PAINTS)))], CARGO[int(rng.integers(len(CARGO)))]
    split = length / 2 - 2.0
    _under(brush, thing, length, 1.2, code, 1.0)
    flat = rng.random() < 0.2
    top = 1.5 if flat else tall
    boxes = [
        (
            -length / 2,
            split - 0.2,
            1.25,
            0.95,
            top,
            {
                "side": _cargo(length - 2.2, top - 0.95, cargo, side, rng),
                "front": _cargo(2.5, top - 0.95, cargo, front, rng),
                "rear": _cargo(2.5, top - 0.95, cargo, rear, rng),
            },
        ),
        (
            split,
            length / 2,
            1.22,
            0.45,
            cab,
            {
                "side": _cab_side(cab - 0.45, paint, side, rng),
                "front": _cab_front(cab - 0.45, paint, front, night, rng),
                "rear": _blank(2.4, cab - 0.45, paint, rear, rng),
            },
        ),
    ]
    local = _Local(thing)
    facing = (brush.camera.x - thing.x) * local.s - thing.z * local.c
    for l0, l1, half, y0, y1, faces in boxes if facing > 0 else boxes[::-1]:
        _box(brush, thing, l0, l1, half, y0, y1, code, faces, (100, 100, 100))
    _wheels(brush, thing, (-length / 2 + 1.1, -length / 2 + 2.2, length / 2 - 1.1), 1.22, 0.48, code)
    if facing <= 0:  # rear lamps and bar
        rgb: Rgb = (250.0, 40.0, 30.0) if night > 0.3 else (150 * rear[0], 24 * rear[1], 22 * rear[2])
        for w in (-1.0, 1.0):
            p = local(np.array([(-length / 2 - 0.02, 0.8, w)]))[0]
            brush.disc(p, 0.1, rgb, code)
            if night > 0.3:
                brush.glow(p, 0.25, (220.0, 30.0, 22.0))


def _cab_side(height: float, rgb: Rgb, light: Rgb, rng: np.random.Generator) -> U8:
    picture = _blank(2.0, height, rgb, light, rng)
    _glass(picture, (0.35, 0.12, 0.9, 0.46), light, 0.0, rng)
    rows, columns = picture.shape[:2]
    cv2.line(picture, (int(columns * 0.3), 0), (int(columns * 0.3), rows), _ints((60, 60, 60), light), 1)
    return picture


def _cab_front(height: float, rgb: Rgb, light: Rgb, night: float, rng: np.random.Generator) -> U8:
    picture = _blank(2.4, height, rgb, light, rng)
    rows, columns = picture.shape[:2]
    _glass(picture, (0.06, 0.1, 0.94, 0.46), light, 0.0, rng)
    cv2.rectangle(picture, (int(columns * 0.2), int(rows * 0.55)), (int(columns * 0.8), int(rows * 0.8)),
                  _ints((36, 37, 38), light), -1)
    for x in (0.03, 0.82):
        rgb_lamp = (255, 250, 230) if night > 0.3 else _ints((210, 210, 205), light)
        cv2.rectangle(
            picture, (int(columns * x), int(rows * 0.8)), (int(columns * (x + 0.15)), int(rows * 0.9)), rgb_lamp, -1
        )
    return picture
