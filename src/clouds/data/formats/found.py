"""What a reader of a format hands over: the classes, the splits and the pairs of one folder or archive."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from clouds.base.text import some
from clouds.config.label_sets import MOST, Color, LabelSet, colors_of
from clouds.data.layouts import Layout, Spec
from clouds.data.samples import DataProblem, Place, Sample, SampleReader, Scan
from clouds.errors import DataError

BACKGROUND = "background"  # the class of pixels under no shape

_SPLITS = ((r"train(ing)?[-_]?\d*", "train"), (r"val(id|idation)?[-_]?\d*", "val"), (r"test(ing)?[-_]?\d*", "test"))


@dataclass(frozen=True)
class FoundSpec(Spec):
    """The row of a set whose own files say its classes and splits: what is there of it."""

    scans: Mapping[str, Scan] = field(default_factory=dict)


def plain_split(name: str) -> str:
    """A split's name as it is called here: train of train2017 and training, val of valid and validation."""
    return next((plain for pattern, plain in _SPLITS if re.fullmatch(pattern, name, re.IGNORECASE)), name)


def split_in(path: str, default: str = "train") -> str:
    """The split that a path names, in its file's name first, then in its folders: annotations/instances_val.json."""
    parts = path.split("/")
    words = [*re.split(r"[^A-Za-z0-9]+", parts[-1]), *reversed(parts[:-1])]
    return next((word for word in words if plain_split(word) in ("train", "val", "test")), default)


class Finding:
    """Gathers what a reader finds. ``faults`` make the set unusable, ``problems`` are of single records of a split,
    ``notes`` say what is lost or passed over; ``bare``: images without labels."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        self.samples: dict[str, list[Sample]] = defaultdict(list)
        self.problems: dict[str, list[DataProblem]] = defaultdict(list)
        self.bare: dict[str, list[Place]] = defaultdict(list)
        self.faults: list[DataProblem] = []
        self.notes: list[str] = []

    def add(self, split: str, key: str, image: Place, label: Place) -> None:
        """A pair, called ``key``."""
        self.samples[split].append(Sample(key, image, label))

    def without(self, split: str, image: Place, where: str, what: str) -> None:
        """An image that has no label, which is a problem where labels are wanted."""
        self.bare[split].append(image)
        self.problem(split, where, what)

    def problem(self, split: str, where: str, what: str) -> None:
        self.problems[split].append(DataProblem(where, what))

    def fault(self, where: str, what: str) -> None:
        self.faults.append(DataProblem(where, what))

    def classes(self, names: Sequence[str], where: str, colors: Mapping[str, Color] | None = None) -> LabelSet:
        """The classes as a label set; faults for names that are none, or the same but for capitals."""
        homes: dict[str, str] = {}
        for name in names:
            other = homes.setdefault(name.strip().casefold(), name)
            if not name.strip():
                self.fault(where, "has a class without a name; name it")
            elif other is not name and other != name:
                self.fault(where, f"its classes {other!r} and {name!r} differ only in case or blanks; rename one")
        own = list(dict.fromkeys(names))
        if not own or len(own) > MOST:
            self.fault(where, f"has {len(own) or 'no'} classes; expected 1 to {MOST}")
        self.stop()
        shades = colors_of(own, {k: list(v) for k, v in (colors or {}).items()})
        return LabelSet(self.name, tuple(own), tuple((r, g, b) for r, g, b in shades))

    def stop(self) -> None:
        """DataError with the faults so far, where there are any."""
        if self.faults:
            raise FormatError(self.faults)

    def _one_label_an_image(self) -> None:
        """Leave out what cannot be told apart: several labels that name one image, as where cam1/001.jpg is there and
        cam2/001.jpg is not."""
        for split, samples in self.samples.items():
            labels: dict[Place, list[str]] = defaultdict(list)
            for sample in samples:
                labels[sample.image].append(sample.name)
            for image, names in labels.items():
                if len(names) > 1:
                    what = f"the labels {some(sorted(names), 3, ' and ')} all name it; expected an image for each"
                    self.problem(split, str(image), what)
            self.samples[split] = [sample for sample in samples if len(labels[sample.image]) == 1]

    def done(
        self, label_set: LabelSet, layout: Layout | None = None, reader: SampleReader | None = None,
        asked: Sequence[str] = ()
    ) -> FoundSpec:
        """What was found. Labels are read by ``reader``, else as ``layout`` says. ``asked``: splits that are looked at
        only when they are named."""
        self.stop()
        self._one_label_an_image()
        found = [split for split in {**self.samples, **self.problems} if self.samples[split] or self.problems[split]]
        if not found:
            raise DataError(f"{self.root}: {self.name}: holds no pair of an image and a label")
        layout = layout or Layout("{key}.{ext}", "{key}")
        images = {split: {sample.image for sample in own} for split, own in self.samples.items() if split not in asked}
        for one, other in combinations(images, 2):
            if both := images[one] & images[other]:
                self.notes.append(f"{len(both)} images are in {one} and in {other}, such as {min(map(str, both))}")
        plain = {split: plain_split(split) for split in found}
        names = {s: p if [*plain.values()].count(p) == 1 else s for s, p in plain.items()}
        scans = {
            names[split]: Scan(layout, sorted(self.samples[split]), self.problems[split], reader, tuple(self.notes),
                               tuple(self.bare[split]))
            for split in found
        }
        scored = next((split for split in ("val", "test") if split in scans), next(iter(scans)))
        parts = {split: (split,) for split in scans}
        others = frozenset(names[split] for split in asked if split in names and len(found) > 1)
        return FoundSpec(
            self.name, label_set, (layout,), parts, scored, "your own", "any folder", asked=others, scans=scans
        )


class FormatError(DataError):
    """What makes a set unusable, as a list."""

    def __init__(self, faults: Sequence[DataProblem]) -> None:
        self.faults = list(faults)
        more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
        super().__init__(f"{faults[0].path}: {faults[0].what}{more}")


def counted(count: int, what: str, examples: Sequence[str] = ()) -> str:
    """A line of a note: "3 boxes ..., such as a, b"."""
    return f"{count} {what}" + (f", such as {some(list(examples), 2)}" if examples else "")
