"""Where a training step's time goes, what a checkpoint costs, and the EMA: the loop itself, on this CPU.

    python benchmarks/training.py [--steps 2] [--threads N]

The recipe gta-rn50 at 512 x 512 with random weights: joint steps of one source crop (out of rendered scenes of 1052 x
1914) and one generated image, by ``train_stage`` itself, with loading in the same process. The teacher's map is
replaced by 36 squares, SAM by superpixels, encoded once an image. "Outside" is all but the networks' forward and
backward passes, the losses and the segmenter. Seconds are CPU time of the process; a first step is not counted.
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

import accelerate
import numpy as np
import torch

from clouds import streets
from clouds.check.dry_run import TimedLabeller, label_squares, random_model
from clouds.config.load import load_recipe
from clouds.data.batches.batches import Batches
from clouds.data.datasets import open_dataset
from clouds.data.images import write_png
from clouds.data.source import Source
from clouds.foundation.segmenter import load_segmenter
from clouds.selftrain.teacher import make_teacher
from clouds.train import loop
from clouds.train.engine import Engine
from clouds.train.log import MetricsLog
from selftraining import Clock

SEED, SIDE, BOUND = 0, 512, 0.1
INSIDE = ("student", "losses", "backward", "teacher", "segmenter")
OUTSIDE = ("loading", "pseudo-label bookkeeping", "optimiser and clipping", "teacher's update (EMA)", "logging", "rest")


def ema(model: torch.nn.Module, repeats: int = 30) -> dict[str, float]:
    """CPU seconds of one update of the trained weights, both ways."""
    student = [p.detach() for p in model.parameters() if p.requires_grad]
    own = [p.clone() for p in student]

    def plain() -> None:
        for mine, theirs in zip(own, student, strict=True):
            mine.mul_(0.999).add_(theirs, alpha=0.001)

    ways = {"torch._foreach_lerp_": lambda: torch._foreach_lerp_(own, student, 0.001), "a plain loop": plain}
    found = {}
    for name, update in ways.items():
        update()
        start = time.process_time()
        for _ in range(repeats):
            update()
        found[name] = (time.process_time() - start) / repeats
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    print(f"{processor}, {options.threads} thread(s), seed {SEED}, fp32, Python {platform.python_version()}, "
          f"torch {torch.__version__}, accelerate {accelerate.__version__}, {SIDE} x {SIDE}, {options.steps} steps")
    size = f"[{SIDE},{SIDE}]"
    recipe = load_recipe("gta-rn50", [
        f"augment.crop={size}", f"generate.size={size}", "train.device=cpu", "train.batch_size=2", "train.workers=0",
        "train.generated_repeat=1", "selftrain.panels=0", "train.log_every=1", f"seed={SEED}",
    ])  # fmt: skip
    torch.manual_seed(SEED)
    model, clock = random_model(recipe), Clock()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, label = streets.render(streets.sample("source", SEED), (1052, 1914))
        write_png(folder / "source" / "images" / "0.png", image)
        write_png(folder / "source" / "labels" / "0.png", label)
        write_png(folder / "made.png", streets.render(streets.sample("source", SEED + 1), (SIDE, SIDE))[0])
        source = Source([open_dataset("folder", folder / "source")])
        teacher, segmenter = make_teacher(model, recipe.selftrain), load_segmenter("superpixels")
        pseudo = TimedLabeller(teacher, segmenter, recipe.selftrain, SEED)
        pseudo.prepare(label_squares((SIDE, SIDE), 19))
        engine = Engine(recipe.train)
        for owner, method, part in (
            (model, "forward", "student"), (loop, "criterion", "losses"), (engine, "backward", "backward"),
            (teacher, "predict", "teacher"), (segmenter, "encode", "segmenter"), (segmenter, "masks", "segmenter"),
            (TimedLabeller, "__call__", "pseudo-label bookkeeping"), (Batches, "__getitem__", "loading"),
            (engine, "clip", "optimiser and clipping"), (engine, "step", "optimiser and clipping"),
            (teacher, "update", "teacher's update (EMA)"), (MetricsLog, "add", "logging"),
            (MetricsLog, "flush", "logging"), (loop, "save_state", "checkpoint"),
        ):  # fmt: skip
            clock.wrap(owner, method, part)
        train = clock.timed("rest", loop.train_stage)
        for run, steps in (("first", 1), ("measured", options.steps)):
            clock.seconds.clear()
            (folder / run).mkdir()
            train(model, "joint", recipe, Batches(source, [folder / "made.png"], recipe, steps, SEED), folder / run,
                  pseudo, engine)  # fmt: skip
        saved = sum(file.stat().st_size for file in (folder / "measured" / "checkpoints").rglob("*") if file.is_file())
    checkpoint = clock.seconds.pop("checkpoint")
    found = {part: seconds / options.steps for part, seconds in clock.seconds.items()}
    whole, outside = sum(found.values()), sum(found[part] for part in OUTSIDE)
    print("\n| part of a step | CPU s | share |\n|---|---|---|")
    for part in (*INSIDE, *OUTSIDE):
        print(f"| {part} | {found.get(part, 0):.3f} | {found.get(part, 0) / whole:.1%} |")
    print(f"| **all** | {whole:.2f} | |\n\nOutside the networks: {outside / whole:.2%} of a step (bound {BOUND:.0%}: "
          f"{'met' if outside <= BOUND * whole else 'MISSED'}); without loading, which other threads do otherwise: "
          f"{(outside - found['loading']) / whole:.2%}")
    print(f"A checkpoint: {checkpoint:.2f} CPU s, {saved / 2**20:.0f} MiB")
    ways = ema(model)
    numbers = np.array([ways["a plain loop"], ways["torch._foreach_lerp_"]])
    ways_text = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in ways.items())
    print(f"EMA of the trained weights: {ways_text} ({numbers[0] / numbers[1]:.2f}x)")


if __name__ == "__main__":
    main()
