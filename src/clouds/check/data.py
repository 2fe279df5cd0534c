"""Before hour one: is everything there that a recipe or a dataset needs, and does it say what we think it says?"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clouds.base.files import make_folder
from clouds.base.pick import evenly
from clouds.base.text import counted, did_you_mean
from clouds.check.contact import contact_sheet
from clouds.check.doubts import doubts, not_decoded, not_opened, own_car, unscored
from clouds.check.inspect import EXAMPLES, Inspection, inspect_set, shrunk, unopened
from clouds.check.photographs import NAME, inspect_photographs
from clouds.check.useless import no_class, too_short
from clouds.config.label_sets import CITYSCAPES, IGNORE
from clouds.config.load import dataset_recipe, is_recipe, load_recipe, recipe_names
from clouds.config.recipe import DomainSet, Labelled, Recipe
from clouds.data.datasets import FOLDERS, PHOTOS, dataset_names, is_dataset
from clouds.data.formats.table import FORMATS
from clouds.data.images import write_png
from clouds.data.labelled import learned_from, set_root, spec_of, unmatched
from clouds.data.labels import train_ids
from clouds.data.layouts import Spec
from clouds.data.rendered import draw_source
from clouds.errors import DataError, UsageError

T = TypeVar("T")
SCENES = 8  # rendered to look at
RENDERED = "rendered"  # in place of a root


def check(what: str, words: list[str], root: Path | None, full: bool, out: Path) -> dict[str, Any]:
    """Check a dataset by its name or a recipe; the object that ``clouds check --json`` prints.

    ``words``: key=value settings. ``root``: the dataset's own folder or archive. Contact sheets go into ``out``.
    What is wrong with the data is in the result; UsageError is for a request that makes no sense, before any work.
    """
    if is_dataset(what):
        return _check_dataset(what, words, root, full, out)
    if not is_recipe(what):
        if Path(what).is_dir():
            raise UsageError(
                f"{what}: is a folder; name the dataset in it, such as `clouds check camvid --root {what}`. The "
                f"names are {', '.join(dataset_names())}. Describe a layout of your own in a recipe: docs/datasets.md"
            )
        hint = did_you_mean(what, [*dataset_names(), *recipe_names()])
        raise UsageError(f"{what!r}: {hint}neither a dataset ({', '.join(dataset_names())}), nor a shipped recipe "
                         f"({', '.join(recipe_names())}), nor a YAML file")  # fmt: skip
    if root:
        raise UsageError(f"--root: is for a dataset ({', '.join(dataset_names())}); a recipe takes data.root=PATH")
    return _check_recipe(load_recipe(what, words), full, out)


def _check_dataset(name: str, words: list[str], root: Path | None, full: bool, out: Path) -> dict[str, Any]:
    """Every split there is, or the one named in ``words``."""
    recipe = dataset_recipe(name, words, root)
    (chosen,) = recipe.data.source
    if chosen.root is None and recipe.data.root is None:
        raise UsageError(f"{name}: say where it is: --root PATH, its own folder or archive, or data.root=PATH")
    row = _or_error(partial(spec_of, chosen, recipe))
    if isinstance(row, Spec) and chosen.split and chosen.split not in row.splits:
        raise UsageError(f"{name} has no split {chosen.split!r}; it has {', '.join(row.splits)}")
    make_folder(out)
    found = _inspect(chosen, recipe, row, chosen.split, full)
    (record,) = _records([found], out)
    never = [c for c, share in record["histogram"].items() if share == 0]
    warnings = [f"never occurs in the {found.decoded} labels looked at: {', '.join(never)}"] if never else []
    if found.labelled and found.decoded and not found.counts[:IGNORE].any():
        record["problems"].append({"path": found.root, "what": no_class(found.decoded, found.label_set.classes)})
        warnings = []
    bonnet = own_car(found, f"data.source=[{{dataset: {name}, own_car: ignore}}]")
    warnings += [*bonnet, *doubts([found], recipe.data.exif)]
    return record | {"warnings": warnings, "not_looked_at": not_decoded([found])}


def _check_recipe(recipe: Recipe, full: bool, out: Path) -> dict[str, Any]:
    """The splits it learns from, and the benchmark's photos that ``data.root`` has."""
    root, chosen = recipe.data.root, recipe.data.source
    rows = [None if each.dataset == "streets" else _or_error(partial(learned_from, each, recipe))
            for each in chosen]  # fmt: skip
    roots = [set_root(each, recipe) for each in chosen if each.dataset != "streets"]
    if root and not root.is_dir():
        raise UsageError(f"data.root: {root} is not a folder; expected one with a folder per dataset")
    make_folder(out)
    sources = [_inspect_source(each, row, recipe, full) for each, row in zip(chosen, rows, strict=True)]
    exif, targets = recipe.data.exif, _photo_targets(recipe)
    photos = [inspect_set(name, path, splits=[PHOTOS[name]], full=full, exif=exif) for name, path in targets.items()]
    own = [each for each in recipe.evaluate.domains or () if not each.known]
    photos += [_inspect_domain(each, recipe, full) for each in own]
    unlabelled, more = inspect_photographs(recipe, full, out)
    sets = _records([*sources, *photos, *unlabelled], out)
    problems = [problem for each in sets for problem in each["problems"]]
    if root and not recipe.evaluate.domains and not targets and not any(each.is_relative_to(root) for each in roots):
        folders = ", ".join(sorted({FOLDERS[name] for name in PHOTOS}))
        problems.append({"path": str(root), "what": f"holds none of {folders}; expected a folder per dataset"})
    histogram, warnings = _taught(sources, recipe)
    looked = sum(found.decoded for found in sources)
    if looked and all(found.opened for found in sources) and not any(histogram.values()):
        problems.append({"path": "data.source", "what": no_class(looked, recipe.model.label_set.classes)})
        warnings = []
    for found, each in zip(sources, chosen, strict=True):
        if each.own_car == "keep":
            warnings += own_car(found, "own_car: ignore in its entry of data.source")
    warnings += too_short(recipe)
    crop = recipe.augment.crop
    small = [
        f"{found.name}: images of {found.smallest[1]}x{found.smallest[0]} are smaller than the crop of "
        f"{crop[1]}x{crop[0]}; they will be padded"
        for found in sources
        if found.smallest and (found.smallest[0] < crop[0] or found.smallest[1] < crop[1])
    ]
    return {
        "recipe": recipe.name,
        "dataset": ", ".join(found.name for found in sources),
        "pairs": sum(found.pairs for found in sources),
        # once each: a file may be in a source and a target
        "problems": list({(problem["path"], problem["what"]): problem for problem in problems}.values()),
        "histogram": histogram,
        "warnings": warnings + small + unscored(photos, recipe) + more + doubts([*sources, *photos], exif),
        "not_looked_at": [*not_decoded([*sources, *photos, *unlabelled]), *not_opened(recipe, targets)],
        "datasets": sets,
    }


def _or_error(find: Callable[[], T]) -> T | DataError:
    """What is found, or why the files of a format cannot be read, which the check lists as a problem."""
    try:
        return find()
    except DataError as error:
        return error


def _inspect_source(
    chosen: Labelled, row: tuple[Spec, str] | DataError | None, recipe: Recipe, full: bool
) -> Inspection:
    if row is None:
        return _rendered(recipe)
    spec, split = (row, None) if isinstance(row, DataError) else row
    return _inspect(chosen, recipe, spec, split, full)


def _inspect(chosen: Labelled, recipe: Recipe, spec: Spec | DataError, split: str | None, full: bool) -> Inspection:
    """A labelled set of a recipe: ``split``, or every split there is."""
    root, splits = set_root(chosen, recipe), [split] if split else None
    if isinstance(spec, DataError):
        return unopened(chosen.dataset, root, spec, recipe.model.label_set)
    return inspect_set(chosen.dataset, root, spec, splits, full, chosen.version, recipe.data.exif)


def _photo_targets(recipe: Recipe) -> dict[str, Path]:
    """The benchmark's photos, or those that the recipe names, as far as ``data.root`` has them: name -> folder."""
    root, asked = recipe.data.root, recipe.evaluate.domains
    names = [*PHOTOS] if asked is None else [each.name for each in asked if each.known and each.name in PHOTOS]
    return {name: root / FOLDERS[name] for name in names if root and (root / FOLDERS[name]).exists()}


def _inspect_domain(chosen: DomainSet, recipe: Recipe, full: bool) -> Inspection:
    """A domain of the recipe's own, under its name."""
    spec = _or_error(partial(spec_of, chosen, recipe))
    split = chosen.split or (spec.scored if isinstance(spec, Spec) else None)
    found = _inspect(chosen, recipe, spec, split, full)
    found.name, found.fold = chosen.name, chosen.fold
    return found


def _taught(sources: Sequence[Inspection], recipe: Recipe) -> tuple[dict[str, float | None], list[str]]:
    """Shares of the model's classes in the labels of the sources, null where none can teach a class; what to warn of.
    """
    counts, classes = np.zeros(256, np.int64), recipe.model.label_set
    possible: set[int] = set()
    ignored: list[str] = []
    for found, chosen in zip(sources, recipe.data.source, strict=True):
        if not found.opened:
            continue
        table = train_ids(found.label_set, classes, chosen.fold)
        np.add.at(counts, table, found.counts)
        if chosen.dataset in FORMATS and (line := unmatched(found.label_set, chosen.fold, classes)):
            ignored.append(f"{found.name}: {line}")
        own = found.label_set.classes
        shown = [k for k, name in enumerate(own) if found.shown is None or name in found.shown]
        possible |= {*table[shown].tolist()} - {IGNORE}
    histogram = {n: s if k in possible else None for k, (n, s) in enumerate(_shares(counts, classes.classes).items())}
    looked = sum(found.decoded for found in sources)
    warnings = ignored
    absent = [name for k, name in enumerate(histogram) if k not in possible]
    never = [name for k, (name, share) in enumerate(histogram.items()) if k in possible and share == 0]
    if absent:
        warnings.append(f"not in the source's label set, so the model cannot learn: {', '.join(absent)}")
    if never:
        warnings.append(f"never occurs in the {looked} source labels looked at, so the model cannot learn: "
                        f"{', '.join(never)}")  # fmt: skip
    return histogram, warnings


def _rendered(recipe: Recipe) -> Inspection:
    """The embedded source, of which a few scenes are rendered to look at."""
    found = Inspection("streets", RENDERED, CITYSCAPES, splits={"train": recipe.data.source_count})
    for k in range(min(SCENES, recipe.data.source_count)):
        image, label = draw_source(recipe, k)
        found.counts += np.bincount(label.ravel(), minlength=256)
        found.examples.append(shrunk(f"scene {k}", image, label))
        found.decoded += 1
    found.smallest = recipe.data.source_size
    return found


def _shares(counts: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, float | None]:
    """Pixels by class -> their shares of the labelled pixels; null where no pixel is labelled."""
    total = int(counts[: len(classes)].sum())
    return {name: float(counts[k] / total) if total else None for k, name in enumerate(classes)}


def _records(sets: Sequence[Inspection], out: Path) -> list[dict[str, Any]]:
    """What was found of each set, as data; draws their contact sheets, NAME.png, NAME-2.png for another of a name."""
    names = [found.name for found in sets]
    again = [names[:k].count(name) for k, name in enumerate(names)]
    sheets = [out / (f"{name}-{k + 1}.png" if k else f"{name}.png") for name, k in zip(names, again, strict=True)]
    return [_tell(found, sheet) for found, sheet in zip(sets, sheets, strict=True)]


def _tell(found: Inspection, sheet: Path) -> dict[str, Any]:
    if found.examples:
        splits = ", ".join(f"{name} {count}" for name, count in found.splits.items())
        title = f"{found.name}: {found.pairs} pairs ({splits}), label set {found.label_set.name}"
        examples = [found.examples[k] for k in evenly(len(found.examples), EXAMPLES)]
        write_png(sheet, contact_sheet(title, examples, found.label_set))
    pixels = int(found.counts.sum())
    return {
        "dataset": found.name,
        "pairs": found.pairs,
        "problems": [{"path": path, "what": what} for path, what in found.problems],
        "histogram": _shares(found.counts, found.label_set.classes),
        "root": found.root,
        "label_set": found.label_set.name,
        "splits": found.splits,
        "decoded": found.decoded,
        "ignored": float(found.counts[IGNORE] / pixels) if pixels and found.labelled else None,
        "contact_sheet": str(sheet.resolve()) if found.examples else None,
    }


def check_table(result: dict[str, Any]) -> str:
    """The check for a terminal."""
    lines: list[str] = []
    for each in result.get("datasets", [result]):
        lines += [*_set_lines(each), ""]
    if "datasets" in result and result["histogram"] != result["datasets"][0]["histogram"]:
        lines += ["source of the recipe, by train class:", *_bars(result["histogram"]), ""]
    if problems := result["problems"]:
        lines += [f"{counted(len(problems), 'problem')}:"]
        lines += [*(f"  {each['path']}: {each['what']}" for each in problems), ""]
    if warnings := result["warnings"]:
        lines += [*(f"warning: {warning}" for warning in warnings), ""]
    if unseen := result["not_looked_at"]:
        lines += ["not looked at:", *(f"  {each}" for each in unseen), ""]
    if not problems:
        lines.append("no problem found")
    return "\n".join(lines).rstrip()


def _set_lines(each: dict[str, Any]) -> list[str]:
    splits = ", ".join(f"{name} {count}" for name, count in each["splits"].items())
    place = f", {RENDERED}" if each["root"] == RENDERED else f" in {each['root']}"
    kind = "without labels" if each["dataset"] == NAME else "pairs"
    if not each["pairs"]:
        return [f"{each['dataset']}{place}: nothing found"]
    lines = [f"{each['dataset']}{place}: {each['pairs']} {kind} ({splits}), {each['decoded']} decoded whole"]
    lines += _bars(each["histogram"])
    if each["ignored"] is not None:
        lines.append(f"  {'ignored':<18}{100 * each['ignored']:>6.2f} % of all pixels")
    if each["contact_sheet"]:
        lines.append(f"  contact sheet: {each['contact_sheet']}")
    return lines


def _bars(histogram: dict[str, float | None]) -> list[str]:
    """A line a class; "-" for one that the label set lacks, "never" for one that could be there; none if all lack."""
    if all(share is None for share in histogram.values()):
        return []
    top = max((share or 0 for share in histogram.values()), default=0) or 1
    lines = []
    for name, share in histogram.items():
        tiny = "never" if not share else "<0.01 %"
        text = "-" if share is None else tiny if share < 5e-5 else f"{100 * share:.2f} %"
        lines.append(f"  {name:<18}{text:>8} {'#' * round(40 * (share or 0) / top)}".rstrip())
    return lines
