"""Photographs without labels: found in folders, archives, videos and datasets, looked at once, and written down.

Nothing is unpacked or converted, but that the frames of a video become files of the run.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from clouds.base.arrays import Pixels
from clouds.base.files import as_bytes, read_json, whole_folder, write_json, write_jsonl
from clouds.base.progress import say, track
from clouds.base.text import some
from clouds.config.recipe import Data, Recipe, UnlabelledSet
from clouds.config.records import UnlabelledPhoto, as_json, read_rows
from clouds.config.runs import FRAMES, PHOTOGRAPHS
from clouds.data.archives import SUFFIXES, Archive, Folder, is_archive
from clouds.data.datasets import dataset_spec, folder_of, images_of, is_dataset
from clouds.data.exif import orientation, turned
from clouds.data.frames import VIDEO_ENDINGS, frames, pyav
from clouds.data.images import ENDINGS, decode_image, encode_image, image_size
from clouds.data.samples import Place
from clouds.data.walk import find_images, sift_names
from clouds.errors import DataError, UsageError

TIMES = "frames.json"  # file of a frame -> its seconds


@dataclass(frozen=True)
class PhotoSet:
    """One set of photographs as it lies on disk: pictures, and videos whose frames are to be taken."""

    settings: UnlabelledSet
    places: list[Place]
    videos: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        """As the recipe names it."""
        return self.settings.dataset or str(self.settings.folder)


@dataclass(frozen=True)
class Photograph:
    """A picture of any size: where its file is, its (height, width) as it stands upright, its file's digest."""

    place: Place
    size: tuple[int, int]
    sha256: str

    def pixels(self) -> Pixels:
        """(H, W, 3) uint8 RGB, turned as its EXIF orientation says; DataError naming the file."""
        data = self.place.read()
        return turned(decode_image(data, str(self.place)), orientation(data))

    def __str__(self) -> str:
        return str(self.place)


def find_photographs(data: Data, out: Path | None = None) -> list[PhotoSet]:
    """What ``data.unlabelled`` names, listed but not read; below a folder all but what lies in ``out``.

    Raises UsageError for a path that is not there or holds none, BackendError for a video without its reader, DataError
    for a dataset that is not as its site hands it out.
    """
    return [_found(chosen, data, out, f"data.unlabelled.{k}: ") for k, chosen in enumerate(data.unlabelled)]


def _found(chosen: UnlabelledSet, data: Data, out: Path | None, what: str) -> PhotoSet:
    if chosen.dataset:
        return PhotoSet(chosen, _of_dataset(chosen, data, what))
    path = chosen.folder
    assert path is not None  # the recipe's own check
    if path.is_dir():
        found = find_images(path, what, out, endings=(*ENDINGS, *VIDEO_ENDINGS))
        videos = [each for each in found if each.suffix.lower() in VIDEO_ENDINGS]
        if videos:
            pyav()
        files = Folder(path)
        pictures = [each for each in found if each.suffix.lower() in ENDINGS]
        return PhotoSet(chosen, [Place(files, each.relative_to(path).as_posix()) for each in pictures], videos)
    if is_archive(path):
        archive = Archive(path)
        return PhotoSet(chosen, [Place(archive, name) for name in sift_names(archive.every_name(), path, what)])
    if path.is_file() and path.suffix.lower() in VIDEO_ENDINGS:
        pyav()
        return PhotoSet(chosen, [], [path])
    expected = f"a folder, an archive ({', '.join(SUFFIXES)}) or a video ({', '.join(VIDEO_ENDINGS)})"
    if path.exists():
        raise UsageError(f"{what}{path}: holds no photos that can be read; expected {expected}")
    hint = f"; for the dataset write data.unlabelled=[{{dataset: {path}}}]" if is_dataset(str(path)) else ""
    raise UsageError(f"{what}{path}: not there; expected {expected}{hint}")


def _of_dataset(chosen: UnlabelledSet, data: Data, what: str) -> list[Place]:
    name = chosen.dataset or ""
    root = chosen.root or (data.root / folder_of(name) if data.root and is_dataset(name) else None)
    try:
        spec = dataset_spec(name, chosen.split, root=root)
    except UsageError as error:
        raise UsageError(f"{what}{error}") from None
    split = chosen.split or ("train" if "train" in spec.splits else spec.scored)
    if split not in spec.splits:
        raise UsageError(f"{what}{name} has no split {split!r}; it has {', '.join(spec.splits)}")
    if root is None:
        raise UsageError(f"{what}{name} needs data.root=PATH, the folder that holds {folder_of(name)}/, or a root")
    return images_of(name, spec, root, split)


class Look(NamedTuple):
    """What one look at a file gives: (height, width) upright, bytes, digest; or why it cannot be a photograph."""

    size: list[int] | None = None
    bytes: int | None = None
    sha256: str | None = None
    problem: str | None = None

    @property
    def known(self) -> dict[str, Any]:
        return {key: value for key, value in self._asdict().items() if value is not None}


def look_at(places: Sequence[Place]) -> Iterator[Look]:
    """Each file's header and digest, in order; nothing is decoded."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        yield from pool.map(_look, places)


def _look(place: Place) -> Look:
    try:
        data = place.read()
        size = image_size(data, str(place))
    except DataError as error:
        return Look(problem=str(error))
    upright = size[::-1] if 5 <= orientation(data) <= 8 else size
    return Look(list(upright), len(data), hashlib.sha256(data).hexdigest())


def read_photographs(recipe: Recipe, sets: Sequence[PhotoSet], out: Path) -> list[list[Photograph]]:
    """The photographs of each set, each file looked at once; a run that goes on reads its record of them.

    Frames of videos are written below ``out``, the record is ``photographs.jsonl``. What cannot be opened is left out
    and said; DataError where that is more than ``data.max_bad``, UsageError where a set is not what it was.
    """
    rows = read_rows(out / PHOTOGRAPHS, UnlabelledPhoto) if sets else []
    if rows or not sets:
        _check_same(rows, sets, out)
    else:
        rows = [row for k, each in enumerate(sets) for row in _rows(k, each, out)]
        check_bad([row.problem for row in rows], recipe.data.max_bad)
        write_jsonl(out / PHOTOGRAPHS, [as_json(row) for row in rows])
    places = [{file_of(place): place for place in each.places} for each in sets]
    found: list[list[Photograph]] = [[] for _ in sets]
    for row in rows:
        if row.problem is None:
            place = Place(Folder(out / FRAMES), row.frame) if row.frame else places[row.set][row.file, row.member]
            found[row.set].extend(filter(None, [photograph(place, Look(row.size, row.bytes, row.sha256))]))
    return found


def photograph(place: Place, look: Look) -> Photograph | None:
    """A file as one look at it says; None for one that cannot be opened."""
    if look.size is None or look.sha256 is None:
        return None
    return Photograph(place, (look.size[0], look.size[1]), look.sha256)


def file_of(place: Place) -> tuple[str, str | None]:
    """Where a file is, absolute, and, in an archive, its name there."""
    if isinstance(place.files, Folder):
        return str((place.files.path / place.name).absolute()), None
    return str(place.files.path.absolute()), place.name


def _rows(k: int, each: PhotoSet, out: Path) -> list[UnlabelledPhoto]:
    rows: list[UnlabelledPhoto] = []
    where: dict[str, Any]
    looks = track(look_at(each.places), f"looking at {each.name}", len(each.places), unit="photos")
    for place, look in zip(each.places, looks, strict=True):
        file, member = file_of(place)
        where = {"member": member} if member else {}
        rows.append(UnlabelledPhoto.model_validate({"set": k, "file": file, **where, **look.known}))
    for video in each.videos:
        file = str(video.absolute())
        try:
            folder, times = take_frames(video, each.settings.every, out / FRAMES)
        except DataError as error:
            rows.append(UnlabelledPhoto(set=k, file=file, problem=str(error)))
            continue
        places = [Place(Folder(folder), name) for name in times]
        for (name, seconds), look in zip(times.items(), look_at(places), strict=True):
            where = {"seconds": seconds, "frame": f"{folder.name}/{name}"}
            rows.append(UnlabelledPhoto.model_validate({"set": k, "file": file, **where, **look.known}))
    return rows


def take_frames(video: Path, every: float, below: Path) -> tuple[Path, dict[str, float]]:
    """Frames of a video, one in ``every`` seconds, as files of a folder ``below``: (the folder, file -> its seconds).

    They are taken once, all or none; DataError where the video cannot be read.
    """
    status = video.stat()
    known = f"{video.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\0{every}"
    folder = below / f"{video.stem[:40]}-{hashlib.sha256(as_bytes(known)).hexdigest()[:12]}"
    if not (folder / TIMES).is_file():
        with whole_folder(folder) as temporary:
            times = {}
            for frame in track(frames(video, fps=1 / every), f"taking frames of {video.name}", None, unit="frames"):
                name = f"{frame.number:06d}.jpg"
                (temporary / name).write_bytes(encode_image(frame.pixels, folder / name, ".jpg"))
                times[name] = round(frame.seconds, 3)
            write_json(temporary / TIMES, times)
    return folder, dict(read_json(folder / TIMES))


def check_bad(problems: Sequence[str | None], most: float) -> None:
    """Say what cannot be opened; DataError where that is more than the share ``most`` of all."""
    bad = [problem for problem in problems if problem]
    if len(bad) > most * len(problems) or (bad and len(bad) == len(problems)):
        listed = "\n  ".join(bad[:10])
        raise DataError(
            f"data.unlabelled: {len(bad)} of {len(problems)} photos cannot be opened, more than data.max_bad "
            f"allows ({100 * most:g} %); fix or delete them:\n  {listed}"
        )
    for problem in bad:
        say(f"left out: {problem}")


def _check_same(rows: Sequence[UnlabelledPhoto], sets: Sequence[PhotoSet], out: Path) -> None:
    was = {(row.set, row.file, row.member) for row in rows}
    now = {(k, *file_of(place)) for k, each in enumerate(sets) for place in each.places}
    now |= {(k, str(video.absolute()), None) for k, each in enumerate(sets) for video in each.videos}
    if was != now:
        changes = []
        for files, how in ((was - now, "gone"), (now - was, "new")):
            if files:
                changes.append(f"{len(files)} {how} ({some(sorted(each[2] or each[1] for each in files), 2)})")
        raise UsageError(f"data.unlabelled: not the photos that this run began with: {' and '.join(changes)}. "
                         f"Restore them, or delete {out / PHOTOGRAPHS} to resume with those that remain")  # fmt: skip
