"""Find a dataset's files and pair images with labels; say exactly what is missing.

``scan`` lists missing pairs instead of raising (``clouds check`` prints them all). It raises DataError where there is
nothing to list: no folder, no such split (MissingSplitError), the wrong folder level.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from clouds.base.files import lies_inside
from clouds.base.text import some
from clouds.data.archives import SUFFIXES, Archive, Files, Folder, is_archive
from clouds.data.layouts import Layout, Spec
from clouds.errors import DataError, UsageError

_IMAGE = r"(?:png|jpg|jpeg|PNG|JPG|JPEG)"


class Place(NamedTuple):
    """One file: who holds it, and under which name."""

    files: Files
    name: str

    def read(self) -> bytes:
        return self.files.read(self.name)

    def __str__(self) -> str:
        return self.files.where(self.name)


class Sample(NamedTuple):
    """An image with its label."""

    name: str  # stable id: split folder and key
    image: Place
    label: Place | None


class DataProblem(NamedTuple):
    path: str
    what: str


class Scan(NamedTuple):
    """What a folder holds of one split in one layout."""

    layout: Layout
    samples: list[Sample]
    problems: list[DataProblem]


def scan(name: str, spec: Spec, root: Path, split: str, version: str = "") -> Scan:
    """Pair the files of ``split`` below ``root`` (the dataset's own folder, or an archive).

    Of several layouts (of ``version``, if given) the one that pairs the most counts.
    """
    layouts = [layout for layout in spec.layouts if version in ("", layout.version)]
    if not layouts:
        known = ", ".join(sorted({layout.version for layout in spec.layouts} - {""})) or "but one"
        raise UsageError(f"{name} has no version {version!r}; it has {known}")
    holders = _holders(name, spec, root)
    found: list[Scan] = []
    for layout in layouts:
        found.append(_pair(spec, layout, holders, spec.splits[split]))
        if found[-1].samples and not found[-1].problems:
            break
    best = max(found, key=lambda each: (len(each.samples), len(each.problems) > 0))
    if not best.samples and not best.problems:
        there = [
            other for other in spec.splits
            if other != split and any(_pair(spec, layout, holders, spec.splits[other]).samples for layout in layouts)
        ]  # fmt: skip
        raise explain(name, spec, root, split, there)
    parts = spec.splits[split]
    for part in parts if len(parts) > 1 else ():
        if not any(sample.name.startswith(f"{part}/") for sample in best.samples):
            expected = fill(best.layout.images, part, "*")
            best.problems.append(DataProblem(str(root), f"has no files of {part}; expected {expected}"))
    return best._replace(layout=_configured(best.layout, holders, root))


def _holders(name: str, spec: Spec, root: Path) -> list[Files]:
    """Who may hold the files: the folder itself, then the archives in it in the order of their names."""
    if is_archive(root):
        return [Archive(root)]
    if not root.exists():
        raise DataError(f"{root}: no such folder; expected {name} as its site hands it out ({spec.home})")
    if not root.is_dir():
        raise DataError(f"{root}: expected the folder of {name} or an archive of it ({', '.join(SUFFIXES)})")
    return [Folder(root), *(Archive(p) for p in sorted(root.iterdir()) if is_archive(p))]


def _pair(spec: Spec, layout: Layout, holders: Sequence[Files], parts: Sequence[str]) -> Scan:
    samples: list[Sample] = []
    problems: list[DataProblem] = []
    if layout.manifest:
        return _listed(layout, holders)
    for part in parts:
        wanted = re.compile(rf"(?:.*/)?(?:{spec.keys})(?:{layout.split_keys.get(part, '')})")

        def find(pattern: str, part: str = part, wanted: re.Pattern[str] = wanted) -> dict[str, Place]:
            found = _find(pattern, part, holders, problems)
            return {key: f for key, f in found.items() if wanted.match(key) and key not in spec.unusable}

        images = find(layout.images)
        labels = find(layout.labels) if layout.labels else {}
        for key in sorted(images):
            if key in labels or not layout.labels:
                samples.append(Sample(f"{part}/{key}".lstrip("/"), images[key], labels.get(key)))
            else:
                expected = fill(layout.labels, part, key)
                problems.append(DataProblem(str(images[key]), f"has no label; expected {expected}"))
        for key in sorted(labels.keys() - images.keys()):
            expected = fill(layout.images, part, key)
            problems.append(DataProblem(str(labels[key]), f"is the label of no image; expected {expected}"))
    return Scan(layout, samples, problems)


def _find(pattern: str, part: str, holders: Iterable[Files], problems: list[DataProblem]) -> dict[str, Place]:
    """key -> file. Unpacked files hide the archives beside them; several archives add up."""
    found: dict[str, Place] = {}
    for files in holders:
        inside = isinstance(files, Archive)
        if inside and any(isinstance(place.files, Folder) for place in found.values()):
            break
        expression = _expression(pattern, part, inside)
        start = pattern.replace("{split}", part).partition("{key}")[0].rpartition("/")[0]
        for name in files.names("" if inside else start):
            if match := expression.fullmatch(name):
                place = found.setdefault(match["key"], Place(files, name))
                if place != (files, name):
                    problems.append(DataProblem(files.where(name), f"is there twice, also as {place}"))
    return found


def _expression(pattern: str, part: str, inside: bool) -> re.Pattern[str]:
    """The pattern as a regular expression; archives may wrap everything in up to two folders of their own."""
    meaning = {"{key}": r"(?P<key>.+)", "{ext}": _IMAGE}
    pieces = re.split(r"(\{\w+\})", pattern.replace("{split}", part))
    return re.compile((r"(?:[^/]+/){0,2}?" if inside else "") + "".join(meaning.get(p, re.escape(p)) for p in pieces))


def fill(pattern: str, part: str, key: str) -> str:
    """The path a pattern stands for, for messages."""
    return pattern.replace("{split}", part).replace("{key}", key).replace("{ext}", "png|jpg")


def _configured(layout: Layout, holders: Iterable[Files], root: Path) -> Layout:
    """The layout with the classes that this copy's own config lists, where there is one."""
    if not layout.config or layout.config_class is None:
        return layout
    expression = re.compile(rf"(?:[^/]+/){{0,2}}{re.escape(layout.config)}")
    for files in holders:
        names = (n for n in files.names() if expression.fullmatch(n)) if isinstance(files, Archive) else [layout.config]
        for name in names:
            if isinstance(files, Folder) and not (files.path / name).is_file():
                continue
            try:
                listed = [str(each["name"]) for each in json.loads(files.read(name))["labels"]]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise DataError(f"{files.where(name)}: expected classes under 'labels' ({error!r})") from error
            return replace(layout, values={i: layout.config_class(n) for i, n in enumerate(listed)})
    if not layout.values:
        raise DataError(f"{root}: {layout.config} is missing; it says what the label values mean")
    return layout


def _listed(layout: Layout, holders: Sequence[Files]) -> Scan:
    """A set whose manifest lists its images, one JSON object a line; lines with ``keep`` false are left out."""
    samples: list[Sample] = []
    problems: list[DataProblem] = []
    for files in holders:
        there = set(files.names())
        for manifest in sorted(n for n in there if n.rpartition("/")[2] == layout.manifest and n.count("/") < 2):
            base = manifest.rpartition("/")[0]
            for number, line in enumerate(files.read(manifest).decode("utf-8", "replace").splitlines(), 1):
                where = f"{files.where(manifest)} line {number}"
                try:
                    entry = json.loads(line) if line.strip() else {"keep": False, "file_name": ""}
                    own, keep = str(entry["file_name"]), entry.get("keep") is not False
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    problems.append(DataProblem(where, 'is not a JSON object with a "file_name"'))
                    continue
                name = f"{base}/{own}".lstrip("/")
                if keep and not lies_inside(own):
                    problems.append(DataProblem(where, f"lists {own!r}, which lies outside the set"))
                elif keep and name not in there:
                    problems.append(DataProblem(where, f"lists {own!r}, which is not there"))
                elif keep:
                    samples.append(Sample(own.rpartition(".")[0], Place(files, name), None))
    return Scan(layout, sorted(samples), problems)


class NoFilesError(DataError):
    """The folder holds no image of the split."""


class MissingSplitError(NoFilesError):
    """The dataset is there, but not this split of it."""


def explain(name: str, spec: Spec, root: Path, split: str, others: Sequence[str]) -> DataError:
    """The error to raise; ``others``: the splits of the dataset that are there."""
    pattern, part = spec.layouts[0].images, spec.splits[split][0]
    expected = spec.layouts[0].manifest or pattern.format(split=part, key="*", ext="png|jpg")
    if others:
        return MissingSplitError(
            f"{root}: {name} has no files of split {split!r} here (expected {expected}); there is {', '.join(others)}"
        )
    if better := _better_level(spec, root):
        return DataError(f"{root}: wrong folder level for {name}; use {better}")
    if packed := sorted(root.glob("*.rar")) + sorted(root.glob("*.7z")):
        return DataError(f"{root}: {packed[0].name} cannot be read in place; unpack it there")
    wanted = "such images" if name == "folder" else name
    return NoFilesError(
        f"{root}: holds no {wanted}; expected {expected} in it, or an archive of that ({spec.home}); "
        f"there is {_content(root)}"
    )


def _better_level(spec: Spec, root: Path) -> Path | None:
    """A folder up to two levels below ``root``, or up to four above, in which a layout's own folders start."""
    if not root.is_dir():
        return None
    below = [p for depth in ("*", "*/*") for p in sorted(root.glob(depth))[:1000] if p.is_dir()]
    starts = {
        layout.images.replace("{split}", part).partition("{key}")[0].rpartition("/")[0]
        for layout in spec.layouts
        for parts in spec.splits.values()
        for part in parts
    } - {""}
    for candidate in (*below, *list(root.absolute().parents)[:4]):
        if any((candidate / start).is_dir() for start in starts):
            return candidate
        if any(layout.manifest and (candidate / layout.manifest).is_file() for layout in spec.layouts):
            return candidate
    return None


def _content(root: Path) -> str:
    if not root.is_dir():
        return "something else in that archive"
    return some(sorted(p.name for p in root.iterdir()), 6) or "nothing"
