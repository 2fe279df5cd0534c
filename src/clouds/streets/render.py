"""From a scene to a picture and its label: sky and ground by ray, things by brush, then weather and lens."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.streets import boxes, buildings, cars, furniture, ground, people, plants, sky, weather
from clouds.streets.brush import CODES, NOTHING, SCALE, STEPS, Brush, step_depth
from clouds.streets.camera import NEAR, Camera
from clouds.streets.dice import Dice
from clouds.streets.labels import IGNORE, NAMES, PERSON, SKY
from clouds.streets.layout import plan
from clouds.streets.light import light_of
from clouds.streets.scene import Scene
from clouds.streets.street import Street, Thing
from clouds.streets.surfaces import noise_window, three

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

_KERBSIDE = {"lamp": furniture.lamp, "sign": furniture.sign, "light": furniture.light, "bollard": furniture.bollard,
             "box": furniture.box, "wire_pole": furniture.wire_pole, "wall": furniture.boundary,
             "fence": furniture.boundary, "hedge": furniture.boundary, "person": people.person,
             "cyclist": people.two_wheeler, "motorcyclist": people.two_wheeler, "parked_bike": people.two_wheeler,
             "parked_motorcycle": people.two_wheeler}
_PAINT = {"building": buildings.draw, "tree": plants.draw, "bush": plants.draw, "car": cars.draw, "truck": boxes.draw,
          "bus": boxes.draw, "tram": boxes.draw}
# metres beyond which small things are left out
_REACH = {"bush": 55.0, "bollard": 45.0, "box": 60.0, "parked_bike": 50.0, "sign": 90.0}
_STRIPS = ("building", "wall", "fence", "hedge")

# code -> class, depth, and the share of screen-space unevenness its surfaces get
_CLASS = np.array([min(c // CODES, len(NAMES) - 1) if c != NOTHING else IGNORE for c in range(256)], dtype=np.uint8)
_DEPTH = np.array([step_depth(c % CODES) if c % CODES < STEPS else 0.0 for c in range(256)], dtype=np.float32)
_UNEVEN = np.array([0.045 if c // CODES >= PERSON else 0.0 for c in range(256)], dtype=np.float32)


def camera_of(scene: Scene, street: Street, size: tuple[int, int]) -> Camera:
    """The camera of a scene for a picture of (height, width)."""
    height, width = size
    focal = scene.focal * max(width, 1.5 * height)
    return Camera(focal, width / 2, height / 2, street.camera_x, scene.cam_height, math.radians(scene.cam_pitch),
                  math.radians(scene.cam_yaw))


def _paint(brush: Brush, things: list[Thing]) -> None:
    """Everything that stands, far to near."""
    for thing in reversed(_visible(brush, things)):
        if thing.kind == "building":
            buildings.draw(brush, thing)
        elif thing.kind in _STRIPS:
            furniture.boundary(brush, thing, 0.0)
        elif thing.kind in _PAINT:
            _PAINT[thing.kind](brush, thing)
        else:
            _KERBSIDE[thing.kind](brush, thing, brush.camera.depth(thing.x, thing.z))


def _visible(brush: Brush, things: list[Thing]) -> list[Thing]:
    """Things in view, near to far, without those that nearer street fronts hide."""
    camera, width = brush.camera, brush.canvas.shape[1]
    columns = np.arange(0, width, 8, dtype=np.float64) + 4
    hidden = np.full(len(columns), 1e9)  # per column: everything further off and below this row is covered
    kept = []
    for thing in reversed(things):
        if thing.z > _REACH.get(thing.kind, 400.0):
            continue
        if thing.kind in _STRIPS:
            s, c = math.sin(thing.heading), math.cos(thing.heading)
            ends = [(thing.x, thing.z), (thing.x + s * thing.length, thing.z + c * thing.length)]
            if thing.kind == "building":
                ends += [(x + c * thing.width, z - s * thing.width) for x, z in ends]
            top = thing.height + (8.0 if "pitched" in thing.variant else 0.0)
        else:
            r = {"tram": 14.0, "bus": 7.0, "truck": 6.0, "car": 3.0}.get(thing.kind, 1.0 + 0.55 * thing.height)
            ends, top = [(thing.x - r, thing.z - r), (thing.x + r, thing.z - r), (thing.x - r, thing.z + r),
                         (thing.x + r, thing.z + r)], {"tree": thing.height * 1.3, "lamp": thing.height + 0.5}.get(
                             thing.kind, max(4.5, thing.height + 1))
            if camera.depth(thing.x, thing.z) < 1.2 and r < 3:
                continue
        heads = [camera.pixel(x, top, z) for x, z in ends]
        ahead = [h for h in heads if h[2] > NEAR]
        if not ahead:
            continue
        if len(ahead) == len(heads):
            left, right = min(h[0] for h in heads), max(h[0] for h in heads)
            if right < 0 or left > width:
                continue
            i, j = max(0, int(left / 8)), min(len(columns), int(right / 8) + 1)
            if j > i and hidden[i:j].max() < min(h[1] for h in heads):
                continue
        kept.append(thing)
        if thing.kind == "building":
            foot, rear = camera.pixel(ends[0][0], top, ends[0][1]), camera.pixel(ends[2][0], top, ends[2][1])
            if min(foot[2], rear[2]) > NEAR:
                i, j = max(0, int(min(foot[0], rear[0]) / 8)), min(len(columns), int(max(foot[0], rear[0]) / 8) + 1)
                if j <= i or hidden[i:j].max() < min(foot[1], rear[1]):
                    brush.hidden_ends.add(thing.tag)
            front = brush.strip(ends[0], ends[1], 0.0, thing.height)
            if front is not None:
                (xa, ya), (xb, yb) = front[0][0], front[0][1]
                inside = (columns > min(xa, xb) - 5) & (columns < max(xa, xb) + 5)
                row = ya + (columns - xa) * ((yb - ya) / (xb - xa)) if abs(xb - xa) > 1 else np.full(len(columns), 1e9)
                hidden[inside] = np.minimum(hidden[inside], row[inside])
    return kept


def _bonnet(canvas: U8, share: float, light: float) -> None:
    """The own car's bonnet at the foot of the canvas, unlabelled."""
    height, width = canvas.shape[:2]
    x = np.linspace(-0.1 * width, 1.1 * width, 24)
    y = height * (1 - share * (1 - 0.55 * (x / width * 2 - 1) ** 2))
    for k, tone in ((0.0, 52), (0.25, 40), (0.6, 30)):
        points = np.stack([x, y + k * share * height], axis=1)
        outline = np.concatenate([points, [(1.1 * width, height + 9), (-0.1 * width, height + 9)]]).astype(np.int32)
        v = int(min(255, tone * (0.3 + light)))
        cv2.fillPoly(canvas, [outline], (v, v, min(255, v + 3), NOTHING))


def render(scene: Scene, size: tuple[int, int] = (256, 512)) -> tuple[U8, U8]:
    """Picture uint8 (H, W, 3) RGB and label uint8 (H, W): train ids 0..18, 255 where unlabelled (the own bonnet).

    `size` is (height, width), each at least 16. The same scene and size give the same arrays.
    """
    height, width = size
    if height < 16 or width < 16:
        raise ValueError(f"size {size} is too small: height and width must be at least 16")
    street, things = plan(scene)
    camera = camera_of(scene, street, size)
    looks = np.random.default_rng([scene.seed, scene.series, 102])  # style only
    lamps = [(t.x + 1.2 * math.sin(t.heading), t.z) for t in things if t.kind == "lamp" and t.z < 90]
    light = light_of(scene, sorted(lamps, key=lambda p: p[1])[:10], (street.camera_x, 0.0))

    background = sky.paint(scene, light, camera, size, looks)
    flat = ground.lay(street, camera, size)
    shadow = sky.shadows(things, camera, light, size, flat.top)
    surface, wetness = ground.shade(flat, street, camera, light, shadow, looks)
    background[flat.top:] = surface
    codes = np.full(size, SKY * CODES + STEPS, dtype=np.uint8)
    codes[flat.top:] = ground.classes(flat, street) * np.uint8(CODES) + np.uint8(STEPS)
    inverse = np.full(size, 1e-4, dtype=np.float32)
    inverse[flat.top:] = 1 / np.maximum(flat.depth, 0.5)

    # things: painted on a larger canvas, whose colours are averaged and whose codes are picked
    base = cv2.cvtColor(background, cv2.COLOR_RGB2RGBA)
    base[..., 3] = codes
    canvas = np.asarray(
        cv2.resize(base, (width * SCALE, height * SCALE), interpolation=cv2.INTER_NEAREST), dtype=np.uint8
    )
    brush = Brush(canvas, inverse, camera, light, scene, Dice([(t.tag,) for t in things]))
    _paint(brush, things)
    if scene.bonnet > 0:
        _bonnet(canvas, scene.bonnet, max(light.ambient))
    picked = np.ascontiguousarray(canvas[1::SCALE, 1::SCALE, 3])
    small4 = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    small = np.asarray(cv2.cvtColor(small4, cv2.COLOR_RGBA2RGB)).astype(np.float32)

    label = np.asarray(cv2.LUT(picked, _CLASS), dtype=np.uint8)
    stands = cv2.LUT(picked, _DEPTH)
    depth = np.where(stands > 0, stands, 1 / inverse)
    uneven = np.asarray(cv2.LUT(picked, _UNEVEN * np.float32(scene.texture)), dtype=np.float32)
    uneven *= noise_window("uneven", height, width, looks)
    uneven += 1
    small *= three(uneven)

    _, rim = sky.colours(scene)
    haze = rim * np.float32(0.96 if scene.night < 0.3 else 0.8)
    wetness = wetness * (picked[flat.top:] == codes[flat.top:])
    if scene.wet > 0.05:
        weather.mirror(small, wetness, flat.top, flat.depth)
    weather.fog(small, depth, scene, haze)
    weather.glow(small, brush.glows, scene, wetness, flat.top)
    weather.falling(small, scene, haze, looks)
    weather.windscreen(small, scene, looks)
    return weather.lens(small, scene, looks), label
