"""Buildings in place: street front, the end towards the camera, roof."""

import math

import numpy as np

from clouds.streets.brush import Brush, code_of
from clouds.streets.facades import facade, style_of
from clouds.streets.labels import BUILDING
from clouds.streets.light import Rgb
from clouds.streets.street import Thing
from clouds.streets.surfaces import WALL_PPM, coloured, wall_crop

ROOFS: tuple[Rgb, ...] = ((140, 82, 64), (112, 74, 62), (96, 94, 94), (74, 76, 82), (150, 104, 80))


def draw(brush: Brush, thing: Thing) -> None:
    """Paint one building: gable or side wall towards the camera, roof, street front."""
    scene, light = brush.scene, brush.light
    rng = brush.dice.of(thing.tag)
    style = style_of(scene, rng)
    use, roof, count = thing.variant.split()
    storeys = int(count)
    s, c = math.sin(thing.heading), math.cos(thing.heading)
    a = (thing.x, thing.z)
    b = (thing.x + s * thing.length, thing.z + c * thing.length)
    back = (c * thing.width, -s * thing.width)  # away from the street
    away = math.copysign(1.0, thing.width)
    front_normal = (-c * away, 0.0, s * away)
    eaves = thing.height
    near = max(brush.camera.depth(*a), 1.0), max(brush.camera.depth(*b), 1.0)
    if max(near) <= 1.0:
        return
    roof_colour = ROOFS[int(rng.integers(len(ROOFS)))]
    white = scene.snow
    roof_rgb = tuple(v + (232 - v) * min(1.0, white * 1.3) for v in roof_colour)
    shape = np.random.default_rng([thing.tag, 1]) if roof == "pitched" else rng  # what the outline needs, apart
    ridge = eaves + (min(abs(thing.width), 12) * 0.5 * float(shape.uniform(0.5, 0.9)) if roof == "pitched" else 0.0)
    pixels = 0.32 * brush.camera.f / max(min(near), 5.0)

    if (
        near[0] > 1.5 and abs(thing.heading) < 1.2 and thing.tag not in brush.hidden_ends
    ):  # the end that faces the camera
        rear = (a[0] + back[0], a[1] + back[1])
        end = brush.strip(a, rear, 0.0, eaves) if away > 0 else brush.strip(rear, a, 0.0, eaves)
        if end is not None:
            lit = light.on((-s, 0.0, -c), a[0], a[1], 4.0)
            blind = thing.tag % 3 != 0
            texture = facade(
                scene,
                style,
                abs(thing.width),
                eaves,
                storeys,
                False,
                min(6.0 if blind else 12.0, pixels),
                lit,
                light.night,
                rng,
                blind=blind,
            )
            brush.image(end[0], texture, brush.strip_code(BUILDING, near[0]))
            if away > 0:
                brush.depth_plane(end[0], a, rear, end[1], end[2])
            else:
                brush.depth_plane(end[0], rear, a, end[1], end[2])
        if ridge > eaves and end is not None:
            middle = (a[0] + back[0] / 2, a[1] + back[1] / 2)
            lit = light.on((-s, 0.0, -c), a[0], a[1], 6.0)
            gable = np.array([(a[0], eaves, a[1]), (middle[0], ridge, middle[1]), (rear[0], eaves, rear[1])])
            brush.poly(gable, (style.wall[0] * lit[0], style.wall[1] * lit[1], style.wall[2] * lit[2]),
                       code_of(BUILDING, near[0]))
    if ridge > eaves:
        _roof(brush, a, b, back, eaves, ridge, (roof_rgb[0], roof_rgb[1], roof_rgb[2]), front_normal, min(near), shape)
    front = brush.strip(a, b, 0.0, eaves)
    if front is None:
        return
    corners, start, end_share = front
    lit = light.on(front_normal, (a[0] + b[0]) / 2, min(max((a[1] + b[1]) / 2, 3.0), 60), 3.0)
    texture = facade(
        scene, style, thing.length, eaves, storeys, use == "shop", min(24.0, pixels), lit, light.night, rng
    )
    cut = texture[
        :, int(start * texture.shape[1]) : max(int(end_share * texture.shape[1]), int(start * texture.shape[1]) + 2)
    ]
    brush.image(corners, np.ascontiguousarray(cut), brush.strip_code(BUILDING, (near[0] + near[1]) / 2))
    brush.depth_plane(corners, a, b, start, end_share)


def _roof(brush: Brush, a: tuple[float, float], b: tuple[float, float], back: tuple[float, float], eaves: float,
          ridge: float, rgb: Rgb, normal: Rgb, depth: float, rng: np.random.Generator) -> None:
    """The slope of a pitched roof towards the street, its tiles and a chimney."""
    over = 0.05
    points = np.array([(a[0] - back[0] * over, eaves, a[1] - back[1] * over),
                       (a[0] + back[0] / 2, ridge, a[1] + back[1] / 2),
                       (b[0] + back[0] / 2, ridge, b[1] + back[1] / 2),
                       (b[0] - back[0] * over, eaves, b[1] - back[1] * over)])
    colour = brush.lit(rgb, (normal[0] * 0.6, 0.8, normal[2] * 0.6), a[0], max(a[1], 4), 12.0)
    code = code_of(BUILDING, depth)
    if rng.random() < 0.5:
        t = float(rng.uniform(0.2, 0.8))
        x, z = points[1, 0] * (1 - t) + points[2, 0] * t, points[1, 2] * (1 - t) + points[2, 2] * t
        stone = brush.lit((138, 104, 88), (0.0, 0.0, -1.0), x, max(z, 4), 12.0)
        brush.poly(np.array([(x - 0.4, ridge - 1, z), (x - 0.4, ridge + 1.1, z), (x + 0.4, ridge + 1.1, z),
                             (x + 0.4, ridge - 1, z)]), stone, code)
    view = brush.camera.view(points)
    if (view[:, 2] < 1.0).any():
        brush.poly(points, colour, code)
        return
    screen = brush.camera.screen(view)
    level = 2 if depth < 25 else 3
    length, slope = math.dist(points[0], points[3]), math.dist(points[0], points[1])
    grain = wall_crop("roof", level, max(3, int(slope * WALL_PPM[level])), max(3, int(length * WALL_PPM[level])), rng)
    brush.image(screen[[1, 2, 3, 0]], coloured(grain, colour, (1.0, 1.0, 1.0)), code)
