"""Find a dataset's files and pair images with labels; say exactly what is missing.

``scan`` lists missing pairs instead of raising (``clouds check`` prints them all). It raises DataError where there is
nothing to list: no folder, no such split (MissingSplitError), the wrong folder level.
"""

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from clouds.base.files import lies_inside
from clouds.base.progress import say, say_once
from clouds.base.text import some
from clouds.config.label_sets import IGNORE
from clouds.data.archives import SUFFIXES, Archive, Files, Folder, is_archive
from clouds.data.encodings import stored_channel
from clouds.data.layouts import BESIDE, Layout, Spec
from clouds.data.levels import explain, fill, holds_sets, levels_below
from clouds.data.samples import DataProblem, Place, Sample, Scan
from clouds.errors import DataError, UsageError

_IMAGE = r"(?i:png|jpe?g|tiff?|bmp|webp|avif)"


def scan(name: str, spec: Spec, root: Path, split: str, version: str = "") -> Scan:
    """Pair the files of ``split`` below ``root`` (the dataset's own folder, or an archive).

    Of several layouts (of ``version``, or of one behind the name, carla@0.9.13) the one that pairs the most counts.
    """
    layouts = _layouts(name, spec, version)
    holders = _holders(name, spec, root)
    best = _best(spec, layouts, holders, split)
    parts_below = [] if best.samples else _parts_below(spec, layouts, root, split)
    if len(parts_below) > 1 and root / spec.folder in parts_below and holds_sets(root, spec):
        raise explain(name, spec, root, split, [])
    if len(parts_below) > 1:
        holders = [Folder(part) for part in parts_below]
        best = _best(spec, layouts, holders, split)
        say(f"{root}: {name} in {len(holders)} parts, read as one: {', '.join(part.name for part in parts_below)}")
    if not best.samples and (parts_below or not best.problems):
        there = [
            other for other in spec.splits
            if other != split and any(_pair(spec, layout, holders, other).samples for layout in layouts)
        ]  # fmt: skip
        raise explain(name, spec, root, split, there)
    _say_unread(name, spec, layouts, root, split, best)
    parts = best.layout.splits.get(split, spec.splits[split])
    empty = [p for p in parts if len(parts) > 1 and not any(sample.name.startswith(f"{p}/") for sample in best.samples)]
    for part in empty:
        expected = fill(best.layout.images, part, "*")
        best.problems.append(DataProblem(str(root), f"has no files of {part}; expected {expected}"))
    if best.samples:
        best = best._replace(layout=_version(name, best, layouts, root))
    return best._replace(layout=_configured(best.layout, holders, root))


def _layouts(name: str, spec: Spec, version: str) -> list[Layout]:
    """Those of a version, given or behind the name; UsageError where there are none."""
    version = version or name.partition("@")[2]
    layouts = [layout for layout in spec.layouts if not version or version in layout.version]
    if not layouts:
        known = ", ".join(dict.fromkeys(v for layout in spec.layouts for v in layout.version)) or "but one"
        raise UsageError(f"{name} has no version {version!r}; it has {known}")
    return layouts


def find_unlabelled(name: str, spec: Spec, root: Path, split: str) -> list[Place]:
    """The images of ``split`` below ``root``, whether they have labels or not, in order; errors as of ``scan``."""
    layouts = _layouts(name, spec, "")
    holders = _holders(name, spec, root)

    def images(split: str, holders: Sequence[Files]) -> list[Place]:
        paired = _best(spec, layouts, holders, split)  # where labels are there too, they tell the layout
        for layout in [paired.layout] if paired.samples else layouts:
            if found := _pair(spec, layout, holders, split, labelled=False).samples:
                return [sample.image for sample in found]
        return []

    found = images(split, holders)
    if not found:  # parts that were unpacked side by side
        found = [place for part in levels_below(spec, root) for place in images(split, [Folder(part)])]
    if not found:
        raise explain(name, spec, root, split, [other for other in spec.splits if images(other, holders)])
    return found


LOOKED_AT = 20  # label files, evenly spaced, to tell a version by
SIGNS = 0.25  # no street's lower quarter is to this share traffic lights and signs


def _version(name: str, found: Scan, layouts: Sequence[Layout], root: Path) -> Layout:
    """Of layouts that differ in nothing but what the values mean, the one that some label files fit.

    A layout does not fit that lacks a value of theirs, or reads what lies before the camera, the road, as traffic
    lights and signs. DataError where several are left: they name other classes, and nothing here says which.
    """
    chosen = found.layout
    left = [each for each in layouts if (each.images, each.labels) == (chosen.images, chosen.labels) and each.version]
    places = [sample.label for sample in found.samples if sample.label]
    whole, lower = np.zeros(256, np.int64), np.zeros(256, np.int64)  # pixels by value; of the lower quarter
    for place in places[:: max(len(places) // LOOKED_AT, 1)] if len(left) > 1 else []:
        with suppress(DataError):  # a damaged file is named when it is read
            raw = stored_channel(place.read(), str(place), chosen.encoding)
            whole += np.bincount(raw.ravel(), minlength=256)
            lower += np.bincount(raw[-(len(raw) // 4) :].ravel(), minlength=256)
    stored = set(np.flatnonzero(whole).tolist()) - {IGNORE}
    left = [each for each in left if stored <= each.values.keys()] or left
    signs = [[v for v, own in each.values.items() if own in ("traffic light", "traffic sign")] for each in left]
    left = [each for each, own in zip(left, signs, strict=True) if lower[own].sum() <= SIGNS * lower.sum()] or left
    if len(left) > 1:
        known = " or ".join(f"{name}@{each.version[0]} (the same as {', '.join(each.version[1:])})" for each in left)
        raise DataError(f"{root}: {name} stores its classes under other values from version to version, and those that "
                        f"were looked at occur in several; say which: {known}, or version: in a recipe")  # fmt: skip
    return left[0] if left else chosen


def _best(spec: Spec, layouts: Sequence[Layout], holders: Sequence[Files], split: str) -> Scan:
    """The layout that pairs all, else the one that pairs the most."""
    found: list[Scan] = []
    for layout in layouts:
        found.append(_pair(spec, layout, holders, split))
        if found[-1].samples and not found[-1].problems:
            break
    return max(found, key=lambda each: (len(each.samples), len(each.problems) > 0))


def _parts_below(spec: Spec, layouts: Sequence[Layout], root: Path, split: str) -> list[Path]:
    """Folders below that hold pairs of their own, no two of them the same ones: parts that were unpacked side by side,
    as those of IDD."""
    found: dict[Path, set[str]] = {}
    for folder in levels_below(spec, root):
        names = {sample.name for sample in _best(spec, layouts, [Folder(folder)], split).samples}
        if names and not any(names & others for others in found.values()):
            found[folder] = names
    return list(found)


def _say_unread(name: str, spec: Spec, layouts: Sequence[Layout], root: Path, split: str, best: Scan) -> None:
    """A line for archives and folders beside the files in use that are not read, and may hold more of the set."""
    if not best.samples or best.samples[0].image.files.path != root or is_archive(root):
        return
    packed = [path.name for path in sorted(root.iterdir()) if is_archive(path)]
    names = {sample.name for sample in best.samples}
    more = [folder.name for folder in levels_below(spec, root, ("*",))
            if {s.name for s in _best(spec, layouts, [Folder(folder)], split).samples} - names]  # fmt: skip
    if packed or more:
        say_once(f"{root}: {name} is read from the unpacked files alone, not from {', '.join([*more, *packed])}; what "
                  "is missing in them must lie in the same folders")  # fmt: skip


def _holders(name: str, spec: Spec, root: Path) -> list[Files]:
    """Who may hold the files: the folder itself, then the archives in it in the order of their names."""
    if is_archive(root):
        return [Archive(root)]
    if not root.exists():
        below = sorted(map(str, root.parent.glob(f"*/{root.name}")))  # data.root may name a folder too high
        hint = f". Is it {some(below, 3, ' or ')}?" if below else ""
        raise DataError(f"{root}: no such folder; expected {name} as its site hands it out ({spec.home}){hint}")
    if not root.is_dir():
        raise DataError(f"{root}: expected the folder of {name} or an archive of it ({', '.join(SUFFIXES)})")
    return [Folder(root), *(Archive(p) for p in sorted(root.iterdir()) if is_archive(p))]


def _pair(spec: Spec, layout: Layout, holders: Sequence[Files], split: str, labelled: bool = True) -> Scan:
    """Of one layout; without ``labelled`` an image counts with or without a label."""
    samples: list[Sample] = []
    problems: list[DataProblem] = []
    if layout.manifest:
        return _listed(layout, holders)
    for part in layout.splits.get(split, spec.splits[split]):
        wanted = re.compile(rf"(?:.*/)?(?:{spec.keys})(?:{layout.split_keys.get(part, '')})")

        def find(pattern: str, part: str = part, wanted: re.Pattern[str] = wanted) -> dict[str, Place]:
            found = _find(pattern, part, holders, problems)
            return {key: f for key, f in found.items() if wanted.match(key) and key not in spec.unusable}

        images = find(layout.images)
        labels = find(layout.labels) if layout.labels else {}
        _take_apart(spec, layout, images, labels)
        for key in sorted(images):
            if not labelled:
                samples.append(Sample(f"{part}/{key}".lstrip("/"), images[key], None))
            elif key in labels or not layout.labels:
                samples.append(Sample(f"{part}/{key}".lstrip("/"), images[key], labels.get(key)))
            else:
                expected = fill(layout.labels, part, key)
                problems.append(DataProblem(str(images[key]), f"has no label; expected {expected}"))
        for key in sorted(labels.keys() - images.keys()) if labelled else ():
            expected = fill(layout.images, part, key)
            problems.append(DataProblem(str(labels[key]), f"is the label of no image; expected {expected}"))
    return Scan(layout, samples, problems)


def _take_apart(spec: Spec, layout: Layout, images: dict[str, Place], labels: dict[str, Place]) -> None:
    """Where both patterns match a file, it is what the longer one says; files that tools write beside are neither."""
    longer, shorter = (labels, images) if len(layout.labels) > len(layout.images) else (images, labels)
    taken = set(longer.values())
    for key in [key for key, place in shorter.items() if place in taken]:
        del shorter[key]
    known = images.keys() | spec.unusable
    for files, others in ((images, labels), (labels, images)):
        for key in files.keys() - others.keys():
            if any(key.endswith(end) and key.removesuffix(end) in known for end in BESIDE):
                del files[key]


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
            match = expression.fullmatch(name)
            if inside and not match:  # an archive may be packed without the folder that it is named after
                match = expression.fullmatch(f"{_stem(files.path)}/{name}")
            if match:
                place = found.setdefault(match["key"], Place(files, name))
                if place != (files, name):
                    problems.append(DataProblem(files.where(name), f"is there twice, also as {place}"))
    return found


def _expression(pattern: str, part: str, inside: bool) -> re.Pattern[str]:
    """The pattern as a regular expression; archives may wrap everything in up to two folders of their own."""
    meaning = {"{key}": r"(?P<key>.+)", "{ext}": _IMAGE}
    pieces = re.split(r"(\{\w+\})", pattern.replace("{split}", part))
    return re.compile((r"(?:[^/]+/){0,2}?" if inside else "") + "".join(meaning.get(p, re.escape(p)) for p in pieces))


def _stem(archive: Path) -> str:
    return archive.name[: -max(len(end) for end in SUFFIXES if archive.name.lower().endswith(end))]


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
                    problems.append(DataProblem(where, f"lists {own!r}, which is outside the set"))
                elif keep and name not in there:
                    problems.append(DataProblem(where, f"lists {own!r}, which is not there"))
                elif keep:
                    samples.append(Sample(own.rpartition(".")[0], Place(files, name), None))
    return Scan(layout, sorted(samples), problems)
