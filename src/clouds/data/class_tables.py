"""The label sets and datasets as tables for people: what each class holds, what it trains as, what cannot be scored."""

from typing import Any

from clouds.base.text import columns
from clouds.data.classes import NAMES
from clouds.data.datasets import dataset_names, find_spec
from clouds.data.labels import LABEL_SETS, LabelSet, find_label_set
from clouds.data.layouts import DATASETS
from clouds.errors import UsageError


def class_tables(name: str | None = None) -> dict[str, Any]:
    """All label sets and datasets, or one label set class by class; the object that ``clouds classes --json`` prints.

    UsageError for a name that is neither a label set nor a dataset.
    """
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
        }
    if name in LABEL_SETS:
        return _one(LABEL_SETS[name])
    if name in DATASETS:
        return _one(find_label_set(find_spec(name).label_set)) | {"dataset": name}
    raise UsageError(f"{name!r}: neither a label set ({', '.join(LABEL_SETS)}) nor a dataset "
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
        "not_scored": [name for name in NAMES if name not in held],
        "not_taught": [name for name in NAMES if name not in label_set.trains_as],
    }


def tables_text(tables: dict[str, Any], colour: bool = False) -> str:
    """For a terminal; ``colour`` paints swatches."""
    return _overview(tables) if "datasets" in tables else _classes(tables, colour)


def _overview(tables: dict[str, Any]) -> str:
    lines = ["label sets (clouds classes NAME shows how one folds the 19 Cityscapes classes):"]
    for name, classes in tables["label_sets"].items():
        lines += _filled(f"  {name:<14}{len(classes):>3}  ", ", ".join(classes))
    rows = [["dataset", "label set", "folder", "splits", "terms; home"]]
    for name, row in tables["datasets"].items():
        terms = f"{row['licence']}; {row['home']}"
        rows.append([name, row["label_set"], row["folder"], ", ".join(row["splits"]), terms])
    rows.append(["folder", "as you say", "any", "as you say", "your own images and labels: docs/datasets.md"])
    return "\n".join([*lines, "", *columns(rows, left=5)])


def _filled(start: str, text: str, width: int = 110) -> list[str]:
    """The text after ``start``, wrapped and indented."""
    import textwrap

    return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start))


def _classes(tables: dict[str, Any], colour: bool) -> str:
    of = f", of {tables['dataset']}" if "dataset" in tables else ""
    lines = [f"{tables['label_set']}{of}: {len(tables['classes'])} classes; 255 is ignored", ""]
    lines.append(f"{'':<4}{'class':<20}{'trained as':<16}holds, when a model's 19 classes are scored")
    for row in tables["classes"]:
        swatch = "\x1b[48;2;{};{};{}m  \x1b[0m ".format(*row["color"]) if colour else ""
        holds = ", ".join(row["holds"]) or "-"
        lines.append(f"{row['index']:>2}  {swatch}{row['name']:<20}{row['trains_as'] or '-':<16}{holds}")
    lines.append("")
    lines += _filled("not scored here (null, never zero): ", ", ".join(tables["not_scored"]) or "none")
    lines += _filled("not learned from its labels: ", ", ".join(tables["not_taught"]) or "none")
    return "\n".join(lines)
