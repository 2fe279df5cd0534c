"""Scenes per second of the embedded world on one core.

Usage: python benchmarks/streets.py [SCENES per distribution, default 30]
"""

import sys
import time

import cv2
import numpy as np

from clouds.streets import DISTRIBUTIONS, render, sample

SIZE = (256, 512)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    cv2.setNumThreads(1)
    print(f"{SIZE[1]}x{SIZE[0]}, one core, seeds 0..{count - 1}, numpy {np.__version__}, OpenCV {cv2.__version__}, "
          f"Python {sys.version.split()[0]}")
    started = time.perf_counter()
    render(sample("source", 0), SIZE)
    print(f"first scene, textures included: {time.perf_counter() - started:.2f} s")
    for name in DISTRIBUTIONS:
        for seed in range(count):  # every texture and sprite these seeds need
            render(sample(name, seed), (32, 64))
        cpu, wall = time.process_time(), time.perf_counter()
        for seed in range(count):
            render(sample(name, seed), SIZE)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(
            f"{name:>7}: {count / cpu:5.1f} scenes/s of CPU time ({1000 * cpu / count:.1f} ms), "
            f"{count / wall:5.1f} by the clock"
        )


if __name__ == "__main__":
    main()
