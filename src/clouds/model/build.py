"""A recipe's parts, put together: the model, the segmenter, regions; and the names of who plays which role."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from clouds.base.files import make_folder
from clouds.base.machine import usable_device
from clouds.base.shards import parse_shard
from clouds.classes import COLORS, NAMES, SYNONYMS
from clouds.config.load import is_recipe, load_recipe, set_recipe
from clouds.config.recipe import Recipe
from clouds.errors import CloudsError, DataError, UsageError
from clouds.foundation.backbone import build_text
from clouds.foundation.backbones.sources import weights_record
from clouds.foundation.registry import backends
from clouds.foundation.segmenter import check_segmenter
from clouds.foundation.segmenters.embeddings import plain_segmenter
from clouds.generate.images import read_set
from clouds.model.segmenter import Segmenter
from clouds.model.vocabulary import text_classifier
from clouds.selftrain.region_files import make_regions, mean_regions, read_regions
from clouds.selftrain.regions import Regions


def build_model(recipe: Recipe) -> Segmenter:
    """A fresh segmenter: pre-trained backbone, text classifier filled in, decoder at its random start."""
    chosen = recipe.model
    record = weights_record(chosen.vision, chosen.weights, chosen.revision)
    text = build_text(chosen.text, record if chosen.text == chosen.vision else None)
    model = Segmenter(
        **chosen.model_dump(exclude={"weights", "revision", "adapt", "lora", "rein"}),
        adapt=chosen.adapter,
        weights=record,
        text_dim=text.dim,
        classes=list(NAMES),
        synonyms=[list(group) for group in SYNONYMS],
        colors=[list(color) for color in COLORS],
        shorter_side=recipe.evaluate.shorter_side,
        pretrained=True,
    )
    model.vocabulary.copy_(text_classifier(text, SYNONYMS))
    return model


def regions_of_set(recipe: Recipe, images: list[Path], out: Path) -> Callable[[int], Regions]:
    """The regions of a generated image by its index, all on disk by now: training calls no segmenter."""
    chosen = recipe.selftrain
    files, _ = make_regions(images, plain_segmenter(recipe), chosen, chosen.regions_folder or out / "regions")
    if not mean_regions(files):
        raise CloudsError(
            f"no regions were found in {len(files)} images by {chosen.segmenter}: selftrain.regions_quality "
            f"({chosen.regions_quality:g}) or regions_stability ({chosen.regions_stability:g}) may be too high for it"
        )

    def read(index: int) -> Regions:
        file = files[index]
        if file is None:
            raise DataError(f"{images[index]}: has no regions, as it could not be read; run again once it is mended")
        return read_regions(file)

    return read


def find_set_regions(name: str, overrides: list[str], shard: str | None, out: Path) -> dict[str, Any]:
    """Find the regions of a set ahead of training; the object that ``clouds regions --json`` prints.

    ``name``: a folder that holds a set, or a recipe that names one as ``generate.folder``.
    """
    overrides = ["selftrain.refinement=regions", *overrides]
    if not Path(name).is_dir() and not is_recipe(name):
        raise UsageError(f"{name}: no such folder, and no recipe; name a generated set's folder, or a recipe with one")
    recipe = set_recipe(Path(name), overrides) if Path(name).is_dir() else load_recipe(name, overrides)
    if recipe.generate.folder is None:
        raise UsageError(
            f"generate.folder: not set in {name}; regions are found of images that are there: name the set's folder, "
            "as `clouds regions generated`, or generate.folder=DIR"
        )
    chosen, part = recipe.selftrain, parse_shard(shard)
    usable_device(recipe.train.device)
    check_segmenter(chosen.segmenter, chosen.segmenter_revision, fetch=True)
    images = [recipe.generate.folder / row["file_name"] for row in read_set(recipe.generate.folder)]
    make_folder(out)
    files, made = make_regions(images, plain_segmenter(recipe), chosen, out, part)
    done = [file for file in files if file]
    return {
        "images": len(done),
        "made": made,
        "failed": len(files) - len(done),
        "regions": round(mean_regions(files), 1),
        "bytes": sum(file.stat().st_size for file in set(done)),
        "segmenter": backends(recipe)["segmenter"],
        "folder": str(out.resolve()),
    }


