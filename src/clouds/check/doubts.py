"""What a check warns of, a line each, and what it says that it did not look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from clouds.check.inspect import Inspection
from clouds.check.useless import mostly_ignored
from clouds.config.label_sets import IGNORE, LabelSet
from clouds.config.recipe import Recipe
from clouds.data.datasets import PHOTOS
from clouds.data.labels import narrowed, train_ids
from clouds.errors import UsageError


def unscored(domains: Sequence[Inspection], recipe: Recipe) -> list[str]:
    """Warnings of domains that show fewer than two of the model's classes, and of classes that no domain shows."""
    model, warnings = recipe.model.label_set, []
    for found in (each for each in domains if each.opened):
        if found.fold:
            shown = {model.classes[k] for k in train_ids(found.label_set, model, found.fold).tolist() if k != IGNORE}
        else:
            shown = set(_held(found.label_set, model))
        if len(shown) < 2:
            warnings.append(f"{found.name}: shows {' and '.join(shown) or 'none'} of the model's classes; a score of "
                            "fewer than two says nothing")  # fmt: skip
    return warnings


def _held(label_set: LabelSet, model: LabelSet) -> tuple[str, ...]:
    """The classes of a label set that hold one of the model's."""
    try:
        return narrowed(label_set, model).classes
    except UsageError:
        return ()


def own_car(found: Inspection, remedy: str) -> list[str]:
    """A line that suggests to leave the car under the camera out, where labels show one."""
    return [f"{found.name}: the bonnet of the car that carries the camera is labelled, {100 * found.own_car:.0f} % of "
            f"every picture; to learn nothing from it say {remedy}"] if found.own_car else []  # fmt: skip


def not_decoded(sets: Sequence[Inspection]) -> list[str]:
    """What was found, but not decoded."""
    return [f"{found.name}: {found.unseen} of {found.pairs}, which were counted but not decoded (--full decodes all)"
            for found in sets if found.unseen]  # fmt: skip


def not_opened(recipe: Recipe, targets: Mapping[str, Path]) -> list[str]:
    """What a recipe needs or could use that this check does not open."""
    lines = []
    if recipe.evaluate.domains is None and (absent := [name for name in PHOTOS if name not in targets]):
        lines.append(f"photos to score on that are not below data.root: {', '.join(absent)}")
    if recipe.data.unlabelled:
        lines.append("of videos, all but the first frame")
    return [*lines, "models, packages and devices (`clouds doctor`), drawn images (`clouds audit`)"]


def doubts(sets: Sequence[Inspection], exif: str) -> list[str]:
    """Warnings of labels that say little, and of images that ask to be turned, which labels may follow or not."""
    ignored = [line for found in sets if found.labelled for line in mostly_ignored(found.name, found.counts)]
    done = {
        "ignore": "their labels are taken for drawn on the stored pixels (data.exif=ignore)",
        "apply": "their labels are taken for drawn on the turned picture (data.exif=apply)",
    }
    notes = [f"{found.name}: {note}" for found in sets for note in found.notes]
    return notes + ignored + [
        f"{found.name}: {len(found.turned)} of the images looked at have an EXIF orientation, such as "
        f"{found.turned[0][0]} ({found.turned[0][1]}); {done[exif]}"
        for found in sets
        if found.turned and exif in done  # else it is a problem
    ]
