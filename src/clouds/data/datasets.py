"""Driving datasets as torch's data loaders take them, straight from what their sites hand out, without unpacking.

``open_dataset("cityscapes", "/data/cityscapes")[i]`` is an image and its label as indices of ``dataset.label_set``;
``clouds.data.labels`` folds those into other label sets. The classes work outside CLOUDS too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from clouds.base.arrays import Labels, Pixels
from clouds.base.progress import say, say_once
from clouds.base.text import did_you_mean
from clouds.config.label_sets import IGNORE
from clouds.config.plugins import OWN, is_plugged, plugged
from clouds.data.encodings import LabelReader
from clouds.data.exif import EXIF, check_pair, label_turn, turned
from clouds.data.formats.found import FoundSpec, plain_split
from clouds.data.formats.table import FORMATS, read_format
from clouds.data.images import MAX_PIXELS, LazyImage, decode_image, image_size
from clouds.data.labels import LabelSet, find_label_set
from clouds.data.layouts import DATASETS, Spec, folder_spec
from clouds.data.pairing import find_unlabelled, scan
from clouds.data.samples import Place, Sample, Scan
from clouds.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

FOLDERS: dict[str, str] = {name: spec.folder for name, spec in DATASETS.items()} | {
    name: name for name in ("folder", *FORMATS)
}
# the photos that models are scored on, and their split
PHOTOS: dict[str, str] = {"camvid-day": "test", "camvid-dusk": "test", "idd-lite": "val", "bdd100k": "all"}


def dataset_names() -> tuple[str, ...]:
    """The names ``open_dataset`` knows."""
    return tuple(FOLDERS)


def is_dataset(name: str) -> bool:
    """Whether ``name`` is one that ``open_dataset`` may know: of the table, as carla or carla@0.9.13, or an import
    path."""
    return name.partition("@")[0] in FOLDERS or is_plugged(name)


def folder_of(name: str) -> str:
    """The dataset's folder below ``data.root``; UsageError for an unknown name."""
    base = name.partition("@")[0]
    return FOLDERS[base] if base in FOLDERS else find_spec(name).folder


def find_spec(name: str) -> Spec:
    """The dataset's row in the table, or the row that an import path names; UsageError for one that is not there."""
    if is_plugged(name):
        found = plugged(name, "dataset")
        if not isinstance(found, Spec):
            raise UsageError(f"dataset: {name}: expected a clouds.data.layouts.Spec, got {type(found).__name__}")
        return found
    name = name.partition("@")[0]
    if name in FORMATS:
        raise UsageError(f"{name}: say where it is (root); its own files have its classes and splits")
    if name not in DATASETS:
        hint = did_you_mean(name, FOLDERS)
        raise UsageError(f"unknown dataset {name!r}; {hint}there are {', '.join((*FOLDERS, OWN))}")
    return DATASETS[name]


class Segmentation:
    """Images with labels.

    ``[i]``: (image uint8 (3, H, W) RGB, label uint8 (H, W) in the indices of ``label_set``, 255 ignored).
    ``names[i]`` is a stable id of sample i; samples are sorted by it within each folder of the split.
    Where a set has no labels (``labelled`` is false) every label is 255 throughout. ``shown``: the names of the classes
    that its labels can show, some or all of ``label_set``.

    Reading raises DataError naming the file that is missing, truncated or damaged, a label of another size than its
    image, and label values outside the dataset's map: such values are never silently ignored.
    """

    def __init__(
        self, name: str, root: str | Path, split: str | None = None, *, partial: bool = False, version: str = "",
        exif: str = "refuse", max_pixels: int = MAX_PIXELS, **folder: Any
    ) -> None:
        """Find and pair the files; DataError names the first problem, UsageError an unknown name, split or option.

        ``split``: the one that benchmarks score if None. ``partial``: use what pairs up, where images without labels
        and labels without images would be an error. ``version``: of mapillary (1.2, 2.0) and carla (0.8, 0.9.10 to
        0.9.16), needed where the files do not tell it.
        ``exif``: of an image with a label that asks to be turned: "refuse" it, or lay the label on the stored pixels
        ("ignore") or on the turned picture ("apply").
        ``max_pixels``: larger images are refused unread. ``folder``: for the dataset "folder", see ``folder_spec``; for
        a format its options (``annotations`` of coco, ``columns`` of huggingface).
        """
        if exif not in EXIF:
            raise UsageError(f"exif={exif!r}: expected one of {', '.join(EXIF)}")
        root = Path(root).expanduser()
        spec = dataset_spec(name, split, folder, root)
        split = spec.scored if split is None else split
        if split not in spec.splits:
            raise UsageError(f"{name} has no split {split!r}; it has {', '.join(spec.splits)}")
        found = scan_split(name, spec, root, split, version)
        if found.problems and not (partial and found.samples):
            path, what = found.problems[0]
            more = f" (and {len(found.problems) - 1} more problems like this)" if len(found.problems) > 1 else ""
            hint = "; complete the set, or use what pairs up (partial: true in a recipe's set, partial=True in Python)"
            raise DataError(f"{path}: {what}{more}{hint if found.samples else ''}")
        if found.problems:
            say(f"{root}: {name}: {len(found.samples)} samples are used, {len(found.problems)} problems passed over")
        if not found.samples:
            raise DataError(f"{root}: {name} holds no image in split {split!r}")
        for note in found.notes:
            say_once(f"{root}: {name}: {note}")
        self._hold(name, spec, split, found, exif, max_pixels)

    @classmethod
    def of(cls, name: str, spec: Spec, split: str, found: Scan, exif: str) -> Self:
        """The pairs of a scan that was made before, whatever problems it lists."""
        made = cls.__new__(cls)
        made._hold(name, spec, split, found, exif, MAX_PIXELS)
        return made

    def _hold(self, name: str, spec: Spec, split: str, found: Scan, exif: str, max_pixels: int) -> None:
        self.name, self.split, self.exif, self.max_pixels = name, split, exif, max_pixels
        self.samples: list[Sample] = found.samples
        self.labelled = bool(found.layout.labels)
        self.label_set: LabelSet = find_label_set(found.layout.label_set or spec.label_set)
        meanings = (found.layout.values, found.layout.colors, found.layout.names)
        self.shown = {name for each in meanings for name in each.values() if name}
        if found.reader:
            self.shown = {*self.label_set.classes}
        self._reader, self._read_label = found.reader, LabelReader(found.layout, self.label_set, max_pixels)
        own = found.reader.meaning if found.reader else ""
        self.label_meaning = repr((found.layout, self.label_set)) + own  # two sets that read labels alike agree in it

    @property
    def names(self) -> list[str]:
        return [sample.name for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> Pixels:
        """(H, W, 3) uint8 RGB."""
        data, where, how = self._stored(index)
        return turned(decode_image(data, where, self.max_pixels), how)

    def lazy_image(self, index: int) -> LazyImage | Pixels:
        """The same, decoded only as far as it is sliced, unless it is turned; damage below that may not be seen."""
        data, where, how = self._stored(index)
        lazy = LazyImage(data, where, self.max_pixels)
        return lazy if how == 1 else turned(np.asarray(lazy), how)

    def _stored(self, index: int) -> tuple[bytes, str, int]:
        """An image file's bytes and place, and how its pixels are turned to lie under its label."""
        place = self.samples[index].image
        data, where = place.read(), str(place)
        return data, where, label_turn(data, where, self.exif) if self.labelled else 1

    def check_pair(self, index: int, image: tuple[int, ...], label: tuple[int, ...]) -> None:
        """DataError naming both files where an image and its label of these shapes differ in size."""
        if image[:2] != label:
            sample = self.samples[index]
            check_pair(image, sample.image, label, sample.label, sample.image.read(), self.exif)

    def label(self, index: int) -> Labels:
        """(H, W) uint8, indices in ``label_set``, 255 ignored; not compared with the image's size."""
        _, image, label = self.samples[index]
        if label is None:
            return np.full(image_size(image.read(), str(image), self.max_pixels), IGNORE, np.uint8)
        if self._reader:
            return self._reader(self.samples[index], self.max_pixels)
        return self._read_label(label.read(), str(label))

    def label_identity(self, index: int) -> tuple[str, ...]:
        """What tells the label of a sample, beside its file: several may be read from one."""
        return self.name, self.label_meaning, *([self.samples[index].name] if self._reader else [])

    def notes(self) -> list[str]:
        """What was lost in reading the labels so far, a line each."""
        return self._reader.notes() if self._reader else []

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        import torch  # labels are looked through without it

        image = self.image(index)
        label = self.label(index) if self.labelled else np.full(image.shape[:2], IGNORE, np.uint8)
        self.check_pair(index, image.shape, label.shape)

        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(label)


def open_dataset(name: str, root: str | Path, split: str | None = None, **options: Any) -> Segmentation:
    """The dataset ``name`` in ``root``, its own folder or an archive of it; options and errors as of ``Segmentation``.

    ``name``: one of ``dataset_names()``, also with its version as carla@0.9.13, or MODULE:NAME of a ``Spec`` of one's
    own.
    """
    return Segmentation(name, root, split, **options)


def dataset_spec(
    name: str, split: str | None = None, options: Mapping[str, Any] | None = None, root: Path | None = None
) -> Spec:
    """The dataset's row in the table, the one that the options of "folder" make, or of a format what lies in ``root``.

    UsageError for an unknown name or option, DataError of a format for what is not there.
    """
    options = options or {}
    if name in FORMATS:
        if root is None:
            raise UsageError(f"{name}: say where it is (root); its own files have its classes and splits")
        return named_split(read_format(name, root, options), split)
    if name == "folder":
        if unknown := options.keys() - signature(folder_spec).parameters.keys():
            raise UsageError(f"folder has no option {', '.join(sorted(unknown))}; see clouds.data.layouts.folder_spec")
        return folder_spec(split, **options)
    spec = find_spec(name)
    if options:
        raise UsageError(f"{name} has no option {', '.join(options)}; only 'folder' is given its layout")
    return spec


def named_split(spec: FoundSpec, split: str | None) -> Spec:
    """The row with a split called as it is asked for: valid and train2017 for what is val and train here."""
    if split is None or split in spec.scans or (plain := plain_split(split)) not in spec.scans:
        return spec
    scans = {split if each == plain else each: found for each, found in spec.scans.items()}
    return replace(spec, scans=scans, splits={each: (each,) for each in scans},
                   scored=split if spec.scored == plain else spec.scored)  # fmt: skip


def scan_split(name: str, spec: Spec, root: Path, split: str, version: str = "") -> Scan:
    """The pairs of a split; errors as of ``pairing.scan``."""
    return spec.scans[split] if isinstance(spec, FoundSpec) else scan(name, spec, root, split, version)


def images_of(name: str, spec: Spec, root: Path, split: str) -> list[Place]:
    """The images of a split, with and without labels, in order; errors as of ``pairing.scan``."""
    if isinstance(spec, FoundSpec):
        found = spec.scans[split]
        return sorted([*(sample.image for sample in found.samples), *found.bare], key=lambda place: place.name)
    return find_unlabelled(name, spec, root, split)


class _Named(Segmentation):
    dataset: ClassVar[str]

    def __init__(self, root: str | Path, split: str | None = None, **options: Any) -> None:
        """``root``: the dataset's own folder, or an archive of it. Options as in ``Segmentation``."""
        super().__init__(self.dataset, root, split, **options)


class ACDC(_Named):
    """Adverse conditions, all four of them; ``open_dataset("acdc-fog", ...)`` for one."""
    dataset = "acdc"


class BDD100K(_Named):
    """The 10k images with semantic masks. Splits train, val, all."""
    dataset = "bdd100k"


class CamVid(_Named):
    """Cambridge streets, 11 classes."""
    dataset = "camvid"


class CARLA(_Named):
    """Captures of the simulator's camera and semantic camera, in images/ and labels/."""
    dataset = "carla"


class Cityscapes(_Named):
    """The fine annotations, 19 classes."""
    dataset = "cityscapes"


class DarkZurich(_Named):
    """Night in Zurich; the 50 validation images have labels."""
    dataset = "dark-zurich"


class Folder(_Named):
    """Any images and labels: say where they are and what the values mean (``clouds.data.layouts.folder_spec``)."""
    dataset = "folder"


class Generated(_Named):
    """A generated set: images and ``metadata.jsonl``, no labels."""
    dataset = "generated"


class GTA5(_Named):
    """Playing for Data: frames of a game, labelled with Cityscapes ids."""
    dataset = "gta5"


class IDD(_Named):
    """India Driving Dataset, segmentation, read from its polygons."""
    dataset = "idd"


class IDDLite(_Named):
    """The small India Driving Dataset, 7 groups."""
    dataset = "idd-lite"


class Mapillary(_Named):
    """Mapillary Vistas v1.2 or v2.0."""
    dataset = "mapillary"


class Synthia(_Named):
    """SYNTHIA-RAND-CITYSCAPES, 16 classes."""
    dataset = "synthia"


class UrbanSyn(_Named):
    """Synthetic streets, 19 classes."""
    dataset = "urbansyn"
