"""Before hour one: is everything there that a recipe or a dataset needs, and does it say what we think it says?"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clouds.classes import IGNORE, NAMES
from clouds.config import LabelledSet, Recipe, dataset_recipe, load_recipe, recipe_names
from clouds.data import streets
from clouds.data.contact import contact_sheet
from clouds.data.datasets import FOLDERS, dataset_names, find_spec
from clouds.data.folder import folder_spec
from clouds.data.inspect import Example, Inspection, inspect_set
from clouds.data.labels import LABEL_SETS, train_ids
from clouds.data.source import set_root
from clouds.errors import UsageError
from clouds.evaluate import PHOTOS
from clouds.generate.images import write_png

SCENES = 8  # rendered to look at


def check(what: str, words: list[str], root: Path | None, full: bool, out: Path) -> dict[str, Any]:
    """Check a dataset by its name or a recipe; the object that ``clouds check --json`` prints.

    ``words``: key=value settings. ``root``: the dataset's own folder or archive. Contact sheets go into ``out``.
    """
    if what in dataset_names():
        return _check_dataset(what, words, root, full, out)
    if root:
        raise UsageError(f"--root: is for a dataset ({', '.join(dataset_names())}); a recipe takes data.root=PATH")
    if what not in recipe_names() and Path(what).suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"{what!r}: neither a dataset ({', '.join(dataset_names())}), nor a shipped recipe "
            f"({', '.join(recipe_names())}), nor a YAML file"
        )
    return _check_recipe(load_recipe(what, words), full, out)


def _check_dataset(name: str, words: list[str], root: Path | None, full: bool, out: Path) -> dict[str, Any]:
    recipe = dataset_recipe(name, words + ([f"root={root}"] if root else []))
    (chosen,) = recipe.data.source
    if chosen.root is None and recipe.data.root is None:
        raise UsageError(f"{name}: say where it is: --root PATH, its own folder or archive, or data.root=PATH")
    found = _inspect(chosen, recipe, full)
    counted = found.decoded > 0 and found.labelled
    histogram = _shares(found.counts, found.label_set.classes) if counted else dict.fromkeys(found.label_set.classes)
    missing = [c for c, share in histogram.items() if share == 0]
    warnings = [f"{c} never occurs in the {found.decoded} labels looked at" for c in missing]
    return _told(found, histogram, out) | {"warnings": warnings}


def _check_recipe(recipe: Recipe, full: bool, out: Path) -> dict[str, Any]:
    """Its labelled sources, and the benchmark's photos that ``data.root`` has."""
    sources = [
        _rendered(recipe) if chosen.dataset == "streets" else _inspect(chosen, recipe, full)
        for chosen in recipe.data.source
    ]
    photos = [
        inspect_set(name, recipe.data.root / FOLDERS[name], splits=[split], full=full)
        for name, split in PHOTOS.items()
        if recipe.data.root and (recipe.data.root / FOLDERS[name]).exists()
    ]
    counts = np.zeros(256, np.int64)
    possible = set()
    for found in sources:
        table = train_ids(found.label_set)
        np.add.at(counts, table, found.counts)
        possible |= set(table[: len(found.label_set.classes)].tolist()) - {IGNORE}
    shares = _shares(counts, NAMES)
    histogram = {name: shares[name] if k in possible else None for k, name in enumerate(NAMES)}
    looked = sum(found.decoded for found in sources)
    warnings = [
        f"{name} never occurs in the {looked} source labels looked at; the model cannot learn it"
        if share == 0
        else f"{name} is no class of the source's label set; the model cannot learn it"
        for name, share in histogram.items()
        if not share
    ]
    crop = recipe.augment.crop
    warnings += [
        f"{found.name}: images of {found.smallest[1]}x{found.smallest[0]} are smaller than the crop of "
        f"{crop[1]}x{crop[0]}; they will be padded"
        for found in sources
        if found.smallest and (found.smallest[0] < crop[0] or found.smallest[1] < crop[1])
    ]
    sets = [_told(found, _shares(found.counts, found.label_set.classes), out) for found in (*sources, *photos)]
    return {
        "recipe": recipe.name,
        "dataset": ", ".join(found.name for found in sources),
        "pairs": sum(found.pairs for found in sources),
        "problems": [problem for each in sets for problem in each["problems"]],
        "histogram": histogram,
        "warnings": warnings,
        "datasets": sets,
    }


def _inspect(chosen: LabelledSet, recipe: Recipe, full: bool) -> Inspection:
    """A labelled set of a recipe: the split it names, or every split there is."""
    name, root = chosen.dataset, set_root(chosen, recipe.data)
    spec = folder_spec(chosen.split, **chosen.layout) if name == "folder" else find_spec(name)
    if chosen.split and chosen.split not in spec.splits:
        raise UsageError(f"{name} has no split {chosen.split!r}; it has {', '.join(spec.splits)}")
    splits = [chosen.split] if chosen.split else None
    return inspect_set(name, root, spec, splits, full, version=chosen.version, **chosen.layout)


def _rendered(recipe: Recipe) -> Inspection:
    """The embedded source, of which a few scenes are rendered to look at."""
    found = Inspection("streets", "rendered", LABEL_SETS["cityscapes19"], splits={"train": recipe.data.source_count})
    for k in range(min(SCENES, recipe.data.source_count)):
        scene = streets.sample("source", recipe.seed * 100_000 + k)
        image, label = streets.render(scene, recipe.data.source_size)
        found.counts += np.bincount(label.ravel(), minlength=256)
        found.examples.append(Example(f"scene {k}", image, label))
        found.decoded += 1
    found.smallest = recipe.data.source_size
    return found


def _shares(counts: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, float | None]:
    """Pixels by class -> their shares of the labelled pixels; null where no pixel is labelled."""
    total = int(counts[: len(classes)].sum())
    return {name: float(counts[k] / total) if total else None for k, name in enumerate(classes)}


def _told(found: Inspection, histogram: dict[str, float | None], out: Path) -> dict[str, Any]:
    """What was found of one set, as data; draws its contact sheet."""
    sheet = None
    if found.examples:
        sheet = out / f"{found.name}.png"
        splits = ", ".join(f"{name} {count}" for name, count in found.splits.items())
        title = f"{found.name}: {found.pairs} pairs ({splits}), label set {found.label_set.name}"
        write_png(sheet, contact_sheet(title, found.examples, found.label_set))
    pixels = int(found.counts.sum())
    return {
        "dataset": found.name,
        "pairs": found.pairs,
        "problems": [{"path": path, "what": what} for path, what in found.problems],
        "histogram": histogram,
        "root": found.root,
        "label_set": found.label_set.name,
        "splits": found.splits,
        "decoded": found.decoded,
        "ignored": found.counts[IGNORE] / pixels if pixels else None,
        "contact_sheet": str(sheet.resolve()) if sheet else None,
    }


def check_table(result: dict[str, Any]) -> str:
    """The check for a terminal."""
    lines: list[str] = []
    for each in result.get("datasets", [result]):
        lines += [*_set_lines(each), ""]
    if "datasets" in result:
        lines += ["source of the recipe, by train class:", *_bars(result["histogram"]), ""]
    if problems := result["problems"]:
        lines += [f"{len(problems)} problem{'s' * (len(problems) > 1)}:"]
        lines += [*(f"  {each['path']}: {each['what']}" for each in problems), ""]
    if warnings := result["warnings"]:
        lines += [*(f"warning: {warning}" for warning in warnings), ""]
    if not problems:
        lines.append("no problem found")
    return "\n".join(lines).rstrip()


def _set_lines(each: dict[str, Any]) -> list[str]:
    splits = ", ".join(f"{name} {count}" for name, count in each["splits"].items()) or "nothing"
    lines = [f"{each['dataset']} in {each['root']}: {each['pairs']} pairs ({splits}), {each['decoded']} decoded whole"]
    if each["decoded"]:
        lines += _bars(each["histogram"])
    if each["ignored"] is not None:
        lines.append(f"  {'ignored':<18}{100 * each['ignored']:>6.2f} % of all pixels")
    if each["contact_sheet"]:
        lines.append(f"  contact sheet: {each['contact_sheet']}")
    return lines


def _bars(histogram: dict[str, float | None]) -> list[str]:
    """A line a class; "-" for one that cannot be there, "never" for one that could and is not."""
    top = max((share or 0 for share in histogram.values()), default=0) or 1
    lines = []
    for name, share in histogram.items():
        tiny = "never" if not share else "<0.01 %"
        told = "-" if share is None else tiny if share < 5e-5 else f"{100 * share:.2f} %"
        lines.append(f"  {name:<18}{told:>8} {'#' * round(40 * (share or 0) / top)}".rstrip())
    return lines
