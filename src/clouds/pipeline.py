"""The method, in its order: photographs, prompts, images, warm-up, joint training, scores, report. Read this first.

Each step looks for what it needs in the run folder and makes what is missing, so a run that was stopped goes on.
"""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from clouds.base.locks import one_writer
from clouds.check.training import ToDo, check_training
from clouds.config.recipe import Recipe
from clouds.config.records import write_record
from clouds.config.runs import CLASS_PIXELS, MODELS, PROMPTS, RESTYLED, SOURCE, WORK, open_run, timed
from clouds.data.batches.batches import Batches
from clouds.data.batches.rare import rare_classes
from clouds.data.batches.unlabelled import Unlabelled, unlabelled_images
from clouds.data.labelled import make_source
from clouds.data.photographs import read_photographs
from clouds.evaluate.domains import Domain
from clouds.evaluate.run import score_run
from clouds.foundation.embeddings import build_segmenter
from clouds.generate.prompts import prompts_of
from clouds.generate.restyled_source import restyled_source
from clouds.generate.sets import draw_shard, set_images, set_prompts
from clouds.model.build import build_model
from clouds.model.folder import load_model
from clouds.report import write_report
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.region_files import regions_of_set, regions_shard
from clouds.selftrain.teacher import make_teacher
from clouds.selftrain.work import check_work, work_of
from clouds.train.engine import Engine
from clouds.train.harm import Watch
from clouds.train.loop import train_stage
from clouds.train.shard import built, shard
from clouds.train.validate import Validation, keep_model


def train(
    recipe: Recipe, out: Path, allow_change: bool = False, domains: list[Domain] | None = None, todo: ToDo | None = None
) -> dict[str, Any] | None:
    """Train the stages the recipe asks for in the run folder ``out``: models in ``warmup`` and ``model``.

    What is done already is kept; ``allow_change`` goes on though settings differ from the run's. With ``domains`` both
    models are then scored on them and the report is written: returns {"warmup": RESULTS, "joint": RESULTS}. ``todo``:
    what ``check_training`` found, if it was called already.

    Raises UsageError for what cannot be, and BackendError or DataError for what is not here, before any work; Stopped
    when a signal ended it with all saved; CloudsError where self-training changed nothing.
    """
    todo = todo or check_training(recipe, out)
    engine = Engine(recipe.train, out)
    validation = Validation(recipe) if recipe.train.validate_every else None

    settings, selftrain = recipe.train, recipe.selftrain

    def batches(stage: str, without: Unlabelled | list[Path], steps: int, seed: int) -> Batches:
        shown = restyled if stage in todo.restyled else None
        return Batches(source, without, recipe, steps, seed, rare, shown, (engine.rank, engine.world))

    with engine.together(), one_writer(out, "training") if engine.main else nullcontext():
        with engine.first():  # the main process makes what is missing, the others find it
            if engine.main:
                open_run(recipe, out, allow_change)
            with timed(out, "photographs"):
                photographs = read_photographs(recipe, todo.photographs, out)
            prompts = set_prompts(recipe, out) if todo.draws else []
        if todo.draws:
            engine.share(partial(draw_shard, recipe, prompts, out))
        images = engine.by_main(partial(set_images, recipe, prompts, out)) if todo.draws else []
        with engine.first():
            with timed(out, "source"):
                source = make_source(recipe, todo.sets, out / SOURCE)
            unlabelled = unlabelled_images(recipe, images, photographs, source)
            rare = rare_classes(recipe, source, out / CLASS_PIXELS)
        restyled = None
        if todo.restyled:
            ask = partial(prompts_of, recipe, out / PROMPTS)  # by a restyler that takes prompts
            with timed(out, "restyle"):
                restyled = restyled_source(recipe, source, out / RESTYLED, ask, images, engine.by_main)
        joint = batches("joint", unlabelled, settings.steps - settings.warmup_steps, recipe.seed + 1)
        regions = None
        if todo.regions:
            looks = joint.looks()
            engine.share(partial(regions_shard, recipe, unlabelled.look, looks, out))
            with engine.first():
                regions = regions_of_set(recipe, unlabelled.look, looks, out)

        engine.track(recipe)
        torch.manual_seed(recipe.seed)
        if "warmup" in todo.stages:  # on the labelled source alone
            model = built(partial(build_model, recipe), engine)
            shard(model, None, engine)
            data = batches("warmup", [], settings.warmup_steps, recipe.seed)
            train_stage(model, "warmup", recipe, data, out, engine=engine, validation=validation)
            keep_model(model, out, "warmup", recipe, engine)
        if "joint" in todo.stages:  # student and teacher both start as the warm-up model
            torch.manual_seed(recipe.seed + 1)  # in a process of its own the stage draws what it draws in this one
            model = built(partial(load_model, out / MODELS["warmup"]), engine)
            model.thaw()
            segmenter = None if regions else build_segmenter(recipe)
            pseudo = PseudoLabeller(make_teacher(model, selftrain), segmenter, selftrain, recipe.seed, regions)
            pseudo.every_step = engine.shards
            shard(model, pseudo.teacher.model, engine)
            watch = Watch(model, joint) if engine.main or engine.shards else None
            work = train_stage(model, "joint", recipe, joint, out, pseudo, engine, validation, watch)
            if engine.main:
                write_record(out / WORK, work_of(work, model.classes, len(prompts), len(images), unlabelled))
            keep_model(model, out, "joint", recipe, engine)
        engine.finish()
        if settings.stage != "warmup":
            check_work(out / WORK)
        scores = None if domains is None else score_run(recipe, out, domains)
        if scores:
            write_report(out)
        return scores
