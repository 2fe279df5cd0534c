"""What each switch of self-training does, on the development target: one joint stage a cell, from one warm-up a seed.

    python benchmarks/ablation.py --data PATH --out runs/ablation --seeds 0 1 2

The development target is IDD-Lite *train* (80 images, evenly spaced) and rendered scenes whose seeds nothing else uses;
no target that the demo or a benchmark scores is looked at. A cell that is done is not run again: its numbers stand in
``--keep`` as JSON. ``--variants`` picks some; without any work left, only the table is printed. Cells of switches that
were removed (docs/selftraining.md) stay in the table.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clouds import streets
from clouds.base.files import read_json, read_jsonl, write_json
from clouds.base.machine import commit
from clouds.config.label_sets import IGNORE
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.data.batches.batches import Batches
from clouds.data.datasets import open_dataset
from clouds.data.images import read_image
from clouds.data.labelled import make_source, open_sets
from clouds.evaluate.domains import RENDERED, Domain, rendered_domain
from clouds.evaluate.metrics import confusion, mean_iou
from clouds.evaluate.scores import evaluate
from clouds.foundation.embeddings import build_segmenter
from clouds.generate.sets import set_images, set_prompts
from clouds.model.folder import load_model
from clouds.model.inference import Inference
from clouds.model.segmenter import Segmenter
from clouds.pipeline import train
from clouds.predict.predictor import Predictor
from clouds.selftrain.pseudo import PseudoLabeller, trust
from clouds.selftrain.teacher import make_teacher
from clouds.train.loop import train_stage

DEVELOPMENT_SEED = 3_000_017  # of rendered scenes that neither training nor any table of results uses
RENDERED_COUNT, PHOTO_COUNT, QUALITY_COUNT = 10, 80, 60
WARM, CONTROL = "(the warm-up model)", "control: source only"
LABELS = "labels alone"  # of the warm-up model as teacher, raw and refined, without any joint training
PAPER = "paper: random points, no guard"
BASE = "base: central points, swallow 0.15"

VARIANTS: dict[str, list[str]] = {
    PAPER: ["strategy=random", "points=5", "max_swallow=null"],
    BASE: [],
    "undecided keep the teacher's label": ["undecided=teacher"],
    "teacher's label where sure (0.9)": ["undecided=teacher", "confidence=0.9"],
    "swallow 0.3": ["max_swallow=0.3"],
    "threshold fixed 0.7": ["confidence=0.7"],
    "mix 0.5": ["mix=0.5"],
    "mix 1": ["mix=1"],
}


def quality(
    pseudo: PseudoLabeller, rows: list[dict[str, Any]], folder: Path, size: tuple[int, int]
) -> dict[str, float]:
    """mIoU of the teacher's and of the refined labels of drawn scenes, on pixels that refinement decided."""
    raw, refined, whole = (np.zeros((19, 20), np.int64) for _ in range(3))
    decided = 0.0
    for k, row in enumerate(rows[:QUALITY_COUNT]):
        truth = streets.render(streets.from_prompt(row["prompt"], row["seed"]), size)[1]
        image = torch.from_numpy(read_image(folder / row["file_name"])).permute(2, 0, 1)
        maps, sure = pseudo.teacher.predict(image[None])
        teacher = maps[0].numpy()
        trusted = trust(teacher, sure[0].numpy(), pseudo.settings.confidence)
        labels = pseudo._refine(k, image, trusted, 0, 0).labels
        known = labels != IGNORE
        decided += known.mean() / len(rows[:QUALITY_COUNT])
        seen = np.where(known, truth, np.uint8(IGNORE))
        raw += confusion(seen, teacher, 19)
        refined += confusion(seen, labels, 19)
        whole += confusion(truth, teacher, 19)
    return {
        "decided": decided,
        "raw_miou": float(mean_iou(raw)),
        "refined_miou": float(mean_iou(refined)),
        "raw_miou_everywhere": float(mean_iou(whole)),
    }


def score(model: Segmenter, recipe: Recipe, domains: list[Domain], what: str) -> dict[str, float]:
    predictor = Predictor(model.eval())
    predictor.inference = Inference.of(recipe.evaluate)
    found = {each.row["name"]: each.row["miou"] for each in evaluate(predictor, domains, what)}
    return {**found, "rendered": float(np.mean([found[name] for name in RENDERED]))}


def cell(recipe: Recipe, base: Path, out: Path, domains: list[Domain], what: str) -> dict[str, Any]:
    """One joint stage from the seed's warm-up model; the recipe's self-training, or none for the control."""
    model = load_model(base / "warmup")
    out.mkdir(parents=True, exist_ok=True)
    if what == WARM:
        return score(model, recipe, domains, what)
    model.thaw()
    generated = set_images(recipe, set_prompts(recipe, base), base)
    source = make_source(recipe, open_sets(recipe), base / "source")
    steps = recipe.train.steps - recipe.train.warmup_steps
    began = time.monotonic()
    if what == CONTROL:
        data = Batches(source, [], recipe, steps, recipe.seed + 1)
        train_stage(model, "joint", recipe, data, out)
        return {**score(model, recipe, domains, what), "seconds": time.monotonic() - began}
    pseudo = PseudoLabeller(
        make_teacher(model, recipe.selftrain), build_segmenter(recipe), recipe.selftrain, recipe.seed
    )
    rows = read_jsonl(base / "generated" / "metadata.jsonl")
    if what == LABELS:
        return {"labels_before": quality(pseudo, rows, base / "generated", recipe.generate.size)}
    before = quality(pseudo, rows, base / "generated", recipe.generate.size)
    data = Batches(source, generated, recipe, steps, recipe.seed + 1)
    train_stage(model, "joint", recipe, data, out, pseudo)
    seconds = time.monotonic() - began
    after = quality(pseudo, rows, base / "generated", recipe.generate.size)
    work = pseudo.work
    shares = {"decided": work.pixels_decided / work.pixels, "changed": work.pixels_changed / work.pixels}
    return {
        **score(model, recipe, domains, what), "labels_before": before, "labels_after": after, **shares,
        "seconds": seconds,
    }  # fmt: skip


def table(cells: dict[str, dict[int, dict[str, Any]]], seeds: list[int]) -> str:
    """Markdown: variant x {IDD-Lite train, rendered}, each beside the control of the same seeds."""
    lines = [
        "| joint stage | seeds | IDD-Lite train | rendered | minus control: IDD-Lite | rendered | refined - raw |",
        "|---|---|---|---|---|---|---|",
    ]
    for what, found in cells.items():
        mine = [seed for seed in seeds if seed in found]
        both = [seed for seed in mine if seed in cells.get(CONTROL, {})]
        parts = [what, str(len(mine))]
        for key in ("idd-lite", "rendered"):
            parts.append(spread([found[seed][key] for seed in mine if key in found[seed]]))
        for key in ("idd-lite", "rendered"):
            pairs = [(found[seed], cells[CONTROL][seed]) for seed in both if key in found[seed]]
            parts.append(spread([one[key] - control[key] for one, control in pairs], sign=True))
        labels = [found[s]["labels_before"] for s in mine if found[s].get("labels_before")]
        parts.append(spread([each["refined_miou"] - each["raw_miou"] for each in labels], sign=True))
        lines.append("| " + " | ".join(parts) + " |")
    return "\n".join(lines)


def spread(values: list[float], sign: bool = False) -> str:
    if not values:
        return ""
    deviation = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):{'+' if sign else ''}.1f}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="The folder that holds idd20k_lite/.")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="Runs: models, images, checkpoints.")
    parser.add_argument("--keep", type=Path, default=Path("benchmarks/results/ablation"), help="One JSON a cell.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="*", default=None, help="All by default; none: only the table.")
    arguments = parser.parse_args()
    names = [LABELS, WARM, CONTROL, *VARIANTS]
    chosen = names if arguments.variants is None else arguments.variants
    if unknown := set(chosen) - set(names):
        parser.error(f"unknown variants {sorted(unknown)}; there are {names}")

    photos = open_dataset("idd-lite", arguments.data / "idd20k_lite", "train")
    indices = tuple(int(i) for i in np.linspace(0, len(photos) - 1, PHOTO_COUNT).round())
    domains = [rendered_domain(name, RENDERED_COUNT) for name in RENDERED]
    for domain in domains:
        domain.seed = DEVELOPMENT_SEED
    domains.append(Domain("idd-lite", photos.label_set, len(indices), photos, indices))

    for what in chosen:
        for seed in arguments.seeds:
            slug = "".join(c if c.isalnum() or c == "." else "-" for c in what).strip("-")
            path = arguments.keep / f"{slug}-{seed}.json"
            if path.exists():
                continue
            base = arguments.out / f"warmup-{seed}"
            train(load_recipe("demo", [f"seed={seed}", "train.stage=warmup"]), base)
            overrides = [f"selftrain.{each}" for each in VARIANTS.get(what, [])]
            recipe = load_recipe("demo", [f"seed={seed}", *overrides])
            found = cell(recipe, base, arguments.out / f"{slug}-{seed}", domains, what)
            write_json(path, {"variant": what, "settings": overrides, "seed": seed, "commit": commit(),
                              "threads": torch.get_num_threads(), **found})  # fmt: skip

    cells: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in names}
    for path in sorted(arguments.keep.glob("*.json")):
        row = read_json(path)
        cells.setdefault(row["variant"], {})[row["seed"]] = row
    print(table({name: found for name, found in cells.items() if found}, arguments.seeds))
    print(f"\nmIoU in %, mean ± standard deviation over seeds; torch {torch.__version__}")


if __name__ == "__main__":
    main()
