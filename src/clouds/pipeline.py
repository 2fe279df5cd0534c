"""The whole method, in its order: prompts -> images -> warm-up -> joint training -> scores -> report.

Each step looks for what it needs in the run folder and makes what is missing, so that a run killed anywhere goes on.
"""

import time
from pathlib import Path
from typing import Any

import torch

from clouds.base.files import write_json
from clouds.base.machine import usable_device
from clouds.config.load import check, load_recipe
from clouds.config.recipe import Recipe
from clouds.config.runs import open_run
from clouds.data.batches.batches import Batches
from clouds.data.batches.rare import RareClasses, class_pixels
from clouds.data.source import make_source, open_sets
from clouds.errors import CloudsError, UsageError
from clouds.evaluate.domains import unseen_domains
from clouds.evaluate.run import score_run
from clouds.foundation.backbone import check_adapter
from clouds.foundation.backbones.sources import check_backends
from clouds.foundation.generator import check_generator
from clouds.foundation.registry import backends
from clouds.foundation.segmenter import check_segmenter
from clouds.foundation.segmenters.embeddings import build_segmenter, open_store
from clouds.foundation.writer import check_writer
from clouds.generate.prompts import prompts_of
from clouds.generate.restyle import check_looks
from clouds.generate.restyled_source import begun, restyled_source
from clouds.generate.sets import generated_set
from clouds.model.build import build_model
from clouds.model.folder import has_model, load_model, save_model
from clouds.model.segmenter import Segmenter
from clouds.report import write_report
from clouds.selftrain.find_regions import regions_of_set
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.teacher import Teacher
from clouds.selftrain.work import told
from clouds.train.engine import Engine
from clouds.train.loop import train_stage
from clouds.train.validate import Validation

LEAST_STEPS = 80  # of the shortest demo


def demo(overrides: list[str], out: Path, minutes: float) -> dict[str, Any]:
    """The embedded default of every role, end to end in the run folder ``out``; the object that ``clouds demo --json``
    prints.

    overrides: key=value settings. minutes: as in ``scaled``. Raises what ``train`` raises.
    """
    began = time.monotonic()
    recipe = scaled(load_recipe("demo", overrides), minutes, overrides)
    if recipe.train.stage == "warmup":
        raise UsageError(
            "train.stage=warmup: the demo compares warm-up with joint training and needs both; "
            "for warm-up alone use `clouds train demo train.stage=warmup`"
        )
    domains = unseen_domains(recipe)  # a wrong data.root is found before anything is made
    train(recipe, out)
    scored = score_run(recipe, out, domains)
    report = write_report(out)
    return {
        "run": str(out.resolve()),
        "report": str(report.resolve()),
        "seconds": round(time.monotonic() - began, 1),
        "backends": backends(recipe),
        **scored,
    }


def scaled(recipe: Recipe, minutes: float, overrides: list[str]) -> Recipe:
    """The demo's recipe is sized for ten minutes: scale the work to ``minutes``, but for keys the user set.

    Below about two minutes the steps stay at a least number, most of them warm-up: a teacher that has learned nothing
    gives refinement nothing to change, and such a run fails.
    """
    if not 0.2 <= minutes <= 10_000:
        raise UsageError(f"--minutes: got {minutes:g}; expected 0.2 to 10000")
    share = minutes / 10
    values = recipe.model_dump()
    steps = max(round(recipe.train.steps * share), LEAST_STEPS)
    wanted = {
        "train.steps": steps,
        "train.warmup_share": recipe.train.warmup_share if steps > LEAST_STEPS else 0.75,
        "generate.count": max(round(recipe.generate.count * min(share, 4)), 8),
        "data.source_count": max(round(recipe.data.source_count * min(share, 4)), 16),
        "prompts.count": max(round(recipe.prompts.count * min(share, 4)), 8),
        "evaluate.rendered_count": max(round(recipe.evaluate.rendered_count * min(share, 1)), 4),
        "evaluate.max_images": recipe.evaluate.max_images if share >= 1 else max(round(230 * share), 4),
    }
    given = {override.partition("=")[0] for override in overrides}
    for key, value in wanted.items():
        group, _, name = key.partition(".")
        if key not in given:
            values[group][name] = value
    return check(values, "demo")


def train(recipe: Recipe, out: Path, allow_change: bool = False) -> None:
    """Warm-up, then joint training, of the stages the recipe asks for, in the run folder ``out``: models in ``warmup``
    and ``model``. What is done already is kept; ``allow_change`` goes on though settings differ from the run's.

    Raises UsageError for what cannot be, and BackendError or DataError for what is not here, before any work; Stopped
    when a signal ended it with all saved; CloudsError where self-training changed nothing.
    """
    stage = recipe.train.stage
    usable_device(recipe.train.device)
    check_generator(recipe.generate.generator)
    if not has_model(out / "warmup"):  # which holds every weight
        chosen = recipe.model
        if chosen.adapter:
            check_adapter(chosen.vision, chosen.adapter, chosen.hidden)
        check_backends(chosen.vision, chosen.text, chosen.weights, chosen.revision)
    joint = stage != "warmup" and not has_model(out / "model")
    check_segmenter(recipe.selftrain.segmenter, recipe.selftrain.segmenter_revision, fetch=joint)
    if joint and recipe.selftrain.cache:
        open_store(recipe.selftrain.cache, int(recipe.selftrain.cache_gb * 2**30))
    if stage == "joint" and not has_model(out / "warmup"):
        raise UsageError(f"train.stage=joint: {out / 'warmup'} holds no warm-up model; train that stage first")
    restyle = recipe.data.restyle if restyles(recipe, not has_model(out / "warmup"), joint) else None
    draws = stage != "warmup" or (restyle is not None and restyle.styles == "generated")
    check_looks(recipe, drawn=draws, source=restyle is not None and not begun(recipe, out / "restyled"))
    if draws or restyle:
        check_writer(recipe.prompts)
    opened = open_sets(recipe)  # a dataset that is not whole is found before anything is made
    engine, validation = Engine(recipe.train, out), Validation(recipe) if recipe.train.validate_every else None
    with engine.first():
        open_run(recipe, out, allow_change)
        prompts, generated = generated_set(recipe, out) if draws else (0, [])
        by_regions = joint and recipe.selftrain.refinement == "regions"
        regions = regions_of_set(recipe, generated, out) if by_regions else None
        source = make_source(recipe, opened, out / "source")
        restyled = restyled_source(
            recipe, source, out / "restyled", lambda: prompts_of(recipe, out / "prompts.jsonl"), generated
        ) if restyle else None  # fmt: skip
        rare = None
        if recipe.data.rare_classes:
            pixels = class_pixels(source, out / "class_pixels.npz", recipe.train.workers)
            rare = RareClasses(pixels, recipe.data.rare_classes, recipe.augment.crop)
    engine.track(recipe)
    process = engine.rank, engine.world
    torch.manual_seed(recipe.seed)

    if not has_model(out / "warmup"):
        model = build_model(recipe).to(engine.device)
        shown = restyled if restyle and restyle.stage != "joint" else None
        data = Batches(source, [], recipe, recipe.train.warmup_steps, recipe.seed, rare, shown, process)
        train_stage(model, "warmup", recipe, data, out, engine=engine, validation=validation)
        keep_model(model, out, "warmup", recipe, engine)
    if stage == "warmup" or has_model(out / "model"):
        engine.finish()
        return

    model = load_model(out / "warmup").to(engine.device)
    model.thaw()
    pseudo = PseudoLabeller(
        Teacher(model, recipe.selftrain.decay),
        None if regions else build_segmenter(recipe),
        recipe.selftrain,
        recipe.seed,
        regions,
    )
    steps = recipe.train.steps - recipe.train.warmup_steps
    shown = restyled if restyle and restyle.stage != "warmup" else None
    data = Batches(source, generated, recipe, steps, recipe.seed + 1, rare, shown, process)
    work = train_stage(model, "joint", recipe, data, out, pseudo, engine, validation)
    if not work.images or not work.pixels_changed:
        raise CloudsError(
            f"joint training saw {work.images} generated images and refinement changed {work.pixels_changed} pixels: "
            "self-training did nothing. Check generate.count, selftrain.floor, selftrain.confidence and the warm-up's "
            "quality"
        )
    if engine.main:
        made = {"prompts_written": prompts, "images_drawn": len(generated)}
        write_json(out / "work.json", {**made, **told(work, model.classes)})
    keep_model(model, out, "joint", recipe, engine)
    engine.finish()


def keep_model(model: Segmenter, out: Path, stage: str, recipe: Recipe, engine: Engine) -> None:
    """Write a stage's model: as it ended, or the best on the source's validation split if the recipe chooses that."""
    best = out / "best" / stage
    chosen = load_model(best) if recipe.train.choose == "best" and has_model(best) else model
    if engine.main:
        save_model(chosen, out / ("model" if stage == "joint" else stage))
    engine.wait()


def restyles(recipe: Recipe, warmup: bool, joint: bool) -> bool:
    """Whether one of the stages that are still to come shows restyled source images."""
    restyle = recipe.data.restyle
    if restyle is None or not restyle.share:
        return False
    return (warmup and restyle.stage != "joint") or (joint and restyle.stage != "warmup")
