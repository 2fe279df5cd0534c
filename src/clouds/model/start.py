"""A model to start from, ``train.start``: checked before any work, without torch, and taken over."""

from typing import TYPE_CHECKING

from clouds.config.recipe import Recipe
from clouds.errors import UsageError
from clouds.model.folder_config import has_model, read_config
from clouds.model.place import model_folder

if TYPE_CHECKING:
    from clouds.model.segmenter import Segmenter

CLASS_HEAD = "head.decoder.class_head.linear."  # a row a class, then void
SHAPING = ("vision", "head", "hidden", "queries", "heads", "pixel_layers", "pixel_ffn", "layers", "ffn", "adapt")


def check_start(recipe: Recipe) -> None:
    """What can be known before any work of ``train.start``: UsageError where there is no model or one of another
    network, DataError for a damaged one, BackendError where the hub has none of that name."""
    if not (word := recipe.train.start):
        return
    folder = model_folder(word)
    if not has_model(folder):
        raise UsageError(f"train.start: {word}: holds no model; expected a run, a model folder or a hub id")
    there = read_config(folder)
    here = recipe.model.model_dump(mode="json") | {"adapt": recipe.model.adapter}
    if unlike := [key for key in SHAPING if there.get(key) != here[key]]:
        text = ", ".join(f"model.{key} ({there.get(key)} there, {here[key]} here)" for key in unlike)
        raise UsageError(
            f"train.start: {word}: its network differs in {text}; use its settings, or leave out train.start"
        )


def start_from(model: "Segmenter", word: str) -> None:
    """Fill a fresh ``model`` with the weights of another of the same network, whatever its classes.

    What belongs to a class is taken where both know a class of that name; the rest of it stays as it is.
    """
    from clouds.model.folder import load_model

    other = load_model(model_folder(word))
    theirs, own = other.state_dict(), model.state_dict()  # detached
    for name, tensor in own.items():
        if name == "vocabulary":  # the text of the model's own class names
            continue
        if name.startswith(CLASS_HEAD):
            places = [(k, other.classes.index(c)) for k, c in enumerate(model.classes) if c in other.classes]
            for here, there in [*places, (-1, -1)]:  # the last row is void
                tensor[here] = theirs[name][there]
        else:
            tensor.copy_(theirs[name])
    model.trained_on = other.trained_on
