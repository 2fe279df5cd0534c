"""A recipe's parts, put together: the model, the segmenter, regions; and the names of who plays which role."""

import torch

from clouds.config.recipe import Recipe
from clouds.errors import UsageError
from clouds.foundation.backbone import build_text, weights_record
from clouds.model.folder import has_model, load_model, read_config
from clouds.model.place import model_folder
from clouds.model.segmenter import Segmenter
from clouds.model.vocabulary import text_classifier


def build_model(recipe: Recipe) -> Segmenter:
    """A fresh segmenter: pre-trained backbone, text classifier filled in, decoder at random or with the weights of
    ``train.start``."""
    chosen, classes = recipe.model, recipe.model.label_set
    record = weights_record(chosen.vision, chosen.weights, chosen.revision)
    text = build_text(chosen.text, record if chosen.text == chosen.vision else None)
    model = Segmenter(
        **chosen.model_dump(exclude={"weights", "revision", "adapt", "lora", "rein", "classes"}),
        adapt=chosen.adapter,
        weights=record,
        text_dim=text.dim,
        classes=list(classes.classes),
        synonyms=[list(group) for group in classes.synonyms],
        colors=[list(color) for color in classes.colors],
        shorter_side=recipe.evaluate.shorter_side,
        pretrained=True,
    )
    model.vocabulary.copy_(text_classifier(text, classes.synonyms))
    if recipe.train.start:
        start_from(model, recipe.train.start)
    return model


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
        raise UsageError(f"train.start: {word}: its network differs in {text}; set them as there, or start anew")


@torch.no_grad()
def start_from(model: Segmenter, word: str) -> None:
    """Fill a fresh ``model`` with the weights of another of the same network, whatever its classes.

    What belongs to a class is taken where both know a class of that name; the rest of it stays as it is.
    """
    other = load_model(model_folder(word))
    theirs, own = other.state_dict(), model.state_dict()
    for name, tensor in own.items():
        if name == "vocabulary":  # the text of the model's own class names
            continue
        if name.startswith(CLASS_HEAD):
            places = [(k, other.classes.index(c)) for k, c in enumerate(model.classes) if c in other.classes]
            for here, there in [*places, (-1, -1)]:  # the last row is void
                tensor[here] = theirs[name][there]
        else:
            tensor.copy_(theirs[name])
