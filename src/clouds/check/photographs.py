"""Photographs without labels, looked through before training: can they be read, do crops fit, are they elsewhere?"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from clouds.base.pick import evenly
from clouds.base.progress import track
from clouds.base.text import counted, some
from clouds.check.inspect import SAMPLE, Inspection
from clouds.config.recipe import DomainSet, Labelled, Recipe
from clouds.data.datasets import PHOTOS, images_of, is_dataset
from clouds.data.exif import orientation
from clouds.data.frames import frames
from clouds.data.images import MAX_PIXELS, decode_image, image_size
from clouds.data.labelled import learned_from, set_root, spec_of
from clouds.data.labels import find_label_set
from clouds.data.photographs import PhotoSet, find_photographs
from clouds.data.samples import DataProblem, Place
from clouds.errors import CloudsError, DataError

NAME = "photos"  # of a set in the result
SHOWN = 3  # names in a warning

Size = tuple[int, int]


def inspect_photographs(recipe: Recipe, full: bool, out: Path) -> tuple[list[Inspection], list[str]]:
    """Each set of ``data.unlabelled``, and what to warn of: small or upright ones, and files that stand elsewhere too.

    Of a set 100 pictures are decoded, with ``full`` all; of a video its first frame. What lies in ``out`` is no photo.
    UsageError as of training.
    """
    found, warnings = [], list[str]()
    sets = find_photographs(recipe.data, out)
    for k, each in enumerate(sets):
        inspection, sizes = _inspect(each, full)
        found.append(inspection)
        warnings += _doubts(each.name, sizes, recipe.augment.crop)
        warnings += _seen_elsewhere(each, recipe, sets[:k])
    return found, warnings


def _inspect(each: PhotoSet, full: bool) -> tuple[Inspection, list[Size]]:
    found = Inspection(NAME, each.name, find_label_set("cityscapes19"), labelled=False)
    found.splits = {name: count for name, count in (("pictures", len(each.places)), ("videos", len(each.videos)))
                    if count}  # fmt: skip
    places = [each.places[k] for k in evenly(len(each.places), len(each.places) if full else SAMPLE)]
    sizes: list[Size] = []

    def looks() -> Iterator[Size | DataProblem]:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            yield from pool.map(_look, places)
        yield from map(_first_frame, each.videos)

    count = len(places) + len(each.videos)
    found.unseen = len(each.places) - len(places)
    for look in track(looks(), f"checking {each.name}", count, unit="photos"):
        if isinstance(look, DataProblem):
            found.problems.append(look)
        else:
            sizes.append(look)
    found.decoded = len(sizes)
    found.smallest = min(sizes, key=min, default=None)
    return found, sizes


def _look(place: Place) -> Size | DataProblem:
    try:
        data = place.read()
        decode_image(data, str(place), MAX_PIXELS)
        height, width = image_size(data, str(place))
    except DataError as error:
        return _problem(error, str(place))
    return (width, height) if 5 <= orientation(data) <= 8 else (height, width)


def _first_frame(video: Path) -> Size | DataProblem:
    try:
        height, width, _ = next(iter(frames(video, limit=1))).pixels.shape
    except DataError as error:
        return _problem(error, str(video))
    return height, width


def _problem(error: DataError, path: str) -> DataProblem:
    return DataProblem(path, str(error).removeprefix(f"{path}: "))


def _doubts(name: str, sizes: Sequence[Size], crop: Size) -> list[str]:
    """Photographs that are scaled up for a crop to fit, and those of another aspect than street photos have."""
    found = []
    small = [size for size in sizes if size[0] < crop[0] or size[1] < crop[1]]
    if small:
        least = min(small, key=min)
        found.append(f"{name}: {len(small)} of {len(sizes)} photos looked at are smaller than the crop of "
                     f"{crop[1]}x{crop[0]}, the smallest is {least[1]}x{least[0]}; they are scaled up")  # fmt: skip
    if upright := sum(height > width for height, width in sizes):
        found.append(f"{name}: {upright} of {len(sizes)} photos looked at are taller than wide; their crops show "
                     "little of the width of a street")  # fmt: skip
    return found


def _seen_elsewhere(each: PhotoSet, recipe: Recipe, before: Sequence[PhotoSet]) -> list[str]:
    """Photographs that are there twice, and those that a set before, the source or a benchmark domain has too."""
    found = []
    doubled = _twins(each.places)
    if doubled:
        found.append(f"{each.name}: {counted(len(doubled), 'photo')} twice, such as {some(doubled, SHOWN)}")
    for other in before:
        if same := _twins(each.places, other.places):
            found.append(f"{each.name}: {counted(len(same), 'photo')} also in {other.name}, such as "
                         f"{some(same, SHOWN)}; they are learned from more often than the others")  # fmt: skip
    for name, places, scored in _labelled(recipe):
        if same := _twins(each.places, places):
            harm = ("a score there would be of images that were trained on without labels" if scored
                    else "they are learned from with labels too")  # fmt: skip
            found.append(f"{each.name}: {counted(len(same), 'photo')} also in {name}, such as "
                         f"{some(same, SHOWN)}; {harm}")  # fmt: skip
    return found


def _labelled(recipe: Recipe) -> Iterator[tuple[str, list[Place], bool]]:
    """(name, images, whether it is scored on) of each labelled source and each domain that is there."""
    known = [DomainSet(name=name, dataset=name, split=split) for name, split in PHOTOS.items()]
    chosen: list[Labelled] = [*recipe.data.source, *(recipe.evaluate.domains or known)]
    for each in chosen:
        if is_dataset(each.dataset):
            with suppress(CloudsError):  # of a set that is not there; its own check says what is wrong
                spec = spec_of(each, recipe)
                split = (each.split or spec.scored) if isinstance(each, DomainSet) else learned_from(each, recipe)[1]
                places = images_of(each.dataset, spec, set_root(each, recipe), split)
                name = each.name if isinstance(each, DomainSet) else f"the source {each.dataset}"
                yield name, places, isinstance(each, DomainSet)


def _twins(places: Sequence[Place], others: Iterable[Place] | None = None) -> list[str]:
    """Those of ``places`` whose bytes one of ``others`` has too, or an earlier one of themselves; of files of one size
    alone the content is compared."""
    sizes: dict[int, list[Place]] = defaultdict(list)
    for place in places if others is None else others:
        with suppress(DataError):
            sizes[place.files.size(place.name)].append(place)
    digests: dict[Place, str] = {}

    def digest(place: Place) -> str:
        if place not in digests:
            digests[place] = hashlib.sha256(place.read()).hexdigest()
        return digests[place]

    found = []
    for place in places:
        with suppress(DataError):
            alike = [each for each in sizes.get(place.files.size(place.name), ()) if each is not place]
            if others is None:
                alike = alike[: sizes[place.files.size(place.name)].index(place)]
            if any(digest(place) == digest(each) for each in alike):
                found.append(str(place))
    return found
