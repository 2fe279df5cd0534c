"""The street's geometry, the things that can stand on it, and the pen that puts them there."""

import math
from dataclasses import dataclass

import numpy as np

from clouds.streets.scene import Scene

FAR = 110.0  # metres: where the street's own things end
PARK = 2.2  # width of a parking lane
KERB = 0.2


@dataclass(frozen=True)
class Thing:
    """Something that stands on the ground at (x, z).

    `heading` is the angle of its own forward axis, 0 along +Z and growing to +X. Strips (buildings, walls, fences,
    hedges) start at (x, z) and run `length` along their heading; `width` is then their depth away from the street,
    signed. `far` orders the painting, far to near. `tag` seeds its looks.
    """

    kind: str
    x: float
    z: float
    heading: float
    tag: int
    far: float
    length: float = 0.0
    width: float = 0.0
    height: float = 0.0
    variant: str = ""


@dataclass(frozen=True)
class Street:
    """Cross-section and course. Offsets s are lateral metres from the middle line, positive to the right."""

    scene: Scene
    half: float  # from the middle to the kerb
    camera_x: float
    side: float  # +1 traffic keeps right, -1 left
    cross: tuple[float, float]  # first and last z of the crossing street; (0, 0) for none

    @property
    def edge(self) -> float:
        """Distance of the plots (end of the sidewalk) from the middle."""
        s = self.scene
        return self.half + KERB + s.verge + (s.sidewalk if s.sidewalk >= 0.4 else 0.8)

    def at(self, s: float, z: float) -> tuple[float, float]:
        """World (x, z) of offset s at course z."""
        return s + 0.5 * self.scene.curve * z * z, z

    def heading(self, z: float) -> float:
        """Direction of the course at z, radians."""
        return math.atan(self.scene.curve * z)

    def open(self, z: float, margin: float = 0.0) -> bool:
        """Whether z lies clear of the crossing street."""
        return self.cross[1] == 0 or not self.cross[0] - margin < z < self.cross[1] + margin


def street_of(scene: Scene) -> Street:
    """The street of a scene."""
    rng = np.random.default_rng([scene.seed, scene.series, 100])
    side = -1.0 if scene.drive_left else 1.0
    half = scene.median / 2 + scene.lanes * scene.lane_width + (PARK if scene.parking > 0 else 0.0)
    lane = int(rng.integers(scene.lanes))
    x = side * (scene.median / 2 + scene.lane_width * (lane + 0.5)) + scene.cam_offset
    cross = (scene.junction, scene.junction + float(rng.uniform(6.0, 11.0))) if scene.junction > 0 else (0.0, 0.0)
    return Street(scene, half, x, side, cross)


class Pen:
    """Collects things; all randomness of the layout comes from its generator."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.street = street_of(scene)
        self.things: list[Thing] = []
        self.rng = np.random.default_rng([scene.seed, scene.series, 101])

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def u(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def count(self, expected: float) -> int:
        return int(self.rng.poisson(max(expected, 0.0)))

    def put(self, kind: str, s: float, z: float, *, turn: float = 0.0, far: float = 0.0, height: float = 0.0,
            variant: str = "") -> None:
        """Add a thing at offset s, course z, turned relative to the street; `far` is added to its painting order."""
        x, z = self.street.at(s, z)
        tag = int(self.rng.integers(2**31))
        key = math.hypot(x - self.street.camera_x, z) + far
        self.things.append(Thing(kind, x, z, self.street.heading(z) + turn, tag, key, height=height, variant=variant))

    def strip(self, kind: str, s: float, z0: float, z1: float, *, depth: float, height: float, far: float,
              variant: str = "") -> None:
        """Add a strip along the street from z0 to z1."""
        (xa, _), (xb, _) = self.street.at(s, z0), self.street.at(s, z1)
        tag = int(self.rng.integers(2**31))
        self.things.append(Thing(kind, xa, z0, math.atan2(xb - xa, z1 - z0), tag, max(z1, 0.0) + far,
                                 math.hypot(xb - xa, z1 - z0), depth, height, variant))
