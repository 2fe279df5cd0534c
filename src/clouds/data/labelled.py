"""The labelled sets of a recipe: where they lie, how they are opened, and all of them as one source."""

from collections.abc import Mapping
from pathlib import Path

from clouds.base.progress import say_once
from clouds.base.text import some
from clouds.config.label_sets import CITYSCAPES, IGNORE, LabelSet
from clouds.config.recipe import Labelled, Recipe
from clouds.data.cache import DecodedCache
from clouds.data.datasets import Segmentation, dataset_spec, folder_of, is_dataset
from clouds.data.formats.found import FoundSpec
from clouds.data.formats.table import FORMATS
from clouds.data.labels import train_ids
from clouds.data.layouts import Spec
from clouds.data.rendered import render_source
from clouds.data.source import Source
from clouds.errors import UsageError


def open_sets(recipe: Recipe) -> list[Segmentation | None]:
    """The recipe's labelled sets, None for the rendered one; nothing is made.

    Raises UsageError for an unknown dataset or one without a folder, DataError where a set is not whole.
    """
    sets = [None if each.dataset == "streets" else open_set(each, recipe) for each in recipe.data.source]
    for chosen, data in zip(recipe.data.source, sets, strict=True):
        if data:
            data.samples = data.samples[:: chosen.every]
        label_set, model = data.label_set if data else CITYSCAPES, recipe.model.label_set
        if (train_ids(label_set, model, chosen.fold) == IGNORE).all():
            raise UsageError(
                f"data.source: {chosen.dataset} teaches none of the model's classes ({', '.join(model.classes)}): its "
                f"own are {', '.join(label_set.classes)}; map those that are the same in its label_map"
            )
        if chosen.dataset in FORMATS and (line := unmatched(label_set, chosen.fold, model)):
            say_once(f"data.source: {chosen.dataset}: {line}")
    return sets


def unmatched(label_set: LabelSet, fold: Mapping[str, str | None], model: LabelSet) -> str:
    """A line that names the classes of a set that are none of the model's and are ignored; "" where there are none."""
    table = train_ids(label_set, model, fold)
    left = [name for k, name in enumerate(label_set.classes) if table[k] == IGNORE and name not in fold]
    folded = {name.casefold(): name for name in model.classes}
    alike = [f"{name}: {folded[name.casefold()]}" for name in left if name.casefold() in folded]
    hint = f"; names must be the same, so write label_map: {{{', '.join(alike)}}}" if alike else ""
    text = f"{some(left, 8)}: not among the model's classes, ignored unless a label_map names them{hint}"
    return text if left else ""


def make_source(recipe: Recipe, opened: list[Segmentation | None], rendered: Path) -> Source:
    """The opened sets as one source; renders into ``rendered`` what is missing of the embedded one."""
    cache = DecodedCache(recipe.data.cache, int(recipe.data.cache_gb * 2**30)) if recipe.data.cache else None
    sets = [each or render_source(recipe, rendered) for each in opened]
    source = Source(sets, cache, recipe.model.label_set, [each.fold for each in recipe.data.source])
    for which, chosen in enumerate(recipe.data.source):
        if chosen.own_car == "ignore":
            source.ignore_own_car(which)
    return source


def open_set(chosen: Labelled, recipe: Recipe, split: str | None = None) -> Segmentation:
    """One labelled dataset of a recipe; ``split`` in place of the one that is learned from.

    Errors as of ``learned_from`` and ``Segmentation``.
    """
    split = split or learned_from(chosen, recipe)[1]
    layout = chosen.layout(recipe.model.label_set)
    options = {"version": chosen.version, "partial": chosen.partial, "exif": recipe.data.exif, **layout}
    return Segmentation(chosen.dataset, set_root(chosen, recipe), split, **options)


def learned_from(chosen: Labelled, recipe: Recipe) -> tuple[Spec, str]:
    """The row of the table of datasets and the split: "train" where there is one, unless the recipe says.

    UsageError for an unknown dataset, an option or split that it lacks, and one without labels.
    """
    name = chosen.dataset
    try:
        spec = spec_of(chosen, recipe)
    except UsageError as error:
        text = str(error).removeprefix("data.source: ")
        raise UsageError(f"data.source: {text}" + ("" if is_dataset(name) else ", streets")) from None
    split = chosen.split or ("train" if "train" in spec.splits else spec.scored)
    if isinstance(spec, FoundSpec) and not chosen.split and split in ("val", "test"):
        raise UsageError(f"data.source: {name} has no split 'train'; it has {', '.join(spec.splits)}, say which: split")
    if split not in spec.splits:
        raise UsageError(f"data.source: {name} has no split {split!r}; it has {', '.join(spec.splits)}")
    if not any(layout.labels for layout in spec.layouts):
        raise UsageError(f"data.source: {name} has no labels to learn from")
    return spec, split


def spec_of(chosen: Labelled, recipe: Recipe) -> Spec:
    """The row of the table of datasets for a set of a recipe; of a format, what lies in its root."""
    root = set_root(chosen, recipe) if chosen.dataset in FORMATS else None
    return dataset_spec(chosen.dataset, chosen.split, chosen.layout(recipe.model.label_set), root)


def set_root(chosen: Labelled, recipe: Recipe) -> Path:
    """Where a set of the recipe lies; UsageError where the recipe does not say."""
    if chosen.root:
        return chosen.root
    if recipe.data.root is None:
        raise UsageError(f"data.source: {chosen.dataset} needs data.root=PATH, the folder that holds "
                         f"{folder_of(chosen.dataset)}/, or a root of its own")  # fmt: skip
    return recipe.data.root / folder_of(chosen.dataset)
