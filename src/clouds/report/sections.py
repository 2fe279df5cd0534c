"""The sections of the report that tell how the model came about: roles, prompts, pictures, curves, examples.

Each function takes the checked run and returns plain values for the template, or nothing where the run lacks that part.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from clouds.base.pick import evenly
from clouds.base.text import natural
from clouds.config.label_sets import CITYSCAPES, IGNORE, Color
from clouds.config.records import read_points
from clouds.config.runs import FRAMES, GENERATED, PSEUDO, SOURCE, STAGE_NAMES
from clouds.data.exif import orientation
from clouds.errors import DataError
from clouds.foundation.registry import ROLES, Role, stand_in
from clouds.generate.audit import kind
from clouds.report import figures
from clouds.report.display_colors import display_colors
from clouds.report.read import Run
from clouds.report.templating import css

T = TypeVar("T")
GALLERY, SOURCES, PANELS = 12, 4, 4  # pictures cost bytes: at most this many of each
PROMPTS, PROMPT_LENGTH = 200, 300


def roles(run: Run) -> dict[str, Any] | None:
    """Who played which role, what each did, and where the time went."""
    results = run.joint or run.warmup
    if results is None or not (results.backends or results.work):
        return None
    work, cast = dict(results.work), []
    for role in [*ROLES, *(role for role in results.backends if role not in ROLES)]:
        duty, keys = ROLES.get(role, Role(""))
        backend = results.backends.get(role)
        did = [(key.replace("_", " "), work.pop(key)) for key in keys if key in work]
        if backend is None and not any(count for _, count in did):
            continue
        cast.append({"role": role, "duty": duty, "backend": backend, "what": stand_in(backend), "did": did})
    seen = work.pop("pixels_seen", None)
    colors = itertools.cycle(("third", "teal", "rose", "soft", "up"))
    spent = {part: seconds for part, seconds in results.seconds.items() if seconds}
    tones = {"warmup": "warm", "joint": "joint"}
    return {
        "cast": cast,
        "stand_ins": sum(member["what"] is not None for member in cast),
        "shares": [(results.work[key] / seen, key.removeprefix("pixels_"))
                   for key in ("pixels_decided", "pixels_changed") if seen and key in results.work],
        "other": [(key.replace("_", " "), value) for key, value in work.items()],
        "seconds": [(STAGE_NAMES.get(part, part).lower(), seconds, tones.get(part) or next(colors))
                    for part, seconds in spent.items()],
        "total_seconds": sum(spent.values()),
    }


def prompts(run: Run) -> dict[str, Any] | None:
    """How many prompts, by whom, with which words, and the first of them."""
    if not run.prompts:
        return None
    words: dict[str, Counter[str]] = {}
    for prompt in run.prompts:
        for attribute, values in prompt.attributes.items():
            words.setdefault(attribute, Counter()).update([values] if isinstance(values, str) else values)
    return {
        "total": len(run.prompts),
        "distinct": len({prompt.prompt for prompt in run.prompts}),
        "writers": sorted({prompt.writer for prompt in run.prompts if prompt.writer}),
        "words": [(attribute, counter.most_common(8), len(counter)) for attribute, counter in words.items() if counter],
        "texts": [shorten(prompt.prompt) for prompt in run.prompts[:PROMPTS]],
    }


def gallery(run: Run) -> dict[str, Any] | None:
    """Some drawn images with their prompts, one a prompt as far as that goes, and the audit's verdict."""
    here = [row for row in run.generated if (run.folder / GENERATED / row.file_name).is_file()]
    if not here:
        return None
    one_each = list({row.prompt: row for row in reversed(here)}.values())[::-1]
    pictures = [
        {"picture": figures.photo(run.folder / GENERATED / row.file_name), "prompt": shorten(row.prompt),
         "keep": row.keep, "why": row.reason, "seed": row.seed}
        for row in spread(one_each if len(one_each) >= GALLERY else here, GALLERY)
    ]
    audited = [row for row in run.generated if row.keep is not None]
    return {
        "pictures": pictures,
        "total": len(run.generated),
        "generators": sorted({row.generator for row in run.generated if row.generator}),
        "audited": len(audited),
        "kept": sum(bool(row.keep) for row in audited),
        "reasons": Counter(kind(row.reason) or "no reason given" for row in audited if not row.keep).most_common(6),
    }


def photographs(run: Run) -> dict[str, Any] | None:
    """Some of the photographs that were learned from without labels, and where they are from."""
    if not run.photographs:
        return None
    shown = []
    for row in run.photographs:
        path = run.folder / FRAMES / row.frame if row.frame else Path(row.file)
        if row.member is None and path.is_file():  # members of an archive are not pictured
            at = f", {row.seconds:g} s" if row.seconds is not None else ""
            shown.append((path, Path(row.file).name + at))
    pictures = []
    for path, name in spread(shown, GALLERY):
        try:
            picture = figures.photo(path, turn=orientation(path.read_bytes()))
        except (DataError, OSError):  # not the run's own files: they may have changed
            continue
        pictures.append({"picture": picture, "name": name})
    places = Counter(str(Path(row.file) if row.member or row.frame else Path(row.file).parent)
                     for row in run.photographs)  # fmt: skip
    return {"total": len(run.photographs), "pictures": pictures, "places": places.most_common(6),
            "more": len(places) - 6}  # fmt: skip


def sources(run: Run) -> list[dict[str, Any]]:
    """A few labelled source images: what supervision looked like."""
    folder = run.folder / SOURCE  # rendered scenes
    pairs = [(folder / "images" / label.name, label) for label in sorted((folder / "labels").glob("*.png"))]
    pairs += [(label.with_name(label.name.replace("_label", "")), label)  # as the first versions wrote them
              for label in sorted(folder.glob("*_label.png"))]
    # of the renderer, whatever the model learns
    count, colors = len(CITYSCAPES.classes), display_colors(CITYSCAPES.colors)
    return [
        {"photo": figures.photo(image), "label": figures.draw(figures.labels(label, count), colors)}
        for image, label in spread([pair for pair in pairs if pair[0].is_file()], SOURCES)
    ]


def pseudo(run: Run) -> dict[str, Any] | None:
    """Pseudo-labels before and after refinement, with the points that prompted it, its masks, and each class's fate."""
    folders = [path for path in (run.folder / PSEUDO).glob("*") if (path / "image.png").is_file()]
    panels: list[dict[str, Any]] = []
    seen: set[int] = set()
    names, colors = run.model.classes, display_colors(run.model.colors)
    for folder in spread(sorted(folders, key=lambda folder: natural(folder.name)), PANELS):
        maps = {name: figures.labels(folder / f"{name}.png", len(names))
                for name in ("teacher", "refined") if (folder / f"{name}.png").is_file()}
        seen.update(*(np.unique(label).tolist() for label in maps.values()))
        step = re.fullmatch(r"\D*(\d+)-(\d+)", folder.name)
        panels.append({
            "name": f"step {int(step[1]):,}" if step else folder.name,
            "photo": figures.photo(folder / "image.png"),
            "points": [{"x": x, "y": y, "color": css(colors[label])}
                       for label, points in read_points(folder / "points.json", len(names))
                       for x, y in points][:400],
            **{name: figures.draw(maps[name], colors) if name in maps else None for name in ("teacher", "refined")},
            "masks": figures.tell_apart(folder / "masks.png") if (folder / "masks.png").is_file() else None,
            "change": figures.change(maps["teacher"], maps["refined"], colors) if len(maps) == 2 else None,
        })
    if not panels and not run.fates:
        return None
    total = sum(fate.pixels for fate in run.fates.values()) or 1
    fates = [(name, fate.pixels / total, fate) for name, fate in run.fates.items()]
    return {"panels": panels, "legend": legend(names, colors, seen), "fates": fates}


def curves(run: Run) -> list[figures.Chart]:
    """Training at a glance: losses of each stage, the teacher, the pseudo-labels, validation."""
    stages = {STAGE_NAMES.get(stage, stage): [step for step in run.steps if step.stage == stage]
              for stage in dict.fromkeys(step.stage for step in run.steps)}
    joint = stages.get(STAGE_NAMES["joint"], [])
    total = {"loss": "loss", "generated_loss": f"on {run.learned_from.replace('drawn', 'generated')}"}
    parts = {"loss_ce": "class", "loss_mask": "mask", "loss_dice": "dice"}
    refined = {"decided": "pixels decided", "changed": "pixels changed"}
    charts = [
        *(figures.chart(f"{stage} loss", steps, total) for stage, steps in stages.items()),
        figures.chart("Teacher confidence", joint, {"teacher_confidence": "mean confidence"}, share=True),
        *(figures.chart(f"{stage} loss by part", steps, parts) for stage, steps in stages.items()),
        figures.chart("Pseudo-labels after refinement", joint, refined, share=True),
        *(figures.chart(f"{stage} validation mIoU", steps, {"val_miou": "mIoU"}, share=True)
          for stage, steps in stages.items()),
    ]
    return [chart for chart in charts if chart is not None]


def legend(names: Sequence[str], colors: Sequence[Color], seen: set[int]) -> list[tuple[str, str]]:
    """The classes that occur, with their colours; undecided pixels explain themselves by their hatching."""
    return [(names[index], css(colors[index])) for index in sorted(seen - {IGNORE})]


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many items, evenly spread from the first to the last."""
    return [items[k] for k in evenly(len(items), most)]


def shorten(text: str) -> str:
    return text if len(text) <= PROMPT_LENGTH else text[: PROMPT_LENGTH - 1] + "…"
