"""One walk through a folder of pictures for every verb: what is found, and a line that counts what was left out.

Linked folders are followed, but not in circles. Hidden folders, and those that notebooks and file managers make
(``.ipynb_checkpoints``, ``@eaDir``), are no part of a set.
"""

import glob
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from clouds.base.progress import say
from clouds.base.text import some
from clouds.config.runs import CHECKPOINTS, METRICS, PHOTOGRAPHS, PROMPTS, RECIPE, SOURCE
from clouds.data.images import ENDINGS
from clouds.errors import UsageError

# kinds of pictures that people expect to be used
FOREIGN = (".gif", ".heic", ".heif", ".jp2", ".jfif", ".ppm", ".exr")
HIDDEN, UNREADABLE, CIRCLE = "hidden", "that cannot be read", "in a circle of links"  # why something is left out
OF_RUN = "that a run wrote"

NONE: Mapping[str, str] = {}
_MADE = {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "lost+found", "__pycache__"}

Left = Callable[[str, str], None]  # hears the name of what is left out, a folder's with a slash, and why


def is_hidden(part: str) -> bool:
    """A name that begins with a dot, or one that a file manager makes beside the user's own files."""
    return part.startswith(".") or part.lower() in _MADE


def _is_run(names: set[str]) -> bool:
    """Whether a folder of these names is a run's: it holds label maps and made-up images."""
    return RECIPE in names and not names.isdisjoint({PROMPTS, PHOTOGRAPHS, SOURCE, METRICS, CHECKPOINTS})


def names_below(folder: Path, left: Left) -> Iterator[str]:
    """Names of the files below ``folder``, relative, with slashes."""
    return _below(os.fspath(folder), "", (), left)


def _below(folder: str, base: str, above: tuple[tuple[int, int], ...], left: Left) -> Iterator[str]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        status = os.stat(folder)  # noqa: PTH116 - its path is a string, as those of a million files are
    except OSError:
        return left(base, UNREADABLE)
    place = (status.st_dev, status.st_ino)
    if place in above:
        return left(base, CIRCLE)
    if base and _is_run({entry.name for entry in entries}):
        return left(base, OF_RUN)
    for entry in entries:
        name = base + entry.name
        if is_hidden(entry.name):
            left(name if entry.is_file() else f"{name}/", HIDDEN)
        elif entry.is_dir():
            yield from _below(entry.path, f"{name}/", (*above, place), left)
        elif entry.is_file():
            yield name
        elif entry.is_symlink():
            left(name, "that link to nothing")
    return None


class LeftOut:
    """Counts what a walk leaves out, for one line, which names a folder that cannot be read."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.unreadable: list[str] = []

    def add(self, name: str, why: str) -> None:
        """A folder (its name ends in a slash) or a file, which counts where it is a picture by its ending."""
        if name.endswith("/") or Path(name).suffix.lower() in (*ENDINGS, *FOREIGN):
            self.counts[why] += 1
            if why == UNREADABLE:
                self.unreadable.append(name)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {why}" for why, count in sorted(self.counts.items()))
        return f"left out: {counts}" + (f": {some(self.unreadable, 3)}" if self.unreadable else "")


def find_images(
    folder: Path, what: str = "", out: Path | None = None, others: Mapping[str, str] = NONE,
    endings: Collection[str] = ENDINGS
) -> list[Path]:
    """The pictures (``ENDINGS``) below ``folder`` in order, without those in ``out``, where an earlier call wrote.

    One line on stderr counts what was left out: hidden files and folders, pictures of other kinds, files with one of
    the endings of ``others``, each with what to do, links to nowhere and in circles. UsageError, beginning with
    ``what``, where nothing is left. ``endings``: of what is found, in place of the pictures'.
    """
    left = LeftOut()
    paths = [folder / name for name in names_below(folder, left.add)]
    found = _sifted(paths, endings, left, out, others)
    return _said(found, left, str(folder), f"{what}{folder}: holds no {', '.join(ENDINGS)} image")


def sift_names(names: Iterable[str], where: Path, what: str = "", others: Mapping[str, str] = NONE) -> list[str]:
    """The pictures among the names in an archive, in order; said and raised as by ``find_images``."""
    left, paths = LeftOut(), []
    for name in sorted(names):
        if any(map(is_hidden, name.split("/"))):
            left.add(name, HIDDEN)
        else:
            paths.append(Path(name))
    found = _sifted(paths, ENDINGS, left, None, others)
    return [path.as_posix() for path in _said(found, left, str(where), f"{what}{where}: holds no "
                                              f"{', '.join(ENDINGS)} image")]  # fmt: skip


def match_files(pattern: str, base: Path, endings: Collection[str], out: Path) -> list[Path]:
    """The same for a glob, whose fixed beginning is ``base``, and files of ``endings``."""
    left = LeftOut()
    paths = []
    circling = set()
    for path in sorted(Path(found) for found in glob.glob(pattern, recursive=True)):  # noqa: PTH207
        folders = [path.parent, *path.parent.parents][: len(path.relative_to(base).parts)]
        if any(map(is_hidden, path.relative_to(base).parts)):
            left.add(str(path), HIDDEN)
        elif len({each.resolve() for each in folders}) < len(folders):
            circling.add(path.resolve())
        elif path.is_file():
            paths.append(path)
    left.counts[CIRCLE] += len(circling)
    left.counts = +left.counts
    found = _sifted(paths, endings, left, out)
    return _said(found, left, pattern, f"{pattern}: no image or video has such a name")


def _sifted(
    paths: Iterable[Path], endings: Collection[str], left: LeftOut, out: Path | None, others: Mapping[str, str] = NONE
) -> list[Path]:
    found = []
    places: dict[Path, bool] = {}  # folder -> whether it lies in ``out``
    for path in paths:
        ending = path.suffix.lower()
        if out and path.parent not in places:
            places[path.parent] = path.parent.resolve().is_relative_to(out.resolve())
        if ending in endings and places.get(path.parent):
            left.counts["in the folder of --out"] += 1
        elif ending in endings:
            found.append(path)
        elif ending in FOREIGN:
            left.counts[f"{ending} (convert to .png or .jpg)"] += 1
        elif ending in others:
            left.counts[f"{ending} ({others[ending]})"] += 1
    return found


def _said(found: list[Path], left: LeftOut, where: str, nothing: str) -> list[Path]:
    if not found:
        raise UsageError(f"{nothing}; {left}" if left.counts else nothing)
    if left.counts:
        say(f"{where}: {left}")
    return found
