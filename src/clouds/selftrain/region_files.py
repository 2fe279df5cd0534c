"""Regions of a generated set as files: found ahead, by one process or many, and read by training.

An entry is named by what it depends on: the image file's content, the segmenter with its weights, and how it was
asked. So a folder may serve several sets and runs, a finished entry is never made again, and processes that meet share
the work.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout
from numpy.typing import NDArray

from clouds.base.files import whole_file
from clouds.base.progress import say, track
from clouds.base.shards import WHOLE, Shard, locked
from clouds.config.recipe import SelfTrain
from clouds.data.images import decode_image
from clouds.errors import DataError
from clouds.foundation.segmenter import PromptableSegmenter, segmenter_identity
from clouds.selftrain.everything import find_regions
from clouds.selftrain.regions import Regions

_FORMAT = "1"
LOOKED_AT = 50


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
            members=regions.members,
            starts=regions.starts,
            quality=regions.quality,
            classes=regions.classes,
        )


def read_regions(path: Path) -> Regions:
    """What ``save_regions`` wrote; DataError where it is gone or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            atoms: NDArray[Any] = np.repeat(stored["atoms"], stored["runs"]).reshape(stored["size"])
            return Regions(atoms, *(stored[name] for name in ("members", "starts", "quality", "classes")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run the same command again to have it made anew") from error


def identity_of(segmenter: PromptableSegmenter, settings: SelfTrain) -> str:
    """What regions depend on beside the image."""
    known = segmenter_identity(segmenter)
    if hasattr(segmenter, "levels") or hasattr(segmenter, "propose"):
        return known
    asked = (settings.regions_grid, settings.regions_quality, settings.regions_stability, settings.second_pass)
    return f"{known} {asked}"


def make_regions(
    images: Sequence[Path], segmenter: PromptableSegmenter, settings: SelfTrain, folder: Path, shard: Shard = WHOLE
) -> tuple[list[Path | None], int]:
    """Find what is missing of the regions of ``images``, or of this shard of them, below ``folder``.

    -> (each image's file, None for an image that cannot be read, how many were made). Damaged entries are made anew.
    """
    identity = identity_of(segmenter, settings)
    mine = images[shard.index :: shard.count]
    files: dict[Path, Path | None] = {}
    made = 0

    def work() -> Iterator[None]:
        nonlocal made
        waiting = []  # entries that another process is at
        for image in mine:
            try:
                done = _make(image, files, segmenter, identity, settings, folder, wait=False)
            except Timeout:
                waiting.append(image)
                continue
            made += done
            yield
        for image in waiting:
            made += _make(image, files, segmenter, identity, settings, folder, wait=True)
            yield

    what = "finding regions" if shard.count == 1 else f"regions of {shard}"
    for _ in track(work(), what, len(mine), unit="images"):
        pass
    return [files[image] for image in mine], made


def mean_regions(files: Sequence[Path | None]) -> float:
    """How many regions an image has, over up to ``LOOKED_AT`` of them, evenly spaced."""
    found = [file for file in files if file]
    chosen = found[:: max(1, len(found) // LOOKED_AT)]
    return float(np.mean([len(read_regions(file)) for file in chosen])) if chosen else 0.0


def _make(
    image: Path,
    files: dict[Path, Path | None],
    segmenter: PromptableSegmenter,
    identity: str,
    settings: SelfTrain,
    folder: Path,
    wait: bool,
) -> bool:
    """Have the regions of one image; whether they had to be made."""
    try:
        data = image.read_bytes()
        key = hashlib.sha256(f"{_FORMAT}\0{identity}\0".encode() + data).hexdigest()
        path = files[image] = folder / key[:2] / f"{key}.npz"
        if _whole(path):
            return False
        pixels = decode_image(data, str(image))
    except (OSError, DataError) as error:  # training leaves out what it cannot read, and counts it
        files[image] = None
        say(f"{image}: no regions found, it cannot be read ({error})")
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock"), blocking=wait):
        if _whole(path):
            return False
        asked = (settings.regions_grid, settings.regions_quality, settings.regions_stability)
        save_regions(path, find_regions(pixels, segmenter, *asked))
    return True


def _whole(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        read_regions(path)
    except DataError:
        return False
    return True
