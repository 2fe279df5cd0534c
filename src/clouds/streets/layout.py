"""Where everything stands: what is built along the street, and all of it in painting order."""

import math
from dataclasses import replace

import numpy as np

from clouds.streets.scene import Scene
from clouds.streets.street import FAR, KERB, Street, Thing
from clouds.streets.traffic import Actors


class _Planner(Actors):
    """Adds what is built to the actors."""

    def plots(self, side: float) -> None:
        """Buildings and open plots of one side, with what closes or fills them."""
        sc, st = self.scene, self.street
        z = -12.0 + self.u(0, 8)
        while z < FAR:
            width = sc.frontage * self.u(0.65, 1.4)
            if st.cross[1] and z < st.cross[1] + 2 and z + width > st.cross[0] - 3:  # leave room for the junction
                if z < st.cross[0] - 8:
                    width = st.cross[0] - 3 - z
                else:
                    z = st.cross[1] + 3
                    continue
            back = sc.setback * self.u(0.6, 1.4)
            line = st.edge + back + self.u(0.0, 0.4)
            if self.chance(sc.density):
                storeys = max(1, round(sc.storeys * self.u(0.65, 1.4)))
                height = storeys * self.u(2.9, 3.5) + self.u(0.2, 1.0)
                shop = "shop" if back < 3 and self.chance(sc.shops) else "home"
                roof = "pitched" if storeys <= 6 and self.chance(sc.pitched) else "flat"
                self.strip("building", side * line, z, z + width, depth=side * self.u(8, 13), height=height, far=8.0,
                           variant=f"{shop} {roof} {storeys}")
                if back > 2.5:
                    self.boundary(side, st.edge + 0.1, z, z + width)
                    self.garden(side, st.edge + 0.5, line - 0.3, z, z + width)
            else:
                self.boundary(side, st.edge + 0.1, z, z + width)
                self.garden(side, st.edge + 1.0, st.edge + 10, z, z + width)
                for _ in range(self.count(width / 8)):
                    self.put("tree", side * self.u(st.edge + 9, st.edge + 26), self.u(z, z + width), far=14.0,
                             height=self.u(6, 13))
            z += width + (self.u(0.5, 4.0) if self.chance(0.25 + 0.5 * (sc.setback > 3)) else 0.0)

    def boundary(self, side: float, s: float, z0: float, z1: float) -> None:
        sc, draw = self.scene, self.u(0, 1)
        kinds = (("wall", sc.walls, (0.8, 2.4)), ("fence", sc.fences, (0.9, 2.0)), ("hedge", sc.hedges, (0.8, 2.0)))
        for kind, share, (low, high) in kinds:
            if draw < share:
                height, pieces = self.u(low, high), max(1, round((z1 - z0) / (7 if z0 < 30 else 14)))
                variant = str(self.rng.integers(3))
                for i in range(pieces):
                    a, b = z0 + (z1 - z0) * i / pieces, z0 + (z1 - z0) * (i + 1) / pieces
                    self.strip(kind, side * s, a, b, depth=side * 0.5, height=height, far=1.0, variant=variant)
                return
            draw -= share

    def garden(self, side: float, s0: float, s1: float, z0: float, z1: float) -> None:
        for kind, expected in (("bush", 1.0 + self.scene.bushes * 0.3), ("tree", 0.25 + 0.08 * self.scene.trees)):
            for _ in range(self.count(expected * (z1 - z0) / 12)):
                height = self.u(0.7, 2.0) if kind == "bush" else self.u(4, 9)
                self.put(kind, side * self.u(s0 + 0.4, max(s1, s0 + 0.5)), self.u(z0, z1), far=2.5, height=height)

    def skyline(self) -> None:
        """What closes the view: a far belt of buildings and trees, and a second row beside the street."""
        sc, bend = self.scene, 0.5 * self.scene.curve * (FAR + 40) ** 2
        for _ in range(7):
            x, z = self.u(-100, 100), FAR + self.u(10, 60)
            if self.chance(0.35 + 0.5 * sc.density):
                width, height = self.u(10, 28), 3.1 * sc.storeys * self.u(0.5, 1.5) + 2
                self.things.append(
                    Thing(
                        "building",
                        x + bend - width / 2,
                        z,
                        math.pi / 2,
                        int(self.rng.integers(2**31)),
                        z + 60,
                        width,
                        -10.0,
                        height,
                        f"home flat {max(1, round(height / 3.1))}",
                    )
                )
            else:
                for _ in range(2):
                    self.put("tree", x + self.u(-9, 9), z + self.u(-9, 9), far=60, height=self.u(7, 15))
        for side in (-1.0, 1.0):
            for z in np.arange(self.u(15, 35), FAR, 22):
                s = side * (self.street.edge + sc.setback + self.u(16, 30))
                if self.chance(sc.density * 0.8):
                    width = self.u(10, 20)
                    x, zz = self.street.at(s, float(z))
                    height = 3.1 * sc.storeys * self.u(0.6, 1.3) + 1
                    left = x if side > 0 else x - width
                    self.things.append(Thing("building", left, zz, math.pi / 2, int(self.rng.integers(2**31)),
                                             float(z) + 35, width, -10.0, height,
                                             f"home {'pitched' if self.chance(sc.pitched) else 'flat'} "
                                             f"{max(1, round(height / 3.1))}"))
                else:
                    self.put("tree", s, float(z), far=30, height=self.u(6, 13))

    # -- what stands on the sidewalk

    def row(self, kind: str, per_100m: float, s: float, *, height: tuple[float, float], variant: str = "",
            turn: float = 0.0, regular: bool = False) -> None:
        """Things along one offset, at random or evenly spaced."""
        z = self.u(3, 6 + 60 / max(per_100m, 0.6))
        while z < 80 and per_100m > 0.05:
            if self.street.open(z, 2.5):
                self.put(kind, s + self.u(-0.1, 0.1), z, height=self.u(*height), variant=variant, turn=turn)
            gap = 100 / per_100m * (1.7 if z > 55 else 1.0)
            z += gap * (self.u(0.92, 1.08) if regular else self.u(0.3, 1.7))

    def furniture(self) -> None:
        sc, st = self.scene, self.street
        near = st.half + KERB + 0.35
        for side in (-1.0, 1.0):
            tree_at = st.half + KERB + sc.verge * 0.5 if sc.verge >= 1 else near + 0.5
            if sc.verge >= 1 or sc.sidewalk >= 2.4:
                self.row("tree", sc.trees, side * tree_at, height=(4.5, 10.0), regular=self.chance(0.6))
            else:
                self.row("tree", sc.trees, side * (st.edge + 1.5), height=(5.0, 11.0))
            if sc.verge >= 1:
                self.row("bush", sc.bushes, side * tree_at, height=(0.5, 1.3))
            self.row("lamp", sc.lamps * 0.6, side * near, height=(5.0, 9.0), turn=-side * math.pi / 2, regular=True,
                     variant=str(self.scene.seed % 3))
            self.row(
                "sign", sc.signs, side * (near + 0.1), height=(2.2, 3.3), variant="back" if side * st.side < 0 else ""
            )
            self.row("bollard", sc.bollards, side * near, height=(0.7, 1.1), regular=True)
            self.row("box", sc.clutter, side * (st.edge - 0.4), height=(0.7, 1.6))
            self.row("parked_bike", sc.parked_bikes, side * (st.edge - 0.55), height=(1.0, 1.1), turn=self.u(-0.3, 0.3))
        if self.chance(0.25):
            self.row("wire_pole", 2.5, -st.side * (near + 0.3), height=(7.0, 9.0), regular=True)
        for z in (st.cross[0] - 1.2, st.cross[1] + 1.2, sc.crossing):
            if z > 4 and self.chance(sc.lights):
                for side in (-1.0, 1.0):
                    arm = "arm" if sc.lanes > 1 and side == st.side and self.chance(0.5) else ""
                    self.put("light", side * near, z, height=self.u(2.8, 3.6) if not arm else 5.6, variant=arm)
            elif z > 4 and self.chance(0.5):
                self.put("sign", st.side * near, z, height=self.u(2.3, 3.0))


LONG = {"tram": 26.0, "bus": 12.0, "truck": 8.0}  # vehicles too long to be ordered by their middle, metres


HALF = 1.3  # half their width, metres
_SMALL = ("person", "cyclist", "motorcyclist")


def _inside(thing: Thing, vehicle: Thing) -> bool:
    """Whether the middle of a thing lies in a long vehicle."""
    s, c = math.sin(vehicle.heading), math.cos(vehicle.heading)
    x, z = thing.x - vehicle.x, thing.z - vehicle.z
    return abs(x * s + z * c) < LONG[vehicle.kind] / 2 + 0.3 and abs(x * c - z * s) < HALF


def _apart(things: list[Thing]) -> list[Thing]:
    """Things without the people and riders that stand inside a bus, a truck or a tram."""
    long = [t for t in things if t.kind in LONG]
    return [t for t in things if t.kind not in _SMALL or not any(_inside(t, v) for v in long)]


def _ordered(things: list[Thing], street: Street) -> list[Thing]:
    """Things with painting orders that are right around long vehicles.

    A long vehicle counts by its near end, so that what stands behind its flank is painted before it; what stands
    between its flank and the camera's line of sight (or astride that line) is painted after it, in its own order.
    """
    things = [replace(t, far=max(t.z - LONG[t.kind] / 2, 1.0)) if _along(t) else t for t in things]
    eye = street.camera_x
    for i in sorted((i for i, t in enumerate(things) if _along(t)), key=lambda i: -abs(things[i].x - eye)):
        vehicle, last = things[i], things[i].z + LONG[things[i].kind] / 2 + 1
        sign, gap = math.copysign(1, vehicle.x - eye), abs(vehicle.x - eye)
        for k, t in enumerate(things):
            beside = (t.x - eye) * sign
            if k != i and t.z < last and t.kind != "building" and -2.5 < beside < gap - HALF:
                things[k] = replace(t, far=min(t.far, vehicle.far - 0.5 + t.far * 1e-3))
    return things


def _along(thing: Thing) -> bool:
    """Whether a thing is a long vehicle that drives along the street."""
    return thing.kind in LONG and abs(math.sin(thing.heading)) < 0.5


def plan(scene: Scene) -> tuple[Street, list[Thing]]:
    """The street of a scene and everything on it, painting order first to last."""
    planner = _Planner(scene)
    planner.skyline()
    for side in (-1.0, 1.0):
        planner.plots(side)
    planner.furniture()
    planner.parked()
    planner.traffic()
    planner.riders()
    planner.people()
    return planner.street, sorted(_ordered(_apart(planner.things), planner.street), key=lambda t: -t.far)
