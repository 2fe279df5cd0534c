"""The words a prompt can set a scene with, as data.

``VOCABULARY``: attribute -> phrase -> recipes (see `scene.py`). ``words.yaml`` has the same phrases with other wordings
that mean the same, and the sentence that they fit.
"""

from functools import cache
from pathlib import Path

import yaml

from clouds.streets.phrases import Phrases
from clouds.streets.scene import WIDE, Recipe, Scene, build

SERIES = 100  # the series of prompted scenes: their streets are none of the distributions'
Recipes = dict[str, dict[str, Recipe]]

_PLACE: Recipes = {
    "a residential street": {"lanes": 1, "parking": (0.4, 0.9), "sidewalk": (1.6, 2.8), "setback": [2.0, 4.0, 6.0],
                             "storeys": (1.5, 3.0), "density": (0.7, 0.95), "shops": 0.0, "pitched": (0.6, 1.0),
                             "hedges": (0.2, 0.5), "trees": (3.0, 9.0), "verge": [0.0, 1.5]},
    "a busy downtown avenue": {"lanes": [2, 3], "sidewalk": (3.0, 6.0), "setback": 0.0, "storeys": (5.0, 10.0),
                               "density": (0.9, 1.0), "shops": (0.6, 1.0), "pitched": 0.0, "cars": (5.0, 12.0),
                               "people": (8.0, 18.0), "architecture": ["glass", "stone", "panel", "mixed"]},
    "a narrow street in an old town": {"lanes": 1, "lane_width": (2.4, 2.8), "parking": [0.0, 0.3],
                                       "sidewalk": (0.9, 1.8), "surface": ["cobbles", "worn"],
                                       "paving": ["cobbles", "slabs"],
                                       "setback": 0.0,
                                       "density": 1.0, "frontage": (6.0, 11.0), "storeys": (2.5, 4.5),
                                       "median": 0.0,
                                       "architecture": ["stone", "plaster"], "shops": (0.3, 0.8), "trees": (0.0, 1.0),
                                       "verge": 0.0, "pitched": (0.6, 1.0)},
    "a suburban road": {"lanes": [1, 2], "setback": (4.0, 10.0), "storeys": (1.0, 2.2), "density": (0.5, 0.8),
                        "verge": (1.2, 3.0), "sidewalk": (1.2, 2.0), "fences": (0.2, 0.6), "trees": (3.0, 10.0),
                        "shops": 0.0, "pitched": (0.7, 1.0), "people": (0.0, 4.0)},
    "a wide boulevard": {"lanes": [2, 3], "median": (2.0, 5.0), "trees": (7.0, 14.0), "sidewalk": (4.0, 7.0),
                         "storeys": (4.0, 7.0), "density": (0.85, 1.0), "setback": 0.0},
    "a country road": {"lanes": 1, "sidewalk": 0.0, "parking": 0.0, "density": (0.0, 0.2), "verge": (1.5, 4.0),
                       "trees": (4.0, 16.0), "bushes": (3.0, 8.0), "walls": (0.0, 0.2), "fences": (0.1, 0.4),
                       "lamps": 0.0,
                       "people": (0.0, 1.0), "setback": (4.0, 9.0), "storeys": (1.0, 2.0), "median": 0.0,
                       "crossing": 0.0, "clutter": 0.0, "parked_bikes": 0.0, "tracks": 0, "buses": (0.0, 0.3)},
    "a village street": {"lanes": 1, "storeys": (1.0, 2.4), "frontage": (8.0, 14.0), "density": (0.5, 0.85),
                         "pitched": (0.8, 1.0), "walls": (0.2, 0.5), "sidewalk": (0.9, 2.0), "setback": [0.0, 1.0, 3.0],
                         "architecture": ["stone", "timber", "plaster", "brick"], "median": 0.0},
    "an industrial area": {"architecture": ["metal", "panel", "brick"], "frontage": (20.0, 40.0), "storeys": (1.5, 3.0),
                           "trucks": (1.0, 3.0), "fences": (0.4, 0.8), "setback": (2.0, 8.0), "density": (0.4, 0.7),
                           "pitched": 0.0, "shops": 0.0, "people": (0.0, 3.0), "surface": ["worn", "concrete"]},
    "a city highway": {"lanes": [2, 3], "lane_width": (3.4, 3.8), "sidewalk": 0.0, "parking": 0.0, "median": (1.0, 3.0),
                       "density": (0.1, 0.5), "setback": (6.0, 14.0), "verge": (1.5, 4.0), "walls": (0.2, 0.5),
                       "fences": (0.2, 0.4), "cars": (5.0, 14.0), "trucks": (0.8, 2.5), "people": 0.0, "cyclists": 0.0,
                       "crossing": 0.0, "junction": 0.0, "parked_bikes": 0.0},
    "a shopping street": {"shops": 1.0, "density": 1.0, "setback": 0.0, "sidewalk": (3.0, 6.0), "people": (10.0, 20.0),
                          "clutter": (3.0, 7.0), "storeys": (2.5, 5.0)},
    "a street with tram tracks": {"tracks": 1, "trams": 1.2, "lanes": [1, 2], "storeys": (3.0, 6.0)},
    "a street beside a park": {"density": (0.1, 0.35), "trees": (10.0, 18.0), "hedges": (0.3, 0.6),
                               "bushes": (3.0, 7.0),
                               "fences": (0.2, 0.5), "verge": (1.0, 3.0), "setback": (3.0, 8.0)},
    "a crossroads": {"junction": (14.0, 26.0), "lights": 1.0, "crossing": 0.0},
    "a street of tower blocks": {"architecture": ["panel", "glass"], "storeys": (7.0, 12.0), "frontage": (18.0, 32.0),
                                 "setback": (3.0, 9.0), "pitched": 0.0, "trees": (3.0, 9.0)},
    "a street lined with palm trees": {"tree_kind": "palm", "trees": (6.0, 12.0), "palette": ["pastel", "sand"]},
}

_WEATHER: Recipes = {
    "under a clear sky": {"cloud": (0.0, 0.2), "sun": (0.85, 1.0), "fog": (0.0008, 0.002), "wet": 0.0},
    "under scattered clouds": {"cloud": (0.3, 0.55), "sun": (0.6, 1.0), "fog": (0.001, 0.003)},
    "under an overcast sky": {"cloud": (0.85, 1.0), "sun": (0.0, 0.1), "saturation": (0.6, 0.9)},
    "in the rain": {"rain": (0.4, 0.75), "wet": (0.6, 0.9), "cloud": (0.85, 1.0), "sun": 0.0, "fog": (0.004, 0.01),
                    "drops": [0.0, 0.4], "umbrellas": (0.3, 0.6)},
    "in heavy rain": {"rain": (0.8, 1.0), "wet": (0.85, 1.0), "cloud": 1.0, "sun": 0.0, "fog": (0.01, 0.02),
                      "drops": (0.4, 1.0), "umbrellas": (0.4, 0.8), "saturation": (0.45, 0.75)},
    "after the rain": {"wet": (0.6, 1.0), "cloud": (0.4, 0.9), "sun": (0.0, 0.5)},
    "in light mist": {"fog": (0.008, 0.016), "sun": (0.0, 0.25), "cloud": (0.7, 1.0), "saturation": (0.6, 0.85)},
    "in dense fog": {"fog": (0.035, 0.08), "sun": 0.0, "cloud": 1.0, "saturation": (0.4, 0.7)},
    "in fog": {"fog": (0.018, 0.035), "sun": (0.0, 0.1), "cloud": 1.0, "saturation": (0.45, 0.8)},
    "in falling snow": {"snow": (0.6, 1.0), "snowfall": (0.5, 1.0), "season": "winter", "sun": 0.0, "cloud": 1.0,
                        "fog": (0.005, 0.016)},
    "covered in snow": {"snow": (0.8, 1.0), "snowfall": 0.0, "season": "winter", "fog": (0.001, 0.005)},
    "in haze": {"fog": (0.006, 0.012), "warmth": (0.2, 0.6), "saturation": (0.6, 0.9), "cloud": (0.0, 0.4)},
}
_LIGHT: Recipes = {
    "at noon": {"night": 0.0, "sun_elevation": (50.0, 68.0), "warmth": (-0.1, 0.1)},
    "in the morning": {"night": 0.0, "sun_elevation": (14.0, 28.0), "warmth": (0.0, 0.4)},
    "in the afternoon": {"night": 0.0, "sun_elevation": (25.0, 42.0), "warmth": (0.1, 0.4)},
    "at dawn": {"night": (0.25, 0.45), "sun_elevation": (3.0, 8.0), "warmth": (0.2, 0.8), "sun": (0.1, 0.6)},
    "at dusk": {"night": (0.4, 0.65), "sun_elevation": (2.0, 6.0), "warmth": (0.1, 0.8), "sun": (0.0, 0.3)},
    "at sunset": {"night": (0.1, 0.3), "sun_elevation": (4.0, 10.0), "warmth": (0.7, 1.0), "sun": (0.6, 1.0)},
    "at golden hour": {"night": 0.0, "sun_elevation": (7.0, 14.0), "warmth": (0.6, 1.0), "sun": (0.8, 1.0)},
    "at night": {"night": (0.8, 1.0), "sun": 0.0, "lamps": (3.0, 6.0), "noise": (3.0, 8.0)},
    "against the low sun": {"night": 0.0, "sun_elevation": (6.0, 14.0), "sun_azimuth": (-22.0, 22.0), "sun": 1.0,
                            "warmth": (0.3, 0.8), "exposure": (0.7, 0.95)},
    "in flat light": {"sun": (0.0, 0.1), "warmth": (-0.1, 0.1)},
}
_SEASON: Recipes = {
    "in spring": {"season": "spring"}, "in summer": {"season": "summer"}, "in autumn": {"season": "autumn"},
    "in winter": {"season": "winter"},
}
_CAMERA: Recipes = {
    "seen from a dashcam": {"cam_height": (1.2, 1.5), "cam_pitch": (-1.0, 3.0), "focal": (0.7, 1.0), "jpeg": [55, 75]},
    "seen from a low car": {"cam_height": (0.9, 1.15)},
    "seen from a bus": {"cam_height": (2.0, 2.6), "cam_pitch": (1.5, 5.0)},
    "wide-angle view": {"focal": (0.5, 0.65)},
    "telephoto view": {"focal": (1.3, 1.8)},
    "with the bonnet in view": {"bonnet": (0.06, 0.12)},
    "with raindrops on the windscreen": {"drops": (0.6, 1.0)},
    "slightly out of focus": {"blur": (0.8, 1.5)},
    "grainy picture": {"noise": (8.0, 14.0)},
    "overexposed picture": {"exposure": (1.35, 1.6)},
    "underexposed picture": {"exposure": (0.5, 0.7)},
    "faded colours": {"saturation": (0.3, 0.55)},
    "vivid colours": {"saturation": (1.2, 1.4)},
}
_ACTORS: Recipes = {
    "pedestrians crossing": {"people": (8.0, 16.0), "crossing": (9.0, 16.0)},
    "a crowd of people": {"people": (18.0, 30.0)},
    "children and parents": {"people": (6.0, 14.0)},
    "people with umbrellas": {"people": (6.0, 14.0), "umbrellas": (0.7, 1.0)},
    "cyclists": {"cyclists": (4.0, 8.0)},
    "parked bicycles": {"parked_bikes": (8.0, 14.0)},
    "motorcycles": {"motorcycles": (3.0, 6.0)},
    "heavy traffic": {"cars": (12.0, 20.0), "trucks": (0.5, 1.5), "buses": (0.3, 1.0)},
    "cars": {"cars": (5.0, 10.0)},
    "parked cars": {"parking": (0.7, 0.95)},
    "buses": {"buses": (2.0, 3.5)},
    "trucks": {"trucks": (2.0, 4.0)},
    "trams": {"trams": 2.0, "tracks": 1},
    "traffic lights": {"lights": 1.0, "crossing": (9.0, 18.0)},
    "road signs": {"signs": (8.0, 14.0)},
    "tall trees": {"trees": (9.0, 16.0)},
    "brick walls": {"walls": (0.6, 0.9), "density": (0.3, 0.6)},
    "garden fences": {"fences": (0.6, 0.9), "density": (0.3, 0.7), "setback": (2.0, 6.0)},
    "no traffic": {"cars": 0.0, "trucks": 0.0, "buses": 0.0, "trams": 0.0, "motorcycles": 0.0},
    "no people": {"people": 0.0, "cyclists": 0.0},
}

VOCABULARY: dict[str, Recipes] = {"place": _PLACE, "weather": _WEATHER, "light": _LIGHT, "season": _SEASON,
                                  "camera": _CAMERA, "actors": _ACTORS}


@cache
def _phrases() -> Phrases:
    with Path(__file__).with_name("words.yaml").open("rb") as file:
        return Phrases(yaml.safe_load(file)["attributes"])


def attributes(prompt: str) -> dict[str, list[str]]:
    """The phrases of the vocabulary that a prompt speaks of, by attribute, in the order of the sentence."""
    return _phrases().found(prompt)


def from_prompt(prompt: str, seed: int) -> Scene:
    """The scene a prompt describes; what it leaves open is drawn from everything a street can be.

    Of several phrases that set the same field, the one later in the sentence counts, and actors over places.
    ValueError for a seed below 0.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: use 0 or above")
    spoken = attributes(prompt)
    layers = [VOCABULARY[attribute][phrase] for attribute in VOCABULARY for phrase in spoken.get(attribute, [])]
    scene = build(seed, SERIES, WIDE, *layers)
    if scene.night > 0.6 and scene.sun > 0:
        scene = build(seed, SERIES, WIDE, *layers, {"sun": 0.0})
    return scene
