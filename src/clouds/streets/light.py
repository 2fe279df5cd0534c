"""How light falls: sun and sky by day, street lamps and the own headlights by night, on a patch or on a whole array."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clouds.streets.scene import Scene

F32 = NDArray[np.float32]
Rgb = tuple[float, float, float]

LAMP: Rgb = (1.0, 0.74, 0.42)
HEAD: Rgb = (1.0, 0.97, 0.88)
GAIN = 1.25  # overall brightness of a lit white surface


def mix(a: Rgb, b: Rgb, t: float) -> Rgb:
    """a towards b by t."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


@dataclass(frozen=True)
class Light:
    """Direct light (direction to the sun, unit; colour), ambient colour, and lamps (x, z, reach in metres)."""

    direction: Rgb
    sun: Rgb
    ambient: Rgb
    night: float
    lamps: tuple[tuple[float, float], ...]
    eye: tuple[float, float]  # the own headlights' x and heading

    def local(self, x: float, z: float, y: float = 1.0) -> Rgb:
        """Artificial light at one point."""
        if self.night < 0.2:
            return (0.0, 0.0, 0.0)
        lamp = sum(1.0 / (1.0 + ((x - lx) ** 2 + (z - lz) ** 2) / 22.0) ** 1.5 for lx, lz in self.lamps)
        head = 0.0
        if z > 1:
            lateral = (x - self.eye[0] - self.eye[1] * z) / (1.2 + 0.16 * z)
            head = 2.0 * math.exp(-lateral * lateral) * math.exp(-z / 20) * math.exp(-max(y - 1.0, 0.0) * 1.2)
        lamp = min(lamp, 1.6) * (1.0 if y < 6 else math.exp(-(y - 6) / 4))
        return tuple(self.night * (0.8 * lamp * LAMP[i] + 0.65 * head * HEAD[i]) for i in range(3))

    def field(self, x: F32, z: F32) -> F32:
        """Artificial light on the ground at X, Z (R, C): its three channels (3, R, C)."""
        lamp = np.zeros_like(x)
        for lx, lz in self.lamps[:10]:
            d = np.square(x - np.float32(lx))
            d += np.square(z - np.float32(lz))
            d *= np.float32(1 / 22.0)
            d += 1
            d *= np.sqrt(d)
            lamp += np.reciprocal(d, out=d)
        np.minimum(lamp, 1.6, out=lamp)
        lateral = (x - self.eye[0] - self.eye[1] * z) / (1.2 + 0.16 * z)
        head = 1.5 * np.exp(-lateral * lateral - z / 20)
        night = np.float32(self.night)
        channels = [lamp * np.float32(0.8 * LAMP[i]) + head * np.float32(0.65 * HEAD[i]) for i in range(3)]
        return np.asarray(np.stack(channels) * night, dtype=np.float32)

    def on(self, normal: Rgb, x: float, z: float, y: float = 1.0) -> Rgb:
        """Total light on a surface with this unit normal."""
        d = self.direction
        direct = max(0.0, normal[0] * d[0] + normal[1] * d[1] + normal[2] * d[2])
        sky = 0.82 + 0.18 * normal[1]
        extra = self.local(x, z, y)
        return (self.sun[0] * direct + self.ambient[0] * sky + extra[0],
                self.sun[1] * direct + self.ambient[1] * sky + extra[1],
                self.sun[2] * direct + self.ambient[2] * sky + extra[2])


def light_of(scene: Scene, lamps: list[tuple[float, float]], eye: tuple[float, float]) -> Light:
    """The light of a scene."""
    e, a = math.radians(scene.sun_elevation), math.radians(scene.sun_azimuth)
    direction = (math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a))
    low = max(0.0, 1.0 - scene.sun_elevation / 30.0)  # a low sun is weaker and golden
    warm = max(-1.0, min(1.0, scene.warmth + 0.5 * low))
    sun_colour = mix((1.0, 0.97, 0.9), (1.0, 0.72, 0.42), max(warm, 0.0))
    sky_colour = mix((0.95, 0.98, 1.04), (1.0, 0.93, 0.86) if warm > 0 else (0.86, 0.96, 1.14), abs(warm) * 0.6)
    strength = scene.sun * (1 - scene.night) * 0.72 * (1 - 0.25 * low)
    level = (0.84 - 0.30 * scene.sun) * (1 - 0.15 * low)
    level = level * (1 - scene.night) ** 1.3 + 0.13 * scene.night
    if scene.night > 0.3:
        sky_colour = mix(sky_colour, (0.75, 0.85, 1.15), min(1.0, scene.night))
    scale = GAIN * (1.0 + 0.12 * scene.snow)
    sun: Rgb = (sun_colour[0] * strength * scale, sun_colour[1] * strength * scale, sun_colour[2] * strength * scale)
    ambient: Rgb = (sky_colour[0] * level * scale, sky_colour[1] * level * scale, sky_colour[2] * level * scale)
    return Light(direction, sun, ambient, scene.night, tuple(lamps), eye)
