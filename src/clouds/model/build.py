"""A recipe's parts, put together: the model, the segmenter, regions; and the names of who plays which role."""

from clouds.config.recipe import Recipe
from clouds.foundation.backbone import build_text, weights_record
from clouds.foundation.backbones.adapters import start_adapter
from clouds.model.segmenter import Segmenter
from clouds.model.start import start_from
from clouds.model.vocabulary import text_classifier


def build_model(recipe: Recipe) -> Segmenter:
    """A fresh segmenter: pre-trained backbone, text classifier filled in, decoder at random or with the weights of
    ``train.start``."""
    chosen, classes = recipe.model, recipe.model.label_set
    record = weights_record(chosen.vision, chosen.weights, chosen.revision)
    text = build_text(chosen.text, record if chosen.text == chosen.vision else None)
    model = Segmenter(
        **chosen.model_dump(exclude={"weights", "revision", "adapt", "lora", "soma", "rein", "classes"}),
        adapt=chosen.adapter,
        weights=record,
        text_dim=text.dim,
        classes=list(classes.classes),
        synonyms=[list(group) for group in classes.synonyms],
        colors=[list(color) for color in classes.colors],
        shorter_side=recipe.evaluate.shorter_side,
        pretrained=True,
    )
    if chosen.adapter:
        start_adapter(model.backbone, chosen.adapter)
    model.vocabulary.copy_(text_classifier(text, classes.synonyms))
    if recipe.train.start:
        start_from(model, recipe.train.start)
    return model
