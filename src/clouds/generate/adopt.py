"""Take over a set of images that was made elsewhere: give it the manifest that CLOUDS trains from."""

import re
import shutil
from pathlib import Path
from typing import Any

from clouds.base.files import decode, make_folder, read_jsonl, sha256, write_jsonl
from clouds.base.progress import say, track
from clouds.base.shards import MANIFEST
from clouds.base.text import natural
from clouds.config.records import Drawn, as_json
from clouds.data.images import image_size
from clouds.data.walk import find_images
from clouds.errors import DataError, UsageError
from clouds.generate.draw import read_set

MAX_PROMPT = 10_000  # characters
PUBLISHED = re.compile(r"im_(\d+)_p(\d+)")  # the authors' set: image K of prompt line J


def adopt(folder: Path, prompts: Path | None, out: Path | None = None) -> list[dict[str, Any]]:
    """Write ``metadata.jsonl`` for the images of ``folder``; returns its rows.

    prompts: a text file, a prompt a line. The authors' names ``im_K_pJ`` say which line belongs to an image, counted
    from 0 or from 1, whichever fits all; other names take the lines in their own order, 2 before 10, if there are as
    many. out: a folder for the set (hard links where the disk allows it, else copies); without it the manifest is
    written into ``folder``.
    UsageError or DataError where images, lines or names do not fit.
    """
    target = out or folder
    if not folder.is_dir():
        raise UsageError(f"--adopt: {folder} is not a folder")
    if (target / MANIFEST).exists():
        say(f"{target / MANIFEST}: exists already and is not changed")
        return read_set(target)
    files = find_images(folder, "--adopt: ")
    texts = _prompts_of(files, prompts)
    rows = []
    for path, text in track(zip(files, texts, strict=True), "adopting", len(files), unit="images"):
        height, width = image_size(path.read_bytes(), str(path))
        name = path.relative_to(folder).as_posix()
        rows.append(as_json(Drawn(
            file_name=name, prompt=text, seed=None, generator="adopted", revision=None, steps=None, guidance=None,
            size=[height, width], sha256=sha256(path),
        )))  # fmt: skip
    if out:
        for path in files:
            copy = out / path.relative_to(folder)
            if copy.exists():
                continue
            make_folder(copy.parent)
            try:
                copy.hardlink_to(path)
            except OSError:  # another disk
                shutil.copy2(path, copy)
    write_jsonl(target / MANIFEST, rows)
    return rows


def _prompts_of(files: list[Path], prompts: Path | None) -> list[str]:
    """The prompt of each image; empty ones where there is no prompt file."""
    if prompts is None:
        return [""] * len(files)
    lines = read_lines(prompts)
    order = sorted(range(len(files)), key=lambda k: [natural(part) for part in files[k].parts])  # 2.png before 10.png
    found = [PUBLISHED.fullmatch(path.stem) for path in files]
    if not all(found):
        if len(lines) != len(files):
            raise UsageError(
                f"{prompts}: has {len(lines)} lines for {len(files)} images; expected as many, or images named im_K_pJ"
            )
        of = dict(zip(order, lines, strict=True))
        return [of[k] for k in range(len(files))]
    numbers = [int(match[2]) for match in found if match]
    first = 0 if min(numbers) == 0 or max(numbers) < len(lines) else 1
    if max(numbers) - first >= len(lines):
        raise DataError(f"{prompts}: has {len(lines)} lines, but an image is named for line {max(numbers)}")
    return [lines[number - first] for number in numbers]


def read_lines(path: Path) -> list[str]:
    """The prompts of a text file, one per line, or of a ``prompts.jsonl``; UsageError where there is none."""
    if not path.is_file():
        raise UsageError(f"--prompts: {path} is not a file")
    if path.suffix == ".jsonl":
        lines = [row["prompt"] for row in read_jsonl(path) if row.get("prompt")]
    else:
        lines = [line.strip() for line in decode(path.read_bytes(), str(path)).splitlines() if line.strip()]
    if not lines:
        raise UsageError(f"--prompts: {path} holds no prompt; expected one per line, or the rows of `clouds prompts`")
    for number, line in enumerate(lines, 1):
        if not isinstance(line, str) or len(line) > MAX_PROMPT:
            what = f"{len(line)} characters" if isinstance(line, str) else repr(line)[:100]
            raise UsageError(f"--prompts: {path}, prompt {number}: {what}; expected a text of at most {MAX_PROMPT}")
    return lines
