"""Several runs side by side: domain by domain, the settings in which they differ, the spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clouds.config.removed import REMOVED
from clouds.config.runs import flat
from clouds.config.score_records import Results
from clouds.report.read import Run
from clouds.report.score_rows import inside
from clouds.report.templating import MODEL_NAMES, gain, setting, tone


def comparison(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Tables of what ``runs`` scored and how they were made, the first being what the others are compared with.

    None for fewer than two runs.
    """
    if len(runs) < 2:
        return None
    names = _names([run.folder.resolve() for run in runs])
    settings = [_settings(run) for run in runs]
    tables = [_table(title, [getattr(run, stage) for run in runs]) for stage, title in MODEL_NAMES.items()]
    return {
        "names": names,
        "tables": [table for table in tables if table],
        "settings": _differences(settings),
        "unknown": [name for name, each in zip(names, settings, strict=True) if not each],
        "seeds": [group for group in _seeds(runs, names, settings) if group],
    }


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the folders' paths that tell them apart."""
    for parts in range(1, max(len(folder.parts) for folder in folders)):
        names = ["/".join(folder.parts[-parts:]) for folder in folders]
        if len(set(names)) == len(set(folders)):
            return names
    return [str(folder) for folder in folders]


def _settings(run: Run) -> dict[str, Any]:
    """Every setting by its dotted key, the seed among them, but for removed ones that say what is built in now."""
    found = flat(run.recipe.settings) if run.recipe else {}
    settings = {key: value for key, value in found.items() if key not in REMOVED or value != REMOVED[key]}
    return {**settings, "seed": run.recipe.seed} if run.recipe else {}


def _differences(settings: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Keys that not all runs agree on, with each run's value; runs without a recipe take no part."""
    known = [each for each in settings if each]
    keys = dict.fromkeys(key for each in known for key in each)
    return [(key, [setting(each[key]) if key in each else "–" for each in settings])
            for key in keys if len({setting(each[key]) if key in each else "" for each in known}) > 1]


def _table(title: str, results: Sequence[Results | None]) -> dict[str, Any] | None:
    """Domains as rows, runs as columns; a difference only to a first run that was scored by the same protocol."""
    if sum(each is not None for each in results) < 2:
        return None
    scored = [{domain.name: domain for domain in each.domains} if each else {} for each in results]
    alike = [each is not None and results[0] is not None and each.protocol == results[0].protocol for each in results]
    rows = []
    for name in dict.fromkeys(name for each in scored for name in each):
        base = scored[0].get(name)
        cells = []
        for domains, same in zip(scored, alike, strict=True):
            here = domains.get(name)
            fair = here is not None and base is not None and same and (
                (here.images, here.label_set) == (base.images, base.label_set))
            difference = gain(base.miou, here.miou) if fair and base and here else None
            outside = base is not None and here is not None and inside(here.miou, base) is False
            cells.append({"miou": here.miou if here else None, "ci95": here.ci95 if here else None,
                          "difference": difference, "tone": tone(difference) if outside else "same"})
        rows.append({"name": name, "cells": cells})
    whole = [set(each) == set(scored[0]) and same for each, same in zip(scored, alike, strict=True)]
    means = [each.mean_miou if each else None for each in results]
    rows.append({"name": "", "cells": [
        {"miou": mean, "ci95": None, "difference": gain(means[0], mean) if fair else None, "tone": "same"}
        for mean, fair in zip(means, whole, strict=True)]})
    return {"title": title, "rows": rows, "alike": all(alike)}


def _seeds(runs: Sequence[Run], names: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of runs that differ in nothing but their seed: mean and standard deviation of each model's mean IoU."""
    groups: dict[str, list[int]] = {}
    for place, each in enumerate(settings):
        if each:
            rest = {key: setting(value) for key, value in each.items() if key != "seed"}
            groups.setdefault(repr(sorted(rest.items())), []).append(place)
    found = []
    for places in groups.values():
        if len(places) < 2 or len({settings[place]["seed"] for place in places}) < len(places):
            continue
        chosen = [runs[place] for place in places]
        found.append({"names": [names[place] for place in places],
                      "seeds": [settings[place]["seed"] for place in places],
                      "stages": [(title, spread) for stage, title in MODEL_NAMES.items()
                                 if (spread := _over([getattr(run, stage) for run in chosen]))]})
    return found


def _over(results: Sequence[Results | None]) -> list[tuple[str, float, float]]:
    """(domain or "", mean, standard deviation) over runs, of the domains that all of them have."""
    known = [each for each in results if each is not None]
    if len(known) < len(results) or any(each.protocol != known[0].protocol for each in known):
        return []
    scored = [{domain.name: domain.miou for domain in each.domains} for each in known]
    columns = {name: [each.get(name) for each in scored] for name in scored[0]} | {"": [e.mean_miou for e in known]}
    return [(name, statistics.fmean(whole), statistics.stdev(whole)) for name, values in columns.items()
            if len(whole := [value for value in values if value is not None]) == len(known)]
