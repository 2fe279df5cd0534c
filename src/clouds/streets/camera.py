"""The pinhole camera above the ground plane.

World axes: X right, Y up, Z along the street, in metres; the ground is Y = 0 and the camera stands at (x, height, 0).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

NEAR = 0.6  # metres: what is nearer is not drawn


@dataclass(frozen=True)
class Camera:
    """f, cx, cy in pixels; x and height in metres; pitch (down) and yaw (right) in radians."""

    f: float
    cx: float
    cy: float
    x: float
    height: float
    pitch: float = 0.0
    yaw: float = 0.0

    @cached_property
    def rotation(self) -> F64:
        """(3, 3): rows are the camera's right, up and forward axes in world coordinates."""
        sp, cp, sy, cy = math.sin(self.pitch), math.cos(self.pitch), math.sin(self.yaw), math.cos(self.yaw)
        return np.array([[cy, 0.0, -sy], [sp * sy, cp, sp * cy], [cp * sy, -sp, cp * cy]])

    @property
    def horizon(self) -> float:
        """Image row of the horizon, pixels."""
        return self.cy - self.f * math.tan(self.pitch)

    def scaled(self, factor: float) -> "Camera":
        """The same view on an image `factor` times as large."""
        return Camera(self.f * factor, self.cx * factor, self.cy * factor, self.x, self.height, self.pitch, self.yaw)

    @cached_property
    def pixel_matrix(self) -> tuple[F64, F64]:
        """Matrix (3, 3) and offset (3,): points @ matrix + offset is (x * depth, y * depth, depth) in pixels."""
        r = self.rotation
        rows = np.stack([self.f * r[0] + self.cx * r[2], -self.f * r[1] + self.cy * r[2], r[2]])
        return np.ascontiguousarray(rows.T), -(rows @ np.array([self.x, self.height, 0.0]))

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """The matrix (row by row) and offset of `pixel_matrix` as plain numbers."""
        matrix, offset = self.pixel_matrix
        return (*(float(v) for v in matrix.ravel()), *(float(v) for v in offset))

    def pixel(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """One world point to pixel x, y and its depth; x and y mean nothing where depth is below NEAR."""
        m = self.numbers
        d = x * m[2] + y * m[5] + z * m[8] + m[11]
        k = 1.0 / d if d > NEAR else 1.0
        return (x * m[0] + y * m[3] + z * m[6] + m[9]) * k, (x * m[1] + y * m[4] + z * m[7] + m[10]) * k, d

    def view(self, points: F64) -> F64:
        """World points (N, 3) to camera axes (N, 3): right, up, forward."""
        return np.asarray((points - (self.x, self.height, 0.0)) @ self.rotation.T)

    def screen(self, view: F64) -> F64:
        """Camera-axes points (N, 3) with forward > 0 to pixels (N, 2) as x, y."""
        scale = self.f / view[:, 2:3]
        return np.concatenate([self.cx + view[:, :1] * scale, self.cy - view[:, 1:2] * scale], axis=1)

    def project(self, points: F64) -> tuple[F64, F64]:
        """World points (N, 3) to pixels (N, 2) and depths (N,) along the optical axis; depth is floored at NEAR."""
        view = self.view(points)
        view[:, 2] = np.maximum(view[:, 2], NEAR)
        return self.screen(view), view[:, 2]

    def depth(self, x: float, z: float) -> float:
        """Depth of a ground point, metres."""
        ahead = self.rotation[2]
        return float(ahead[0] * (x - self.x) - ahead[1] * self.height + ahead[2] * z)

    def clipped(self, points: F64) -> F64:
        """Pixels (M, 2) of the polygon of world points (N, 3), cut at the near plane; M = 0 if nothing is left."""
        matrix, offset = self.pixel_matrix
        flat = points @ matrix
        flat += offset
        if min(flat[:, 2].tolist()) > NEAR:
            flat[:, :2] /= flat[:, 2:]
            return flat[:, :2]
        view = self.view(points)
        ahead = view[:, 2] > NEAR
        kept = []
        for i in range(len(view)):
            a, b = view[i - 1], view[i]
            if ahead[i - 1] != ahead[i]:
                kept.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
            if ahead[i]:
                kept.append(b)
        return self.screen(np.array(kept)) if kept else np.zeros((0, 2))

    def ground(self, rows: F32, columns: F32) -> tuple[F32, F32, F32]:
        """World X (R, C), Z (R, C) and depth (R, 1) where the rays of pixels below the horizon meet the ground."""
        a = ((columns - self.cx) / self.f)[None, :]
        b = (-(rows - self.cy) / self.f)[:, None]
        r = self.rotation.astype(np.float32)
        depth = -self.height / (r[1, 1] * b + r[2, 1])
        x = depth * (r[0, 0] * a + (r[1, 0] * b + r[2, 0])) + self.x
        z = depth * (r[0, 2] * a + (r[1, 2] * b + r[2, 2]))
        return x.astype(np.float32), z.astype(np.float32), depth.astype(np.float32)
