"""The ground: which surface each pixel below the horizon shows, its texture, its markings, its light."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.streets.camera import Camera
from clouds.streets.labels import ROAD, SIDEWALK, TERRAIN
from clouds.streets.light import Light
from clouds.streets.sky import SKY, SUN
from clouds.streets.street import KERB, PARK, Street
from clouds.streets.surfaces import GROUND_TEXEL, GROUNDS, TILE, ground_atlas, noise_tile

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

LANE, KERB_ZONE, VERGE, WALK, PLOT, MEDIAN, BAY = range(7)
_SOAKS = np.array([1, 1, 0, 1, 0, 0, 1], dtype=np.float32)  # zones that get wet
ZONE_CLASS = np.array([ROAD, SIDEWALK, TERRAIN, SIDEWALK, TERRAIN, TERRAIN, ROAD], dtype=np.uint8)

# two colours a material, mixed by broad noise
COLOURS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "asphalt": ((88, 88, 90), (112, 110, 108)), "worn": ((104, 102, 99), (138, 134, 127)),
    "concrete": ((146, 143, 136), (170, 165, 154)), "slabs": ((142, 139, 133), (168, 163, 154)),
    "bricks": ((136, 98, 84), (158, 124, 108)), "cobbles": ((104, 100, 97), (134, 128, 121)),
    "grass": ((74, 94, 44), (122, 130, 66)), "dirt": ((124, 106, 82), (152, 134, 108)),
    "snow": ((226, 232, 240), (240, 243, 247)),
}
GRASS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "summer": ((66, 82, 42), (98, 104, 60)), "spring": ((66, 92, 42), (92, 116, 56)),
    "autumn": ((104, 104, 52), (142, 122, 68)), "winter": ((104, 102, 70), (136, 126, 96)),
}


@dataclass(frozen=True)
class Ground:
    """Rows `top`.. of the picture: world x, z, offset u and depth, zone of each pixel (R, C)."""

    top: int
    x: F32
    z: F32
    u: F32
    depth: F32  # (R, 1)
    zone: U8
    to_kerb: F32  # metres from the kerb, negative on the road

    def rows(self, first: float, last: float) -> slice:
        """The rows in which course z first..last can lie."""
        ends = self.z[:, [0, -1]]
        inside = np.flatnonzero((ends.max(1) >= first - 1) & (ends.min(1) <= last + 1))
        return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


def lay(street: Street, camera: Camera, size: tuple[int, int]) -> Ground:
    """The zones of every ground pixel of a picture of this (height, width)."""
    scene = street.scene
    height, width = size
    top = int(min(max(np.ceil(camera.horizon + 0.4), 0), height - 1))
    rows, columns = np.arange(top, height, dtype=np.float32), np.arange(width, dtype=np.float32)
    x, z, depth = camera.ground(rows + 0.5 if top > camera.horizon else rows + 1.0, columns + 0.5)
    u = x - np.float32(0.5 * scene.curve) * z * z
    side = np.abs(u)
    to_kerb = side - np.float32(street.half)
    beside = np.zeros_like(u, dtype=bool)
    if street.cross[1]:
        mid, reach = (street.cross[0] + street.cross[1]) / 2, (street.cross[1] - street.cross[0]) / 2
        across = np.abs(z - np.float32(mid)) - np.float32(reach)
        blend = np.float32(4.0)
        h = np.clip(0.5 + 0.5 * (across - to_kerb) / blend, 0, 1)
        to_kerb = (across + (to_kerb - across) * h - blend * h * (1 - h)).astype(np.float32)
        beside = across < 1.5
    walk = scene.sidewalk if scene.sidewalk >= 0.4 else 0.0
    bounds = np.array([0.0, KERB, KERB + scene.verge, KERB + scene.verge + walk], dtype=np.float32)
    zone = (to_kerb > bounds[0]).astype(np.uint8)
    for bound in bounds[1:]:
        zone += to_kerb > bound
    if walk == 0.0:
        zone[zone == KERB_ZONE] = VERGE
    if scene.parking > 0:
        zone[(to_kerb < 0) & (side > street.half - PARK) & ~beside] = BAY
    if scene.median > 0.3:
        zone[(side < scene.median / 2) & ~beside] = MEDIAN
    return Ground(top, x, z, u, depth, zone, to_kerb)


def classes(ground: Ground, street: Street) -> U8:
    """Train ids (R, C) of the ground."""
    table = ZONE_CLASS.copy()
    if street.scene.setback < 1.0 and street.scene.density > 0.6:
        table[PLOT] = SIDEWALK
    if street.scene.median < 1.5:
        table[MEDIAN] = SIDEWALK
    return table[ground.zone]


def _modulo(value: F32, period: float) -> F32:
    """value % period, much faster than numpy's for float32."""
    return np.asarray(value - np.floor(value * np.float32(1 / period)) * np.float32(period), dtype=np.float32)


def _line(offset: F32, width: float, footprint: F32) -> F32:
    """Anti-aliased coverage of a painted line at this distance from its middle."""
    cover = np.abs(offset)
    np.subtract(np.float32(width / 2), cover, out=cover)
    cover /= footprint
    cover += np.float32(0.5)
    np.minimum(np.maximum(cover, 0, out=cover), 1, out=cover)
    cover *= np.minimum(np.float32(1), np.float32(width * 2.5) / footprint)
    return cover


def markings(ground: Ground, street: Street, camera: Camera, rng: np.random.Generator) -> tuple[F32, F32]:
    """Cover (R, C) in 0..1 of white paint, and of dark metal (rails, manholes)."""
    sc, u, z = street.scene, ground.u, ground.z
    footprint = ground.depth / np.float32(camera.f)
    along = np.maximum(ground.depth**2 / np.float32(camera.f * camera.height), 0.05)
    paint, metal = np.zeros_like(u), np.zeros_like(u)
    outer = street.half - (PARK if sc.parking > 0 else 0.0)
    dash, period, shift = float(rng.uniform(2, 4)), float(rng.uniform(6, 10)), float(rng.uniform(0, 10))
    phase = _modulo(z + np.float32(shift), period)
    np.subtract(np.float32(dash), phase, out=phase)
    phase /= along
    phase += np.float32(0.5)
    dashes = np.minimum(np.maximum(phase, 0, out=phase), 1, out=phase)
    wanted = rng.random(3)
    clear = np.ones_like(z)
    if street.cross[1]:
        clear = ((z < street.cross[0] - 2) | (z > street.cross[1] + 2)).astype(np.float32)
    side = np.abs(u)
    if sc.surface != "cobbles" or wanted[0] < 0.25:
        if sc.median <= 0.3 and wanted[0] < 0.85 and street.half > 3.2:
            if sc.lanes > 1:
                paint += _line(side - np.float32(0.16), 0.13, footprint)
            else:
                paint += _line(u, 0.13, footprint) * dashes
        for k in range(1, sc.lanes):
            paint += _line(side - np.float32(sc.median / 2 + k * sc.lane_width), 0.13, footprint) * dashes
        if wanted[1] < 0.7:
            paint += _line(side - np.float32(outer - 0.08), 0.12, footprint)
        if sc.parking > 0 and wanted[2] < 0.5:
            bay = _modulo(z + np.float32(shift), 6.0)
            paint += (np.clip((0.1 - np.abs(bay - 3)) / along + 0.5, 0, 1) * np.minimum(1, 0.3 / along)
                      * ((side > outer) & (ground.to_kerb < 0)))
        paint *= clear
    for place, deep in (
        (sc.crossing, 3.2),
        (street.cross[0] - 3.6 if street.cross[1] and wanted[2] < 0.6 else 0.0, 2.6),
    ):
        if place > 3:
            near = ground.rows(place - deep / 2 - 2.5, place + deep / 2 + 1.5)
            far, kerb = along[near], ground.to_kerb[near]
            stripe = np.clip((0.26 - np.abs(_modulo(u[near], 1.05) - np.float32(0.52))) / footprint[near] + 0.5, 0, 1)
            band = np.clip((deep / 2 - np.abs(z[near] - np.float32(place))) / far + 0.5, 0, 1) * (kerb < 0)
            stop = np.clip((0.2 - np.abs(z[near] - np.float32(place - deep / 2 - 1.2))) / far + 0.5, 0, 1)
            stop = stop * ((u[near] * street.side > 0) & (kerb < -(PARK if sc.parking > 0 else 0.1)))
            paint[near] = paint[near] * (1 - band) + np.maximum(stripe * band, stop * np.minimum(1, 0.5 / far))
    if sc.tracks:
        middle = sc.median / 2 + sc.lane_width / 2
        for offset in (-0.72, 0.72):
            metal += _line(side - np.float32(middle + offset), 0.11, footprint)
    for _ in range(int(rng.integers(0, 5))):
        cu, cz = float(rng.uniform(-street.half, street.half)), float(rng.uniform(4, 25))
        near = ground.rows(cz - 0.6, cz + 0.6)
        away = np.hypot(u[near] - np.float32(cu), z[near] - np.float32(cz))
        metal[near] += np.clip((0.33 - away) / (footprint[near] * 2) + 0.5, 0, 1)
    return np.minimum(paint, 1), np.minimum(metal, 1)


def _looked_up(tile: F32, row: F32, column: F32, down: int, right: int) -> F32:
    """A tiling field (TILE, TILE) at the given rows and columns, shifted."""
    index = row.astype(np.int32)
    index += np.int32(down)
    index &= TILE - 1
    index *= TILE
    across = column.astype(np.int32)
    across += np.int32(right)
    across &= TILE - 1
    index += across
    return tile.ravel()[index]


def _grain(ground: Ground, camera: Camera, material: NDArray[np.int32], strength: float, offset: F32) -> F32:
    """The materials' texture (R, C), around 1: one gather from the mip level that fits each row.

    `material`: of each zone, as a row of the atlas. `offset`: where on the tiles the street lies, in metres.
    """
    texels, starts, sizes = ground_atlas()
    depth = ground.depth[:, 0]
    size_on_ground = np.sqrt(depth / camera.f * np.maximum(depth**2 / (camera.f * camera.height), 1e-3))
    level = np.clip(np.log2(size_on_ground / GROUND_TEXEL) + 0.2, 0, len(sizes) - 1).astype(int)
    sizes_row, starts_row = sizes[level].astype(np.int32)[:, None], starts[level].astype(np.int32)[:, None]
    scale = (sizes_row / (GROUND_TEXEL * TILE)).astype(np.float32)
    column = (ground.u * scale + (500 + offset[0]) * scale).astype(np.int32)
    column &= sizes_row - 1
    index = (ground.z * scale + (500 + offset[1]) * scale).astype(np.int32)
    index &= sizes_row - 1
    index += np.asarray(cv2.LUT(ground.zone, material)) * sizes_row
    index *= sizes_row
    index += column
    index += starts_row
    return np.asarray(cv2.LUT(texels[index], 1 + np.float32(strength) * (np.arange(256, dtype=np.float32) / 128 - 1)))


def _patch(grain: F32, ground: Ground, street: Street, road: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Mended pieces of the road, darker or lighter than it."""
    for _ in range(int(rng.integers(0, 5))):
        u0, z0 = float(rng.uniform(-street.half, street.half)), float(rng.uniform(3, 35))
        w, d, dark = rng.uniform(0.5, 2.0), float(rng.uniform(1, 9)), np.float32(rng.uniform(0.78, 1.14))
        near = ground.rows(z0 - d, z0 + d)
        inside = (np.abs(ground.u[near] - np.float32(u0)) < w) & (np.abs(ground.z[near] - np.float32(z0)) < d)
        grain[near][road[near] & inside] *= dark


def _wheel_tracks(ground: Ground, street: Street, road: NDArray[np.bool_]) -> F32:
    """Where wheels run in each lane, (R, C) in 0..1."""
    lane = np.abs(ground.u)
    lane -= np.float32(street.scene.median / 2)
    lane *= np.float32(1 / street.scene.lane_width)
    lane -= np.floor(lane)
    lane -= np.float32(0.5)
    tracks = np.abs(lane, out=lane)
    tracks -= np.float32(0.25)
    tracks *= tracks
    tracks *= np.float32(-(6.5**2))
    tracks += 1
    np.maximum(tracks, 0, out=tracks)
    tracks *= road
    return tracks


def _gutter(ground: Ground, road: NDArray[np.bool_]) -> F32:
    """What grime and shade leave of the light along the kerb, (R, C) in 0..1."""
    edge = ground.to_kerb * np.float32(2.5)
    edge += 1
    np.maximum(edge, 0, out=edge)
    edge *= road
    edge *= np.float32(-0.3) * np.minimum(np.float32(1), 12 / ground.depth)
    edge += 1
    return edge


def _lit(rgb: list[F32], ground: Ground, light: Light, shadow: tuple[U8, U8]) -> U8:
    """Picture (R, C, 3) of the channels' reflectances under the scene's light."""
    field = light.field(ground.x, ground.z) if light.night > 0.2 else None
    for i, channel in enumerate(rgb):
        direct, ambient = light.sun[i] * light.direction[1], light.ambient[i]
        total = cv2.addWeighted(shadow[0], -SUN * direct, shadow[1], -SKY * ambient, direct + ambient, dtype=cv2.CV_32F)
        if field is not None:
            total += field[i]
        channel *= total
    return np.asarray(cv2.convertScaleAbs(cv2.merge(rgb)), dtype=np.uint8)


def shade(ground: Ground, street: Street, camera: Camera, light: Light, shadow: tuple[U8, U8],
          rng: np.random.Generator) -> tuple[U8, F32]:
    """Picture (R, C, 3) of the ground, and how wet it is (R, C) in 0..1.

    `shadow`: the sun and the sky that things take away, (R, C) each, in steps of sky.SUN and sky.SKY.
    """
    sc, zone = street.scene, ground.zone
    paint, metal = markings(ground, street, camera, rng)
    plot = "grass" if sc.setback >= 1.0 or sc.density <= 0.6 else sc.paving
    verge = "grass" if rng.random() < 0.8 else "dirt"
    names = [sc.surface, "concrete", verge, sc.paving, plot, "grass" if sc.median >= 1.5 else "slabs", sc.surface]
    material = np.zeros(256, dtype=np.int32)
    material[:7] = [GROUNDS.index(n) for n in names]
    pairs = [GRASS[sc.season] if n == "grass" else COLOURS[n] for n in names]
    tint = rng.uniform(0.92, 1.08, (7, 1)).astype(np.float32) * rng.uniform(0.97, 1.03, (7, 3)).astype(np.float32)
    tint[BAY] = tint[LANE] * np.float32(rng.uniform(0.9, 1.08))
    first, second = (np.array([p[i] for p in pairs], dtype=np.float32) * tint for i in (0, 1))

    offset = rng.uniform(0, 10, 2).astype(np.float32)
    grain = _grain(ground, camera, material, sc.texture, offset)

    # the two colours of each material, mixed by broad noise: zone * 32 + step of the mix, looked up at once
    broad = noise_tile("broad")
    shift = rng.integers(0, TILE, 2)
    variation = _looked_up(broad, ground.z * np.float32(9), ground.u * np.float32(14), shift[0], shift[1])
    steps = np.linspace(0, 1, 32, dtype=np.float32)[:, None]
    table = np.zeros((256, 3), dtype=np.float32)
    table[:224] = np.concatenate([a + (b - a) * steps for a, b in zip(first, second, strict=True)])
    mixed = variation * np.float32(9)
    mixed += np.float32(15.5)
    key = np.minimum(np.maximum(mixed, 0, out=mixed), 31, out=mixed).astype(np.uint8)
    key += zone * np.uint8(32)
    road = ground.to_kerb < 0
    _patch(grain, ground, street, road, rng)
    tracks = _wheel_tracks(ground, street, road)
    grain *= 1 - np.float32(0.07) * tracks
    grain *= _gutter(ground, road)
    cover = variation * np.float32(0.16)
    cover += np.float32(0.8)
    np.minimum(np.maximum(cover, np.float32(0.3), out=cover), np.float32(0.95), out=cover)
    cover *= paint
    plain = metal * np.float32(-0.55)
    plain += 1
    base = (1 - cover) * plain
    base *= grain
    cover *= plain
    cover *= np.float32(222)
    rgb = [np.asarray(cv2.LUT(key, np.ascontiguousarray(table[:, i])), dtype=np.float32) for i in range(3)]
    for channel in rgb:
        channel *= base
        channel += cover
    if sc.snow > 0:
        lie = np.where(road, sc.snow * 1.5 - 0.75 - 0.55 * tracks - 0.2 * paint, sc.snow * 2.2 - 0.45)
        lie = np.clip(lie + np.float32(0.32) * variation + np.float32(0.6) * (grain - 1), 0, 0.97).astype(np.float32)
        white = np.float32(231) * (np.float32(0.5) + np.float32(0.5) * grain)
        for channel in rgb:
            channel += (white - channel) * lie
    wetness = np.zeros_like(grain)
    if sc.wet > 0:
        puddle = _looked_up(noise_tile("puddle"), ground.z * np.float32(6), ground.u * np.float32(20), shift[1],
                            shift[0])
        wetness = np.clip(np.float32(0.55) + np.float32(0.4) * puddle, np.float32(0.15), 1)
        wetness *= _SOAKS[zone]
        wetness *= np.float32(sc.wet)
        dark = 1 - np.float32(0.38) * wetness
        for channel in rgb:
            channel *= dark
    return _lit(rgb, ground, light, shadow), np.asarray(wetness, dtype=np.float32)
