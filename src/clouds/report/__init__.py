"""The report: a run folder in, one self-contained HTML page out.

`read.py` reads what the run wrote, `score_rows.py`, `sections.py` and `example_pictures.py` arrange it, `figures.py`
draws pictures and curves, and `templates/` lays them out. No network, no clock: the same run gives the same bytes. All
can be read without the script, which draws pictures when they come near and ties numbers to images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import markupsafe

from clouds.config.runs import REPORT, SWEEP
from clouds.errors import UsageError
from clouds.report import sections
from clouds.report.compare import comparison
from clouds.report.example_pictures import pictured
from clouds.report.read import Run, read_run, read_sweep
from clouds.report.score_rows import scoreboard
from clouds.report.sweep import is_sweep, sweep_tables
from clouds.report.templating import content_hash, write_page


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
        sweep = read_sweep(run / SWEEP if run.is_dir() else run)
        template, values = "sweep.html.j2", {"name": folder.resolve().name, "sweep": sweep_tables(sweep)}
    else:
        folder, template = run, "report.html.j2"
        values = _values(read_run(run), [read_run(Path(other)) for other in others])
    return write_page((out or folder / REPORT) / "index.html", template, **values)


def _values(run: Run, others: Sequence[Run]) -> dict[str, Any]:
    """What the template of a run's page takes."""
    groups = pictured(run)
    board = scoreboard(run, {group["name"]: group for group in groups})
    name = run.folder.resolve().name
    script = (Path(__file__).parent / "templates" / "report.js").read_text("utf-8")
    return {
        "run": run,
        "name": name,
        "results": run.joint or run.warmup,
        "roles": sections.roles(run),
        "prompts": sections.prompts(run),
        "gallery": sections.gallery(run),
        "photographs": sections.photographs(run),
        "sources": sections.sources(run),
        "pseudo": sections.pseudo(run),
        "curves": sections.curves(run),
        "board": board,
        "domain_rows": {row["name"]: row for row in board["rows"]} if board else {},
        "examples": groups,
        "comparison": comparison([run, *others]),
        "script": markupsafe.Markup(script),
        "script_hash": content_hash(script),
    }
