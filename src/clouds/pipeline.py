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
from clouds.config import check, load_recipe
from clouds.data.loaders import Batches, read_image
from clouds.data.rare import RareClasses, class_pixels
from clouds.data.source import draw_source, make_source, open_sets
from clouds.errors import CloudsError, UsageError
from clouds.evaluate import Domain, Keep, Sample, Score, evaluate, results, unseen_domains
from clouds.files import read_json, write_json
from clouds.foundation import backend_name
from clouds.foundation.clip import build_text
from clouds.foundation.diffusion import check_generator
from clouds.foundation.embeddings import Cached, open_store
from clouds.foundation.language import check_writer
from clouds.foundation.pictures import Clip, Embedded
from clouds.foundation.sam import PromptableSegmenter, check_segmenter, load_segmenter
from clouds.foundation.sources import check_backends, default_weights, weights_record
from clouds.foundation.weights import sha256
from clouds.generate.audit import Teacher as Judge
from clouds.generate.audit import audit_set
from clouds.generate.images import write_png
from clouds.generate.manifest import ENDINGS, set_folder
from clouds.generate.sets import AUDIT, generated_set, write_audit
from clouds.model.checkpoint import load_model, save_model
from clouds.model.inference import Inference
from clouds.model.segmenter import Segmenter
from clouds.model.vocabulary import text_classifier
from clouds.predict import load
from clouds.progress import clock, say
from clouds.report import write_report
from clouds.report.audit import write_audit_page
from clouds.runs import commit, open_run, usable_device
from clouds.selftrain.judge import judge
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.teacher import Teacher
from clouds.settings import Recipe
from clouds.train import train_stage

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


def train(recipe: Recipe, out: Path) -> None:
    """Warm-up, then joint training, of the stages the recipe asks for; what is done already is kept."""
    stage = recipe.train.stage
    usable_device(recipe.train.device)
    check_generator(recipe.generate.generator)
    if not has_model(out / "warmup"):  # which holds every weight
        chosen = recipe.model
        check_backends(chosen.vision, chosen.text, chosen.weights, chosen.revision)
    joint = stage != "warmup" and not has_model(out / "model")
    check_segmenter(recipe.selftrain.segmenter, recipe.selftrain.segmenter_revision, fetch=joint)
    if joint and recipe.selftrain.cache:
        open_store(recipe.selftrain.cache, int(recipe.selftrain.cache_gb * 2**30))
    if stage == "joint" and not has_model(out / "warmup"):
        raise UsageError(f"train.stage=joint: {out / 'warmup'} holds no warm-up model; train that stage first")
    if stage != "warmup":
        check_writer(recipe.prompts)
    opened = open_sets(recipe)  # a dataset that is not whole is found before anything is made
    open_run(recipe, out)
    prompts, generated = generated_set(recipe, out) if stage != "warmup" else (0, [])
    source = make_source(recipe, opened, out / "source")
    rare = None
    if recipe.data.rare_classes:
        pixels = class_pixels(source, out / "class_pixels.npz", recipe.train.workers)
        rare = RareClasses(pixels, recipe.data.rare_classes, recipe.augment.crop)
    torch.manual_seed(recipe.seed)

    if not has_model(out / "warmup"):
        model = build_model(recipe)
        data = Batches(source, [], recipe, recipe.train.warmup_steps, recipe.seed, rare)
        train_stage(model, "warmup", recipe, data, out)
        save_model(model, out / "warmup")
    if stage == "warmup" or has_model(out / "model"):
        return

    model = load_model(out / "warmup").to(recipe.train.device)
    thaw(model, recipe)
    pseudo = PseudoLabeller(
        Teacher(model, recipe.selftrain.decay),
        build_segmenter(recipe),
        recipe.selftrain,
        recipe.seed,
    )
    steps = recipe.train.steps - recipe.train.warmup_steps
    data = Batches(source, generated, recipe, steps, recipe.seed + 1, rare)
    train_stage(model, "joint", recipe, data, out, pseudo)
    work = pseudo.work
    if not work.images or not work.pixels_changed:
        raise CloudsError(
            f"joint training saw {work.images} generated images and refinement changed {work.pixels_changed} pixels: "
            "self-training did nothing. Check generate.count, selftrain.floor and the warm-up's quality"
        )
    write_json(
        out / "work.json",
        {
            "prompts_written": prompts,
            "images_drawn": len(generated),
            "images_trained_on": len(work.seen),
            "pseudo_labels_made": work.images,
            "components_refined": work.components,
            "pixels_seen": work.pixels,
            "pixels_decided": work.pixels_decided,
            "pixels_changed": work.pixels_changed,
        },
    )
    save_model(model, out / "model")


def audit(
    folder: Path,
    overrides: list[str],
    model: Path | None = None,
    clip: str | None = None,
    weights: str | None = None,
    source: str | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Audit a generated set with what is given, write its page; the object that ``clouds audit --json`` prints.

    overrides: of the demo's recipe, of which limits, refinement and device count. source: a recipe or a folder of
    images, whose diversity stands beside. Raises UsageError or DataError before any long work.
    """
    folder = set_folder(folder)
    recipe = load_recipe("demo", overrides)
    usable_device(recipe.train.device)
    if weights and not clip:
        raise UsageError(f"--weights: got {weights!r} without --clip; name the model too, as --clip open_clip/MODEL")
    beside = source_pictures(source, overrides) if source else None
    teacher = build_judge(model, recipe) if model else None
    seen_by = Clip(clip, weights) if clip else None
    result, images = audit_set(folder, recipe.audit, Embedded(), seen_by, teacher, beside)
    write_audit(result, images, out or folder / AUDIT)
    page = write_audit_page(folder, result, images, out or folder / AUDIT)
    return {**result, "audit": str((out or folder / AUDIT).resolve() / "audit.json"), "page": str(page)}


def build_judge(folder: Path, recipe: Recipe) -> Judge:
    """A model folder or run as the teacher of an audit, with the recipe's segmenter and refinement."""
    predictor, chosen = load(folder, recipe.train.device), recipe.selftrain
    inner = folder if (folder / "model.safetensors").exists() else folder / "model"
    told = chosen.model_dump(
        mode="json", include={"segmenter", "segmenter_revision", "points", "strategy", "floor", "max_swallow"}
    )
    settings = {"model": sha256(inner / "model.safetensors"), "refinement": told}
    if strange := [name for name in predictor.classes if name not in NAMES]:
        some = ", ".join(strange[:5])
        say(f"{folder}: knows {len(strange)} classes beside the 19 ({some}); counted, but never asked for")
    see = judge(predictor.model, build_segmenter(recipe), chosen)
    return Judge(str(folder), predictor.classes, settings, see)


def source_pictures(source: str, overrides: list[str]) -> tuple[str, int, Callable[[int], NDArray[np.uint8]]]:
    """A recipe's labelled images, or those of a folder: (name, how many, read the k-th)."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.name[0] != ".")
        if not files:
            raise UsageError(f"--source: {folder} holds no image ({', '.join(ENDINGS)})")
        return folder.name, len(files), lambda k: read_image(files[k])
    recipe = load_recipe(source, overrides)
    sets = open_sets(recipe)
    lengths = [recipe.data.source_count if each is None else len(each) for each in sets]

    def read(k: int) -> NDArray[np.uint8]:
        for each, length in zip(sets, lengths, strict=True):
            if k < length:
                return each.image(k) if each is not None else draw_source(recipe, k)[0]
            k -= length
        raise IndexError(k)

    return source, sum(lengths), read


def build_model(recipe: Recipe) -> Segmenter:
    """A fresh segmenter: pre-trained backbone, text classifier filled in, decoder at its random start."""
    chosen = recipe.model
    record = weights_record(chosen.vision, chosen.weights, chosen.revision)
    text = build_text(chosen.text, record if chosen.text == chosen.vision else None)
    model = Segmenter(
        **chosen.model_dump(exclude={"weights", "revision"}),
        weights=record,
        text_dim=text.dim,
        classes=list(NAMES),
        synonyms=[list(group) for group in SYNONYMS],
        colors=[list(color) for color in COLORS],
        shorter_side=recipe.evaluate.shorter_side,
        pretrained=True,
    )
    model.vocabulary.copy_(text_classifier(text, SYNONYMS))
    return model.to(recipe.train.device)


def build_segmenter(recipe: Recipe) -> PromptableSegmenter:
    """The recipe's promptable segmenter, behind its cache of embeddings where it has one."""
    chosen = recipe.selftrain
    segmenter = load_segmenter(
        chosen.segmenter, recipe.train.device, chosen.segmenter_dtype, chosen.segmenter_revision
    )
    return Cached(segmenter, chosen.cache, int(chosen.cache_gb * 2**30)) if chosen.cache else segmenter


def thaw(model: Segmenter, recipe: Recipe) -> None:
    """Make trainable what the recipe trains (a loaded model folder comes for inference)."""
    model.head.requires_grad_(True)
    model.backbone.requires_grad_(not recipe.model.freeze)


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
        row["work"] = read_json(out / "work.json")
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
