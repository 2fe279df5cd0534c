"""How much of the demo's work fits into so many minutes here: a little of each kind of work is done and timed."""

import time
from collections.abc import Mapping

from clouds import streets
from clouds.check.dry_run import dry_run
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.config.sizing import LEAST_MINUTES, MOST_MINUTES, scaled
from clouds.evaluate.domains import unseen_domains

SCENES = 8  # rendered to time one
REAL = 1.12  # a step of the demo beside one on noise: images are augmented and segmented anew, checkpoints written
ROUNDS = 8  # of correcting the size; the work grows almost evenly with it


def measure(recipe: Recipe) -> dict[str, float]:
    """Seconds of "scene" (rendering one), "warmup" and "joint" (a step), "score" (an image, by one model) and "start"
    (loading models, writing the report). Takes about as long as ten steps."""
    tried = dry_run(recipe)
    step, batch = tried["seconds_per_step_measured"], REAL * recipe.train.batch_size / tried["images_per_step_measured"]
    streets.render(streets.sample("source", 0))  # the first one also makes tables
    began = time.monotonic()
    for k in range(SCENES):
        streets.render(streets.sample("source", k))
    scene = (time.monotonic() - began) / SCENES
    return {
        "scene": scene,
        "warmup": (step - tried["seconds_of_pseudo_labels"]) * batch,
        "joint": step * batch,
        "score": scene + 2 * tried["validation_seconds_per_image"],
        "start": 8 * step,
    }


def seconds_of(recipe: Recipe, part: Mapping[str, float]) -> float:
    """What the demo takes with this recipe, by what its parts take."""
    scored = sum(domain.length for domain in unseen_domains(recipe))
    warmup = recipe.train.warmup_steps
    return (
        part["start"]
        + part["scene"] * (recipe.data.source_count + recipe.generate.count)
        + part["warmup"] * warmup
        + part["joint"] * (recipe.train.steps - warmup)
        + part["score"] * 2 * scored
    )


def fitting(minutes: float, part: Mapping[str, float], overrides: list[str]) -> float:
    """The minutes to give to ``scaled`` so that the demo takes ``minutes`` here; the least where it cannot."""
    size = minutes
    for _ in range(ROUNDS):
        takes = seconds_of(scaled(load_recipe("demo", overrides), size, overrides), part)
        size = min(max(size * 60 * minutes / takes, LEAST_MINUTES), MOST_MINUTES)
    return size
