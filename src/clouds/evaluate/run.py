"""Scores of a run: both of its models on the unseen domains, with what the report shows of them."""

import resource
from pathlib import Path
from typing import Any

from clouds.base.files import read_json, write_json
from clouds.base.machine import commit
from clouds.base.progress import clock
from clouds.config.recipe import Recipe
from clouds.errors import UsageError
from clouds.evaluate.domains import Domain, missing_photos
from clouds.evaluate.examples import drop_examples, write_examples
from clouds.evaluate.scores import Score, evaluate, results
from clouds.foundation.registry import backends
from clouds.model.folder import has_model
from clouds.model.inference import Inference
from clouds.predict.predictor import load


def score_run(recipe: Recipe, out: Path, domains: list[Domain]) -> dict[str, Any]:
    """Score warm-up and joint on the domains -> {"warmup", "joint"}.

    Writes the results, what lies behind them (confusions, calibration, the score of each image) and examples.
    """
    scored: dict[str, Any] = {}
    if not has_model(out / "model"):
        raise UsageError(f"{out}: holds no jointly trained model yet; `clouds train {out} --resume` finishes the run")
    for stage, folder, file in (("warmup", "warmup", "results-warmup.json"), ("joint", "model", "results.json")):
        path = out / file
        if path.exists() and (out / "evaluation" / f"{stage}.json").exists():
            scored[stage] = read_json(path)
            continue
        drop_examples(out)
        predictor = load(out / folder, recipe.train.device)
        predictor.inference = Inference.of(recipe.evaluate)
        scores = evaluate(predictor, domains, stage)
        row = results(
            scores,
            model=folder,
            commit=commit(),
            seed=recipe.seed,
            inference=predictor.inference,
            backends=backends(recipe),
            missing=missing_photos(recipe, domains),
        )
        row["work"] = {key: value for key, value in read_json(out / "work.json").items() if key != "classes"}
        row["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
        write_json(out / "evaluation" / f"{stage}.json", {"domains": _evaluation(domains, scores)})
        write_json(path, row)
        scored[stage] = row
    write_examples(recipe, out, domains)
    return scored


def _evaluation(domains: list[Domain], scores: list[Score]) -> dict[str, Any]:
    return {
        domain.name: {
            "label_set": domain.label_set.name,
            "classes": list(domain.label_set.classes),
            "confusion": s.counts[:, :-1].tolist(),
            "calibration": dict(zip(("pixels", "confidence", "correct"), s.calibration.tolist(), strict=True)),
            "per_image": s.images,
        }
        for domain, s in zip(domains, scores, strict=True)
    }


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
