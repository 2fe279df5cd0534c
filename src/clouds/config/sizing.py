"""The demo's recipe, sized for another time than its ten minutes."""

from clouds.config.load import as_recipe
from clouds.config.recipe import Recipe
from clouds.errors import UsageError

MINUTES = 10  # that the demo's recipe takes on two cores
LEAST_MINUTES, MOST_MINUTES = 0.2, 10_000
LEAST_STEPS = 80  # of the shortest demo


def scaled(recipe: Recipe, minutes: float, overrides: list[str]) -> Recipe:
    """The demo's recipe with its work scaled to ``minutes`` (0.2 to 10000), but for keys the user set.

    Below about two minutes the steps stay at a least number, most of them warm-up: a teacher that has learned nothing
    gives refinement nothing to change, and such a run fails. Raises UsageError for other minutes.
    """
    if not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        raise UsageError(f"--minutes: got {minutes:g}; expected {LEAST_MINUTES:g} to {MOST_MINUTES}")
    share = minutes / MINUTES
    values = recipe.model_dump()
    steps = max(round(recipe.train.steps * share), LEAST_STEPS)
    wanted = {
        "train.steps": steps,
        "train.warmup_share": recipe.train.warmup_share if steps > LEAST_STEPS else 0.75,
        "generate.count": max(round(recipe.generate.count * min(share, 4)), 8),
        "data.source_count": max(round(recipe.data.source_count * min(share, 4)), 16),
        "prompts.count": max(round(recipe.prompts.count * min(share, 4)), 8),
        "evaluate.rendered_count": max(round(recipe.evaluate.rendered_count * min(share, 1)), 4),
        "evaluate.max_images": recipe.evaluate.max_images if share >= 1 else max(round(230 * share), 4),
    }
    given = {override.partition("=")[0] for override in overrides}
    for key, value in wanted.items():
        group, _, name = key.partition(".")
        if key not in given:
            values[group][name] = value
    return as_recipe(values, "demo")
