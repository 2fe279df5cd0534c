"""The ground: which surface each pixel below the horizon shows, its texture, its markings, its light."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.classes import NAMES
from clouds.data.streets.camera import Camera
from clouds.data.streets.light import Light
from clouds.data.streets.street import KERB, PARK, Street
from clouds.data.streets.surfaces import GROUND_TEXEL, GROUNDS, TILE, f32, ground_atlas, noise_tile, three

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

ROAD, SIDEWALK, TERRAIN = NAMES.index("road"), NAMES.index("sidewalk"), NAMES.index("terrain")
LANE, KERB_ZONE, VERGE, WALK, PLOT, MEDIAN, BAY = range(7)
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
    zone: NDArray[np.int8]
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
    zone = (to_kerb > bounds[0]).astype(np.int8)
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


def _line(offset: F32, width: float, footprint: F32) -> F32:
    """Anti-aliased coverage of a painted line at this distance from its middle."""
    cover = np.clip((width / 2 - np.abs(offset)) / footprint + 0.5, 0, 1) * np.minimum(1, width * 2.5 / footprint)
    return np.asarray(cover, dtype=np.float32)


def markings(ground: Ground, street: Street, camera: Camera, rng: np.random.Generator) -> tuple[F32, F32]:
    """Cover (R, C) in 0..1 of white paint, and of dark metal (rails, manholes)."""
    sc, u, z = street.scene, ground.u, ground.z
    footprint = ground.depth / np.float32(camera.f)
    along = np.maximum(ground.depth**2 / np.float32(camera.f * camera.height), 0.05)
    paint, metal = np.zeros_like(u), np.zeros_like(u)
    outer = street.half - (PARK if sc.parking > 0 else 0.0)
    dash, period, shift = float(rng.uniform(2, 4)), float(rng.uniform(6, 10)), float(rng.uniform(0, 10))
    phase = (z + np.float32(shift)) % np.float32(period)
    dashes = np.clip((dash - phase) / along + 0.5, 0, 1)
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
            bay = (z + np.float32(shift)) % np.float32(6.0)
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
            stripe = np.clip((0.26 - np.abs((u[near] % 1.05) - 0.52)) / footprint[near] + 0.5, 0, 1)
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
    return np.clip(paint, 0, 1), np.clip(metal, 0, 1)


def shade(ground: Ground, street: Street, camera: Camera, light: Light, shadow: F32,
          rng: np.random.Generator) -> tuple[F32, F32]:
    """Picture (R, C, 3) float32 of the ground in 0..255, and how wet it is (R, C) in 0..1.

    `shadow` (R, C, 2) in 0..1: share of the sun and of the sky that things take away.
    """
    sc, zone = street.scene, ground.zone
    paint, metal = markings(ground, street, camera, rng)
    plot = "grass" if (ZONE_CLASS[PLOT] == TERRAIN and sc.setback >= 1.0) or sc.density <= 0.6 else sc.paving
    verge = "grass" if rng.random() < 0.8 else "dirt"
    names = [sc.surface, "concrete", verge, sc.paving, plot, "grass" if sc.median >= 1.5 else "slabs", sc.surface]
    material = np.array([GROUNDS.index(n) for n in names])
    pairs = [GRASS[sc.season] if n == "grass" else COLOURS[n] for n in names]
    tint = rng.uniform(0.92, 1.08, (7, 1)).astype(np.float32) * rng.uniform(0.97, 1.03, (7, 3)).astype(np.float32)
    tint[BAY] = tint[LANE] * np.float32(rng.uniform(0.9, 1.08))
    first, second = (np.array([p[i] for p in pairs], dtype=np.float32) * tint for i in (0, 1))

    # texture: one gather from the mip level that fits each row
    texels, starts, sizes = ground_atlas()
    depth = ground.depth[:, 0]
    size_on_ground = np.sqrt(depth / camera.f * np.maximum(depth**2 / (camera.f * camera.height), 1e-3))
    level = np.clip(np.log2(size_on_ground / GROUND_TEXEL) + 0.2, 0, len(sizes) - 1).astype(int)
    sizes_row, starts_row = sizes[level].astype(np.int32)[:, None], starts[level].astype(np.int32)[:, None]
    scale = (sizes_row / (GROUND_TEXEL * TILE)).astype(np.float32)
    offset = rng.uniform(0, 10, 2).astype(np.float32)
    column = ((ground.u + 500 + offset[0]) * scale).astype(np.int32) & (sizes_row - 1)
    row = ((ground.z + 500 + offset[1]) * scale).astype(np.int32) & (sizes_row - 1)
    texture = texels[starts_row + (material.astype(np.int32)[zone] * sizes_row + row) * sizes_row + column]
    grain = 1 + np.float32(sc.texture) * (texture.astype(np.float32) * np.float32(1 / 128) - 1)

    # broad variation, patches, wheel tracks
    broad = noise_tile("broad")
    shift = rng.integers(0, TILE, 2)
    variation = broad[((ground.z * 9).astype(np.int32) + shift[0]) & (TILE - 1),
                      ((ground.u * 14).astype(np.int32) + shift[1]) & (TILE - 1)]
    steps = np.linspace(0, 1, 32, dtype=np.float32)[:, None]  # zone * 32 + step of the mix, looked up at once
    table = np.zeros((256, 1, 3), dtype=np.float32)
    table[:224, 0] = np.concatenate([a + (b - a) * steps for a, b in zip(first, second, strict=True)])
    key = (np.minimum(np.maximum(15.5 + 9 * variation, 0), 31) + (zone * np.float32(32))).astype(np.uint8)
    rgb = np.asarray(cv2.LUT(cv2.merge([key, key, key]), table), dtype=np.float32)
    road = ground.to_kerb < 0
    for _ in range(int(rng.integers(0, 5))):
        u0, z0 = float(rng.uniform(-street.half, street.half)), float(rng.uniform(3, 35))
        w, d, dark = rng.uniform(0.5, 2.0), float(rng.uniform(1, 9)), np.float32(rng.uniform(0.78, 1.14))
        near = ground.rows(z0 - d, z0 + d)
        inside = (np.abs(ground.u[near] - np.float32(u0)) < w) & (np.abs(ground.z[near] - np.float32(z0)) < d)
        grain[near][road[near] & inside] *= dark
    lane = (np.abs(ground.u) - np.float32(sc.median / 2)) % np.float32(sc.lane_width) / np.float32(sc.lane_width) - 0.5
    tracks = np.maximum(1 - np.square((np.abs(lane) - np.float32(0.25)) * np.float32(6.5)), 0) * road
    grain *= 1 - 0.07 * tracks
    edge = np.maximum(1 + ground.to_kerb * np.float32(2.5), 0) * road
    grain *= 1 - 0.3 * edge * np.minimum(1, 12 / ground.depth)  # grime and shade in the gutter
    cover = paint * np.clip(0.8 + 0.16 * variation, 0.3, 0.95)
    rgb *= three(grain * (1 - cover) * (1 - 0.55 * metal))
    rgb += three(cover * (np.float32(222) * (1 - 0.55 * metal)))
    if sc.snow > 0:
        lie = np.where(road, sc.snow * 1.5 - 0.75 - 0.55 * tracks - 0.2 * paint, sc.snow * 2.2 - 0.45)
        lie = three(np.clip(lie + 0.32 * variation + 0.6 * (grain - 1), 0, 0.97).astype(np.float32))
        rgb += (three(np.float32(231) * (0.5 + 0.5 * grain)) - rgb) * lie
    puddle = noise_tile("puddle")[((ground.z * 6).astype(np.int32) + shift[1]) & (TILE - 1),
                                  ((ground.u * 20).astype(np.int32) + shift[0]) & (TILE - 1)]
    wetness = np.zeros_like(grain)
    if sc.wet > 0:
        soak = np.isin(zone, (LANE, BAY, WALK, KERB_ZONE))
        wetness = sc.wet * soak * np.clip(0.55 + 0.4 * puddle, 0.15, 1)
        rgb *= three((1 - 0.38 * wetness).astype(np.float32))

    direct = f32(light.sun) * np.float32(light.direction[1])
    sunny, open_sky = 1 - shadow[..., 0], 1 - shadow[..., 1]
    total = cv2.merge([sunny * direct[i] + open_sky * np.float32(light.ambient[i]) for i in range(3)])
    if light.night > 0.2:
        total += light.field(ground.x, ground.z)
    rgb *= total
    return rgb, np.asarray(wetness, dtype=np.float32)
