"""All files of a folder or an archive by their names, to find what belongs together."""

import hashlib
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from clouds.base.text import some
from clouds.data.archives import SUFFIXES, Archive, Files, Folder, is_archive
from clouds.data.images import ENDINGS
from clouds.data.samples import Place
from clouds.errors import DataError

HOLDS_ARCHIVES = ("", "annotations")  # folders whose archives are read too, as those of COCO


class Tree:
    """``files``: name below ``root``, with slashes -> its place.

    ``root`` is a folder or an archive. Archives in a folder are read as if they were unpacked there; unpacked files
    hide them. DataError where there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, Place] = {}
        if not root.exists():
            raise DataError(f"{root}: no such folder")
        if not is_archive(root) and not root.is_dir():
            raise DataError(f"{root}: expected a folder or an archive ({', '.join(SUFFIXES)})")
        top: Files = Archive(root) if is_archive(root) else Folder(root)
        self.files = {name: Place(top, name) for name in sorted(top.names())}
        for name in [] if is_archive(root) else [*self.files]:
            folder = posixpath.dirname(name)
            if folder in HOLDS_ARCHIVES and is_archive(root / name):
                packed = Archive(root / name)
                for member in packed.names():
                    self.files.setdefault(posixpath.join(folder, member), Place(packed, member))

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def where(self, name: str) -> str:
        """The file as a person would name it, also one that is not there."""
        return str(self.files[name]) if name in self.files else str(self.root / name)

    def stamp(self, wanted: Callable[[str], bool]) -> str:
        """A text that changes with the names of all files, and with the sizes and times of those that are wanted."""
        parts = [*self.files]
        for name in filter(wanted, self.files):
            files = self.files[name].files
            path = files.path / self.files[name].name if isinstance(files, Folder) else files.path
            status = path.stat()
            parts.append(f"{name} {status.st_size} {status.st_mtime_ns}")
        return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()

    def ending(self, *ends: str, deep: int = 20) -> list[str]:
        """Names with one of the endings, at most ``deep`` folders down, the highest first."""
        found = [name for name in self.files if name.lower().endswith(ends) and name.count("/") <= deep]
        return sorted(found, key=lambda name: (name.count("/"), name))

    def called(self, name: str) -> list[str]:
        """The files of that name, wherever they lie."""
        return self._called.get(name, [])

    @cached_property
    def _called(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.files:
            found[posixpath.basename(name)].append(name)
        return found

    def images(self, folder: str = "") -> list[str]:
        """Names of images in a folder and below it."""
        start = f"{folder}/" if folder else ""
        return [name for name in self._images if name.startswith(start)]

    @cached_property
    def _images(self) -> list[str]:
        return [name for name in self.files if name.lower().endswith(ENDINGS)]

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name in self._images:
            for key in {posixpath.basename(name), stem(posixpath.basename(name))}:
                found[key].append(name)
        return found

    def find_image(self, named: str, folders: list[str], besides: tuple[str, ...] = ()) -> str | None:
        """The image that a file calls ``named``, with or without its ending: in one of the folders, else the only one
        of that name, but for those in the folders ``besides``."""
        named = named.replace("\\", "/")
        ends = [""] if named.lower().endswith(ENDINGS) else ["", *ENDINGS, *(end.upper() for end in ENDINGS)]
        for folder in folders:
            if (path := within(folder, named)) is not None:
                for candidate in (path + end for end in ends):
                    if candidate in self.files and candidate.lower().endswith(ENDINGS):
                        return candidate
        same = [n for n in self._by_name.get(posixpath.basename(named), []) if not n.startswith(besides or "\0")]
        return same[0] if len(same) == 1 else None

    def holds(self) -> str:
        """What is there, for messages."""
        tops = sorted({name.partition("/")[0] + "/" * ("/" in name) for name in self.files})
        return some(tops, 6) or "nothing"


# files that a format has and, as a rule, no other one
_SIGNS = {
    "coco": r"(.*/)?(_annotations\.coco\.json|(instances|panoptic|stuff)_[^/]*\.json)",
    "voc": r"(.*/)?SegmentationClass/.*",
    "cvat": r"(.*/)?annotations\.xml",
    "yolo": r"(.*/)?data(set)?\.ya?ml",
    "datumaro": r"(.*/)?dataset_meta\.json",
    "huggingface": r".*dataset_info\.json|.*\.parquet",
    "roboflow": r"(.*/)?_classes\.csv",
}


class NothingFoundError(DataError):
    """A folder without the files of a format."""

    def __init__(self, tree: Tree, name: str, lacks: str, files: str) -> None:
        """lacks: what is not there; files: what is expected."""
        alike = [other for other, sign in _SIGNS.items() if other != name and any(re.fullmatch(sign, n) for n in tree)]
        hint = f"; it looks like a set of {' or '.join(alike)}" if alike else ""
        super().__init__(f"{tree.root}: {name}: holds no {lacks}; expected {files}; there is {tree.holds()}{hint}")


def stem(name: str) -> str:
    """The name without its ending."""
    return posixpath.splitext(name)[0]


def within(folder: str, relative: str) -> str | None:
    """The path ``relative`` to a folder, as a name below the root; None where it lies outside."""
    path = posixpath.normpath(posixpath.join(folder, relative))
    return None if path.startswith(("../", "/")) or path == ".." else path.removeprefix("./")
