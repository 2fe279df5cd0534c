"""What ``clouds predict`` is pointed at (files, folders, globs, videos, cameras, stdin), and its outputs' names."""

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO, Literal

from clouds.base.arrays import Pixels
from clouds.base.text import some
from clouds.data.frames import CAMERA, VIDEO_ENDINGS
from clouds.data.images import ENDINGS, opened_by
from clouds.data.walk import find_images, match_files
from clouds.errors import DataError, UsageError
from clouds.predict.pictures import read_upright, upright_image
from clouds.predict.result import ending_of
from clouds.predict.tool_sets import SETS

FILMED = ("color", "overlay")  # kinds that a video gives as a video
STDIN = "-"
GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Item:
    """One picture or moving picture. ``name``: of its outputs, below --out, without ending. ``shown``: its own."""

    kind: Literal["image", "video", "camera"]
    source: Path | str | bytes | BinaryIO
    name: Path
    shown: str

    @property
    def where(self) -> str:
        """What to call it in a message: the path as it was found."""
        return str(self.source) if isinstance(self.source, Path) else self.shown

    def pixels(self) -> Pixels:
        """An image, read upright; DataError naming it."""
        if isinstance(self.source, bytes):
            return upright_image(self.source, self.shown)
        return read_upright(Path(str(self.source)))

    def targets(self, out: Path, kinds: Sequence[str]) -> dict[str, Path]:
        """The file of each kind made of an image."""
        return {kind: _target(out, Path(self.name), kind) for kind in kinds}

    def films(self, out: Path, kinds: Sequence[str]) -> dict[str, Path]:
        """The kinds that a video gives as one video each."""
        return {kind: out / f"{self.name}_{kind}.mp4" for kind in kinds if kind in FILMED}

    def frame_targets(self, out: Path, kinds: Sequence[str], index: int) -> dict[str, Path]:
        """The file of each kind made of one frame."""
        return {kind: _target(out, Path(self.name) / f"{index:06d}", kind) for kind in kinds}


def _target(out: Path, name: Path, kind: str) -> Path:
    if kind in SETS:
        return out / SETS[kind].folder / SETS[kind].file(name)
    return out / f"{name}{'' if kind == 'labels' else f'_{kind}'}{ending_of(kind)}"


def gather(words: Sequence[str | Path], out: Path, stdin: BinaryIO | None = None) -> list[Item]:
    """The inputs that words name, in order.

    A folder stands for the images below it; it, or the fixed beginning of a glob, is what names are relative to.
    A line on stderr counts what was left out (``data.walk``). Raises UsageError for what is not there or holds nothing.
    """
    if sum(str(word) == STDIN for word in words) > 1:
        raise UsageError("-: named twice, but there is one stdin")
    items: list[Item] = []
    for word in words:
        if str(word) == STDIN and stdin is not None:
            items += _piped(stdin, out)
        else:
            items += _named(word, out)
    return list({(item.name, item.where): item for item in items}.values())  # a file named twice is one


def _named(word: str | Path, out: Path) -> list[Item]:
    path, text = Path(word), str(word)
    if text.startswith(CAMERA):
        # recorded anew each time, so the time is a part of the name: nothing older is overwritten
        name = re.sub(r"[^\w.]+", "-", text).strip("-") + time.strftime("-%Y%m%d-%H%M%S")
        return [Item("camera", text, Path(name), text)]
    if path.is_dir():
        videos = dict.fromkeys(VIDEO_ENDINGS, "name videos, or give a glob for them")
        return [_file(p, p.relative_to(path)) for p in find_images(path, out=out, others=videos)]
    if path.is_file():
        return [_file(path, Path(path.name))]
    if GLOB.search(text):
        base = Path(*takewhile(lambda part: not GLOB.search(part), path.parts[:-1]))
        return [_file(p, p.relative_to(base)) for p in match_files(text, base, (*ENDINGS, *VIDEO_ENDINGS), out)]
    raise UsageError(f"{path}: no such image or folder")


def _file(path: Path, name: Path) -> Item:
    kind: Literal["image", "video"] = "video" if path.suffix.lower() in VIDEO_ENDINGS else "image"
    return Item(kind, path, name.with_suffix(""), name.as_posix())


def _piped(stdin: BinaryIO, out: Path) -> list[Item]:
    """stdin by its first bytes: one image, lines of text that are inputs themselves, or else a video."""
    head: bytes = stdin.peek(512)[:512] if hasattr(stdin, "peek") else b""
    if not head:
        raise UsageError("-: stdin is empty; pipe an image, a video or one path per line")
    with suppress(DataError):
        opened_by(head, "stdin")
        return [Item("image", stdin.read(), Path("stdin"), "stdin")]
    if any(byte < 32 and byte not in b"\t\r\n" for byte in head):
        return [Item("video", stdin, Path("stdin"), "stdin")]
    try:
        lines = stdin.read().decode().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"-: stdin is neither an image, a video nor UTF-8 paths, one per line ({error})") from error
    return gather([line.strip() for line in lines if line.strip()], out)


def check_targets(items: Sequence[Item], out: Path, kinds: Sequence[str], film: bool) -> None:
    """Raises UsageError, before any work, where two inputs would be written to one file or an input be overwritten."""
    claims: dict[Path, str] = {}
    twice: dict[str, tuple[str, str]] = {}
    folders: dict[Path, str] = {}
    for item in items:
        if item.kind == "image":
            files = list(item.targets(out, kinds).values())
        else:
            files = [*(item.films(out, kinds).values() if film else ()), out / item.name / "frame"]
            folders.setdefault(out / item.name, item.where)
        for file in files:
            if (other := claims.setdefault(file, item.where)) is not item.where:
                twice[str(file)] = (other, item.where)
    for file, shown in claims.items():
        if file.parent in folders and folders[file.parent] != shown:
            twice[str(file.parent)] = (folders[file.parent], shown)
    if twice:
        shown = some([f"{file} ({a} and {b})" for file, (a, b) in sorted(twice.items())], 5, "; ")
        beside = all(Path(a).parent == Path(b).parent for a, b in twice.values())
        apart = "rename one of each two, or give one kind at a time, such as '*.png'"
        remedy = apart if beside else "give the folder that holds both, or an --out for each"
        raise UsageError(f"{shown}: two inputs would be written there; {remedy}")
    inside = {item.source.resolve() for item in items if isinstance(item.source, Path)}
    if lost := sorted(str(file) for file in claims if file.resolve() in inside):
        raise UsageError(f"{', '.join(lost)}: an input would be overwritten; choose another --out")
