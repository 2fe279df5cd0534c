"""Draw the generated set: image k depends only on (recipe, k), so that work can be split, stop anywhere and go on.

Batches are fixed, k // batch_size, because the size of a batch changes a pipeline's last bits; one of which an image is
missing is drawn again whole. ``make_set`` does that for any images with rows; restyled sources are made by it too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clouds.base.arrays import Pixels
from clouds.base.files import as_written, write_jsonl
from clouds.base.journal import Journal
from clouds.base.locks import locked
from clouds.base.progress import say, track
from clouds.base.shards import MANIFEST, PARTS, WHOLE, Shard, held
from clouds.config.recipe import Recipe
from clouds.config.records import Drawn, as_json
from clouds.data.images import write_png
from clouds.errors import CloudsError, DataError, UsageError
from clouds.foundation.generator import build_generator
from clouds.generate.manifest import checked, read_manifest
from clouds.generate.restyle import look_of
from clouds.generate.subject import note_subject

Row = dict[str, Any]
RETRIES = 2  # of a batch that fails, before that is recorded
Maker = Callable[[list[Row]], list[Pixels]]  # the images of a batch's rows


def image_seed(seed: int, k: int) -> int:
    """A 32-bit seed for image k of a run's seed."""
    return int(np.random.SeedSequence((seed, k)).generate_state(1)[0])


def draw(recipe: Recipe, prompts: list[str], folder: Path, shard: Shard = WHOLE) -> list[Row]:
    """Draw, and restyle, what is missing of this shard of the set; returns its manifest rows, as ``make_set``."""
    settings = recipe.generate
    generator = build_generator(settings)
    look = look_of(settings.restyle, "generate.restyle", recipe) if settings.restyle else None
    wanted = []
    for k in range(settings.count):
        prompt, seed = prompts[k % len(prompts)], image_seed(recipe.seed, k)
        more = {"size": list(settings.size), **({"restyle": look.record(seed, prompt)} if look else {})}
        row = Drawn(file_name=f"{k:06d}.png", **{"prompt": prompt, "seed": seed, **generator.record, **more})
        wanted.append(as_json(row))

    def make(rows: list[Row]) -> list[Pixels]:
        seeds = [row["seed"] for row in rows]
        images = generator.generate([row["prompt"] for row in rows], seeds)
        return look.restyle(images, [row["restyle"]["style"] for row in rows], seeds) if look else images

    note_subject(folder, recipe)
    return make_set(wanted, settings.batch_size, make, folder, shard, "drawing prompts")


def make_set(wanted: list[Row], size: int, make: Maker, folder: Path, shard: Shard, what: str) -> list[Row]:
    """Make what is missing of a shard of ``wanted`` in ``folder``, batches of ``size``; returns its rows, in order.

    A row and its file stand or fall together: an image without its row, or a row whose image is gone or was made by
    other settings, is made again. An image that fails is tried again, then recorded as "failed" and tried anew by the
    next run. CloudsError where nothing could be made. ``what`` is what progress calls it.
    """
    batches = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    mine = batches[shard.index :: shard.count]
    with held(folder, shard):
        made = {row["file_name"]: row for row in _known(folder) if is_whole(row, folder)}
        rows = {row["file_name"]: made[row["file_name"]] for row in wanted if _matches(row, made)}
        missing = [batch for batch in mine if not all(row["file_name"] in rows for row in batch)]
        own = {row["file_name"]: rows[row["file_name"]] for batch in mine for row in batch if row["file_name"] in rows}
        if missing:
            write_jsonl(folder / shard.manifest, list((rows if shard == WHOLE else own).values()))
            done = sum(map(len, mine)) - sum(map(len, missing))
            work = _make_all(make, missing, own, folder / shard.manifest)
            for _ in track(work, what if shard == WHOLE else f"{what}, {shard}", sum(map(len, mine)), done, "images"):
                pass
        _put_together(folder, wanted, own)
    failed = [row for row in own.values() if "failed" in row]
    if failed and len(failed) == len(own):
        raise CloudsError(f"{folder}: no image could be drawn; the first one: {failed[0]['failed']}")
    if failed:
        say(f"{len(failed)} of {len(own)} images failed and are recorded in {folder}; run again to retry them")
    return [own[row["file_name"]] for batch in mine for row in batch]


def kept(rows: Sequence[Row]) -> list[Row]:
    """The rows to train on: drawn, and not dropped by an audit; a message says how many were."""
    drawn = [row for row in rows if "failed" not in row]
    found = [row for row in drawn if row.get("keep") is not False]
    if len(found) < len(drawn):
        say(f"{len(drawn) - len(found)} of {len(drawn)} generated images are left out, as their audit said")
    return found


def read_set(folder: Path) -> list[Row]:
    """The rows of a set that is there; UsageError where there is none, or where an image of it is gone."""
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"{folder}: holds no {MANIFEST}; draw the set with `clouds generate`, or adopt it (--adopt)")
    found, mended = read_manifest(folder)
    for text in mended:
        say(text)
    rows = kept(found)
    if gone := [row["file_name"] for row in rows if not (folder / row["file_name"]).is_file()]:
        raise UsageError(f"{folder / gone[0]}: gone, as {len(gone)} of {MANIFEST}'s images are; draw the set again")
    if unlike := [name for row in rows if not as_written(folder / (name := row["file_name"]), row.get("sha256"))]:
        raise DataError(f"{folder}: {len(unlike)} of {len(rows)} images are not those that {MANIFEST} speaks of "
                        f"(other sha256), such as {unlike[0]}: damaged or replaced. Fetch or draw them again, or "
                        "adopt the set again (--adopt)")  # fmt: skip
    return rows


def _known(folder: Path) -> list[Row]:
    """Every row that any process wrote down so far."""
    files = (*sorted(folder.glob(PARTS)), folder / MANIFEST)
    return [checked(row, f"{file}, row {n}") for file in files for n, row in enumerate(Journal(file).rows, 1)]


def _lines(folder: Path) -> int:
    """At least as many as there are rows in all manifests."""
    files = (*folder.glob(PARTS), folder / MANIFEST)
    return sum(file.read_bytes().count(b"\n") for file in files if file.is_file())


def is_whole(row: Mapping[str, Any], folder: Path) -> bool:
    """Drawn, there, not found broken by an audit, and what was written, where the row says what that was."""
    broken = any(str(why).startswith("broken") for why in row.get("why") or ())
    path = folder / str(row["file_name"])
    if "failed" in row or broken or not path.is_file():
        return False
    if as_written(path, row.get("sha256")):
        return True
    say(f"{path}: is not what was written (damaged or replaced); it is made again")
    return False


def _matches(row: Row, made: Mapping[str, Row]) -> bool:
    """Drawn by these very settings."""
    old = made.get(row["file_name"])
    return old is not None and all(old.get(key) == value for key, value in {"restyle": None, **row}.items())


def _make_all(make: Maker, missing: list[list[Row]], own: dict[str, Row], manifest: Path) -> Iterator[None]:
    journal = Journal(manifest)
    for batch in missing:
        for row in _make_batch(make, batch, manifest.parent):
            own[row["file_name"]] = row
            journal.add(row)
            yield


def _make_batch(make: Maker, batch: list[Row], folder: Path) -> list[Row]:
    """One batch, its files written; on the last failure its rows say why."""
    for attempt in range(RETRIES + 1):
        try:
            images = make(batch)
            break
        except (RuntimeError, ValueError) as error:  # others, as a pipeline that cannot load, would fail every batch
            if attempt == RETRIES:
                say(f"{batch[0]['file_name']}: {error}; recorded as failed after {attempt + 1} tries")
                return [{**row, "failed": str(error)} for row in batch]
    return [
        {**row, "sha256": write_png(folder / row["file_name"], image)} for row, image in zip(batch, images, strict=True)
    ]


def _put_together(folder: Path, wanted: list[Row], own: dict[str, Row]) -> None:
    """Where every image of the set is there, one manifest in order instead of the parts."""
    if _lines(folder) < len(wanted):  # quickly seen, while a thousand shards wait for the lock
        return
    with locked(folder / ".metadata.lock"):
        known = {row["file_name"]: row for row in _known(folder)} | own
        if not all(_matches(row, known) for row in wanted):
            return
        rows = [known[row["file_name"]] for row in wanted]
        manifest = Journal(folder / MANIFEST)
        if manifest.rows != rows:
            manifest.rewrite(rows)
        for part in folder.glob(PARTS):
            part.unlink(missing_ok=True)
