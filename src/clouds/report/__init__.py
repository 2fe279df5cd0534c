"""The report: a run folder in, one self-contained HTML page out.

`read.py` checks what the run wrote against `records.py`, `scores.py`, `sections.py` and `examples.py` arrange it,
`figures.py` draws pictures and curves, and `templates/` lays them out. No network, no clock: the same run gives the
same bytes. All can be read without the script, which draws pictures when they come near and ties numbers to images.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import yaml

from clouds.base.files import whole_file
from clouds.errors import UsageError
from clouds.report import sections
from clouds.report.compare import comparison
from clouds.report.examples import by_name, pictured
from clouds.report.read import Run, read_run, read_sweep
from clouds.report.records import Sweep
from clouds.report.scores import scoreboard
from clouds.report.sweep import FILE, is_sweep, sweep_tables


def write_report(run: Path, others: Sequence[Path] = (), out: Path | None = None) -> Path:
    """Read the run folder and write ``index.html`` into ``out``, whole or not at all; returns its absolute path.

    out: by default the run's ``report``. others: runs that the page compares with this one. ``run`` may be a sweep
    instead, its folder or its ``sweep.json``: the page then has its table. Every part of a run may be missing (its
    section is left out and named at the end of the page); a damaged file is a DataError that names it.
    """
    run = Path(run)
    if is_sweep(run):
        if others:
            raise UsageError(f"{run}: is a sweep, whose page has all of its runs; give runs alone to compare them")
        folder = run if run.is_dir() else run.parent
        page = _render_sweep(folder, read_sweep(folder / FILE if run.is_dir() else run))
    else:
        folder, page = run, _render(read_run(run), [read_run(Path(other)) for other in others])
    target = (out if out is not None else folder / "report").absolute() / "index.html"
    with whole_file(target) as temporary:
        temporary.write_bytes(page.encode("utf-8", "replace"))  # a prompt may hold half a surrogate pair
    return target


@cache
def environment() -> jinja2.Environment:
    """Where templates come from, and how they print numbers; they are compiled once."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("clouds.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=percent, signed=signed, tone=tone, count=count, duration=duration, yaml=_yaml)
    return made


@cache
def script() -> dict[str, Any]:
    """The page's script, and its hash for the page's content security policy, which lets no other script run."""
    text = (Path(__file__).parent / "templates" / "report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return {"script": markupsafe.Markup(text), "script_hash": f"sha256-{digest}"}


def _render(run: Run, others: Sequence[Run]) -> str:
    """The page as text."""
    groups = pictured(run)
    parts = {
        "roles": sections.roles(run),
        "prompts": sections.prompts(run),
        "gallery": sections.gallery(run),
        "sources": sections.sources(run),
        "pseudo": sections.pseudo(run),
        "curves": sections.curves(run),
        "board": scoreboard(run, by_name(groups)),
        "examples": groups,
        "comparison": comparison([run, *others]),
    }
    board = parts["board"]
    name = run.folder.resolve().name
    return environment().get_template("report.html.j2").render(
        **parts,
        **script(),
        run=run,
        domain_rows={row["name"]: row for row in board["rows"]} if isinstance(board, dict) else {},
        name=name,
        title=run.recipe.recipe if run.recipe and run.recipe.recipe else name,
        results=run.joint or run.warmup,
    )


def _render_sweep(folder: Path, sweep: Sweep) -> str:
    """A sweep's page as text."""
    return environment().get_template("sweep.html.j2").render(name=folder.resolve().name, sweep=sweep_tables(sweep))


def percent(share: float | None, digits: int = 1) -> str:
    """A share 0..1 as a number of per cent, without the sign: 0.3127 -> 31.3."""
    return "–" if share is None else f"{100 * share:.{digits}f}"


def signed(share: float | None) -> str:
    """A difference of shares in points, with its sign: -0.021 -> −2.1 (a true minus)."""
    if share is None:
        return "–"
    text = f"{100 * share:+.1f}".replace("-", "−")
    return "±0.0" if text[1:] == "0.0" else text


def tone(share: float | None) -> str:
    """The CSS class of a difference, by what its printed form says."""
    return {"+": "up", "−": "down"}.get(signed(share)[0], "same")


def count(number: float) -> str:
    """A count for people: 12,430 or 3.1 M."""
    if abs(number) >= 1e6:
        return f"{number / 1e6:,.1f} M"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.4g}"


def duration(seconds: float) -> str:
    """Seconds for people: 8.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _yaml(value: object) -> str:
    """Nested settings as readable text."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100).rstrip()
