"""Does the sign of harm tell when joint training harms? Joint stages that help and that harm, and what is said of each.

    python benchmarks/harm.py --data PATH --seeds 3

Each run goes on from the demo's warm-up of its seed (330 of 440 steps, ``--out``/SEED-warm-up) with one joint stage of
110 steps. What happened is the mIoU on 120 images of IDD-Lite's training split, the development target, beside the
warm-up's. What is said comes from ``clouds.train.harm``, which sees no label of a target. Runs that are there are kept.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch

from clouds import pipeline
from clouds.base.files import read_json, write_json
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.config.runs import SOURCE, open_run
from clouds.data.batches.batches import Batches
from clouds.data.batches.unlabelled import unlabelled_images
from clouds.data.labelled import make_source, open_sets
from clouds.data.photographs import find_photographs, read_photographs
from clouds.errors import CloudsError
from clouds.evaluate.scores import evaluate
from clouds.generate.sets import set_images, set_prompts
from clouds.model.folder import load_model
from clouds.model.inference import Inference
from clouds.predict.predictor import Predictor
from clouds.train.harm import Watch
from generalization import development

PHOTOGRAPHS = ["data.unlabelled={data}/street_photos", "generate.count=0"]
SMOOTH = "selftrain.refinement=smooth"


def unguarded(share: float) -> list[str]:
    """Most of the images are photographs, and nothing keeps masks from swallowing other classes."""
    rest = round(1 - share, 1)
    return [f"data.unlabelled=[{{folder: '{{data}}/street_photos', weight: {share}}}]", "generate.count=0",
            f"data.source=[{{dataset: streets, weight: {rest}}}]", "selftrain.max_swallow=null"]  # fmt: skip


RUNS: dict[str, list[str]] = {
    "drawn": [],
    "photos": PHOTOGRAPHS,
    "photos-smooth": [*PHOTOGRAPHS, SMOOTH],
    "photos-smooth-mix": [*PHOTOGRAPHS, SMOOTH, "selftrain.mix=0.5"],
    "photos-of-fields": ["data.unlabelled={data}/crops/peanut/images/unlabelled", "generate.count=0"],
    "unguarded-70": unguarded(0.7),
    "unguarded-90": [*unguarded(0.9), "selftrain.floor=0.02"],
    "rate-2x": [*PHOTOGRAPHS, SMOOTH, "train.schedule=constant", "train.learning_rate=2e-3"],
    "rate-4x": [*PHOTOGRAPHS, SMOOTH, "train.schedule=constant", "train.learning_rate=4e-3"],
}


def recipe_of(seed: int, overrides: list[str], data: Path) -> Recipe:
    words = (word.replace("{data}", str(data)) for word in overrides)
    return load_recipe("demo", [f"seed={seed}", "selftrain.panels=0", "train.workers=1", *words])


def trained(out: Path, name: str, seed: int, data: Path) -> tuple[Path, Recipe]:
    """The run's folder and recipe; trained, if it is not there."""
    run = out / f"{seed}-{name}"
    if name == "warm-up":
        recipe = recipe_of(seed, ["train.stage=warmup"], data)
        if not (run / "warmup").exists():
            pipeline.train(recipe, run)
        return run, recipe
    recipe = recipe_of(seed, RUNS[name], data)
    if not (run / "model").exists():
        warm, _ = trained(out, "warm-up", seed, data)
        open_run(recipe, run)
        for part in ("warmup", SOURCE):
            shutil.copytree(warm / part, run / part, dirs_exist_ok=True)
        try:
            pipeline.train(recipe, run)
        except CloudsError as error:  # self-training that changes nothing is told after the model is kept
            print(f"{run}: {error}")
    return run, recipe


def score(model: Path, recipe: Recipe, data: Path) -> float:
    """mIoU on the development target, kept beside the model."""
    kept = model.parent / f"development-{model.name}.json"
    if not kept.exists():
        predictor = Predictor(load_model(model).eval())
        predictor.inference = Inference.of(recipe.evaluate)
        write_json(kept, {"miou": evaluate(predictor, [development(data)], model.parent.name)[0].row.miou})
    return float(read_json(kept)["miou"])


def row(out: Path, name: str, seed: int, data: Path) -> dict[str, Any]:
    run, recipe = trained(out, name, seed, data)
    warm, _ = trained(out, "warm-up", seed, data)
    source = make_source(recipe, open_sets(recipe), run / SOURCE)
    photographs = read_photographs(recipe, find_photographs(recipe.data, run), run)
    drawn = set_images(recipe, set_prompts(recipe, run), run) if recipe.draws else []
    steps = recipe.train.steps - recipe.train.warmup_steps
    joint = Batches(source, unlabelled_images(recipe, drawn, photographs, source), recipe, steps, recipe.seed + 1)
    drift = Watch(load_model(run / "warmup"), joint)(load_model(run / "model"), steps)
    gain = 100 * (score(run / "model", recipe, data) - score(warm / "warmup", recipe, data))
    return {"name": name, "seed": seed, "gain": gain, "drift": drift}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="One folder per dataset.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--out", type=Path, default=Path("runs/harm"))
    parser.add_argument("--there", action="store_true", help="Only runs that are there.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| run | seed | joint - warm-up | agreement | source mIoU | said |\n|---|---|---|---|---|---|")
    rows = []
    for seed in range(arguments.seeds):
        for name in arguments.runs:
            if arguments.there and not (arguments.out / f"{seed}-{name}" / "model").exists():
                continue
            found = row(arguments.out, name, seed, arguments.data)
            rows.append(found)
            drift = found["drift"]
            before, after = (100 * value for value in drift.source)
            print(f"| {name} | {seed} | {found['gain']:+.1f} | {drift.agreement:.2f} | {before:.1f} to {after:.1f} | "
                  f"{'harm' if drift.harm else ''} |", flush=True)  # fmt: skip
    harmed = [found for found in rows if found["gain"] < -1]
    said = [found for found in rows if found["drift"].harm]
    hits = sum(found["drift"].harm for found in harmed)
    print(f"\n{len(rows)} runs. Harm is more than a point below the warm-up: {len(harmed)} runs, {hits} of them said. "
          f"False alarms: {len(said) - hits}. torch {torch.__version__}, one thread")  # fmt: skip


if __name__ == "__main__":
    main()
