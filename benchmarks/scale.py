"""How time and memory grow with the size of a set: pairs in folders, a manifest, an audit, a tar archive, a COCO file.

Each part runs in a process of its own at growing sizes, and says seconds and peak memory, then the exponent: 1 means
that twice the images take twice as much. Files are links to a few small pictures, so that finding, pairing, shuffling
and resuming are measured, not decoding.

    python benchmarks/scale.py [--sizes 1000 10000 100000] [--parts pairs manifest audit tar coco]
"""

import argparse
import json
import os
import pickle
import platform
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np

from clouds.base.shards import MANIFEST
from clouds.check.data import check
from clouds.config.recipe import Data
from clouds.data.batches.order import Order
from clouds.data.datasets import open_dataset
from clouds.data.images import write_png
from clouds.data.photographs import find_photographs, look_at
from clouds.generate.manifest import read_manifest

SIDE = 32  # pixels of the pictures
KINDS = 50  # different pictures, linked to by all files
AUDITED = 0.02  # of the sizes: an audit decodes and embeds every image
SHAPES = 8  # polygons of an image of the COCO file, of CORNERS corners
CORNERS = 60


def pictures(folder: Path) -> list[Path]:
    rng, files = np.random.default_rng(0), []
    for k in range(KINDS):
        coarse = rng.integers(0, 256, (4, 4, 3)).repeat(SIDE // 4, 0).repeat(SIDE // 4, 1)
        files.append(folder / f"{k}.png")
        write_png(files[-1], coarse.astype(np.uint8))
    return files


def linked(files: list[Path], folder: Path, count: int) -> None:
    """``count`` files in 1,000 a folder, as recordings are."""
    for k in range(count):
        path = folder / f"{k // 1000:04d}" / f"{k:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(files[k % len(files)], path)


def labels(folder: Path) -> list[Path]:
    files = [folder / f"label-{k}.png" for k in range(KINDS)]
    for k, path in enumerate(files):
        write_png(path, np.full((SIDE, SIDE), k % 19, np.uint8))
    return files


def make_pairs(root: Path, count: int) -> None:
    linked(pictures(root / "some"), root / "set" / "images", count)
    linked(labels(root / "some"), root / "set" / "labels", count)


def use_pairs(root: Path, count: int) -> dict[str, float]:
    began = time.monotonic()
    data = open_dataset("folder", root / "set")
    opened = time.monotonic() - began
    assert len(data) == count
    began = time.monotonic()
    order = Order([count], 0, [1.0])
    drawn = {order(position) for position in range(count)}
    shuffled = time.monotonic() - began
    assert len(drawn) == count
    began = time.monotonic()
    Order([count], 0, [1.0])(20 * count)  # the first draw of a run that goes on in its 20th epoch
    resumed = time.monotonic() - began
    began = time.monotonic()
    found = check("folder", [], root / "set", full=False, out=root / "check")
    assert found["problems"] == []
    return {"open": opened, "shuffle": shuffled, "resume": resumed, "check": time.monotonic() - began}


def make_manifest(root: Path, count: int) -> None:
    linked(pictures(root / "some"), root / "set", count)
    with (root / "set" / MANIFEST).open("w") as file:
        for k in range(count):
            row = {"file_name": f"{k // 1000:04d}/{k:07d}.png", "prompt": f"A photo of street {k}.", "seed": k,
                   "generator": "streets", "sha256": f"{k:064x}"}  # fmt: skip
            file.write(json.dumps(row) + "\n")


def use_manifest(root: Path, count: int) -> dict[str, float]:
    began = time.monotonic()
    rows, _ = read_manifest(root / "set")
    read = time.monotonic() - began
    assert len(rows) == count
    began = time.monotonic()
    data = open_dataset("generated", root / "set")
    assert len(data) == count
    return {"read": read, "open": time.monotonic() - began}


def use_audit(root: Path, count: int) -> dict[str, float]:
    from clouds.check.generated_set import audit

    began = time.monotonic()
    assert audit(root / "set", [])["images"] == count
    first = time.monotonic() - began
    began = time.monotonic()
    audit(root / "set", [])
    return {"audit": first, "again": time.monotonic() - began}


def make_tar(root: Path, count: int) -> None:
    """The images of a set in one archive, as `tar cf` packs them."""
    files = [file.read_bytes() for file in pictures(root / "some")]
    with tarfile.open(root / "set.tar", "w") as archive:
        for k in range(count):
            member = tarfile.TarInfo(f"./{k:06d}.png")
            member.size = len(files[k % KINDS])
            archive.addfile(member, BytesIO(files[k % KINDS]))


def use_tar(root: Path, count: int) -> dict[str, float]:
    began = time.monotonic()
    (found,) = find_photographs(Data(unlabelled=[root / "set.tar"]))
    opened = time.monotonic() - began
    assert len(found.places) == count
    drawn = np.random.default_rng(0).integers(0, count, 1000).tolist()
    began = time.monotonic()
    for k in drawn:
        found.places[k].read()
    read = time.monotonic() - began
    began = time.monotonic()
    assert all(look.size == [SIDE, SIDE] for look in look_at(found.places))
    return {"open": opened, "1,000 random reads": read, "look at all": time.monotonic() - began}


def make_coco(root: Path, count: int) -> None:
    """Images of 7.3 MB of annotations a thousand."""
    linked(pictures(root / "some"), root / "set" / "images", count)
    rng = np.random.default_rng(0)
    (root / "set" / "annotations").mkdir()
    with (root / "set" / "annotations" / "instances_train.json").open("w") as file:
        file.write('{"images": [')
        for k in range(count):
            image = {"id": k, "file_name": f"{k // 1000:04d}/{k:07d}.png", "height": SIDE, "width": SIDE}
            file.write((", " if k else "") + json.dumps(image))
        file.write('], "categories": [{"id": 1, "name": "road"}, {"id": 3, "name": "car"}], "annotations": [')
        for k in range(count * SHAPES):
            corners = (rng.random(2 * CORNERS) * SIDE).round(2).tolist()
            each = {"id": k, "image_id": k // SHAPES, "category_id": 1 + 2 * (k % 2), "segmentation": [corners],
                    "area": 100.0, "bbox": [0, 0, SIDE, SIDE], "iscrowd": 0}  # fmt: skip
            file.write((", " if k else "") + json.dumps(each))
        file.write("]}")


def use_coco(root: Path, count: int) -> dict[str, float]:
    began = time.monotonic()
    data = open_dataset("coco", root / "set", "train")
    opened = time.monotonic() - began
    assert len(data) == count
    began = time.monotonic()
    for k in np.linspace(0, count - 1, 100).astype(int).tolist():
        data.label(k)
    read = time.monotonic() - began
    began = time.monotonic()
    found = check("coco", [], root / "set", full=False, out=root / "check")
    assert found["problems"] == []
    began, checked = time.monotonic(), time.monotonic() - began
    size = len(pickle.dumps(data))
    return {"open": opened, "100 labels": read, "check": checked, "pickle": time.monotonic() - began,
            "pickle_gb": size / 2**30}  # fmt: skip


PARTS: dict[str, tuple[Callable[[Path, int], None], Callable[[Path, int], dict[str, float]], float]] = {
    "pairs": (make_pairs, use_pairs, 1.0),
    "manifest": (make_manifest, use_manifest, 1.0),
    "audit": (make_manifest, use_audit, AUDITED),
    "tar": (make_tar, use_tar, 1.0),
    "coco": (make_coco, use_coco, 0.25),
}


def measured(part: str, count: int) -> dict[str, float]:
    """Seconds of each step, ``gb`` of peak memory beyond that of the process before, and ``file_gb`` of a JSON file."""
    make = PARTS[part][0]
    with tempfile.TemporaryDirectory(prefix="clouds-scale-") as name:
        root = Path(name)
        (root / "some").mkdir()
        make(root, count)
        words = [sys.executable, __file__, "--one", part, str(root), str(count)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{part}, {count}: {done.stderr[-2000:]}")
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        json_files = [*(root / "set").rglob("*.json"), *(root / "set").glob(MANIFEST)]
        return found | {"file_gb": sum(path.stat().st_size for path in json_files) / 2**30}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1000, 10_000, 100_000])
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        part, root, count = arguments.one
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = PARTS[part][1](Path(root), int(count))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps(found | {"gb": (after - before) / 2**20}))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, pictures of {SIDE} x {SIDE} pixels\n")
    for part in arguments.parts:
        sizes = [max(round(size * PARTS[part][2]), 10) for size in arguments.sizes]
        rows = [measured(part, size) for size in sizes]
        keys = list(rows[0])
        heads = [{"gb": "GB", "file_gb": "JSON, GB", "pickle_gb": "pickled, GB"}.get(key, f"{key}, s") for key in keys]
        print(f"| {part} | {' | '.join(heads)} |\n|---|{'---|' * len(keys)}")
        for size, row in zip(sizes, rows, strict=True):
            print(f"| {size:,} | " + " | ".join(f"{row[k]:.3f}" for k in keys) + " |")
        if len(sizes) == 1:
            continue
        grown = [np.log(max(rows[-1][k], 1e-4) / max(rows[0][k], 1e-4)) / np.log(sizes[-1] / sizes[0]) for k in keys]
        print("| exponent | " + " | ".join(f"{value:.2f}" for value in grown) + " |\n", flush=True)


if __name__ == "__main__":
    main()
