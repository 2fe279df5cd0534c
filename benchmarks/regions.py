"""Refinement by regions beside refinement by points, with superpixels on damaged truths of rendered scenes.

    python benchmarks/regions.py

Prints what each decides and how right it is there (mIoU: mean over the classes of the truth, undecided pixels are
misses in the last column only), then milliseconds of a 768 x 768 image.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds import streets
from clouds.config.label_sets import IGNORE
from clouds.foundation.segmenters.superpixels import Superpixels
from clouds.selftrain.points import FLOOR, components
from clouds.selftrain.refine import refine_map
from clouds.selftrain.region_files import read_regions, save_regions
from clouds.selftrain.regions import Regions, nested, overlay, vote

Labels = NDArray[np.uint8]
SWALLOWS = (0.15, 0.3, 0.5)


def damaged(truth: Labels, seed: int) -> Labels:
    """What a weak teacher might say: outlines bent by up to tens of pixels, 40 blobs of wrong classes."""
    rng = np.random.default_rng(seed)
    bend = [cv2.GaussianBlur(noise, (0, 0), 8) * 60 for noise in rng.normal(0, 1, (2, *truth.shape))]
    y, x = np.indices(truth.shape) + np.stack(bend).astype(int)
    labels: Labels = truth[np.clip(y, 0, truth.shape[0] - 1), np.clip(x, 0, truth.shape[1] - 1)].copy()
    for _ in range(40):
        h, w = rng.integers(4, 28, 2)
        top, left = rng.integers(0, truth.shape[0] - h), rng.integers(0, truth.shape[1] - w)
        center = (int(left + w / 2), int(top + h / 2))
        cv2.ellipse(labels, center, (int(w / 2), int(h / 2)), 0, 0, 360, int(rng.integers(19)), -1)
    return labels


def one_wins(labels: Labels, regions: Regions, swallow: float, order: str) -> Labels:
    """The vote without floor, where a pixel in dispute goes to the smallest, purest or largest accepted region."""
    voted = vote(labels, regions, floor=0.0, max_swallow=swallow)
    sizes = np.diff(regions.starts, append=len(regions.members))
    pixels = np.bincount(regions.atoms.ravel())
    areas = np.add.reduceat(pixels[regions.members], regions.starts)
    same = np.repeat(np.arange(len(regions)), sizes)
    hits = np.zeros((len(pixels), IGNORE + 1), np.int64)
    np.add.at(hits, (regions.atoms.ravel(), labels.ravel()), 1)
    mine = np.bincount(same, hits[regions.members, voted.classes[same]], len(regions))
    last = np.argsort({"smallest": -areas, "largest": areas, "purest": mine / areas}[order], kind="stable")
    owner = np.full(len(pixels), IGNORE, np.uint8)
    stops = regions.starts + sizes
    for region in last[~voted.rejected[last]]:
        owner[regions.members[regions.starts[region] : stops[region]]] = voted.classes[region]
    return owner[regions.atoms]


def large_only(regions: Regions) -> Regions:
    """Regions that pass the paper's floor themselves."""
    pixels = np.bincount(regions.atoms.ravel())
    large = np.add.reduceat(pixels[regions.members], regions.starts) >= FLOOR * regions.atoms.size
    sizes = np.diff(regions.starts, append=len(regions.members))
    kept = sizes[large]
    members = regions.members[np.repeat(large, sizes)]
    return Regions(regions.atoms, members, np.cumsum(kept) - kept, regions.quality[large], regions.classes[large])


def large_pieces(labels: Labels) -> Labels:
    return np.where(components(labels).ids > 0, labels, np.uint8(IGNORE))


def scored(name: str, maps: list[Labels], truths: list[Labels]) -> None:
    refined, truth = np.stack(maps), np.stack(truths)
    known = truth != IGNORE
    there = known & (refined != IGNORE)
    confusion = np.bincount(truth[known].astype(int) * 256 + refined[known], minlength=65536).reshape(256, 256)
    decided, all_of = confusion[:19, :19], confusion[:19].sum(axis=1)
    hit, seen = np.diag(decided), all_of > 0
    there_iou = hit / np.maximum(decided.sum(axis=0) + decided.sum(axis=1) - hit, 1)
    whole_iou = hit / np.maximum(decided.sum(axis=0) + all_of - hit, 1)
    numbers = (there.sum() / known.sum(), hit.sum() / there.sum(), there_iou[seen].mean(), whole_iou[seen].mean())
    print(f"| {name} |", " | ".join(f"{100 * number:.1f}" for number in numbers), "|")


def milliseconds(work: Callable[[], Any], times: int = 30) -> float:
    work()
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return 1e3 * min(spent)  # the best: other work on the machine makes none faster


def blobs(count: int, size: int) -> list[NDArray[np.bool_]]:
    """Overlapping masks with ragged outlines, as a promptable segmenter finds them."""
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(count):
        canvas = np.zeros((size, size), np.float32)
        walk = rng.integers(0, size, 2) + np.cumsum(rng.normal(0, 40, (30, 2)), axis=0)
        cv2.fillPoly(canvas, [cv2.convexHull(walk.astype(np.int32))], 1.0)
        rag = cv2.GaussianBlur(rng.normal(0, 1, (size, size)), (0, 0), 3) * 0.8
        masks.append(cv2.GaussianBlur(canvas, (0, 0), 5) + rag > 0.5)
    return [mask for mask in masks if mask.any()]


def main() -> None:
    segmenter = Superpixels()
    scenes = [streets.render(streets.sample(("town", "night", "fog", "rain")[k % 4], 9000 + k)) for k in range(12)]
    truths = [truth for _, truth in scenes]
    labels = [damaged(truth, k) for k, truth in enumerate(truths)]
    levels = [segmenter.encode(image) for image, _ in scenes]
    regions = [nested(level) for level in levels]
    print("| 12 scenes of 256 x 512 | decided % | right there % | mIoU there % | mIoU, undecided missed % |")
    print("|---|---|---|---|---|")
    scored("the damaged labels", labels, truths)
    for swallow in SWALLOWS:
        how: Any = {"seed": 0, "strategy": "central", "points": 10, "max_swallow": swallow}
        done = [refine_map(t, e, segmenter, **how).labels for t, e in zip(labels, levels, strict=True)]
        scored(f"points, max_swallow {swallow}", done, truths)
    both = list(zip(labels, regions, strict=True))
    for swallow in SWALLOWS:
        done = [vote(t, r, max_swallow=swallow).labels for t, r in both]
        scored(f"**regions**, max_swallow {swallow}", done, truths)
    done = [vote(t, r, floor=0.0).labels for t, r in both]
    scored("regions 0.3 without floor", done, truths)
    for order in ("smallest", "purest", "largest"):
        done = [one_wins(t, r, 0.3, order) for t, r in both]
        scored(f"the same, disputed pixels to the {order} region", done, truths)
    done = [vote(t, large_only(r), floor=0.0).labels for t, r in both]
    scored("the floor for regions instead", done, truths)
    done = [vote(large_pieces(t), r, floor=0.0).labels for t, r in both]
    scored("the floor for pieces of the labels instead", done, truths)

    image, truth = streets.render(streets.sample("town", 3), (768, 768))
    level = segmenter.encode(image)
    print("\n| 768 x 768 | regions | file, kB | load, ms | vote, ms |")
    print("|---|---|---|---|---|")
    masks = blobs(100, 768)
    found = {"superpixels": nested(level), "overlapping masks": overlay((768, 768), masks, [0.9] * len(masks))}
    with tempfile.TemporaryDirectory() as folder:
        for name, each in found.items():
            path = Path(folder) / f"{name}.npz"
            save_regions(path, each)
            load, voting = milliseconds(lambda: read_regions(path)), milliseconds(lambda: vote(truth, each))  # noqa: B023
            print(f"| {name} | {len(each)} | {path.stat().st_size / 1e3:.0f} | {load:.1f} | {voting:.1f} |")
    points = milliseconds(lambda: refine_map(truth, level, segmenter, seed=0), 10)
    print(f"\npoints of superpixels, embedding at hand: {points:.1f} ms")


if __name__ == "__main__":
    main()
