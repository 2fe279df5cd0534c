"""All that can be found wrong with a run before any work of it, each looked for by the part that owns it."""

from dataclasses import dataclass
from pathlib import Path

from clouds.base.machine import usable_device
from clouds.base.progress import loading, say_once
from clouds.base.text import some
from clouds.check.useless import check_useful
from clouds.config.label_sets import CITYSCAPES, IGNORE
from clouds.config.recipe import Recipe
from clouds.config.runs import MODELS, RESTYLED
from clouds.data.datasets import Segmentation
from clouds.data.labelled import open_sets
from clouds.data.labels import folding
from clouds.data.photographs import PhotoSet, find_photographs
from clouds.errors import UsageError
from clouds.foundation.backbone import check_adapter, check_backends, check_shards
from clouds.foundation.embeddings import open_store
from clouds.foundation.generator import INSTEAD, check_generator
from clouds.foundation.segmenter import check_segmenter
from clouds.generate.prompts import check_prompts
from clouds.generate.restyle import check_looks
from clouds.generate.restyled_source import begun
from clouds.model.folder_config import has_model
from clouds.model.start import check_start


@dataclass(frozen=True)
class ToDo:
    """What a run still has to do.

    stages: of "warmup" and "joint" those to train. draws: whether prompts and generated images are needed. regions:
    whether the segmenter's regions are found ahead. restyled: the stages that show restyled source images. sets: the
    labelled datasets, opened; None stands for the rendered one. photographs: those of joint training, listed.
    """

    stages: tuple[str, ...]
    draws: bool
    regions: bool
    restyled: tuple[str, ...]
    sets: list[Segmentation | None]
    photographs: list[PhotoSet]


def check_training(recipe: Recipe, out: Path) -> ToDo:
    """What is still to do in the run folder ``out``, once all of it can be done here. Loads no model; what needs torch
    comes last, so that a file or package that is not there is said within a second.

    Raises UsageError for what cannot be, BackendError or DataError for what is not here.
    """
    usable_device(recipe.train.device)
    warm, stage = has_model(out / MODELS["warmup"]), recipe.train.stage
    if stage == "joint" and not warm:
        raise UsageError(f"train.stage=joint: {out / MODELS['warmup']} holds no warm-up model; train that stage first")
    joint = stage != "warmup" and not has_model(out / MODELS["joint"])
    stages = ("warmup",) * (not warm) + ("joint",) * joint

    model, chosen = recipe.model, recipe.selftrain
    sets, photographs = open_sets(recipe), find_photographs(recipe.data, out) if joint else []
    if stages:
        for line in check_useful(sets, recipe):
            say_once(f"warning: {line}")
    if joint:
        check_segmenter(chosen.segmenter, chosen.segmenter_revision, fetch=True)
        if chosen.cache:
            open_store(chosen.cache, int(chosen.cache_gb * 2**30))

    restyle = recipe.data.restyle
    restyled = tuple(each for each in stages if restyle and restyle.share and restyle.stage in ("both", each))
    draws = (stage != "warmup" and recipe.draws) or bool(restyled and restyle and restyle.styles == "generated")
    if draws:
        check_generator(recipe.generate, recipe.scene)
        _check_drawn(recipe)
    check_looks(recipe, drawn=draws, source=bool(restyled) and not begun(recipe, out / RESTYLED))
    if draws or restyled:
        check_prompts(recipe)
    if recipe.evaluate.ensemble:  # before weights are fetched that it could not use
        from clouds.model.ensemble import check_ensemble

        check_ensemble(model)
    if not warm:  # a warm-up model holds every weight
        check_start(recipe)
        loading("PyTorch")
        if model.adapter:
            check_adapter(model.vision, model.adapter, model.hidden)
        check_backends(model.vision, model.text, model.weights, model.revision)
    if recipe.train.shard_backbone:
        check_shards(model.vision)
    return ToDo(stages, draws, joint and chosen.refinement != "points", restyled, sets, photographs)


def _check_drawn(recipe: Recipe) -> None:
    """UsageError where the street renderer would draw what the model has no classes for."""
    model = recipe.model.label_set
    drawn = recipe.generate.generator == "streets" and recipe.generate.folder is None and recipe.generate.count
    if drawn and (folding(CITYSCAPES, model) == IGNORE).all():
        raise UsageError(
            "generate.generator: streets draws streets, which show none of the model's classes "
            f"({some(model.classes, 6)}). {INSTEAD}"
        )
