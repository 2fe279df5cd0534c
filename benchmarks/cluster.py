"""What a launch costs beside its work, measured here; and a SIMULATED table of a whole recipe's hours against workers.

    python benchmarks/cluster.py [--images 5000 100000 1000000] [--workers 1 8 64 1000] [--quick]

Measured, on one machine, in seconds of a core: starting a job by submitit, importing what it imports, reading and
checking a manifest's row.
Counted, by benchmarks/costs.py: FLOPs of an image, of regions' encoder and of a training step of gta-rn50; hours are
FLOPs over an assumed rate. Simulated: shards of equal size with a spread of speeds, one job a worker at a time, each
shard reading all rows that are there; the network, queues and a disk's limits are not. No cluster was used.
"""

import argparse
import heapq
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from clouds.base.machine import versions
from clouds.config.records import Drawn, as_json
from clouds.generate.manifest import checked
from clouds.launch.engines import executor_of
from clouds.launch.run import Run
from clouds.launch.stage import Stage, Task

FP32, HALF = 20e12, 60e12  # sustained FLOP/s that are assumed, as in benchmarks/costs.py
IMAGE = 221e12 / HALF  # Stable Diffusion 2, 768 x 768
REGIONS = 78e9 / FP32 + 1.0  # MobileSAM's encoder, and a second that is assumed for the masks of a grid of points
STEPS, STEP, PROMPTS = 80_000, 5.9e12 / FP32, 0.16 * 3600  # gta-rn50: warm-up and joint steps; 100 prompts
BATCH = 8  # no more processes of training than that
SCORING = 2_000 * 1.086e12 / FP32  # two models on 1,000 images of 1024 x 2048
SPREAD = 0.2  # of a shard's speed, as machines differ
SHARDS_A_WORKER = 4


def start_of_a_job(count: int) -> float:
    """Seconds of a job that does nothing, one after the other, by submitit's local executor."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = [Task(f"nothing {k}", [sys.executable, "-S", "-c", ""], folder / "log") for k in range(count)]
        began = seconds_of_children()
        Run([Stage("nothing", tasks)], executor_of("local", folder), folder, at_once=1)()
        return (seconds_of_children() - began) / count


def seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def imports() -> float:
    """Seconds until a verb that needs torch could begin."""
    began = seconds_of_children()
    subprocess.run([sys.executable, "-c", "import clouds.pipeline"], check=True)
    return seconds_of_children() - began


def a_row(count: int) -> tuple[float, float]:
    """Seconds to read and check a row of a manifest, and its bytes."""
    row = as_json(Drawn(file_name="000000.png", prompt="a wet street at dusk with a tram and people " * 2, seed=1,
                        generator="diffusers/x", sha256="0" * 64))  # fmt: skip
    text = "".join(json.dumps(row | {"file_name": f"{k:06}.png"}) + "\n" for k in range(count))
    began = time.process_time()
    for line in text.splitlines():
        checked(json.loads(line), "here")
    return (time.process_time() - began) / count, len(text) / count


def makespan(seconds: np.ndarray, workers: int) -> float:
    """Hours until all shards are done, each by the worker that is free first."""
    free = [0.0] * workers
    for each in seconds:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free) / 3600


def sharded(images: int, workers: int, each: float, begin: float, row: float, rng: np.random.Generator) -> float:
    """Hours of a stage: every shard begins, reads half of all rows in the mean, and does its images."""
    shards = min(SHARDS_A_WORKER * workers, images)
    speed = rng.lognormal(0, SPREAD, shards)
    return makespan(begin + images * row / 2 + images / shards * each * speed, workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[5_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64, 256, 1000])
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    job, ready = start_of_a_job(2 if chosen.quick else 5), imports()
    row, size = a_row(2_000 if chosen.quick else 20_000)
    print(f"measured: a job {job:.2f} s, imports {ready:.1f} s, a manifest's row {1e6 * row:.0f} us, {size:.0f} bytes;",
          ", ".join(f"{k} {v}" for k, v in versions().items()))
    begin = job + ready
    print("\nSIMULATED hours of gta-rn50, 80,000 steps; GPUs that sustain 20 TFLOP/s (fp32) and 60 (half)\n")
    print("| images | workers | prompts | images drawn | audit | regions | training | scores | all | of it training |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for images in chosen.images:
        for workers in chosen.workers:
            rng = np.random.default_rng(0)
            hours = [
                (PROMPTS + begin) / 3600,
                sharded(images, workers, IMAGE, begin, row, rng),
                (begin + images * (row + 0.02)) / 3600,  # one process decodes every image
                sharded(images, workers, REGIONS, begin, row, rng),
                (begin + images * row + STEPS * STEP / min(workers, BATCH)) / 3600,
                (begin + SCORING) / 3600,
            ]
            cells = [f"{each:.2f}" if each < 10 else f"{each:.0f}" for each in [*hours, sum(hours)]]
            print(f"| {images:,} | {workers:,} | {' | '.join(cells)} | {100 * hours[4] / sum(hours):.0f} % |")


if __name__ == "__main__":
    main()
