"""Adapters inside a frozen ViT of random weights, trained from rendered streets: their mechanics, and no comparison.

    python benchmarks/adapters.py --data PATH [--seeds 0 1 2] [--steps 80]

No ViT with pre-trained weights comes in a package, and the embedded backbone, EfficientNet-Lite0, has no linear layer,
so no adapter fits it (each is refused by name; printed first). What adapters are for, keeping what pre-training knows,
a network of random weights cannot show. It shows that each trains, what a step costs beside the frozen network, and
what is trained. Scores are mean IoU in per cent on 12 images of the development target, IDD-Lite *train*, of each seed.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from clouds.base.machine import commit
from clouds.base.pick import evenly
from clouds.config.load import load_recipe
from clouds.config.recipe import Model
from clouds.data.batches.batches import Batches
from clouds.data.datasets import open_dataset
from clouds.data.labelled import make_source, open_sets
from clouds.errors import UsageError
from clouds.evaluate.domains import Domain
from clouds.evaluate.scores import evaluate
from clouds.foundation.backbone import check_adapter
from clouds.model.build import build_model
from clouds.model.inference import Inference
from clouds.predict.predictor import Predictor
from clouds.train.loop import train_stage

VIT = "vit_tiny_patch16_224"  # 12 blocks of width 192
ADAPTERS = {
    "none": [], "lora": [], "soma": ["train.backbone_rate=0.5", "train.weight_decay_end=1.0e-5"], "rein": []
}  # fmt: skip
SMALL = [
    f"model.vision=timm/{VIT}", "model.head=linear", "model.queries=50", "model.rein.tokens=50", "train.batch_size=2",
    "augment.crop=[128,128]", "generate.size=[128,128]", "data.source_count=60", "data.source_size=[128,256]",
    "train.stage=warmup", "train.workers=0", "train.schedule=poly", "evaluate.shorter_side=128",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="The folder that holds idd20k_lite/.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=80)
    arguments = parser.parse_args()
    refused()
    photos = open_dataset("idd-lite", arguments.data / "idd20k_lite", "train")
    indices = tuple(evenly(len(photos), 12))
    domain = Domain("idd-lite", photos.label_set, len(indices), photos, indices)
    seeds = "".join(f"{f'seed {seed}':>9}" for seed in arguments.seeds)
    print(f"{'adapter':<8}{'trained':>10}{'s/step':>9}{'of none':>9}{seeds}{'mean':>8}{'std':>7}{'loss':>9}")
    with tempfile.TemporaryDirectory() as folder:
        plain = 0.0
        for adapter, own in ADAPTERS.items():
            cells = [cell(adapter, own, seed, arguments.steps, domain, Path(folder)) for seed in arguments.seeds]
            trained, seconds, scores, losses = (np.array(each) for each in zip(*cells, strict=True))
            plain = plain or float(np.median(seconds))
            print(f"{adapter:<8}{trained[0]:>10}{np.median(seconds):>9.3f}{np.median(seconds) / plain:>9.2f}"
                  + "".join(f"{100 * score:>9.2f}" for score in scores)
                  + f"{100 * scores.mean():>8.2f}{100 * scores.std(ddof=1):>7.2f}{losses.mean():>9.2f}",
                  flush=True)  # fmt: skip
    print(f"{VIT}, random weights of each seed; {arguments.steps} steps of 2 images of 128 x 128; trained: parameters "
          f"inside the backbone; loss: mean of the last 20 steps; torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads, {platform.machine()}, commit {commit()}")  # fmt: skip


def refused() -> None:
    """What the embedded backbone says to each adapter."""
    for kind in ("lora", "soma", "rein"):
        settings = Model(vision="efficientnet-lite0", adapt=kind, queries=100).adapter
        try:
            check_adapter("efficientnet-lite0", settings or {}, 256)
        except UsageError as error:
            print(f"efficientnet-lite0: {error}")


def cell(
    adapter: str, own: list[str], seed: int, steps: int, domain: Domain, folder: Path
) -> tuple[int, float, float, float]:
    """(trained parameters, seconds a step, mean IoU, mean loss of the last 20 steps)."""
    import timm

    torch.manual_seed(seed)
    file = folder / f"{seed}.safetensors"
    save_file({k: t.contiguous() for k, t in timm.create_model(VIT).state_dict().items()}, file)
    words = [f"model.weights={file}", f"model.adapt={adapter}", f"seed={seed}", f"train.steps={2 * steps}",
             "train.warmup_share=0.5", f"train.log_every={min(steps, 20)}"]  # fmt: skip
    recipe = load_recipe("demo", [*SMALL, *words, *own])
    torch.manual_seed(seed)
    model = build_model(recipe)
    source = make_source(recipe, open_sets(recipe), folder / f"source-{seed}")
    run = folder / f"{adapter}-{seed}"
    run.mkdir()
    began = time.perf_counter()
    train_stage(model, "warmup", recipe, Batches(source, [], recipe, steps, seed=seed), run)
    seconds = (time.perf_counter() - began) / steps
    predictor = Predictor(model)
    predictor.inference = Inference.of(recipe.evaluate)
    (scored,) = evaluate(predictor, [domain], f"{adapter}, seed {seed}")
    trained = sum(p.numel() for p in model.backbone.parameters() if p.requires_grad)
    rows = [line for line in (run / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    return trained, seconds, scored.row.miou or 0.0, float(json.loads(rows[-1])["loss"])


if __name__ == "__main__":
    main()
