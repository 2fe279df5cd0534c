"""registry."""

from clouds.config.recipe import Recipe
from clouds.foundation import backend_name
from clouds.foundation.backbones.sources import default_weights


def backends(recipe: Recipe) -> dict[str, str]:
    """Which backend plays which role."""
    model = recipe.model
    chosen = {
        "vision": (model.vision, model.weights),
        "text": (model.text, model.weights if model.text == model.vision else None),
        "prompts": (recipe.prompts.writer, None),
        "images": (recipe.generate.generator, None),
        "segmenter": (recipe.selftrain.segmenter, recipe.selftrain.segmenter_revision),
    }
    for role, restyle in (("restyled images", recipe.generate.restyle), ("restyled source", recipe.data.restyle)):
        if restyle:
            chosen[role] = (restyle.backend, None)
    return {role: backend_name(name, weights or default_weights(name)) for role, (name, weights) in chosen.items()}
