"""Scores as tables: for a terminal of 100 columns, as CSV, and as LaTeX with booktabs."""

import csv
import io
import re
from pathlib import Path
from typing import Any

from clouds.base.files import write_text
from clouds.base.text import points_gained
from clouds.model.inference import protocol_text

WIDTH = 100
FIRST = 14  # columns of a table's first column
METRICS = ("miou", "fwiou", "accuracy", "boundary_iou", "ece")
HEADINGS = ("mIoU", "fwIoU", "pixel acc.", "boundary IoU", "ECE")


def evaluation_text(result: dict[str, Any]) -> str:
    """What ``clouds evaluate`` prints: of one model or of several."""
    return comparison_text(result) if "models" in result else results_table(result)


def results_table(result: dict[str, Any]) -> str:
    """IoU by class and domain, then the domains' scores, all in per cent."""
    lines = []
    for label_set in dict.fromkeys(row["label_set"] for row in result["domains"]):
        rows = [row for row in result["domains"] if row["label_set"] == label_set]
        classes = {name: [_percent(row["iou"][name]) for row in rows] for name in rows[0]["iou"]}
        lines += [*grid(label_set, [row["name"] for row in rows], classes), ""]
    heads = ["images", "mIoU", "95 % interval", "fwIoU", "acc.", "bIoU", "ECE", "seconds", "img/s"]
    cells = {row["name"]: _cells(row) for row in result["domains"]}
    lines += grid("domain", heads, {**cells, "mean": ["", _percent(result["mean_miou"]), *[""] * 7]})
    lines += _footer(result)
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    low, high = (100 * value for value in row["ci95"])
    rest = [_percent(row.get(key)) for key in METRICS[1:]]  # results of older runs lack some
    seconds = row.get("seconds")
    time = ["-", "-"] if not seconds else [f"{seconds:.1f}", f"{row['images'] / seconds:.2f}"]
    return [str(row["images"]), _percent(row["miou"]), f"{low:.1f} .. {high:.1f}", *rest, *time]


def not_unseen(result: dict[str, Any], who: str = "") -> list[str]:
    """A line for each domain that holds images which the model, called ``who``, was trained on without labels."""
    return [f"not unseen: {each['name']}: {who}trained on {count} of its {each['images']} images without labels"
            for each in result["domains"] if (count := each.get("trained_on_unlabelled"))]  # fmt: skip


def _footer(result: dict[str, Any], among: bool = False) -> list[str]:
    """``among``: of the first of several models."""
    lines = ["", f"per cent; {protocol_text(result['protocol'])}"]
    if memory := result.get("peak_memory_gb"):
        lines[-1] += f"; at most {memory:.1f} GB"
    if not among:
        lines += not_unseen(result)
    return lines + [f"missing: {each['name']}: {each['why']}" for each in result.get("missing", [])]


def comparison_text(result: dict[str, Any]) -> str:
    """Domain x model, mean and standard deviation, and the differences from the first model."""
    models = result["models"]
    numbers = {name: f"[{i}]" for i, name in enumerate(models, 1)}
    rows = [*result["domains"], {"name": "mean", **result["mean"]}]
    lines = [f"{number} {models[name]['model']}" for name, number in numbers.items()]
    cells = {row["name"]: [*map(_percent, row["miou"].values()), *_mean_and_std(row, " ± ")] for row in rows}
    heads = ["mean ± std"] if len(cells["mean"]) > len(numbers) else []
    lines += ["", *grid("mIoU", [*numbers.values(), *heads], cells)]
    first, *others = numbers.values()
    cells = {}
    for row in rows:
        base = next(iter(row["miou"].values()))
        cells[row["name"]] = [
            _difference(points_gained(base, row["miou"][name]), each) for name, each in row["differences"].items()
        ]
    lines += ["", *grid("difference", [f"{number} - {first}  95 % interval" for number in others], cells)]
    marks = [line for name, number in numbers.items() for line in not_unseen(models[name], f"{number} was ")]
    return "\n".join(lines + _footer(next(iter(models.values())), among=True) + marks)


def _mean_and_std(row: dict[str, Any], sign: str) -> list[str]:
    """Over the models, as one cell; none where they are no repeats of each other."""
    return [] if row["mean"] is None else [f"{100 * row['mean']:.1f}{sign}{100 * row['std']:.1f}"]


def _difference(points: float, value: dict[str, Any]) -> str:
    """As "+1.2  -0.3 .. +2.6", the interval always of the same width so that the differences stand below each other."""
    interval = " .. ".join(f"{100 * bound:+.1f}" for bound in value.get("ci95", ()))
    return f"{points:+.1f}  {interval:>14}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def grid(corner: str, heads: list[str], rows: dict[str, list[str]]) -> list[str]:
    """Lines of a table no wider than a terminal: columns that do not fit follow below, under the same first column."""
    wide = max(FIRST, *(len(name) + 2 for name in (corner, *rows)))
    widths = [max(8, len(head) + 2, *(len(cells[c]) + 2 for cells in rows.values())) for c, head in enumerate(heads)]
    lines: list[str] = []
    start = 0
    while start < len(heads):
        end = start + 1
        while end < len(heads) and wide + sum(widths[start : end + 1]) <= WIDTH:
            end += 1
        for name, cells in {corner: heads, **rows}.items():
            line = "".join(f"{cell:>{width}}" for cell, width in zip(cells[start:end], widths[start:end], strict=True))
            lines.append(f"{name:<{wide}}{line}".rstrip())
        if end < len(heads):
            lines.append("")
        start = end
    return lines


def write_csv(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    """One line a model and domain, fractions in 0..1; a class that a domain lacks or never shows is empty."""
    domains = [domain for row in rows.values() for domain in row["domains"]]
    classes = list(dict.fromkeys(name for domain in domains for name in domain["iou"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "path", "seed", "domain", "label_set", "images", "miou", "ci95_low", "ci95_high",
                     *METRICS[1:], "seconds", *(f"iou {name}" for name in classes)])  # fmt: skip
    for model, row in rows.items():
        for domain in row["domains"]:
            writer.writerow([
                model, row["model"], row["seed"], domain["name"], domain["label_set"], domain["images"],
                domain["miou"], *domain["ci95"], *(domain[key] for key in METRICS[1:]), domain["seconds"],
                *(domain["iou"].get(name) for name in classes),
            ])  # fmt: skip
    write_text(path, text.getvalue())


def write_latex(path: Path, rows: dict[str, dict[str, Any]], result: dict[str, Any]) -> None:
    r"""Tables to \input, in per cent; they need \usepackage{booktabs}.

    One model: its scores by domain, and IoU by class for each label set. Several: mean IoU, a row a model.
    """
    if "models" in result:
        names = [domain["name"] for domain in result["domains"]] + ["mean"]
        body = {model: [*(_percent(domain["miou"]) for domain in row["domains"]), _percent(row["mean_miou"])]
                for model, row in rows.items()}  # fmt: skip
        spreads = [*result["domains"], result["mean"]]
        last = [cell for each in spreads for cell in _mean_and_std(each, r" $\pm$ ")]
        tables = [_tabular("model", list(map(escape, names)), body, {"mean $\\pm$ std.": last} if last else None)]
    else:
        body = {domain["name"]: [f"{_percent(domain['miou'])} [{_percent(domain['ci95'][0])}, "
                                 f"{_percent(domain['ci95'][1])}]", *(_percent(domain[key]) for key in METRICS[1:])]
                for domain in result["domains"]}  # fmt: skip
        mean = [_percent(result["mean_miou"]), *[""] * len(METRICS[1:])]
        tables = [_tabular("domain", [f"{HEADINGS[0]} [95\\,\\%]", *HEADINGS[1:]], body, {"mean": mean})]
        for label_set in dict.fromkeys(domain["label_set"] for domain in result["domains"]):
            some = [domain for domain in result["domains"] if domain["label_set"] == label_set]
            body = {name: [_percent(domain["iou"][name]) for domain in some] for name in some[0]["iou"]}
            tables.append(_tabular(label_set, [escape(domain["name"]) for domain in some], body))
    write_text(path, "% needs \\usepackage{booktabs}; per cent\n" + "\n".join(tables))


Rows = dict[str, list[str]]


def _tabular(corner: str, heads: list[str], rows: Rows, last: Rows | None = None) -> str:
    """``corner`` and the names of ``rows`` are escaped here, ``heads`` and ``last`` are LaTeX already."""

    def line(name: str, cells: list[str]) -> str:
        return " & ".join([name, *("--" if cell == "-" else cell for cell in cells)]) + r" \\"

    end = [r"\midrule", *(line(name, cells) for name, cells in last.items())] if last else []
    body = [line(escape(name), cells) for name, cells in rows.items()]
    top = [r"\begin{tabular}{l" + "r" * len(heads) + "}", r"\toprule", line(escape(corner), heads), r"\midrule"]
    return "\n".join([*top, *body, *end, r"\bottomrule", r"\end{tabular}", ""])


def escape(text: str) -> str:
    """A name as LaTeX prints it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda found: special.get(found[0], "\\" + found[0]), text)
