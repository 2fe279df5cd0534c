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
from clouds.base.files import write_jsonl
from clouds.base.pick import evenly
from clouds.base.progress import say, track
from clouds.base.text import some
from clouds.config.recipe import Data, Recipe, UnlabelledSet
from clouds.config.records import UnlabelledPhoto, as_json, read_rows
from clouds.config.runs import CHECKPOINTS, FRAMES, PHOTOGRAPHS, joint_begun
from clouds.data.archives import SUFFIXES, Archive, Folder, is_archive
from clouds.data.datasets import dataset_spec, folder_of, images_of, is_dataset
from clouds.data.exif import orientation, turned
from clouds.data.frames import VIDEO_ENDINGS, pyav
from clouds.data.images import ENDINGS, decode_image, image_size
from clouds.data.samples import Place
from clouds.data.taken_frames import TIMES, frames_name, take_frames
from clouds.data.walk import find_images, sift_names
from clouds.errors import DataError, UsageError

DECODED = 100  # photos of a set that are decoded before training
ARCHIVES = dict.fromkeys((".zip", ".tar", ".gz", ".tgz"), "name archives as sets of their own")
INSIDE = dict.fromkeys((*ARCHIVES, *VIDEO_ENDINGS), "unpack it to use what it holds")


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
    """A picture of any size: its file, its (height, width) as it stands upright, the file's digest."""

    place: Place
    size: tuple[int, int]
    sha256: str

    def pixels(self) -> Pixels:
        """(H, W, 3) uint8 RGB, turned as its EXIF orientation says; DataError naming a file that cannot be read or has
        another content by now."""
        data = self.place.read()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise DataError(f"{self.place}: has another content than when the run first looked at it")
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
        found = find_images(path, what, out, ARCHIVES, (*ENDINGS, *VIDEO_ENDINGS))
        videos = [each for each in found if each.suffix.lower() in VIDEO_ENDINGS]
        if videos:
            pyav()
        files = Folder(path)
        pictures = [each for each in found if each.suffix.lower() in ENDINGS]
        return PhotoSet(chosen, [Place(files, each.relative_to(path).as_posix()) for each in pictures], videos)
    if is_archive(path):
        archive = Archive(path)
        return PhotoSet(chosen, [Place(archive, name) for name in sift_names(archive.every_name(), path, what, INSIDE)])
    if path.is_file() and path.suffix.lower() in VIDEO_ENDINGS:
        pyav()
        return PhotoSet(chosen, [], [path])
    expected = f"a folder, an archive ({', '.join(SUFFIXES)}) or a video ({', '.join(VIDEO_ENDINGS)})"
    if path.exists():
        raise UsageError(f"{what}{path}: holds no photos that can be read; expected {expected}")
    hint = f"; for the dataset write data.unlabelled=[{{dataset: {path}}}]" if is_dataset(str(path)) else ""
    seen = "" if path.is_absolute() else f", seen from {Path.cwd()}"
    raise UsageError(f"{what}{path}: not there{seen}; expected {expected}{hint}")


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


def look_at(places: Sequence[Place], decoded: int = 0) -> Iterator[Look]:
    """Each file's header and digest, in order; ``decoded`` of them, evenly spaced, are decoded too."""
    whole = {*evenly(len(places), decoded)}
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        yield from pool.map(_look, places, (k in whole for k in range(len(places))))


def _look(place: Place, decode: bool = False) -> Look:
    data = None
    try:
        data = place.read()
        size = image_size(data, str(place))
        if decode:
            decode_image(data, str(place))
    except DataError as error:
        if data is None:
            return Look(problem=str(error))
        return Look(None, len(data), hashlib.sha256(data).hexdigest(), str(error))
    upright = size[::-1] if 5 <= orientation(data) <= 8 else size
    return Look(list(upright), len(data), hashlib.sha256(data).hexdigest())


def read_photographs(recipe: Recipe, sets: Sequence[PhotoSet], out: Path) -> list[list[Photograph]]:
    """The photographs of each set, each file looked at once; a run that goes on reads its record of them.

    Frames of videos are written below ``out``, the record is ``photographs.jsonl``. It stays as it is once joint
    training has begun, as the samples follow from it: then photos that are gone are skipped, and new ones not used.
    What cannot be opened is left out and said; DataError where that is more than ``data.max_bad``, UsageError where
    more than that share is gone.
    """
    if not sets:
        return []
    rows = read_rows(out / PHOTOGRAPHS, UnlabelledPhoto)
    if rows and joint_begun(out):
        _go_on(rows, sets, recipe, out)
    elif not rows or any(_changes(rows, sets, out).values()) or _videos_changed(rows, sets):
        if rows:
            say("data.unlabelled: not the photos that this run began with; joint training begins with those of now")
        rows = [row for k, each in enumerate(sets) for row in _rows(k, each, out)]
        check_bad([row.problem for row in rows], recipe.data.max_bad)
        write_jsonl(out / PHOTOGRAPHS, [as_json(row) for row in rows])
    else:
        check_bad([row.problem for row in rows], 1.0)
    _take_lost_frames(rows, sets, out)
    places = [{file_of(place): place for place in each.places} for each in sets]
    found: list[list[Photograph]] = [[] for _ in sets]
    for row in rows:
        if row.problem is None:
            place = Place(Folder(out / FRAMES), row.frame) if row.frame else places[row.set].get((row.file, row.member))
            if place is None:  # gone: reading it says so
                file = Path(row.file)
                place = Place(Folder(file), row.member) if row.member else Place(Folder(file.parent), file.name)
            found[row.set].extend(filter(None, [photograph(place, Look(row.size, row.bytes, row.sha256))]))
    return found


def photograph(place: Place, look: Look) -> Photograph | None:
    """A file as one look at it says; None for one that cannot be opened."""
    if look.size is None or look.sha256 is None:
        return None
    return Photograph(place, (look.size[0], look.size[1]), look.sha256)


def fingerprints(out: Path) -> frozenset[str]:
    """What a model keeps of the photographs of a run (``fingerprint``)."""
    rows = read_rows(out / PHOTOGRAPHS, UnlabelledPhoto)
    return frozenset(fingerprint(row.bytes, row.sha256) for row in rows if row.bytes and row.sha256 and not row.problem)


def fingerprint(size: int, sha256: str) -> str:
    """Of a file of ``size`` bytes with this digest: a line of a model's ``trained_on.txt``."""
    return f"{size} {sha256[:16]}"


def file_of(place: Place) -> tuple[str, str | None]:
    """Where a file is, absolute, and, in an archive, its name there."""
    if isinstance(place.files, Folder):
        return str((place.files.path / place.name).absolute()), None
    return str(place.files.path.absolute()), place.name


def _rows(k: int, each: PhotoSet, out: Path) -> list[UnlabelledPhoto]:
    rows: list[UnlabelledPhoto] = []
    where: dict[str, Any]
    looks = track(look_at(each.places, DECODED), f"looking at {each.name}", len(each.places), unit="photos")
    for place, look in zip(each.places, looks, strict=True):
        file, member = file_of(place)
        where = {"member": member} if member else {}
        rows.append(UnlabelledPhoto.model_validate({"set": k, "file": file, **where, **look.known}))
    for video in each.videos:
        file = str(video.absolute())
        try:
            folder, times = take_frames(video, each.settings.every, out / FRAMES)
        except DataError as error:
            rows.append(UnlabelledPhoto(set=k, file=file, bytes=video.stat().st_size, problem=str(error)))
            continue
        places = [Place(Folder(folder), name) for name in times]
        for (name, seconds), look in zip(times.items(), look_at(places), strict=True):
            where = {"seconds": seconds, "frame": f"{folder.name}/{name}"}
            rows.append(UnlabelledPhoto.model_validate({"set": k, "file": file, **where, **look.known}))
    return rows


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


File = tuple[int, str, str | None]  # the set's number, the file, its name in an archive


def _changes(rows: Sequence[UnlabelledPhoto], sets: Sequence[PhotoSet], out: Path) -> dict[str, set[File]]:
    """The files that are gone, changed, and new or mended since the record in ``out`` was written. A video's frames are
    files of the run."""
    since = (out / PHOTOGRAPHS).stat().st_mtime
    was = {(row.set, row.file, row.member): row for row in rows}
    bad = {file for file, row in was.items() if row.problem}
    now = {(k, *file_of(place)): place for k, each in enumerate(sets) for place in each.places}
    videos: set[File] = {(k, str(video.absolute()), None) for k, each in enumerate(sets) for video in each.videos}
    frames = {file for file, row in was.items() if row.frame}
    return {
        "gone": was.keys() - now.keys() - videos - frames,
        "changed": {file for file in (now.keys() & was.keys()) - bad if not _same(was[file], now[file], since)},
        "new": ((now.keys() | videos) - was.keys())
        | {file for file in now.keys() & bad
           if not _same(was[file], now[file], since) and _look(now[file], decode=True).problem is None},
    }


def _same(row: UnlabelledPhoto, place: Place, since: float) -> bool:
    """By its size; a file, or an archive, that was touched ``since`` also by its content."""
    path = place.files.path / place.name if isinstance(place.files, Folder) else place.files.path
    try:
        if row.bytes != place.files.size(place.name):
            return False
        status = path.stat()
        touched = max(status.st_mtime, status.st_ctime) >= since
        return not touched or row.sha256 == hashlib.sha256(place.read()).hexdigest()
    except (DataError, OSError):
        return False


def _videos_changed(rows: Sequence[UnlabelledPhoto], sets: Sequence[PhotoSet]) -> bool:
    """Whether the frames in the record are not of the videos of now; one that could not be read is another by its size.
    """
    was: dict[tuple[int, str], set[str]] = {}
    for row in rows:
        seen = row.frame.partition("/")[0] if row.frame else f"{row.bytes} bytes"
        was.setdefault((row.set, row.file), set()).add(seen)
    for k, each in enumerate(sets):
        for video in each.videos:
            now = {frames_name(video, each.settings.every), f"{video.stat().st_size} bytes"}
            if not was.get((k, str(video.absolute())), set()) <= now:
                return True
    return False


def _take_lost_frames(rows: Sequence[UnlabelledPhoto], sets: Sequence[PhotoSet], out: Path) -> None:
    """Take the frames of a video again where files of them are gone and the video is as it was."""
    gone = {row.frame.partition("/")[0] for row in rows if row.frame and not (out / FRAMES / row.frame).is_file()}
    for each in sets:
        for video in each.videos:
            if (name := frames_name(video, each.settings.every)) in gone:
                (out / FRAMES / name / TIMES).unlink(missing_ok=True)
                take_frames(video, each.settings.every, out / FRAMES)


def _go_on(rows: Sequence[UnlabelledPhoto], sets: Sequence[PhotoSet], recipe: Recipe, out: Path) -> None:
    """Say what is not as joint training found it; UsageError where more than ``data.max_bad`` of it is lost."""
    changes = _changes(rows, sets, out)
    lost = [f"{len(files)} {how} ({some(sorted(each[2] or each[1] for each in files), 2)})"
            for how, files in changes.items() if files and how != "new"]  # fmt: skip
    remedy = f"begin joint training anew, after the same warm-up: delete {out / CHECKPOINTS}/joint-* and resume"
    if {row.set for row in rows} != set(range(len(sets))):
        raise UsageError(f"data.unlabelled: names other sets than joint training began with. Name those, or {remedy}")
    if sum(len(changes[how]) for how in ("gone", "changed")) > recipe.data.max_bad * len(rows):
        raise UsageError(f"data.unlabelled: of the {len(rows)} photos that joint training began with, "
                         f"{' and '.join(lost)}. Restore them; or skip them, by the command that began the run "
                         f"with a higher data.max_bad; or {remedy}")
    if lost:
        say(f"data.unlabelled: {' and '.join(lost)} since joint training began: skipped")
    if new := changes["new"]:
        say(f"data.unlabelled: {len(new)} new ({some(sorted(each[2] or each[1] for each in new), 2)}) are not used: "
            "joint training goes on with the photos it began with")  # fmt: skip
    check_bad([row.problem for row in rows], 1.0)
