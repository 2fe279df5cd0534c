"""Regions of images without labels as files: found ahead, by one process or many, and read by training.

An entry is named by what it depends on: the image file's content, the segmenter with its weights, and how it was
asked. So a folder may serve several sets and runs, a finished entry is never made again, and processes that meet share
the work.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Pixels
from clouds.base.files import make_folder, whole_file
from clouds.base.locks import HeldError, check_idle, locked
from clouds.base.machine import usable_device
from clouds.base.pick import evenly
from clouds.base.progress import say_once, track
from clouds.base.shards import WHOLE, Shard, parse_shard
from clouds.config.backends import takes
from clouds.config.load import is_recipe, load_recipe, set_recipe
from clouds.config.recipe import Recipe, SelfTrain
from clouds.config.runs import REGIONS, timed
from clouds.data.batches.unlabelled import View
from clouds.data.images import decode_image
from clouds.errors import CloudsError, DataError, UsageError
from clouds.foundation.embeddings import plain_segmenter
from clouds.foundation.registry import backends
from clouds.foundation.segmenter import PromptableSegmenter, check_segmenter, segmenter_identity
from clouds.generate.draw import read_set
from clouds.selftrain.find_regions import find_regions
from clouds.selftrain.regions import Regions

_FORMAT = "1"
LOOKED_AT = 50
PARTS = ("members", "starts", "quality", "classes")  # of regions, stored as they are


def save_regions(path: Path, regions: Regions) -> None:
    """Write one image's regions, whole or not at all: the map of atoms as runs along its rows, everything packed."""
    height, width = regions.atoms.shape
    new = np.ones((height, width), np.bool_)  # runs end at a row's end: no length needs more than 16 bits
    new[:, 1:] = regions.atoms[:, 1:] != regions.atoms[:, :-1]
    begins = np.flatnonzero(new)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            size=np.array([height, width]),
            atoms=regions.atoms.ravel()[begins],
            runs=np.diff(begins, append=height * width).astype(np.uint16 if width < 2**16 else np.uint32),
            **{name: getattr(regions, name) for name in PARTS},
        )


def read_regions(path: Path) -> Regions:
    """What ``save_regions`` wrote; DataError where it is gone or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            atoms: NDArray[Any] = np.repeat(stored["atoms"], stored["runs"]).reshape(stored["size"])
            return Regions(atoms, *(stored[name] for name in PARTS))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run the same command again to make it again") from error


def identity_of(segmenter: PromptableSegmenter, settings: SelfTrain) -> str:
    """What regions depend on beside the image."""
    known = segmenter_identity(segmenter)
    if hasattr(segmenter, "levels") or hasattr(segmenter, "propose"):
        return known
    asked = (settings.regions_grid, settings.regions_quality, settings.regions_stability, settings.second_pass)
    return f"{known} {asked}"


def _content(image: Path | View) -> tuple[bytes, Callable[[], Pixels]]:
    """What an image's regions follow from, and how to read it; OSError or DataError where it cannot be."""
    if isinstance(image, View):
        return image.key, image.pixels
    data = image.read_bytes()
    return data, lambda: decode_image(data, str(image))


def make_regions(
    images: Sequence[Path | View], segmenter: PromptableSegmenter, settings: SelfTrain, folder: Path,
    shard: Shard = WHOLE,
) -> tuple[list[Path | None], int]:
    """Find what is missing of the regions of ``images``, or of this shard of them, below ``folder``.

    -> (each image's file, None for an image that cannot be read, how many were made). Damaged entries are made anew.
    """
    identity = identity_of(segmenter, settings)
    mine = images[shard.index :: shard.count]
    files: list[Path | None] = [None] * len(mine)
    made = 0

    def work() -> Iterator[None]:
        nonlocal made
        waiting = []  # entries that another process is at
        for k, image in enumerate(mine):
            try:
                files[k], done = _make(image, segmenter, identity, settings, folder, wait=False)
            except HeldError:
                waiting.append(k)
                continue
            made += done
            yield
        for k in waiting:
            files[k], done = _make(mine[k], segmenter, identity, settings, folder, wait=True)
            made += done
            yield

    what = "finding regions" if shard.count == 1 else f"regions of {shard}"
    for _ in track(work(), what, len(mine), unit="images"):
        pass
    return files, made


def mean_regions(files: Sequence[Path | None]) -> float:
    """How many regions an image has, over up to ``LOOKED_AT`` of them, evenly spaced."""
    found = [file for file in files if file]
    counts = [len(read_regions(found[k])) for k in evenly(len(found), LOOKED_AT)]
    return float(np.mean(counts)) if counts else 0.0


def _make(
    image: Path | View, segmenter: PromptableSegmenter, identity: str, settings: SelfTrain, folder: Path, wait: bool
) -> tuple[Path | None, bool]:
    """The file of an image's regions, None where it cannot be read; whether they had to be made."""
    try:
        data, read = _content(image)
        key = hashlib.sha256(f"{_FORMAT}\0{identity}\0".encode() + data).hexdigest()
        path = folder / key[:2] / f"{key}.npz"
        if _whole(path):
            return path, False
        pixels = read()
    except (OSError, DataError) as error:  # training leaves out what it cannot read, and counts it
        say_once(f"no regions found: {error}")
        return None, False
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock"), blocking=wait):
        if _whole(path):
            return path, False
        asked = (settings.regions_grid, settings.regions_quality, settings.regions_stability)
        save_regions(path, find_regions(pixels, segmenter, *asked))
    return path, True


def _whole(path: Path) -> bool:
    try:
        read_regions(path)
    except DataError:
        return False
    return True


def regions_shard(
    recipe: Recipe, look: Callable[[int], Path | View], numbers: Sequence[int], out: Path, shard: Shard
) -> None:
    """Find what is missing of a shard of the regions of ``numbers``, ahead of ``regions_of_set``."""
    chosen = recipe.selftrain
    images = [look(number) for number in numbers]
    with timed(out, "regions") if shard.index == 0 else nullcontext():
        make_regions(images, plain_segmenter(recipe), chosen, chosen.regions_folder or out / REGIONS, shard)


def regions_of_set(
    recipe: Recipe, look: Callable[[int], Path | View], numbers: Sequence[int], out: Path
) -> Callable[[int], Regions]:
    """The regions of the images without labels, by the number of the look.

    ``look``: what to look at, by its number. ``numbers``: the looks that training draws; their regions are on disk when
    this returns. Those of another one, which stands in for a file that cannot be read, are found when they are asked
    for.
    """
    chosen = recipe.selftrain
    folder = chosen.regions_folder or out / REGIONS
    with timed(out, "regions"):
        found, _ = make_regions([look(number) for number in numbers], plain_segmenter(recipe), chosen, folder)
    if numbers and not mean_regions(found):
        said = f"no regions were found in {len(found)} images by {chosen.segmenter}"
        raise CloudsError(f"{said}: {_why_none(chosen, found)}")
    files = dict(zip(numbers, found, strict=True))
    late = cache(partial(plain_segmenter, recipe))  # most runs never need it again

    def read(number: int) -> Regions:
        if number not in files:
            files[number], _ = _make(look(number), late(), identity_of(late(), chosen), chosen, folder, wait=True)
        file = files[number]
        if file is None:
            raise DataError(f"{look(number)}: has no regions, as it could not be read; run again when it is fixed")
        return read_regions(file)

    return read


def _why_none(chosen: SelfTrain, files: Sequence[Path | None]) -> str:
    """Why a set has no regions."""
    if not any(files):
        return "none of them could be read"
    if "points" in takes(chosen.segmenter):
        return (f"selftrain.regions_quality ({chosen.regions_quality:g}) or regions_stability "
                f"({chosen.regions_stability:g}) may be too high for it")  # fmt: skip
    return "it found none of the model's classes; look at the images, or choose another selftrain.segmenter"


def find_set_regions(name: str, overrides: list[str], shard: str | None, out: Path) -> dict[str, Any]:
    """Find the regions of a set ahead of training; the object that ``clouds regions --json`` prints.

    ``name``: a folder that holds a set, or a recipe that names one as ``generate.folder``.
    """
    overrides = ["selftrain.refinement=regions", *overrides]
    if not Path(name).is_dir() and not is_recipe(name):
        raise UsageError(f"{name}: no such folder, and no recipe; name a generated set's folder, or a recipe with one")
    recipe = set_recipe(Path(name), overrides) if Path(name).is_dir() else load_recipe(name, overrides)
    if recipe.generate.folder is None:
        raise UsageError(
            f"generate.folder: not set in {name}; regions are found of images that are there: name the set's folder, "
            "as `clouds regions generated`, or generate.folder=DIR"
        )
    chosen, part = recipe.selftrain, parse_shard(shard)
    check_idle(out)
    usable_device(recipe.train.device)
    check_segmenter(chosen.segmenter, chosen.segmenter_revision, fetch=True)
    images = [recipe.generate.folder / row["file_name"] for row in read_set(recipe.generate.folder)]
    make_folder(out)
    files, made = make_regions(images, plain_segmenter(recipe), chosen, out, part)
    done = [file for file in files if file]
    return {
        "images": len(done),
        "made": made,
        "failed": len(files) - len(done),
        "regions": round(mean_regions(files), 1),
        "bytes": sum(file.stat().st_size for file in set(done)),
        "segmenter": backends(recipe)["segmenter"],
        "folder": str(out.resolve()),
    }
