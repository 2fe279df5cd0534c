"""New class names for a trained model with the text head: same weights, another vocabulary."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from clouds.config.label_sets import colors_of
from clouds.errors import BackendError, UsageError
from clouds.foundation.backbone import build_text
from clouds.model.segmenter import Segmenter
from clouds.model.vocabulary import synonym_index, text_classifier

MOST = 255  # labels are bytes, and 255 is "ignore"


def parse_names(classes: str | Sequence[str]) -> list[list[str]]:
    """``"scooter, road|street"`` or ``["scooter", "road|street"]`` -> groups of synonyms, the class's name first.

    Raises UsageError for an empty or repeated name.
    """
    words = classes.split(",") if isinstance(classes, str) else list(classes)
    groups = [[name.strip() for name in word.split("|")] for word in words]
    names = [name for group in groups for name in group]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or not all(names) or twice or len(groups) > MOST:
        what = f"{len(groups)} classes" if len(groups) > MOST else "a class without a name"
        what = f"{', '.join(twice)} named twice" if twice else what
        raise UsageError(
            f"classes: got {classes!r}: {what}; expected 1 to {MOST} different names, such as scooter,road|street "
            "(synonyms after a bar)"
        )
    return groups


def with_classes(model: Segmenter, classes: str | Sequence[str], weights: str | None = None) -> Segmenter:
    """``model`` with the names ``classes`` (as in ``parse_names``) for its vocabulary; shares its weights.

    A bare name of one of the model's classes stands for that class with its own synonyms. The text tower is loaded only
    for names the model does not know: from ``weights`` (a tag, hub id or path), by default those the model records.
    Raises UsageError for a linear head, BackendError where the tower cannot be loaded or is not the model's.
    """
    if model.settings["head"] != "text":
        raise UsageError(
            "classes: this model's class head is linear, its classes are fixed by training; only a model trained with "
            "model.head=text has an open vocabulary"
        )
    asked = parse_names(classes)
    named = {name for group in asked for name in group}
    own = dict(zip(model.classes, model.synonyms, strict=True))
    groups = [
        [n for n in own[group[0]] if n not in named or n == group[0]] or group
        if len(group) == 1 and group[0] in own
        else group
        for group in asked
    ]
    names = [name for group in groups for name in group]
    home = {name: i for i, group in enumerate(model.synonyms) for name in group}
    known = dict(zip((n for group in model.synonyms for n in group), model.vocabulary, strict=True))
    known |= _embedded(model, [name for name in names if name not in known], weights)
    seen = [any(name in home and bool(model.seen[home[name]]) for name in group) for group in groups]
    colors = colors_of([group[0] for group in asked], dict(zip(model.classes, model.colors, strict=True)))

    twin = copy.copy(model)  # modules and parameters stay shared, what is set below does not
    twin._buffers = {
        **model._buffers,
        "vocabulary": torch.stack([known[name] for name in names]),
        "synonym_columns": synonym_index([len(group) for group in groups]).to(model.synonym_columns.device),
        "seen": torch.tensor(seen, device=model.seen.device),
    }
    twin.classes, twin.synonyms, twin.colors = [group[0] for group in asked], groups, colors
    twin._hub_mixin_config = {
        **model._hub_mixin_config,  # type: ignore[dict-item]
        "classes": twin.classes, "synonyms": groups, "colors": colors, "seen": seen,
    }  # fmt: skip
    return twin


def _embedded(model: Segmenter, names: Sequence[str], weights: str | None) -> dict[str, torch.Tensor]:
    """Rows of new names, by the tower that made the model's own rows; checked on one of them."""
    if not names:
        return {}
    settings = model.settings
    record = settings["weights"] if settings["text"] == settings["vision"] else None
    text = build_text(settings["text"], {"source": weights, "revision": None} if weights else record)
    first = model.synonyms[0][0]
    rows = text_classifier(text, [[first], *([name] for name in names)]).to(model.vocabulary)
    own = model.vocabulary
    if rows.shape[1] != own.shape[1] or F.cosine_similarity(rows[0], own[0], dim=0) < 0.999:
        raise BackendError(
            f"text tower {settings['text']}: embeds {first!r} otherwise than this model's vocabulary does, so its "
            "weights are not those the model was made with; name those weights (--weights)"
        )
    return dict(zip(names, rows[1:], strict=True))
