"""The whole method, in its order: prompts -> images -> warm-up -> joint training -> scores -> report.

Each step looks for what it needs in the run folder and makes what is missing, so that a run killed anywhere goes on.
"""

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clouds.classes import COLORS, NAMES, SYNONYMS
from clouds.config import check, load_recipe, set_recipe
from clouds.data.loaders import Batches
from clouds.data.rare import RareClasses, class_pixels
from clouds.data.source import make_source, open_sets
from clouds.errors import CloudsError, DataError, UsageError
from clouds.evaluate import Domain, Keep, Sample, Score, evaluate, results, unseen_domains
from clouds.files import make_folder, read_json, write_json
from clouds.foundation import backend_name
from clouds.foundation.clip import build_text, check_adapter
from clouds.foundation.diffusion import check_generator
from clouds.foundation.embeddings import Cached, open_store
from clouds.foundation.language import check_writer
from clouds.foundation.sam import PromptableSegmenter, check_segmenter, load_segmenter
from clouds.foundation.sources import check_backends, default_weights, weights_record
from clouds.generate.images import read_set, write_png
from clouds.generate.looks import check_looks
from clouds.generate.prompts import prompts_of
from clouds.generate.restyled_source import begun, restyled_source
from clouds.generate.sets import generated_set
from clouds.generate.shards import parse_shard
from clouds.model.checkpoint import load_model, save_model
from clouds.model.inference import Inference
from clouds.model.segmenter import Segmenter
from clouds.model.vocabulary import text_classifier
from clouds.predict import load
from clouds.progress import clock
from clouds.report import write_report
from clouds.runs import commit, open_run, usable_device
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.region_files import make_regions, mean_regions, read_regions
from clouds.selftrain.regions import Regions
from clouds.selftrain.teacher import Teacher
from clouds.selftrain.work import by_class
from clouds.settings import Recipe
from clouds.train.engine import Engine
from clouds.train.loop import train_stage
from clouds.train.validate import Validation

EXAMPLES = 3
LEAST_STEPS = 80  # of the shortest demo


def backends(recipe: Recipe) -> dict[str, str]:
    """Which backend plays which role."""
    model = recipe.model
    chosen = {
        "vision": (model.vision, model.weights),
        "text": (model.text, model.weights if model.text == model.vision else None),
        "prompts": (recipe.prompts.writer, None),
        "images": (recipe.generate.generator, None),
        "segmenter": (recipe.selftrain.segmenter, recipe.selftrain.segmenter_revision),
    }
    for role, restyle in (("restyled images", recipe.generate.restyle), ("restyled source", recipe.data.restyle)):
        if restyle:
            chosen[role] = (restyle.backend, None)
    return {role: backend_name(name, weights or default_weights(name)) for role, (name, weights) in chosen.items()}


def demo(overrides: list[str], out: Path, minutes: float) -> dict[str, Any]:
    """The embedded default of every role, end to end; returns the demo's JSON object (DESIGN: contracts)."""
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
    """Warm-up, then joint training, of the stages the recipe asks for; what is done already is kept."""
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
    if not work or not work.images or not work.pixels_changed:
        raise CloudsError(
            f"joint training saw {work.images if work else 0} generated images and refinement changed "
            f"{work.pixels_changed if work else 0} pixels: "
            "self-training did nothing. Check generate.count, selftrain.floor and the warm-up's quality"
        )
    done = {
            "prompts_written": prompts,
            "images_drawn": len(generated),
            "images_trained_on": len(work.seen),
            "pseudo_labels_made": work.images,
            "components_refined": work.components,
            "pixels_seen": work.pixels,
            "pixels_decided": work.pixels_decided,
            "pixels_changed": work.pixels_changed,
            "images_dropped": work.dropped,
            "masks_rejected": work.rejected,
            "classes": by_class(work, model.classes),
        }
    if engine.main:
        write_json(out / "work.json", done)
    keep_model(model, out, "joint", recipe, engine)


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


def plain_segmenter(recipe: Recipe) -> PromptableSegmenter:
    """The recipe's promptable segmenter."""
    chosen = recipe.selftrain
    return load_segmenter(
        chosen.segmenter, recipe.train.device, chosen.segmenter_dtype, chosen.segmenter_revision, chosen.second_pass
    )


def build_segmenter(recipe: Recipe) -> PromptableSegmenter:
    """The recipe's promptable segmenter, behind its cache of embeddings where it has one."""
    chosen, segmenter = recipe.selftrain, plain_segmenter(recipe)
    return Cached(segmenter, chosen.cache, int(chosen.cache_gb * 2**30)) if chosen.cache else segmenter


def has_model(folder: Path) -> bool:
    return (folder / "config.json").exists() and (folder / "model.safetensors").exists()


def score_run(recipe: Recipe, out: Path, domains: list[Domain]) -> dict[str, Any]:
    """Score warm-up and joint on the domains; writes the results, confusions and examples; -> {"warmup", "joint"}."""
    scored: dict[str, Any] = {}
    if not has_model(out / "model"):
        raise UsageError(f"{out}: holds no jointly trained model yet; `clouds train {out} --resume` finishes the run")
    for stage, folder, file in (("warmup", "warmup", "results-warmup.json"), ("joint", "model", "results.json")):
        path = out / file
        if path.exists() and (out / "evaluation" / f"{stage}.json").exists():
            scored[stage] = read_json(path)
            continue
        predictor = load(out / folder, recipe.train.device)
        predictor.inference = Inference.of(recipe.evaluate)
        scores = evaluate(predictor, domains, stage, _example_writer(out, stage))
        row = results(
            scores,
            model=folder,
            commit=commit(),
            seed=recipe.seed,
            inference=predictor.inference,
            backends=backends(recipe),
        )
        row["work"] = {key: value for key, value in read_json(out / "work.json").items() if key != "classes"}
        row["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
        write_json(out / "evaluation" / f"{stage}.json", {"domains": _confusions(domains, scores)})
        write_json(path, row)
        scored[stage] = row
    return scored


def _confusions(domains: list[Domain], scores: list[Score]) -> dict[str, Any]:
    return {
        domain.name: {
            "label_set": domain.label_set.name,
            "classes": list(domain.label_set.classes),
            "confusion": s.counts[:, :-1].tolist(),
        }
        for domain, s in zip(domains, scores, strict=True)
    }


def _example_writer(out: Path, stage: str) -> Keep:
    """Keeps a few evenly spaced predictions of each domain for the report."""

    def keep(domain: Domain, i: int, sample: Sample, prediction: NDArray[np.uint8]) -> None:
        chosen = np.linspace(0, domain.length - 1, EXAMPLES + 2).round()[1:-1].astype(int).tolist()
        if i not in chosen:
            return
        folder = out / "evaluation" / "examples" / domain.name / str(chosen.index(i))
        write_png(folder / "photo.png", sample[1])
        write_png(folder / "truth.png", sample[2])
        write_png(folder / f"{stage}.png", prediction)

    return keep


def comparison_table(result: dict[str, Any]) -> str:
    """Domain x {warm-up, joint, difference} in mIoU %, for a terminal."""
    lines = [f"{'domain':<14}{'images':>7}{'warm-up':>9}{'joint':>8}{'diff':>8}   label set"]
    for before, after in zip(result["warmup"]["domains"], result["joint"]["domains"], strict=True):
        lines.append(
            f"{after['name']:<14}{after['images']:>7}{100 * before['miou']:>9.1f}{100 * after['miou']:>8.1f}"
            f"{100 * (after['miou'] - before['miou']):>+8.1f}   {after['label_set']}"
        )
    before, after = result["warmup"]["mean_miou"], result["joint"]["mean_miou"]
    lines.append(f"{'mean':<21}{100 * before:>9.1f}{100 * after:>8.1f}{100 * (after - before):>+8.1f}   mIoU, %")
    work = result["joint"]["work"]
    lines += [
        "",
        f"{work['prompts_written']} prompts written, {work['images_drawn']} images drawn, "
        f"{work['images_trained_on']} of them trained on, {work['components_refined']} components refined, "
        f"{100 * work['pixels_changed'] / max(work['pixels_seen'], 1):.1f} % of pixels changed by refinement",
        f"{clock(result['seconds'])} in all; report: {result['report']}",
    ]
    return "\n".join(lines)
