"""The label sets and datasets as tables for people: what each class holds, what it trains as, what cannot be scored."""

from collections.abc import Sequence
from typing import Any

from clouds.base.text import columns
from clouds.config.label_sets import CITYSCAPES, IGNORE
from clouds.config.load import is_recipe, load_recipe
from clouds.config.recipe import Labelled, Recipe
from clouds.data.datasets import PHOTOS, dataset_names, find_spec
from clouds.data.formats.table import FORMATS
from clouds.data.labelled import spec_of
from clouds.data.labels import LABEL_SETS, LabelSet, find_label_set, folding, train_ids
from clouds.data.layouts import DATASETS
from clouds.errors import UsageError


def class_tables(name: str | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """All label sets and datasets, or one label set class by class, or how a recipe's sets fold into its classes; the
    object that ``clouds classes --json`` prints.

    UsageError for a name that is none of these, and for a recipe that cannot be.
    """
    if name is not None and is_recipe(name):
        return _recipe(load_recipe(name, list(overrides)))
    if overrides:
        raise UsageError(f"{overrides[0]}: only a recipe takes settings; name one, such as demo, or leave it out")
    if name is None:
        return {
            "label_sets": {each.name: list(each.classes) for each in LABEL_SETS.values()},
            "datasets": {
                key: {
                    "label_set": find_label_set(spec.label_set).name,
                    "splits": list(spec.splits),
                    "folder": spec.folder,
                    "licence": spec.licence,
                    "home": spec.home,
                }
                for key, spec in DATASETS.items()
            },
            "formats": {key: {"files": row.files, "names": row.names} for key, row in FORMATS.items()},
        }
    if name in FORMATS:
        raise UsageError(f"{name}: its classes are in its own files ({FORMATS[name].names}); `clouds check {name} "
                         "--root PATH` lists them, `clouds classes RECIPE` shows how they fold")  # fmt: skip
    if name in LABEL_SETS:
        return _one(LABEL_SETS[name])
    if name in DATASETS:
        return _one(find_label_set(find_spec(name).label_set)) | {"dataset": name}
    raise UsageError(f"{name!r}: neither a recipe, nor a label set ({', '.join(LABEL_SETS)}) nor a dataset "
                     f"({', '.join(n for n in dataset_names() if n in DATASETS)})")  # fmt: skip


def _one(label_set: LabelSet) -> dict[str, Any]:
    held = {member for members in label_set.members for member in members}
    return {
        "label_set": label_set.name,
        "classes": [
            {"index": k, "name": name, "color": list(color), "holds": list(members), "trains_as": trains or None}
            for k, (name, color, members, trains) in enumerate(
                zip(label_set.classes, label_set.colors, label_set.members, label_set.trains_as, strict=True)
            )
        ],
        "not_scored": [name for name in CITYSCAPES.classes if name not in held],
        "not_taught": [name for name in CITYSCAPES.classes if name not in label_set.trains_as],
    }


def _recipe(recipe: Recipe) -> dict[str, Any]:
    """The classes of a recipe's model, and how each source and domain folds: class there -> class of the model."""
    model, domains = recipe.model.label_set, recipe.evaluate.domains
    sources = [_folds(each.dataset, each, recipe) for each in recipe.data.source]
    taught = {name for each in sources for name in each["folds"].values()}
    known = [each for each in domains or () if not each.known]
    named = [each.name for each in domains if each.known] if domains is not None else [*PHOTOS]
    found = [_folds(each.name, each, recipe) for each in known]
    found += [_scored(name, find_spec(name).label_set, model) for name in named if name in DATASETS]
    return {
        "recipe": recipe.name,
        "classes": [
            {"index": k, "name": name, "color": list(color), "synonyms": list(words)}
            for k, (name, color, words) in enumerate(zip(model.classes, model.colors, model.synonyms, strict=True))
        ],
        "sources": sources,
        "domains": found,
        "not_taught": [name for name in model.classes if name not in taught],
    }


def _folds(name: str, chosen: Labelled, recipe: Recipe) -> dict[str, Any]:
    """How the labels of a set become the model's classes, null where none is right."""
    model = recipe.model.label_set
    streets = chosen.dataset == "streets"
    spec = None if streets else spec_of(chosen, recipe)
    label_set = find_label_set(spec.label_set) if spec else CITYSCAPES
    table = train_ids(label_set, model, chosen.fold)
    ids = table[: len(label_set.classes)].tolist()
    folds = {own: None if k == IGNORE else model.classes[k] for own, k in zip(label_set.classes, ids, strict=True)}
    return {"name": name, "label_set": label_set.name, "folds": folds}


def _scored(name: str, label_set: str | LabelSet, model: LabelSet) -> dict[str, Any]:
    """The same of a domain that is scored on its own label set: class of the model -> class there."""
    target = find_label_set(label_set)
    table = folding(target, model)
    folds = {own: None if k == IGNORE else target.classes[k]
             for own, k in zip(model.classes, table[: len(model.classes)].tolist(), strict=True)}  # fmt: skip
    return {"name": name, "label_set": target.name, "scored_as": folds}


def tables_text(tables: dict[str, Any], colour: bool = False) -> str:
    """For a terminal; ``colour`` paints swatches."""
    if "recipe" in tables:
        return _recipe_text(tables, colour)
    return _overview(tables) if "datasets" in tables else _classes(tables, colour)


def _recipe_text(tables: dict[str, Any], colour: bool) -> str:
    lines = [f"{tables['recipe']}: {len(tables['classes'])} classes; 255 is ignored", ""]
    for row in tables["classes"]:
        lines.append(f"{row['index']:>3}  {_swatch(row, colour)}{row['name']:<20}{', '.join(row['synonyms'])}")
    lines.append("")
    for kind, each in [*(("source", s) for s in tables["sources"]), *(("domain", d) for d in tables["domains"])]:
        folds = each.get("folds") or each["scored_as"]
        names: dict[str, list[str]] = {}
        for own, target in folds.items():
            names.setdefault(target or "", []).append(own)
        what = "learned as" if kind == "source" else "scored as"
        lines.append(f"{kind} {each['name']} ({each['label_set']}), {what}:")
        for target, own in names.items():
            lines += _filled(f"  {target or 'ignored':<20}", ", ".join(own))
    lines += ["", *_filled("no source teaches: ", ", ".join(tables["not_taught"]) or "none")]
    return "\n".join(lines)


def _swatch(row: dict[str, Any], colour: bool) -> str:
    return "\x1b[48;2;{};{};{}m  \x1b[0m ".format(*row["color"]) if colour else ""


def _overview(tables: dict[str, Any]) -> str:
    lines = ["label sets (clouds classes NAME shows how one folds the 19 Cityscapes classes; RECIPE shows its own):"]
    for name, classes in tables["label_sets"].items():
        lines += _filled(f"  {name:<14}{len(classes):>3}  ", ", ".join(classes))
    rows = [["dataset", "label set", "folder", "splits", "terms; home"]]
    for name, row in tables["datasets"].items():
        terms = f"{row['licence']}; {row['home']}"
        rows.append([name, row["label_set"], row["folder"], ", ".join(row["splits"]), terms])
    rows.append(["folder", "as you say", "any", "as you say", "your own images and labels: docs/datasets.md"])
    formats = ["formats, read where they lie (docs/labels.md):"]
    for name, row in tables["formats"].items():
        formats += _filled(f"  {name:<14}", f"{row['files']}. Classes: {row['names']}.")
    return "\n".join([*lines, "", *columns(rows, left=5), "", *formats])


def _filled(start: str, text: str, width: int = 110) -> list[str]:
    """The text after ``start``, wrapped and indented."""
    import textwrap

    return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start))


def _classes(tables: dict[str, Any], colour: bool) -> str:
    of = f", of {tables['dataset']}" if "dataset" in tables else ""
    lines = [f"{tables['label_set']}{of}: {len(tables['classes'])} classes; 255 is ignored", ""]
    lines.append(f"{'':<4}{'class':<20}{'trained as':<16}holds, when a model's 19 classes are scored")
    for row in tables["classes"]:
        holds = ", ".join(row["holds"]) or "-"
        lines.append(f"{row['index']:>2}  {_swatch(row, colour)}{row['name']:<20}{row['trains_as'] or '-':<16}{holds}")
    lines.append("")
    lines += _filled("not scored here (null, never zero): ", ", ".join(tables["not_scored"]) or "none")
    lines += _filled("not learned from its labels: ", ", ".join(tables["not_taught"]) or "none")
    return "\n".join(lines)
