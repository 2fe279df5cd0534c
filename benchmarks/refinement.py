"""What refinement makes of a teacher's labels: raw beside refined, on photos with truth and on rendered scenes.

    clouds train demo train.stage=warmup seed=0 --out runs/warmup-0
    python benchmarks/refinement.py --data PATH --models runs/warmup-*/warmup
    python benchmarks/refinement.py --data PATH --models runs/warmup-*/warmup \\
        --way "smooth: selftrain.refinement=smooth"

Each model is a teacher, and its place in the list the seed of the points. Photos are those of benchmarks/segmenter.py,
of training splits, their truth used for measuring only; settings may be chosen on IDD-Lite train and on rendered scenes
alone. ``--way "NAME: SETTING ..."`` adds ways to refine to the demo's own. Printed for each set, means over the models:

decided: share of the pixels with a truth that refinement labels, before anything fills the rest; right there: accuracy
of raw and refined labels on those; mIoU of the raw labels, and of what is learned, its undecided pixels filled by the
raw labels where the way leaves any, with the least and the greatest gain of a model; the classes whose recall falls
most, of those with at least 0.1 % of the pixels.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clouds.base.arrays import Labels, Pixels
from clouds.config.label_sets import IGNORE
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.data.datasets import open_dataset
from clouds.data.labels import LabelSet, find_label_set, folding
from clouds.evaluate.metrics import confusion
from clouds.foundation.embeddings import Recent, plain_segmenter
from clouds.model.folder import load_model
from clouds.selftrain.find_regions import find_regions
from clouds.selftrain.pseudo import PseudoLabeller, trust
from clouds.selftrain.teacher import Teacher, make_teacher
from segmenter import photos, rendered

RARE = 1e-3  # classes of a smaller share of the pixels are not among those that lose most
Seen = tuple[Labels, NDArray[np.float32]]  # the teacher's labels and its confidence
Found = tuple[Labels, Labels, Labels, Labels]  # truth, raw, refined, learned


def refined(
    pseudo: PseudoLabeller, pairs: list[tuple[Pixels, Labels]], maps: list[Seen], seed: int
) -> list[Found]:
    """What becomes of the teacher's ``maps`` of images with their truths."""
    found = []
    for i, ((image, truth), (raw, sure)) in enumerate(zip(pairs, maps, strict=True)):
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        trusted = trust(raw, sure, pseudo.settings.confidence)
        labels = pseudo._refine(i, pixels, trusted, seed, 0).labels
        found.append((truth, raw, labels, np.where(labels == IGNORE, raw, labels)))
    return found


def labeller(teacher: Teacher, recipe: Recipe, pairs: list[tuple[Pixels, Labels]], seed: int) -> PseudoLabeller:
    """As training has it, its regions found when they are first asked for."""
    chosen, segmenter = recipe.selftrain, plain_segmenter(recipe)
    if chosen.refinement == "points":
        return PseudoLabeller(teacher, segmenter, chosen, seed)
    asked = (chosen.regions_grid, chosen.regions_quality, chosen.regions_stability)
    return PseudoLabeller(teacher, None, chosen, seed, lambda i: find_regions(pairs[i][0], segmenter, *asked))


def measured(found: list[Found], target: LabelSet) -> dict[str, NDArray[np.float64]]:
    """The numbers of one model on one set; recalls by class, NaN where the truth has none of it."""
    table, count = folding(target), len(target.classes)
    sums = {key: np.zeros((count, count + 1), np.int64) for key in ("raw", "learned", "raw there", "refined there")}
    for truth, raw, refined, learned in found:
        there = np.where(refined == IGNORE, np.uint8(IGNORE), truth)
        asked = {"raw": (truth, raw), "learned": (truth, learned), "raw there": (there, raw),
                 "refined there": (there, refined)}  # fmt: skip
        for key, (seen, labels) in asked.items():
            sums[key] += confusion(seen, table[labels], count)
    total = {key: counts.sum() for key, counts in sums.items()}
    right = {key: np.trace(counts) / max(total[key], 1) for key, counts in sums.items()}
    true = sums["raw"].sum(axis=1)
    recall = {key: np.diagonal(sums[key]) / np.where(true, true, np.nan) for key in ("raw", "learned")}
    return {
        "decided": total["raw there"] / total["raw"],
        "raw there": right["raw there"],
        "refined there": right["refined there"],
        "raw": miou(sums["raw"]),
        "learned": miou(sums["learned"]),
        "lost": np.where(true >= RARE * total["raw"], recall["raw"] - recall["learned"], np.nan),
        "raw recall": recall["raw"],
        "recall": recall["learned"],
    }


def miou(counts: NDArray[np.int64]) -> float:
    """Over the classes that the truth has."""
    hit, true, seen = np.diagonal(counts), counts.sum(axis=1), counts[:, :-1].sum(axis=0)
    return float(np.mean((hit / np.maximum(true + seen - hit, 1))[true > 0]))


def row(what: str, way: str, runs: list[dict[str, NDArray[np.float64]]], target: LabelSet) -> str:
    mean = {key: 100 * np.mean([run[key] for run in runs], axis=0) for key in runs[0] if "recall" not in key}
    gains = [100 * (run["learned"] - run["raw"]) for run in runs]
    order = np.argsort(np.nan_to_num(-mean["lost"], nan=1e9))[:3]
    losses = ", ".join(f"{target.classes[k]} {-mean['lost'][k]:+.1f}" for k in order)
    return (
        f"| {what} | {way} | {mean['decided']:.1f} | {mean['raw there']:.1f} -> {mean['refined there']:.1f} | "
        f"{mean['raw']:.1f} | {mean['learned']:.1f} | {np.mean(gains):+.1f} ({min(gains):+.1f} to {max(gains):+.1f}) | "
        f"{losses} |"
    )


def classes(what: str, way: str, runs: list[dict[str, NDArray[np.float64]]], target: LabelSet) -> str:
    """Recall of every class, raw and learned."""
    parts = []
    for k, name in enumerate(target.classes):
        raw, learned = (100 * np.mean([run[key][k] for run in runs]) for key in ("raw recall", "recall"))
        if np.isfinite(raw):
            parts.append(f"{name} {raw:.0f} -> {learned:.0f}")
    return f"- {what}, {way}: {', '.join(parts)}"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="The folder that holds idd20k_lite/, camvid/ and bdd100k/.")
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="Folders of warm-up models.")
    parser.add_argument("--way", action="append", default=[], help='"NAME: SETTING ...", may be given again')
    parser.add_argument("--classes", action="store_true", help="Print the recall of every class too.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipes = {"the demo's": load_recipe("demo", [])}
    for each in arguments.way:
        name, _, settings = each.partition(": ")
        recipes[name] = load_recipe("demo", settings.split())
    sets = {"rendered": (find_label_set("cityscapes19"), rendered())}
    if arguments.data:
        for name, pairs in photos(arguments.data):
            folder = {"idd-lite": "idd20k_lite"}.get(name, name)
            sets[name] = (open_dataset(name, arguments.data / folder, "train").label_set, pairs)
    runs: dict[tuple[str, str], list[dict[str, NDArray[np.float64]]]] = {}
    kept: dict[tuple[str, str], Recent] = {}  # embeddings are the same for every model
    for seed, folder in enumerate(arguments.models):
        teacher = make_teacher(load_model(folder), recipes["the demo's"].selftrain)
        for what, (target, pairs) in sets.items():
            maps = []
            for image, _ in pairs:
                labels, sure = teacher.predict(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None])
                maps.append((labels[0].numpy(), sure[0].numpy()))
            for way, recipe in recipes.items():
                pseudo = labeller(teacher, recipe, pairs, seed)
                pseudo._embeddings = kept.setdefault((what, way), pseudo._embeddings)
                found = refined(pseudo, pairs, maps, seed)
                runs.setdefault((what, way), []).append(measured(found, target))
            print(f"{folder}: {what}", file=sys.stderr, flush=True)
    print("| set | way | decided | right there | mIoU raw | learned | gain | recall lost |")
    print("|---|---|---|---|---|---|---|---|")
    for (what, way), each in runs.items():
        print(row(what, way, each, sets[what][0]))
    if arguments.classes:
        print("\n" + "\n".join(classes(what, way, each, sets[what][0]) for (what, way), each in runs.items()))


if __name__ == "__main__":
    main()
