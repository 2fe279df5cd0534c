"""The canvas and its strokes: everything that stands up is painted far to near through this.

The canvas is twice the picture's size and has four channels: red, green, blue and a *code*. A code holds the class and
a step of depth (a logarithmic scale), so that one stroke paints colour, label and depth at once, with hard edges that
shrinking later softens in the colours only.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.streets.camera import NEAR, Camera
from clouds.streets.dice import Dice
from clouds.streets.light import Light, Rgb
from clouds.streets.scene import Scene

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SCALE = 2  # canvas pixels a picture pixel
STEPS = 12  # depth steps of things; step STEPS means "depth is in the background's array"
CODES = STEPS + 1
NOTHING = 255
SHIFT = 4  # sub-pixel bits of polygon corners
ONE = 1 << SHIFT
LIMIT = 12000.0
AHEAD = NEAR + 0.2  # metres: where upright rectangles are cut, clear of the near plane


def step_depth(step: int) -> float:
    """Depth of a step's middle, metres."""
    return 2.0 * math.pow(1.42, step + 0.5)


def code_of(cls: int, depth: float) -> int:
    """Code of a class at a depth, metres."""
    step = int(math.log(max(depth, 2.0) / 2.0) / math.log(1.42))
    return cls * CODES + min(step, STEPS - 1)


class Brush:
    """Paints in world coordinates. `inverse` (H, W) float32 is 1 / depth of ground and strips, picture resolution."""

    def __init__(self, canvas: U8, inverse: F32, camera: Camera, light: Light, scene: Scene, dice: Dice) -> None:
        self.canvas, self.inverse, self.light, self.scene, self.dice = canvas, inverse, light, scene, dice
        self.camera = camera.scaled(SCALE)
        self.plain = camera
        self.precise = scene.fog > 0.006  # thin air: one depth a strip will do
        self.hidden_ends: set[int] = set()  # tags of buildings whose near end a neighbour covers
        self.glows: list[tuple[float, float, float, Rgb, float]] = []  # x, y, radius (picture pixels), colour, depth

    def strip_code(self, cls: int, depth: float) -> int:
        """Code of an upright strip about this far off."""
        return cls * CODES + STEPS if self.precise else code_of(cls, depth)

    def lit(self, rgb: Rgb, normal: Rgb, x: float, z: float, y: float = 1.0) -> Rgb:
        """Colour of a surface (0..255) under the scene's light."""
        light = self.light.on(normal, x, z, y)
        return (rgb[0] * light[0], rgb[1] * light[1], rgb[2] * light[2])

    def fill(self, points: F64, rgb: Rgb, code: int) -> None:
        """Polygon of canvas pixels (N, 2) in one colour."""
        if len(points) >= 3:
            cv2.fillPoly(self.canvas, [_fixed(points)], (*rgb, code), cv2.LINE_8, SHIFT)

    def poly(self, points: F64, rgb: Rgb, code: int) -> None:
        """Polygon of world points (N, 3) in one colour, cut at the near plane."""
        self.fill(self.camera.clipped(points), rgb, code)

    def line(self, a: Sequence[float], b: Sequence[float], width: float, rgb: Rgb, code: int) -> None:
        """Thick line between world points, width in metres at each end's own depth, at least one canvas pixel."""
        ax, ay, da = self.camera.pixel(*a)
        bx, by, db = self.camera.pixel(*b)
        if da < NEAR or db < NEAR or not (-LIMIT < ax < LIMIT and -LIMIT < ay < LIMIT
                                          and -LIMIT < bx < LIMIT and -LIMIT < by < LIMIT):
            return
        thick = min(round(width * self.camera.f * 2 / (da + db)) or 1, 2000)
        cv2.line(self.canvas, (int(ax * ONE), int(ay * ONE)), (int(bx * ONE), int(by * ONE)), (*rgb, code), thick,
                 cv2.LINE_8, SHIFT)

    def mark(self, points: F64, code: int) -> None:
        """Write the code inside a polygon of world points (N, 3), leaving the colours (what shows through spokes)."""
        pixels = self.camera.clipped(points)
        if len(pixels) < 3:
            return
        height, width = self.canvas.shape[:2]
        x0, y0 = (int(max(0, v)) for v in np.floor(pixels.min(0)))
        x1, y1 = int(min(width, pixels[:, 0].max() + 1)), int(min(height, pixels[:, 1].max() + 1))
        if x1 <= x0 or y1 <= y0:
            return
        region = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
        corners = _fixed(pixels - (x0, y0))
        cv2.fillPoly(region, [corners], 255, cv2.LINE_8, SHIFT)
        write_code(self.canvas[y0:y1, x0:x1], region, code)

    def disc(self, centre: Sequence[float], radius: float, rgb: Rgb, code: int) -> None:
        """Disc facing the camera."""
        x, y, d = self.camera.pixel(*centre)
        r = radius * self.camera.f / max(d, NEAR)
        if d <= NEAR or r > 4000 or max(abs(x), abs(y)) > LIMIT:
            return
        cv2.circle(self.canvas, (int(x * ONE), int(y * ONE)), max(1, int(r * ONE)), (*rgb, code), -1, cv2.LINE_8, SHIFT)

    def glow(self, centre: Sequence[float], radius: float, rgb: Rgb) -> None:
        """Remember a light source of this radius (metres) for the glow added at the end."""
        x, y, d = self.plain.pixel(*centre)
        if d > NEAR:
            self.glows.append((x, y, radius * self.plain.f / d, rgb, d))

    def strip(self, a: Sequence[float], b: Sequence[float], y0: float, y1: float) -> tuple[F64, float, float] | None:
        """The upright rectangle from ground point a to b (x, z), heights y0..y1, cut at the near plane.

        Returns its canvas corners (4, 2) - top a, top b, bottom b, bottom a - and the kept part of a..b as two shares;
        None if it is out of view.
        """
        pixel, (height, width) = self.camera.pixel, self.canvas.shape[:2]
        four = (pixel(a[0], y1, a[1]), pixel(b[0], y1, b[1]), pixel(b[0], y0, b[1]), pixel(a[0], y0, a[1]))
        if min(p[2] for p in four) >= AHEAD:  # all of it lies ahead, the common case
            xs, ys = [p[0] for p in four], [p[1] for p in four]
            x0, x1, top, foot = min(xs), max(xs), min(ys), max(ys)
            if x1 < 0 or x0 > width or foot < 0 or top > height or min(x1 - x0, foot - top) < 0.7:
                return None
            return np.array([p[:2] for p in four]), 0.0, 1.0
        points = np.array([(a[0], y1, a[1]), (b[0], y1, b[1]), (b[0], y0, b[1]), (a[0], y0, a[1])], dtype=np.float64)
        view = self.camera.view(points)
        start, end = 0.0, 1.0
        da, db = float(view[[0, 3], 2].min()), float(view[[1, 2], 2].min())
        if da < AHEAD and db < AHEAD:
            return None
        if da < AHEAD:
            start = (AHEAD - da) / (db - da)
        if db < AHEAD:
            end = (AHEAD - da) / (db - da)
        cut = np.stack([view[0] + (view[1] - view[0]) * start, view[0] + (view[1] - view[0]) * end,
                        view[3] + (view[2] - view[3]) * end, view[3] + (view[2] - view[3]) * start])
        cut[:, 2] = np.maximum(cut[:, 2], NEAR * 0.5)
        corners = self.camera.screen(cut)
        low, high = corners.min(0), corners.max(0)
        if high[0] < 0 or low[0] > width or high[1] < 0 or low[1] > height or (high - low).min() < 0.7:
            return None
        return corners, start, end

    def image(self, corners: F64, texture: U8, code: int, mask: U8 | None = None) -> None:
        """Warp a texture (h, w, 3) onto four canvas corners (top left, top right, bottom right, bottom left).

        Where a mask (h, w) is below 128 the colour behind stays, the code is written all the same (see-through fences).
        """
        height, width = self.canvas.shape[:2]
        x0, y0, x1, y1 = _frame(corners, width, height)
        if x1 - x0 < 1 or y1 - y0 < 1:
            return
        h, w = texture.shape[:2]
        source = np.array([(0, 0), (w, 0), (w, h), (0, h)], dtype=np.float32)
        target = (corners - (x0, y0)).astype(np.float32)
        size = (x1 - x0, y1 - y0)
        large = mask is None and size[0] * size[1] > 9000  # near, so the texture is magnified: warp at half the size
        matrix = cv2.getPerspectiveTransform(source, target / 2 if large else target)
        coded = cv2.cvtColor(texture, cv2.COLOR_RGB2RGBA)
        coded[..., 3] = code
        warped = ((size[0] + 1) // 2, (size[1] + 1) // 2) if large else size
        patch = cv2.warpPerspective(coded, matrix, warped, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if large:
            patch = cv2.resize(patch, (warped[0] * 2, warped[1] * 2), interpolation=cv2.INTER_NEAREST)
            patch = patch[: size[1], : size[0]]
        region = np.zeros((size[1], size[0]), dtype=np.uint8)
        shape = _fixed(corners - (x0, y0))
        cv2.fillConvexPoly(region, shape, 255, cv2.LINE_8, SHIFT)
        view = self.canvas[y0:y1, x0:x1]
        if mask is not None:
            solid = cv2.warpPerspective(mask, matrix, size, flags=cv2.INTER_LINEAR)
            alpha = cv2.bitwise_and(solid, region)[..., None].astype(np.uint16)
            view[..., :3] = (patch[..., :3] * alpha + view[..., :3] * (255 - alpha)) // 255
            write_code(view, region, code)
        else:
            cv2.copyTo(patch, region, view)

    def depth_plane(self, corners: F64, a: Sequence[float], b: Sequence[float], start: float, end: float) -> None:
        """Write the inverse depth of an upright strip (see `strip`) into the background's array, where fog needs it."""
        if not self.precise:
            return
        small = corners / SCALE
        height, width = self.inverse.shape
        x0, y0, x1, y1 = _frame(small, width, height)
        if x1 - x0 < 1 or y1 - y0 < 1:
            return
        cam = self.plain
        along = np.array([a, b], dtype=np.float64)
        ends = along[0] + (along[1] - along[0]) * np.array([[start], [end]])
        inv = [1.0 / max(cam.depth(float(e[0]), float(e[1])), NEAR) for e in ends]
        xa, xb = float(small[[0, 3], 0].mean()), float(small[[1, 2], 0].mean())
        columns = np.arange(x0, x1, dtype=np.float32)
        slope = (inv[1] - inv[0]) / (xb - xa) if abs(xb - xa) > 0.5 else 0.0
        values = np.maximum(inv[0] + (columns - xa) * slope, 1e-3).astype(np.float32)
        region = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
        shape = _fixed(small - (x0, y0))
        cv2.fillConvexPoly(region, shape, 1, cv2.LINE_8, SHIFT)
        view = self.inverse[y0:y1, x0:x1]
        np.copyto(view, values[None, :], where=region > 0)


def write_code(view: U8, mask: U8, code: int) -> None:
    """Write the code where the mask (h, w) is set, leaving the colours, into a part (h, w, 4) of the canvas."""
    codes = cv2.extractChannel(view, 3)
    cv2.copyTo(np.full(mask.shape, code, dtype=np.uint8), mask, codes)
    cv2.insertChannel(codes, view, 3)


def _frame(corners: F64, width: int, height: int) -> tuple[int, int, int, int]:
    """The part (x0, y0, x1, y1) of a picture in which these corners (N, 2) lie; empty if x1 <= x0 or y1 <= y0."""
    xs, ys = corners[:, 0].tolist(), corners[:, 1].tolist()
    return (max(0, math.floor(min(xs))), max(0, math.floor(min(ys))),
            min(width, math.ceil(max(xs)) + 1), min(height, math.ceil(max(ys)) + 1))


def _fixed(points: F64) -> NDArray[np.int32]:
    """Pixels (N, 2) as fixed-point corners for OpenCV, kept in its range."""
    scaled = points * ONE
    np.maximum(scaled, -LIMIT * ONE, out=scaled)
    np.minimum(scaled, LIMIT * ONE, out=scaled)
    return scaled.astype(np.int32)
