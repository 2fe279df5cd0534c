"""Scores of a run: both of its models on the unseen domains, with what the report shows of them."""

import shutil
import time
from pathlib import Path
from typing import Any

from clouds.base.files import read_json
from clouds.base.locks import one_writer
from clouds.base.progress import clock
from clouds.base.text import points_gained
from clouds.config.recipe import Recipe
from clouds.config.records import WorkSummary, as_json, read_record, write_record
from clouds.config.runs import EVALUATION, EXAMPLES, MODELS, RECIPE, RESULTS, WORK, add_seconds, load_run, spent_seconds
from clouds.config.score_records import Calibration, Confusion, Evaluation
from clouds.errors import DataError, UsageError
from clouds.evaluate.domains import Domain, missing_photos, unseen_domains
from clouds.evaluate.examples import write_examples
from clouds.evaluate.scores import Score, evaluate, results
from clouds.evaluate.tables import grid, not_unseen
from clouds.evaluate.trained_on import mark_trained_on
from clouds.foundation.registry import backends
from clouds.model.folder_config import has_model
from clouds.model.inference import Inference
from clouds.predict.loading import load


def is_run(word: str | Path) -> bool:
    """Whether this names the folder of a run."""
    return (Path(word) / RECIPE).is_file()


def score_whole_run(out: Path) -> dict[str, Any]:
    """``score_run`` on the unseen domains of the run's own recipe."""
    recipe = load_run(out)
    domains = unseen_domains(recipe)
    with one_writer(out, "scoring"):
        return score_run(recipe, out, domains)


def score_run(recipe: Recipe, out: Path, domains: list[Domain]) -> dict[str, Any]:
    """Score warm-up and joint on the domains -> {"warmup", "joint"}, each as its results file has it.

    Writes the results, what lies behind them (confusions, calibration, the score of each image) and examples.
    """
    scored: dict[str, Any] = {}
    if not has_model(out / MODELS["joint"]):
        raise UsageError(f"{out}: holds no jointly trained model yet; `clouds train {out} --resume` finishes the run")
    for stage in MODELS:
        path, behind = out / RESULTS[stage], out / EVALUATION / f"{stage}.json"
        if not (path.exists() and behind.exists()):
            shutil.rmtree(out / EXAMPLES, ignore_errors=True)  # new scores choose others
            _score(recipe, out, stage, domains, path, behind)
        scored[stage] = read_json(path)
    write_examples(recipe, out, domains)
    return scored


def _score(recipe: Recipe, out: Path, stage: str, domains: list[Domain], path: Path, behind: Path) -> None:
    began = time.monotonic()
    work = read_record(out / WORK, WorkSummary)
    if work is None:
        raise DataError(f"{out / WORK}: not there")
    predictor = load(out / MODELS[stage], recipe.train.device)
    predictor.inference = Inference.of(recipe.evaluate)
    scores = evaluate(predictor, domains, stage)
    mark_trained_on(scores, domains, out / MODELS[stage], predictor)
    add_seconds(out, "scoring", time.monotonic() - began)
    row = results(
        scores,
        model=MODELS[stage],
        seed=recipe.seed,
        inference=predictor.inference,
        protocol=recipe.evaluate.protocol,
        backends=backends(recipe),
        missing=missing_photos(recipe, domains),
        work={key: value for key, value in as_json(work).items() if key != "classes"},
        seconds=spent_seconds(out),
    )
    write_record(behind, _evaluation(domains, scores))
    write_record(path, row)


def _evaluation(domains: list[Domain], scores: list[Score]) -> Evaluation:
    return Evaluation(domains={
        domain.name: Confusion(
            label_set=domain.label_set.name,
            classes=list(domain.label_set.classes),
            confusion=s.counts[:, :-1].tolist(),
            calibration=Calibration(**dict(zip(Calibration.model_fields, s.calibration.tolist(), strict=True))),
            per_image=s.images,
        )
        for domain, s in zip(domains, scores, strict=True)
    })  # fmt: skip


def comparison_table(result: dict[str, Any]) -> str:
    """What ``clouds demo`` prints: the scores, what was learned from, and where the report is."""
    return "\n".join([scores_table(result), f"{clock(result['seconds'])} in all; report: {result['report']}"])


def scores_table(result: dict[str, Any]) -> str:
    """Domain x {warm-up, joint, difference} in mIoU %, for a terminal, and what joint training learned from."""
    rows = {}
    for before, after in zip(result["warmup"]["domains"], result["joint"]["domains"], strict=True):
        rows[after["name"]] = [str(after["images"]), *_pair(before["miou"], after["miou"]), after["label_set"]]
    rows["mean"] = ["", *_pair(result["warmup"]["mean_miou"], result["joint"]["mean_miou"]), "mIoU, %"]
    work = result["joint"]["work"]
    return "\n".join([
        *grid("domain", ["images", "warm-up", "joint", "diff", "label set"], rows),
        "",
        *not_unseen(result["joint"], "the joint model was "),
        f"{_learned_from(work)}, {work['components_refined']} components refined, "
        f"{100 * work['pixels_changed'] / max(work['pixels_seen'], 1):.1f} % of pixels changed by refinement",
    ])  # fmt: skip


def _learned_from(work: dict[str, Any]) -> str:
    """The images without labels that joint training learned from."""
    parts = []
    if work["images_drawn"] or not work.get("photographs"):
        parts += [f"{work['prompts_written']} prompts written", f"{work['images_drawn']} images generated",
                  f"{work['images_trained_on']} of them used in training"]  # fmt: skip
    if work.get("photographs"):
        parts += [f"{work['photographs']} photos", f"{work['photographs_trained_on']} of them used in training"]
    return ", ".join(parts)


def _pair(before: float, after: float) -> list[str]:
    return [f"{100 * before:.1f}", f"{100 * after:.1f}", f"{points_gained(before, after):+.1f}"]
