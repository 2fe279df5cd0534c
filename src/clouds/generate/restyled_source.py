"""The restyled source: variants of every labelled image, made once before training by what makes a generated set.

Variant v of image k depends on (recipe, k, v) only; label files are the source's own and are never copied.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clouds.base.arrays import Pixels
from clouds.base.journal import Journal
from clouds.base.shards import MANIFEST, WHOLE, Shard
from clouds.config.backends import takes
from clouds.config.recipe import Recipe, RestyledSource
from clouds.config.records import RestyledImage, as_json
from clouds.data.source import Restyled, Source
from clouds.errors import CloudsError, DataError, UsageError
from clouds.foundation.restyler import build_restyler
from clouds.generate.draw import Row, is_whole, kept, make_set
from clouds.generate.restyle import look_of

KEY = "data.restyle"


def restyled_source(
    recipe: Recipe, source: Source, folder: Path, prompts: Callable[[], list[str]], generated: Sequence[Path],
    once: Callable[[Callable[[], list[Row]]], list[Row]] = lambda make: make(),
) -> Restyled:  # fmt: skip
    """The variants that ``data.restyle`` asks for: those in its folder, or made there, or in ``folder``. ``once``: how
    to make them in one of several processes, such as ``Engine.by_main``."""
    settings = asked_for(recipe)
    folder = settings.folder or folder

    def rows() -> list[Row]:
        found = _finished(recipe, source, folder)
        if found is None:
            texts = prompts() if "prompt" in takes(settings.backend) else []
            found = restyle_source(recipe, source, folder, texts, generated)
        return kept(found)

    variants: dict[int, list[str]] = {}
    for row in once(rows):
        variants.setdefault(row["index"], []).append(row["file_name"])
    return Restyled(source, folder, variants, settings.share)


def restyle_source(
    recipe: Recipe, source: Source, folder: Path, prompts: list[str], generated: Sequence[Path], shard: Shard = WHOLE
) -> list[Row]:
    """Make what is missing of this shard of the variants; returns its manifest rows, as ``make_set``."""
    settings = asked_for(recipe)
    if settings.styles == "generated" and not generated:
        raise UsageError(f"{KEY}.styles: generated, but there is no generated set; name one (generate.folder=SET)")
    look = look_of(settings, KEY, recipe, prompts, generated)
    wanted = [{**row, "restyle": look.record(row["seed"])} for row in _rows(recipe, source)]

    def make(rows: list[Row]) -> list[Pixels]:
        try:
            images = [np.asarray(source.image(row["index"])) for row in rows]
        except DataError as error:  # training skips such a file too
            raise RuntimeError(str(error)) from error
        return look.restyle(images, [row["restyle"]["style"] for row in rows], [row["seed"] for row in rows])

    return make_set(wanted, 1, make, folder, shard, "restyling the source")


def begun(recipe: Recipe, folder: Path) -> bool:
    """Whether ``data.restyle.folder``, else ``folder``, holds a manifest: then styles may not be needed any more."""
    return ((asked_for(recipe).folder or folder) / MANIFEST).is_file()


def asked_for(recipe: Recipe) -> RestyledSource:
    """The settings; UsageError where the recipe has none."""
    if recipe.data.restyle is None:
        raise UsageError(f"{KEY}: is null; say how to restyle, as {KEY}.backend=colour-statistics")
    return recipe.data.restyle


def _rows(recipe: Recipe, source: Source) -> list[Row]:
    """A row a variant, but for how it is restyled."""
    rows: list[Row] = []
    variants = asked_for(recipe).variants
    for data, chosen in zip(source.sets, recipe.data.source, strict=True):
        exif = {} if data.exif == "refuse" else {"exif": data.exif}  # it says which way up a variant is
        for sample in data.samples:
            index = len(rows) // variants
            size = sample.image.files.size(sample.image.name)
            for variant in range(variants):
                seed = np.random.SeedSequence((recipe.seed, index, variant, 0x9E57)).generate_state(1)[0]
                rows.append(as_json(RestyledImage(
                    file_name=f"{index:06d}-{variant}.png", source=f"{chosen.dataset} {sample.name}",
                    source_bytes=size, index=index, variant=variant, seed=int(seed), **exif,
                )))  # fmt: skip
    return rows


def _finished(recipe: Recipe, source: Source, folder: Path) -> list[Row] | None:
    """The manifest's rows if all variants are there, whatever their styles: neither prompts nor styles are needed."""
    rows: list[Row] = Journal(folder / MANIFEST).rows
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{folder / MANIFEST}: holds lines that are no rows; delete it to make the images again")
    wanted = _rows(recipe, source)
    if len(rows) != len(wanted):
        return None
    try:
        record = dict(build_restyler(asked_for(recipe), KEY).record)
    except CloudsError:  # made ahead on a machine that has the backend
        record = {"strength": asked_for(recipe).strength}
    for row, own in zip(rows, wanted, strict=True):
        same = own.items() <= row.items() and record.items() <= row.get("restyle", {}).items()
        if not same or not is_whole(row, folder):
            return None
    return rows
