"""What making and auditing a set costs: images per second of the embedded generator and of two processes at once,
seconds of audit per 1000 images, and how the two searches for what is nearly the same grow with the number.

Drawing: total images over total seconds of whole commands, start-up included, one thread a process. Searches run in
one process and one thread.

    python benchmarks/generation.py [--images 200] [--hashes 1000 10000 50000] [--lines 1000 5000 20000] [--seed 0]
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from clouds.base.shards import MANIFEST
from clouds.config.recipe import Audit
from clouds.config.scene import shipped_scene
from clouds.foundation.image_vectors import Embedded
from clouds.foundation.writers.grammar import Grammar
from clouds.generate.audit import audit_set
from clouds.generate.checks import Sieve
from clouds.generate.duplicates import Hashes, near_pairs

TURNED = 24  # bits that make another picture of a street's hash, so that hashes stay as unevenly spread as real ones
TWINS = 0.01  # share of hashes that are nearly another's
RADIUS = Audit().radius


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def draw(folder: Path, images: int, processes: int, seed: int) -> float:
    """Seconds of ``processes`` commands at once, each one shard of the same set."""
    command = [sys.executable, "-m", "clouds", "generate", "demo", f"generate.count={images}", f"seed={seed}",
               "--out", str(folder)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run() -> None:
        shards = [["--shard", f"{k}/{processes}"] if processes > 1 else [] for k in range(processes)]
        running = [subprocess.Popen([*command, *shard], env=environment, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL) for shard in shards]  # fmt: skip
        if any(process.wait() for process in running):
            raise SystemExit("drawing failed")

    return timed(run)[0]


def hashes_like(known: Hashes, count: int, rng: np.random.Generator) -> Hashes:
    """As many hashes as wanted that lie about real ones, and a few that are nearly another's."""
    made = rng.choice(known, count) ^ turned(count, TURNED, rng)
    twins = rng.permutation(count)[: round(TWINS * count)]
    made[twins] = made[(twins + 1) % count] ^ turned(len(twins), 3, rng)
    return made


def turned(count: int, bits: int, rng: np.random.Generator) -> Hashes:
    chosen = rng.integers(0, 64, (count, bits), np.uint64)
    mask: Hashes = np.bitwise_or.reduce(np.uint64(1) << chosen, axis=1)
    return mask


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--hashes", type=int, nargs="*", default=[1000, 10_000, 50_000])
    parser.add_argument("--lines", type=int, nargs="*", default=[1000, 5000, 20_000])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, opencv {cv2.__version__}"
    threads = f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}, OpenCV threads {cv2.getNumThreads()}"
    print(f"{versions}, {os.cpu_count()} cores, {threads}, seed {args.seed}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as place:
        one = Path(place) / "one"
        alone = draw(one, args.images, 1, args.seed)
        both = draw(Path(place) / "two", args.images, 2, args.seed)
        print(f"drawing {args.images} images of 256 x 256: 1 process {args.images / alone:.1f} images/s, 2 processes "
              f"{args.images / both:.1f} images/s together ({alone / both:.2f}x)")  # fmt: skip
        same = (one / MANIFEST).read_bytes() == (Path(place) / "two" / MANIFEST).read_bytes()
        print(f"  the manifests are {'equal' if same else 'DIFFERENT'}")
        plain, (_, images) = timed(lambda: audit_set(one, Audit()))
        diverse, _ = timed(lambda: audit_set(one, Audit(), Embedded()))
        again, _ = timed(lambda: audit_set(one, Audit(), Embedded()))
        scale = 1000 / args.images
        print(f"audit of 1000 images: {plain * scale:.1f} s without a network, {diverse * scale:.1f} s more with "
              f"diversity, {again * scale:.1f} s once all is measured")  # fmt: skip
    known = np.array([int(image["hash"], 16) for image in images if "hash" in image], np.uint64)
    rng = np.random.default_rng(args.seed)
    print(f"{'hashes':>8}{'search':>10}{'pairs found':>13}")
    for count in args.hashes:
        hashes = hashes_like(known, count, rng)
        seconds, found = timed(lambda hashes=hashes: near_pairs(hashes, RADIUS))
        print(f"{count:>8}{seconds:>8.2f} s{len(found):>13}")
    lines = Grammar().write([], max(args.lines, default=0), args.seed) if args.lines else []
    print(f"{'lines':>8}{'checks':>10}{'held back':>12}")
    for count in args.lines:
        sieve = Sieve(shipped_scene())
        seconds, _ = timed(lambda sieve=sieve, count=count: [sieve.take(line) for line in lines[:count]])
        print(f"{count:>8}{seconds:>8.1f} s{sum(sieve.rejected.values()):>12}")


if __name__ == "__main__":
    main()
