"""Who is on the street: parked and moving vehicles, riders, people."""

import math

from clouds.streets.street import FAR, KERB, PARK, Pen


class Actors(Pen):
    """Puts the actors on a street."""

    def parked(self) -> None:
        sc, st = self.scene, self.street
        if sc.parking <= 0:
            return
        for side in (-1.0, 1.0):
            z = self.u(-2, 5)
            while z < 62:
                clear = st.open(z, 7) and not (sc.crossing and abs(z - sc.crossing) < 6)
                if clear and self.chance(sc.parking):
                    turn = 0.0 if side == st.side or self.chance(0.2) else math.pi
                    self.vehicle("car", side * (st.half - 1.05), z, turn + self.u(-0.03, 0.03), "parked")
                z += self.u(5.4, 6.6)

    def vehicle(self, kind: str, s: float, z: float, turn: float, variant: str = "") -> None:
        self.put(kind, s, z, turn=turn, variant=variant)

    def traffic(self) -> None:
        """Moving vehicles in the lanes, no two in one place."""
        sc, st = self.scene, self.street
        lengths = {"car": 5.0, "truck": 9.0, "bus": 12.5, "tram": 27.0, "motorcyclist": 2.5, "cyclist": 2.0}
        taken: dict[int, list[tuple[float, float]]] = {}
        wanted = {"tram": sc.trams * sc.tracks * 1.3, "bus": sc.buses, "truck": sc.trucks, "car": sc.cars,
                  "motorcyclist": sc.motorcycles * 0.6}
        lanes = [i for i in range(-sc.lanes, sc.lanes + 1) if i]
        for kind, expected in wanted.items():
            for _ in range(self.count(expected)):
                lane = int(self.rng.choice([-1, 1])) if kind == "tram" else lanes[int(self.rng.integers(len(lanes)))]
                s = st.side * math.copysign(sc.median / 2 + (abs(lane) - 0.5) * sc.lane_width, lane)
                z = self.u(7, 32) + self.rng.exponential(16)
                half = lengths[kind] / 2
                low = z - half
                own = abs(s - st.camera_x) < 2.0
                if low < (6.5 if own else 2.5):
                    z += (6.5 if own else 2.5) - low
                blocks = taken.setdefault(lane, [])
                if z > FAR or any(z - half < b + 2 and z + half > a - 2 for a, b in blocks):
                    continue
                blocks.append((z - half, z + half))
                self.vehicle(kind, s + self.u(-0.2, 0.2) * (kind != "tram"), z, 0.0 if lane > 0 else math.pi)
        if st.cross[1]:
            for share in (0.3, 0.72):
                if self.chance(0.12 * min(sc.cars, 5)):
                    z = st.cross[0] + (st.cross[1] - st.cross[0]) * share
                    s = self.u(st.half + 1, st.half + 16) * (1 if self.chance(0.5) else -1)
                    self.vehicle("car", s, z, math.pi / 2 if share > 0.5 else -math.pi / 2)

    def riders(self) -> None:
        sc, st = self.scene, self.street
        for kind, expected in (("cyclist", sc.cyclists), ("motorcyclist", sc.motorcycles * 0.5)):
            for _ in range(self.count(expected)):
                way = 1.0 if self.chance(0.6) else -1.0
                s = way * st.side * (st.half - (PARK if sc.parking > 0 else 0) - self.u(0.5, 0.9))
                z = self.u(6, 14) + self.rng.exponential(10)
                turn = 0.0 if way > 0 else math.pi
                if st.cross[1] and self.chance(0.3):
                    s, z, turn = self.u(-st.half, st.half), self.u(*st.cross), self.u(1.3, 1.8)
                self.put(kind, s, z, turn=turn + self.u(-0.1, 0.1))
        if sc.parking > 0:
            for _ in range(self.count(sc.motorcycles)):
                side = 1.0 if self.chance(0.5) else -1.0
                z = self.u(5, 30)
                if st.open(z, 3):
                    self.put("parked_motorcycle", side * (st.half + KERB + 0.5), z, turn=self.u(0.2, 1.2))

    def people(self) -> None:
        sc, st = self.scene, self.street
        left = self.count(sc.people)
        low, high = st.half + KERB + sc.verge + 0.5, st.edge - 0.3
        while left > 0:
            group = min(left, 1 + self.count(0.5))
            left -= group
            side = 1.0 if self.chance(0.5) else -1.0
            z = self.u(5, 15) + self.rng.exponential(14)
            s, turn = side * self.u(low, max(high, low + 0.1)), 0.0 if self.chance(0.5) else math.pi
            crossing = [c for c in (sc.crossing, st.cross[0] - 1.5 if st.cross[1] else 0.0) if c > 6]
            if crossing and self.chance(0.35):
                z, s = crossing[int(self.rng.integers(len(crossing)))] + self.u(-1, 1), self.u(-st.half, st.half)
                turn = math.pi / 2 if self.chance(0.5) else -math.pi / 2
            elif self.chance(0.03):
                s = side * (st.half - self.u(0.3, 1.0))
            if abs(s - st.camera_x) < 1.3 and z < 8:
                z += 6
            for i in range(group):
                variant = "umbrella" if self.chance(sc.umbrellas) else ""
                height = self.u(1.55, 1.9) if self.chance(0.88) else self.u(1.0, 1.45)
                self.put("person", s + self.u(-0.35, 0.35) * i, z + self.u(-0.3, 0.3) * i + 0.5 * i,
                         turn=turn + self.u(-0.4, 0.4), height=height, variant=variant)
