"""What one street scene is made of, and the named distributions scenes are drawn from.

A :class:`Scene` holds plain numbers and words. Fields above ``palette`` decide the *layout* (and so the label), fields
from ``palette`` on decide only the *style*: two scenes that differ in style alone have the same label, pixel for pixel.
A distribution is data: field -> recipe, where a recipe is a value (fixed), a pair (uniform between) or a list (choice).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from clouds.streets.dice import Dice

Value = float | int | str
Recipe = Value | tuple[float, float] | list[float] | list[int] | list[str]
Recipes = Mapping[str, Recipe]


@dataclass(frozen=True)
class Scene:
    """All parameters of one scene. Lengths in metres, angles in degrees, shares in 0..1."""

    seed: int
    series: int = 0  # which distribution the seed counts in: equal seeds of two are different streets
    # the street
    lanes: int = 1  # lanes in each direction
    lane_width: float = 3.3
    parking: float = 0.5  # share of the kerb taken by parked cars; above 0 the road has parking lanes
    median: float = 0.0  # width of the strip between the directions
    verge: float = 0.0  # width of the grass between kerb and sidewalk
    sidewalk: float = 2.5  # width; below 0.4 there is none
    curve: float = 0.0  # curvature, 1/m, positive to the right
    junction: float = 0.0  # distance of the crossing street; 0 for none
    crossing: float = 0.0  # distance of a zebra crossing; 0 for none
    tracks: int = 0  # 1: tram rails in the inner lanes
    drive_left: int = 0  # 1: traffic keeps left
    surface: str = "asphalt"  # asphalt, worn, concrete, cobbles
    paving: str = "slabs"  # of the sidewalks: slabs, bricks, asphalt, cobbles, concrete
    # what stands along it
    architecture: str = "plaster"  # plaster, brick, stone, panel, glass, timber, metal, mixed
    storeys: float = 3.0
    frontage: float = 13.0  # width of one building
    density: float = 0.9  # share of the plots that are built on
    setback: float = 0.0
    shops: float = 0.4
    pitched: float = 0.5  # share of pitched roofs
    walls: float = 0.3  # the first three: share of open plot edges closed by each
    fences: float = 0.3
    hedges: float = 0.3
    tree_kind: str = "broadleaf"  # broadleaf, conifer, palm, mixed
    trees: float = 4.0  # per 100 m of each side, as are the following
    bushes: float = 1.0
    lamps: float = 3.5
    signs: float = 3.0
    lights: float = 0.6  # chance that a junction or crossing has traffic lights
    bollards: float = 1.0
    clutter: float = 1.0  # bins, cabinets, posts
    # expected numbers of actors
    cars: float = 4.0
    trucks: float = 0.3
    buses: float = 0.3
    trams: float = 0.0
    motorcycles: float = 0.4
    cyclists: float = 0.8
    parked_bikes: float = 1.5
    people: float = 6.0
    umbrellas: float = 0.0  # share of people
    # the camera
    cam_height: float = 1.4
    cam_pitch: float = 1.0  # down
    cam_yaw: float = 0.0  # right
    cam_offset: float = 0.0  # from the lane's centre, right
    focal: float = 1.0  # in image widths
    bonnet: float = 0.0  # share of the image height the own bonnet covers (label 255)
    # ---- style: nothing below changes the label
    palette: str = "sand"  # sand, brick, pastel, grey, earth, nordic
    season: str = "summer"  # summer, spring, autumn, winter
    saturation: float = 1.0
    texture: float = 1.0  # strength of surface textures
    sun: float = 1.0  # strength of direct light
    sun_elevation: float = 50.0
    sun_azimuth: float = 60.0  # 0 ahead, 90 right
    warmth: float = 0.0  # -1 blue .. 1 golden
    night: float = 0.0  # 0 day, 0.5 deep dusk, 1 night
    cloud: float = 0.3
    fog: float = 0.002  # extinction, 1/m
    rain: float = 0.0
    wet: float = 0.0
    snow: float = 0.0  # cover
    snowfall: float = 0.0
    drops: float = 0.0  # on the windscreen
    exposure: float = 1.0
    white_balance: float = 0.0  # -1 blue .. 1 yellow
    vignette: float = 0.1
    blur: float = 0.0  # standard deviation, pixels at 512 px width
    noise: float = 2.0  # standard deviation, grey levels
    jpeg: int = 0  # quality; 0 for none


FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Scene))
_INDEX = {name: i for i, name in enumerate(FIELDS)}

# one clean town at noon: few materials, one camera
_SOURCE: dict[str, Recipe] = {
    "lanes": [1, 1, 1, 2], "lane_width": (3.1, 3.5), "parking": [0.0, 0.5, 0.8], "median": [0.0, 0.0, 0.0, 1.8],
    "verge": [0.0, 0.0, 1.6], "sidewalk": (2.0, 3.6), "curve": (-0.0025, 0.0025), "junction": [0.0, 0.0, 26.0, 40.0],
    "crossing": [0.0, 0.0, 12.0, 20.0], "tracks": [0, 0, 0, 1], "paving": ["slabs", "slabs", "bricks"],
    "architecture": ["plaster", "plaster", "brick"], "storeys": (2.0, 4.5), "frontage": (10.0, 16.0),
    "density": (0.7, 1.0), "setback": [0.0, 0.0, 1.5, 4.0], "shops": (0.0, 0.6), "trees": (0.0, 7.0),
    "bushes": (0.0, 2.0), "trams": 0.8, "trucks": (0.1, 0.8), "buses": (0.1, 0.8), "cars": (2.0, 6.0),
    "motorcycles": (0.2, 1.0), "cyclists": (0.3, 1.6), "people": (2.0, 10.0),
    "cam_yaw": (-2.0, 2.0),
    "cam_offset": (-0.2, 0.2), "cam_height": (1.35, 1.45), "cam_pitch": (0.6, 1.6),
    "palette": ["sand", "sand", "brick"],
    "sun_elevation": (45.0, 62.0), "sun_azimuth": (-150.0, 150.0), "cloud": (0.05, 0.4), "sun": (0.85, 1.0),
}

# anything a street can be, at day: the base that prompts and the target distributions start from
WIDE: dict[str, Recipe] = {
    "lanes": [1, 1, 1, 2, 2, 3], "lane_width": (2.7, 3.8), "parking": [0.0, 0.0, 0.3, 0.6, 0.9],
    "median": [0.0, 0.0, 0.0, 1.0, 3.0], "verge": [0.0, 0.0, 1.2, 2.5], "sidewalk": (1.2, 5.0),
    "curve": (-0.006, 0.006), "junction": [0.0, 0.0, 18.0, 28.0, 45.0], "crossing": [0.0, 0.0, 9.0, 16.0, 24.0],
    "tracks": [0, 0, 0, 0, 1], "drive_left": [0, 0, 0, 1],
    "surface": ["asphalt", "asphalt", "worn", "concrete", "cobbles"],
    "paving": ["slabs", "bricks", "asphalt", "cobbles", "concrete"],
    "architecture": ["plaster", "brick", "stone", "panel", "glass", "timber", "metal", "mixed", "mixed"],
    "storeys": (1.0, 8.0), "frontage": (8.0, 24.0), "density": (0.25, 1.0), "setback": [0.0, 0.0, 2.0, 5.0, 9.0],
    "shops": (0.0, 0.8), "pitched": (0.0, 1.0), "walls": (0.0, 0.6), "fences": (0.0, 0.6), "hedges": (0.0, 0.6),
    "tree_kind": ["broadleaf", "broadleaf", "conifer", "mixed", "palm"], "trees": (0.0, 10.0), "bushes": (0.0, 4.0),
    "lamps": (1.5, 5.0), "signs": (1.0, 7.0), "bollards": (0.0, 6.0), "clutter": (0.0, 5.0), "cars": (1.0, 8.0),
    "trucks": (0.0, 1.5), "buses": (0.0, 1.0), "trams": 0.8, "motorcycles": (0.0, 1.5), "cyclists": (0.0, 2.0),
    "parked_bikes": (0.0, 4.0), "people": (0.0, 16.0), "cam_height": (1.1, 2.2), "cam_pitch": (-1.5, 4.0),
    "cam_yaw": (-5.0, 5.0), "cam_offset": (-0.5, 0.5), "focal": (0.65, 1.25), "bonnet": [0.0, 0.0, 0.0, 0.0, 0.08],
    "palette": ["sand", "brick", "pastel", "grey", "earth", "nordic"],
    "season": ["summer", "summer", "spring", "autumn", "winter"], "saturation": (0.6, 1.25), "texture": (0.7, 1.4),
    "sun": (0.0, 1.0), "sun_elevation": (12.0, 65.0), "sun_azimuth": (-180.0, 180.0), "warmth": (-0.3, 0.5),
    "cloud": (0.0, 1.0), "fog": (0.001, 0.006), "exposure": (0.8, 1.2), "white_balance": (-0.4, 0.4),
    "vignette": (0.0, 0.35), "blur": (0.0, 0.7), "noise": (1.0, 5.0), "jpeg": [0, 0, 60, 85],
}

_CHANGES: dict[str, Recipes] = {
    "source": _SOURCE,
    "town": {**WIDE, "architecture": ["stone", "panel", "timber", "glass", "mixed"], "clutter": (2.0, 7.0),
             "palette": ["pastel", "grey", "earth", "nordic"], "sun_elevation": (8.0, 40.0), "warmth": (-0.3, 0.9)},
    "fog": {**WIDE, "fog": (0.016, 0.06), "sun": (0.0, 0.15), "cloud": (0.8, 1.0), "saturation": (0.4, 0.8),
            "warmth": (-0.4, 0.2), "wet": (0.0, 0.4), "trees": (2.0, 14.0), "season": ["autumn", "winter", "summer"]},
    "night": {**WIDE, "night": (0.75, 1.0), "sun": 0.0, "fog": (0.001, 0.006), "lamps": (3.0, 6.0),
              "wet": [0.0, 0.0, 0.5], "noise": (3.0, 9.0), "cloud": (0.0, 1.0), "shops": (0.3, 0.9)},
    "rain": {**WIDE, "rain": (0.4, 1.0), "wet": (0.6, 1.0), "sun": 0.0, "cloud": (0.85, 1.0), "fog": (0.004, 0.014),
             "warmth": (-0.5, 0.1), "drops": [0.0, 0.4, 1.0], "umbrellas": (0.2, 0.7), "exposure": (0.65, 0.95),
             "saturation": (0.5, 0.9)},
    "snow": {**WIDE, "snow": (0.55, 1.0), "snowfall": [0.0, 0.3, 0.7, 1.0], "sun": (0.0, 0.4), "cloud": (0.6, 1.0),
             "fog": (0.003, 0.016), "season": "winter", "warmth": (-0.6, 0.1), "saturation": (0.5, 0.9),
             "sun_elevation": (10.0, 30.0)},
}

DISTRIBUTIONS: tuple[str, ...] = tuple(_CHANGES)


def draw(recipe: Recipe, rng: np.random.Generator) -> Value:
    """One value of a recipe: itself, uniform in a pair, or one of a list."""
    if isinstance(recipe, tuple):
        return round(float(rng.uniform(*recipe)), 6)
    if isinstance(recipe, list):
        return recipe[int(rng.integers(len(recipe)))]
    return recipe


def build(seed: int, series: int, *layers: Recipes) -> Scene:
    """A scene from layers of recipes, later ones over earlier ones.

    Each field draws from its own generator, so that a changed recipe leaves every other field as it was.
    """
    merged: dict[str, Recipe] = {}
    for layer in layers:
        merged.update(layer)
    keys = {name: (seed, series, _INDEX[name]) for name, recipe in merged.items() if isinstance(recipe, tuple | list)}
    dice = Dice(list(keys.values()))
    values: dict[str, Value] = {}
    for name, recipe in merged.items():
        values[name] = draw(recipe, dice.of(*keys[name])) if isinstance(recipe, tuple | list) else recipe
    return Scene(seed=seed, series=series, **values)  # type: ignore[arg-type]


def sample(distribution: str, seed: int) -> Scene:
    """The scene of one seed (>= 0) in one of ``DISTRIBUTIONS``; ValueError for other names and seeds."""
    if distribution not in _CHANGES:
        raise ValueError(f"unknown distribution {distribution!r}: allowed are {', '.join(DISTRIBUTIONS)}")
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: use 0 or above")
    return build(seed, DISTRIBUTIONS.index(distribution), _CHANGES[distribution])
