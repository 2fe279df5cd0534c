"""Does it work where nobody labelled anything? This package beside what a user would pick instead, at equal cost.

    python benchmarks/generalization.py --data PATH --budget 3 --seeds 3
    python benchmarks/generalization.py --data PATH --table            # only the table of what is there

A cell is one method, scenario, seed and budget. Its budget is minutes of CPU time of one thread, which on a core of its
own is wall-clock time; the loader's work counts, and for the joint method the drawing of its images. On a machine whose
speed varies, ``--costs`` plans the steps by what a step costs when the machine is at rest. All methods learn from the
same labelled images with the same crops and start from the same encoder weights. The learning rate of every alternative
architecture is searched (three values, ``--search`` minutes each) on the development target with the first seed; ours
stands in the demo's recipe. Cells that are done are kept as JSON in ``--keep`` and are not run again; ``--jobs`` of
them run at a time.

Sources: rendered scenes and CARLA (synthetic), CamVid's training split (real). Development target: IDD-Lite's training
split, on which settings may be chosen. Targets: CamVid's test split by day and dusk, IDD-Lite's validation split,
BDD100K: on which nothing is trained, tuned or chosen. The third scenario, crops, has classes of its own: soil, crop
and weed in peanut fields, scored on others of these fields and on carrot fields of another country and camera. The
learning rates are those chosen on streets, so that nothing is chosen on a field.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch

from alternatives import MASK2FORMER, SMP, Alternative, Looks, fit
from clouds import pipeline, streets
from clouds.base.files import read_json, read_jsonl, write_json
from clouds.base.machine import commit
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.config.runs import open_run
from clouds.data.batches.batches import Batches
from clouds.data.batches.unlabelled import Unlabelled, unlabelled_images
from clouds.data.datasets import FOLDERS, open_dataset
from clouds.data.labelled import make_source, open_sets
from clouds.data.photographs import find_photographs, read_photographs
from clouds.data.source import Source
from clouds.evaluate.domains import Domain, photo_domain, unseen_domains
from clouds.evaluate.scores import evaluate
from clouds.foundation.embeddings import build_segmenter
from clouds.generate.prompts import prompts_of
from clouds.generate.restyled_source import restyled_source
from clouds.generate.sets import set_images, set_prompts
from clouds.model.build import build_model
from clouds.model.inference import Inference
from clouds.predict.predictor import Predictor, load
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.refine import Refinement
from clouds.selftrain.region_files import regions_of_set
from clouds.selftrain.teacher import make_teacher
from clouds.train.loop import train_stage

SCENARIOS: dict[str, dict[str, Any]] = {
    "synthetic": {
        "source": "[{dataset: streets, weight: 2}, {dataset: carla, weight: 1, own_car: ignore}]",
        "targets": ["camvid-day", "camvid-dusk", "idd-lite", "bdd100k"],
    },
    "real": {"source": "[{dataset: camvid}]", "targets": ["idd-lite", "bdd100k"]},
    "crops": {"targets": ["peanut", "carrot"]},
}
FIELD = ("dataset: folder, images: 'images/{split}/{key}.{ext}', labels: 'labels/{split}/{key}.png', encoding: colour, "
         "label_map: {'#000000': soil, '#00ff00': crop, '#ff0000': weed}, root: ")  # fmt: skip
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
RATED = (2, 22)  # steps between which a step's time is measured: fewer, and a busy moment decides a cell's steps
SEARCHING = threading.Lock()  # two methods share a search
DEVELOPMENT_COUNT = 120  # images of IDD-Lite's training split, evenly spaced

Method = dict[str, Any]
WARMUP = ["train.stage=warmup", "train.schedule=poly"]  # its rate decays to nothing within the stage
MAIN: dict[str, Method] = {
    **{f"{name}, {look}": {"alternative": name, "strong": look == "strong colour"}
       for name in (*SMP, MASK2FORMER) for look in ("standard", "strong colour")},
    "warm-up": {"ours": WARMUP},
    "joint": {"ours": []},
    "joint, smooth": {"ours": ["selftrain.refinement=smooth"]},
}  # fmt: skip
STREET_PHOTOS = "data.unlabelled={data}/street_photos"
PHOTOGRAPHS: dict[str, Method] = {  # of streets, without labels, in place of drawn images and beside them
    "fpn, mean teacher with photographs": {
        # half of a batch is of photographs, as published
        "alternative": "fpn", "strong": True, "unlabelled": [STREET_PHOTOS, "generate.count=0", "train.batch_size=2"]
    },
    "joint with photographs, pasted": {"ours": [STREET_PHOTOS, "generate.count=0", "selftrain.mix=0.5"]},
    "joint with photographs": {"ours": [STREET_PHOTOS, "generate.count=0", "selftrain.mix=0"]},
    "joint with photographs, smooth": {
        "ours": [STREET_PHOTOS, "generate.count=0", "selftrain.mix=0", "selftrain.refinement=smooth"]
    },
    "joint with both": {"ours": [STREET_PHOTOS]},  # pasted onto photographs, as by default
}
JITTER = "augment.distort=0"  # what the published recipes have
TUNED = ["model.freeze=false", "train.learning_rate=3e-4"]
ABLATION: dict[str, Method] = {  # the joint method with one thing changed, and what explains it
    "jitter alone": {"ours": [JITTER]},
    "warm-up, jitter alone": {"ours": [*WARMUP, JITTER]},
    "tuned backbone": {"ours": TUNED},
    "warm-up, tuned backbone": {"ours": [*WARMUP, *TUNED]},
    "linear head": {"ours": ["model.head=linear"]},
    "refinement: none": {"ours": [], "refinement": "none"},
    "refinement: oracle": {"ours": [], "refinement": "oracle"},
    "one prompt": {"ours": ["prompts.count=1"]},
    "prompts of SmolLM2": {"ours": ["prompts.writer=smollm2"]},
    "source restyled, colours": {
        "ours": ["data.restyle.backend=colour-statistics", "data.restyle.styles=generated"]
    },
    "source restyled, amplitudes": {
        "ours": ["data.restyle.backend=amplitude-mixing", "data.restyle.styles=generated"]
    },
    "labels above 0.7, drawn images restyled, jitter alone": {
        "ours": [JITTER, "selftrain.confidence=0.7", "generate.restyle.backend=colour-statistics",
                 "generate.restyle.styles=photos", "generate.restyle.strength=0.8"]
    },
    "labels above 0.7": {"ours": ["selftrain.confidence=0.7"]},
    "labels above 0.7, jitter alone": {"ours": [JITTER, "selftrain.confidence=0.7"]},
    "two decays": {"ours": ["train.schedule=poly", "train.warmup_share=0.6"]},
    "pasted objects": {"ours": ["selftrain.mix=0.5"]},
    "batches of 2": {"ours": ["train.batch_size=2"]},
    "strong colour, 0.8": {"ours": ["augment.distort=0.8"]},
    "rare classes": {"ours": ["data.rare_classes=0.1"]},
}
METHODS = {**MAIN, **PHOTOGRAPHS, **ABLATION}


def source_recipe(scenario: str, seed: int, data: Path, overrides: list[str]) -> Recipe:
    if scenario == "crops":
        peanut, carrot = (f"{FIELD}{data / 'crops' / name}" for name in ("peanut", "carrot"))
        sources = [
            "model.classes.soil=[soil,bare ground]", "model.classes.crop=[peanut plant,crop]",
            "model.classes.weed=[weed]",
            f"data.source=[{{{peanut}, split: train}}]", "scene=crops", "generate.count=0",
            f"data.unlabelled={data / 'crops/peanut/images/unlabelled'}",
            f"evaluate.domains=[{{name: peanut, {peanut}, split: val}}, {{name: carrot, {carrot}, split: val}}]",
        ]  # fmt: skip
    else:
        sources = [f"data.root={data}", f"data.source={SCENARIOS[scenario]['source']}"]
    shared = [*sources, "augment.shorter_side=256", "train.checkpoint_every=1000000", f"seed={seed}"]
    return load_recipe("demo", [*shared, *(word.replace("{data}", str(data)) for word in overrides)])


def development(data: Path) -> Domain:
    photos = open_dataset("idd-lite", data / FOLDERS["idd-lite"], "train")
    indices = tuple(int(i) for i in np.linspace(0, len(photos) - 1, DEVELOPMENT_COUNT).round())
    return Domain("idd-lite-train", photos.label_set, len(indices), photos, indices)


class WithoutLabels(NamedTuple):
    """Images without labels, drawn or photographed, as ``pipeline.train`` makes them; ``drawn``: files."""

    images: Unlabelled
    drawn: list[Path]


def without_labels(recipe: Recipe, source: Source, out: Path) -> WithoutLabels:
    photographs = read_photographs(recipe, find_photographs(recipe.data, out), out)
    drawn = set_images(recipe, set_prompts(recipe, out), out) if recipe.draws else []
    return WithoutLabels(unlabelled_images(recipe, drawn, photographs, source), drawn)


def joint_parts(
    recipe: Recipe, model: Any, without: WithoutLabels, source: Source, steps: int, out: Path
) -> tuple[Batches, PseudoLabeller]:
    """What a joint stage of ``steps`` works with; the regions of its images are found here."""
    chosen = recipe.selftrain
    data = Batches(source, without.images, recipe, steps, recipe.seed + 1)
    regions = None
    if chosen.refinement != "points":
        regions = regions_of_set(recipe, without.images.look, data.looks(), out)
    segmenter = None if regions else build_segmenter(recipe)
    return data, PseudoLabeller(make_teacher(model, chosen), segmenter, chosen, recipe.seed, regions)


def rates(recipe: Recipe, out: Path, without: WithoutLabels | None) -> tuple[float, float]:
    """CPU seconds of a warm-up step and of a joint step with its regions on this machine; 0 of a joint step where there
    is none."""
    source = make_source(recipe, open_sets(recipe), out / "source")
    found: list[float] = []
    for stage in ("warmup", "joint"):
        if stage == "joint" and without is None:
            return found[0], 0.0
        used = []
        for steps in RATED:
            torch.manual_seed(0)
            model = build_model(recipe)
            data, pseudo = Batches(source, [], recipe, steps, 0), None
            folder = out / "rates" / f"{stage}-{steps}"
            folder.mkdir(parents=True)
            began = time.process_time()
            if stage == "joint" and without:
                data, pseudo = joint_parts(recipe, model, without, source, steps, folder)
            train_stage(model, stage, recipe, data, folder, pseudo)
            used.append(time.process_time() - began)
        found.append((used[1] - used[0]) / (RATED[1] - RATED[0]))
    shutil.rmtree(out / "rates")
    return found[0], found[1]


class Oracle(PseudoLabeller):
    """Labels of drawn scenes as they were rendered: what the best refinement could give."""

    folder: Path

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        rows = read_jsonl(self.folder / "generated" / "metadata.jsonl")
        self.scenes = [streets.from_prompt(row["prompt"], row["seed"]) for row in rows]

    def _refine(self, index: int, image: torch.Tensor, labels: Any, step: int, place: int) -> Refinement:  # noqa: ARG002
        truth = self._embeddings.get(index, lambda: streets.render(self.scenes[index], labels.shape)[1])
        none = np.zeros(0)
        changed = float((truth != labels).mean())
        return Refinement(truth, 0, none, none, none, none, np.zeros(labels.shape, np.int32), changed, 1.0, 0.0)


class Unrefined(PseudoLabeller):
    """The teacher's labels as they are but for one pixel, as a run in which refinement changes nothing would fail."""

    def _refine(self, index: int, image: torch.Tensor, labels: Any, step: int, place: int) -> Refinement:  # noqa: ARG002
        none, found = np.zeros(0), labels.copy()
        found[0, 0] = (found[0, 0] + 1) % len(self.classes)
        changed = 1 / labels.size
        return Refinement(found, 0, none, none, none, none, np.zeros(labels.shape, np.int32), changed, 1.0, 0.0)


def train_ours(
    overrides: list[str], scenario: str, seed: int, data: Path, minutes: float, out: Path,
    costs: tuple[float, float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The demo's recipe with as many steps as the budget pays for; ``costs``: seconds of a warm-up and a joint step."""
    recipe = source_recipe(scenario, seed, data, overrides)
    warmup_only, made, run = recipe.train.stage == "warmup", out / "made", out / "run"
    source = make_source(recipe, open_sets(recipe), made / "source")
    began = time.process_time()
    without = None if warmup_only else without_labels(recipe, source, made)
    drawing = 0.0 if warmup_only else time.process_time() - began
    if recipe.data.restyle:
        began = time.process_time()
        prompts = prompts_of(recipe, made / "prompts.jsonl")
        restyled_source(recipe, source, made / "restyled", lambda: prompts, without.drawn if without else [])
        drawing += time.process_time() - began
    warm, joint = costs or rates(recipe, made, without)
    share = 1.0 if warmup_only else recipe.train.warmup_share
    steps = (minutes * 60 - drawing) / (share * warm + (1 - share) * joint)
    if warmup_only:
        steps = steps / recipe.train.warmup_share  # of which the stage takes its share
    recipe = source_recipe(scenario, seed, data, [*overrides, f"train.steps={max(round(steps), 4)}"])
    open_run(recipe, run)
    for path in made.iterdir():  # so that no cell's time depends on what another has made
        path.rename(run / path.name)
    used: list[float] = []

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            result = work(*arguments, **named)
            used.append(time.process_time() - began)
            return result

        return call

    with (  # the alternatives' building and saving is not timed either
        mock.patch.object(pipeline, "train_stage", timed(train_stage)),
        mock.patch.object(pipeline, "regions_of_set", timed(regions_of_set)),
    ):
        pipeline.train(recipe, run)
    return {
        "steps": recipe.train.warmup_steps if warmup_only else recipe.train.steps,
        "seconds": sum(used) + drawing,
        "seconds_drawing": drawing, "seconds_a_step": [warm, joint],
        "learning_rate": recipe.train.learning_rate,
        "model": "run/warmup" if warmup_only else "run/model",
    }  # fmt: skip


def train_alternative(
    method: Method, scenario: str, seed: int, data: Path, minutes: float, rate: float, out: Path
) -> tuple[Alternative, dict[str, Any]]:
    recipe = source_recipe(scenario, seed, data, ["augment.jitter=false", JITTER, *method.get("unlabelled", [])])
    source = make_source(recipe, open_sets(recipe), out / "made" / "source")
    torch.manual_seed(seed)
    sizes = {**recipe.model.model_dump(), "points": recipe.loss.points}
    model = Alternative(method["alternative"], sizes, recipe.evaluate.shorter_side, recipe.model.label_set)
    began = time.process_time()
    batches = Batches(source, [], recipe, 10**6, seed)
    looks = Looks(without_labels(recipe, source, out / "made").images, seed) if "unlabelled" in method else None
    steps = fit(model, batches, minutes * 60, rate, method["strong"], recipe.train.workers, looks)
    return model, {"steps": steps, "seconds": time.process_time() - began, "learning_rate": rate}


def run_cell(cell: dict[str, Any], data: Path, out: Path) -> dict[str, Any]:
    """Train and score one cell, in this process."""
    method = {**METHODS.get(cell["method"], {}), **cell.get("as", {})}
    scenario, seed, minutes = cell["scenario"], cell["seed"], cell["budget"]
    if "refinement" in method:
        Oracle.folder = out / "run"
        pipeline.PseudoLabeller = {"oracle": Oracle, "none": Unrefined}[method["refinement"]]  # type: ignore[misc]
    if out.exists():
        shutil.rmtree(out)  # of a cell that was interrupted: its time is not known
    (out / "made").mkdir(parents=True)
    shared = out.parent / f"source-{seed}"  # rendered once a seed, for all methods
    shared.mkdir(exist_ok=True)
    (out / "made" / "source").symlink_to(shared.resolve())
    if "alternative" in method:
        model, numbers = train_alternative(method, scenario, seed, data, minutes, cell["learning_rate"], out)
        predictor = Predictor(model)  # type: ignore[arg-type]
    else:
        numbers = train_ours(method["ours"], scenario, seed, data, minutes, out, cell.get("costs"))
        predictor = load(out / numbers.pop("model"))
    recipe = source_recipe(scenario, seed, data, [])
    predictor.inference = Inference.of(recipe.evaluate)
    domains = [] if recipe.evaluate.domains else [development(data)]
    if recipe.evaluate.domains:
        domains = unseen_domains(recipe)
    elif not cell.get("development_only"):
        domains += [photo_domain(name, data) for name in SCENARIOS[scenario]["targets"]]
    scores = evaluate(predictor, domains, cell["method"])
    return {
        **{key: value for key, value in cell.items() if value is not None}, **numbers,
        "overrides": method.get("ours"), "commit": commit(), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "protocol": predictor.inference.as_record(),
        "domains": {score.row.name: {"miou": score.row.miou, "iou": score.row.iou} for score in scores},
    }  # fmt: skip


def slug(cell: dict[str, Any]) -> str:
    words = [cell["scenario"], cell["method"], f"{cell['budget']:g}min", str(cell["seed"])]
    if cell.get("development_only"):
        words.insert(2, f"lr{cell['learning_rate']:g}" if cell.get("learning_rate") else "development")
    return "-".join("".join(c if c.isalnum() or c in ".+" else "-" for c in word) for word in words).replace("--", "-")


def in_process(cell: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """The cell's row, from ``--keep`` or computed by a process of its own with one thread."""
    path = arguments.keep / f"{slug(cell)}.json"
    if not path.exists():
        words = ["--cell", json.dumps(cell), "--data", str(arguments.data), "--out", str(arguments.out)]
        log = arguments.out / "logs" / f"{slug(cell)}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as stream:
            done = subprocess.run(
                [sys.executable, __file__, *words, "--keep", str(arguments.keep)],
                stdout=stream, stderr=stream, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{slug(cell)} failed: {log}")
    row: dict[str, Any] = read_json(path)
    development = row["domains"].get("idd-lite-train", {}).get("miou", np.nan)
    targets = [value["miou"] for name, value in row["domains"].items() if name != "idd-lite-train"]
    mean = f", targets {100 * np.mean(targets):.1f}" if targets else ""
    print(f"{slug(cell)}: {row['steps']} steps, {row['seconds']:.0f} s, development {100 * development:.1f}{mean}",
          flush=True)  # fmt: skip
    return row


def chosen_rate(method: str, arguments: argparse.Namespace) -> float | None:
    """The learning rate of an alternative's architecture, by the development score of its strongly coloured version
    trained on the synthetic source; None for our own methods."""
    if "alternative" not in METHODS.get(method, {}):
        return None
    searched = f"{METHODS[method]['alternative']}, strong colour"
    with SEARCHING:
        search = {"method": searched, "scenario": "synthetic", "seed": 0, "budget": arguments.search}
        found = {
            rate: in_process({**search, "learning_rate": rate, "development_only": True}, arguments)
            for rate in LEARNING_RATES
        }
    return max(found, key=lambda rate: float(found[rate]["domains"]["idd-lite-train"]["miou"]))


def spread(values: list[float], sign: bool = False) -> str:
    deviation = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):{'+' if sign else ''}.1f}{deviation}"


def table(rows: list[dict[str, Any]], scenario: str, budget: float) -> str:
    """Markdown: method x target, mean ± standard deviation over seeds, best mean last."""
    targets = SCENARIOS[scenario]["targets"]
    streets = scenario != "crops"
    heads = [*targets, "mean", *(["mean without IDD-Lite", "development"] if streets else [])]
    lines = ["| method | seeds | seconds | " + " | ".join(heads) + " |", "|---|---|---|" + "---|" * len(heads)]
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["scenario"] == scenario and row["budget"] == budget and not row.get("development_only"):
            found.setdefault(row["method"], []).append(row)

    def of(row: dict[str, Any], names: list[str]) -> float:
        return float(np.mean([row["domains"][name]["miou"] for name in names]))

    groups = [*([name] for name in targets), targets]
    if streets:
        groups += [[name for name in targets if name != "idd-lite"], ["idd-lite-train"]]
    order = sorted(found, key=lambda method: float(np.mean([of(row, targets) for row in found[method]])))
    for method in order:
        cells = [spread([of(row, names) for row in found[method]]) for names in groups]
        used = sorted(round(row["seconds"]) for row in found[method])
        seconds = str(used[0]) if used[0] == used[-1] else f"{used[0]} to {used[-1]}"
        lines.append(f"| {method} | {len(found[method])} | {seconds} | " + " | ".join(cells) + " |")
    plain = [method for method in order if "alternative" in METHODS.get(method, {})]
    for other in (*plain[-1:], *(["warm-up"] if "warm-up" in found else [])):  # paired: seed by seed
        theirs = {row["seed"]: row for row in found[other]}
        pairs = [(row, theirs[row["seed"]]) for row in found.get("joint", []) if row["seed"] in theirs]
        if pairs:
            cells = [spread([of(a, names) - of(b, names) for a, b in pairs], sign=True) for names in groups]
            lines.append(f"| joint minus {other} | {len(pairs)} | | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="One folder per dataset.")
    parser.add_argument("--budget", type=float, default=3.0, help="Minutes of CPU time a cell trains.")
    parser.add_argument("--search", type=float, default=1.0, help="The same, of a cell that searches a learning rate.")
    parser.add_argument("--costs", type=float, nargs=2, metavar=("WARM", "JOINT"),
                        help="Seconds of a step of ours, in place of those measured here: cells have equal steps then.")
    parser.add_argument("--seeds", type=int, default=3, help="How many, from 0 on.")
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=list(SCENARIOS))
    parser.add_argument("--methods", nargs="+", default=list(MAIN), metavar="METHOD",
                        help="By default the main ones; `ablation`, `photographs`: the others.")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="Cells at a time, one thread each.")
    parser.add_argument("--out", type=Path, default=Path("runs/generalization"))
    parser.add_argument("--keep", type=Path, default=Path("benchmarks/results/generalization"))
    parser.add_argument("--table", action="store_true", help="Run nothing.")
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        torch.set_num_threads(1)
        row = run_cell(arguments.cell, arguments.data, arguments.out / slug(arguments.cell))
        write_json(arguments.keep / f"{slug(arguments.cell)}.json", row)
        return
    groups = {"ablation": ABLATION, "photographs": PHOTOGRAPHS}
    arguments.methods = [m for word in arguments.methods for m in groups.get(word, [word])]
    if unknown := set(arguments.methods) - set(METHODS):
        parser.error(f"unknown methods {sorted(unknown)}; there are {list(METHODS)}")

    def one(seed: int, scenario: str, method: str) -> None:
        rate = chosen_rate(method, arguments)
        in_process({"method": method, "scenario": scenario, "seed": seed, "budget": arguments.budget,
                    "learning_rate": rate, "costs": arguments.costs}, arguments)  # fmt: skip

    if not arguments.table:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for seed in range(arguments.seeds):  # the table fills seed by seed
                list(pool.map(lambda pair, seed=seed: one(seed, *pair),  # type: ignore[misc]
                              [(s, m) for s in arguments.scenarios for m in arguments.methods]))  # fmt: skip
    rows = [read_json(path) for path in sorted(arguments.keep.glob("*.json"))]
    for scenario in arguments.scenarios:
        print(f"\n{scenario}, {arguments.budget:g} minutes\n\n{table(rows, scenario, arguments.budget)}")
    print(f"\nmIoU in %, mean ± standard deviation over seeds; torch {torch.__version__}, one thread a cell")


if __name__ == "__main__":
    main()
