"""The embedded source: street scenes of one clean town, drawn once into the run folder and read like any other set."""

from collections.abc import Iterator
from pathlib import Path

from clouds import streets
from clouds.base.arrays import Labels, Pixels
from clouds.base.files import as_written, sha256
from clouds.base.journal import Journal
from clouds.base.progress import say, track
from clouds.config.label_sets import COLORS
from clouds.config.recipe import Recipe
from clouds.data.datasets import Segmentation
from clouds.data.images import decode_image, read_file, write_png
from clouds.data.label_files import write_labels
from clouds.errors import DataError

DIGESTS = "sha256.jsonl"  # in the rendered source's folder: a line a file, {"file_name", "sha256"}


def draw_source(recipe: Recipe, k: int) -> tuple[Pixels, Labels]:
    """Scene k of the embedded source: image (H, W, 3), label (H, W)."""
    return streets.render(streets.sample("source", recipe.seed * 100_000 + k), recipe.data.source_size)


def render_source(recipe: Recipe, folder: Path) -> Segmentation:
    """Render what is missing or damaged of the embedded source into images/ and labels/. Scene k depends on (recipe, k)
    only; ``DIGESTS`` notes what was written."""
    count = recipe.data.source_count
    paths = [(folder / "images" / f"{k:06d}.png", folder / "labels" / f"{k:06d}.png") for k in range(count)]
    journal = Journal(folder / DIGESTS, skip_damaged=True)
    rows = [row for row in journal.rows if isinstance(row, dict) and row.keys() >= {"file_name", "sha256"}]
    known = {str(row["file_name"]): str(row["sha256"]) for row in rows}
    names = {path: path.relative_to(folder).as_posix() for pair in paths for path in pair}
    missing = [k for k, pair in enumerate(paths) if not all(_as_rendered(p, known.get(names[p])) for p in pair)]

    def make() -> Iterator[None]:
        for k in missing:
            (photo, drawing), (image, label) = paths[k], draw_source(recipe, k)
            for path, digest in ((photo, write_png(photo, image)), (drawing, write_labels(drawing, label, COLORS))):
                known[names[path]] = digest
                journal.add({"file_name": names[path], "sha256": digest})
            yield

    for _ in track(make(), "rendering the source", count, count - len(missing), "scenes"):
        pass
    whole = [{"file_name": name, "sha256": known.get(name) or sha256(path)} for path, name in names.items()]
    if journal.rows != whole:
        journal.rewrite(whole)
    return Segmentation("folder", folder, images="images/{key}.png", labels="labels/{key}.png")


def _as_rendered(path: Path, digest: str | None) -> bool:
    """Whether a rendered file is there and whole; one that is not is said."""
    if not path.exists():
        return False
    try:
        if digest is None:  # written by an older CLOUDS, or just before a kill
            decode_image(read_file(path), str(path))
        if as_written(path, digest):
            return True
        say(f"{path}: is not what was written (damaged or replaced); it is rendered again")
    except DataError as error:
        say(f"{error}; it is rendered again")
    return False
