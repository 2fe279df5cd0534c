"""Time and memory of this package's model against transformers' Mask2Former, same weights, one process, fp32.

Usage: python benchmarks/model.py [--quick] [--threads N]

Inference is an image of bytes to a semantic map at its size: ours is ``Segmenter.semantic``; theirs the public call,
then the plain merge at full size (their own post-processing merges at 384 x 384). A training step is forward, loss
and backward with a frozen backbone, each side with its own loss. Both sides must give the same map before any timing.

Times: the two sides take turns, minimum and median over the repeats. Memory: each side in a process of its own, the
peak resident size (VmHWM reset through /proc/self/clear_refs) above the resident size after loading the model and one
64 x 64 call, free memory given back (malloc_trim); MALLOC_MMAP_THRESHOLD_ keeps freed arrays from staying resident.
"""

import argparse
import ctypes
import gc
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
import torch
import transformers

import peer

SEED = 0
BOUNDS = {("map", "time"): 1.6, ("map", "memory"): 0.5, ("step", "time"): 1.3, ("step", "memory"): 0.6}
CALLS = {"map": (peer.our_map, peer.their_map), "step": (peer.our_step, peer.their_step)}


def call(kind: str, side: int, models: tuple, size: tuple[int, int, int], classes: int = 19) -> Callable[[], object]:
    """The measured call of one side (0 ours, 1 transformers) at ``size`` (B, H, W)."""
    images, labels = peer.scene(*size, classes=classes, seed=SEED)
    arguments = (images,) if kind == "map" else (images, labels)
    return lambda: CALLS[kind][side](models[side], *arguments)


def interleaved(calls: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of each call, the calls taking turns."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call_, list_ in zip(calls, seconds, strict=True):
            gc.collect()
            start = time.perf_counter()
            call_()
            list_.append(time.perf_counter() - start)
    return seconds


def status(key: str) -> float:
    """A line of /proc/self/status in MB."""
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(key)).split()[1]) / 1024


def measure_memory(arguments: list[str]) -> None:
    """In a process of its own: print the peak of one call above the loaded model, in MB."""
    backbone, kind, side, *numbers = arguments
    b, h, w, queries, classes = map(int, numbers)
    models = list(peer.pair(backbone, queries, classes, SEED))
    models[1 - int(side)] = None
    call(kind, int(side), tuple(models), (b, 64, 64), classes)()
    models[int(side)].zero_grad()
    measured = call(kind, int(side), tuple(models), (b, h, w), classes)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    measured()
    print(status("VmHWM") - before)


def memory(
    backbone: str, kind: str, side: int, size: tuple[int, int, int], queries: int = 100, classes: int = 19
) -> float:
    numbers = [str(n) for n in (side, *size, queries, classes)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, __file__, "--memory-of", backbone, kind, *numbers]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout.split()[-1])


def check_equal(models: tuple, size: tuple[int, int, int]) -> None:
    """Class logits, mask logits and semantic maps agree, or there is nothing to compare."""
    images, _ = peer.scene(*size, seed=SEED)
    ours, theirs = models
    with torch.no_grad():
        a, b = ours(images, auxiliary=False), theirs(pixel_values=(images.float() - peer.MEAN) / peer.STD)
    pairs = {
        "class logits": (a.logits[-1], b.class_queries_logits),
        "mask logits": (a.masks(), b.masks_queries_logits),
        "semantic map": (peer.our_map(ours, images), peer.their_map(theirs, images)),
    }
    for name, (mine, other) in pairs.items():
        difference, spread = (mine - other).abs().max().item(), other.std().item()
        print(f"- {name}: largest difference {difference:.1e}, standard deviation {spread:.2g}")
        if not difference <= 1e-3 * spread:
            sys.exit(f"{name} differ: the two sides do not compute the same thing")


@contextmanager
def timed_parts(modules: dict[str, list[torch.nn.Module]]) -> Iterator[dict[str, float]]:
    """Seconds spent in the forward pass of named groups of modules."""
    seconds: dict[str, float] = defaultdict(float)
    hooks = []
    for name, group in modules.items():
        for module in group:
            def before(*_: object, name: str = name) -> None:
                seconds[name] -= time.perf_counter()

            def after(*_: object, name: str = name) -> None:
                seconds[name] += time.perf_counter()

            hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    yield seconds
    for hook in hooks:
        hook.remove()


def profile(models: tuple, size: tuple[int, int, int], repeats: int) -> None:
    """Seconds per part of an inference call of both sides (minima)."""
    ours, theirs = models
    level, transformer = theirs.model.pixel_level_module, theirs.model.transformer_module
    groups = [
        {
            "backbone": [side[0]],
            "pixel decoder": [side[1]],
            "of which deformable attention": [layer.self_attn for layer in side[2]],
            "transformer decoder": [side[3]],
        }
        for side in (
            (ours.backbone.network, ours.head.pixel_decoder, ours.head.pixel_decoder.layers, ours.head.decoder),
            (level.encoder, level.decoder, level.decoder.encoder.layers, transformer),
        )
    ]
    best: list[dict[str, float]] = [{}, {}]
    for _ in range(repeats):
        for side in (0, 1):
            start = time.perf_counter()
            with timed_parts(groups[side]) as seconds:
                call("map", side, models, size)()
            seconds["merge and the rest"] = time.perf_counter() - start - sum(
                s for name, s in seconds.items() if not name.startswith("of which")
            )
            for name, s in seconds.items():
                best[side][name] = min(s, best[side].get(name, s))
    print("\n| part of an inference call | ours, s | transformers, s | ratio |\n|---|---|---|---|")
    for name in best[0]:
        print(f"| {name} | {best[0][name]:.2f} | {best[1][name]:.2f} | {best[1][name] / best[0][name]:.1f} |")


def compare(backbone: str, quick: bool) -> None:
    models = peer.pair(backbone, seed=SEED)
    sizes = {"map": (1, 256, 512), "step": (2, 256, 256)} if quick else {"map": (1, 512, 1024), "step": (2, 512, 512)}
    print(f"\n## {backbone}\n")
    check_equal(models, sizes["map"])
    lines = ["\n| call | measure | ours | transformers | ratio | bound | |", "|---|---|---|---|---|---|---|"]
    for kind, size in sizes.items():
        calls = [call(kind, side, models, size) for side in (0, 1)]
        interleaved([call(kind, side, models, (size[0], 64, 64)) for side in (0, 1)], 1)
        a, b = interleaved(calls, 2 if quick else 3)
        name, ratio, bound = f"{kind} {size[0]} x {size[1]} x {size[2]}", min(b) / min(a), BOUNDS[kind, "time"]
        shown = [f"{min(t):.2f} s (median {statistics.median(t):.2f})" for t in (a, b)]
        verdict = "pass" if ratio >= bound else "FAIL"
        lines.append(f"| {name} | time | {shown[0]} | {shown[1]} | {ratio:.2f}x faster | >= {bound} | {verdict} |")
        x, y = (memory(backbone, kind, side, size) for side in (0, 1))
        bound, verdict = BOUNDS[kind, "memory"], "pass" if x / y <= BOUNDS[kind, "memory"] else "FAIL"
        lines.append(f"| {name} | memory | {x:.0f} MB | {y:.0f} MB | {x / y:.2f}x | <= {bound} | {verdict} |")
    print("\n".join(lines))
    profile(models, sizes["map"], 1 if quick else 2)


GROWTH = {  # what grows: the cases (height, width, queries, classes)
    "pixels": [(256, 256, 100, 19), (256, 512, 100, 19), (512, 512, 100, 19), (512, 1024, 100, 19)],
    "queries": [(256, 512, 50, 19), (256, 512, 100, 19), (256, 512, 200, 19)],
    "classes": [(256, 512, 100, 19), (256, 512, 100, 65), (256, 512, 100, 150)],
}


def exponent(sizes: list[float], values: list[float]) -> float:
    """Of the power law that fits best: 1 is growth in proportion, 0 none."""
    return statistics.linear_regression([math.log(x) for x in sizes], [math.log(y) for y in values]).slope


def growth(backbone: str, kind: str, quick: bool) -> None:
    """One inference call, or one step of one image, of both sides as the image, the queries or the classes grow."""
    print(f"\n## Growth of a {kind} ({backbone})\n")
    print("| image | queries | classes | ours | transformers | faster | ours, MB | transformers, MB |")
    print("|---|---|---|---|---|---|---|---|")
    found: dict[tuple[int, ...], list[float]] = {}
    groups = {what: cases[:2] if quick else cases for what, cases in GROWTH.items()}
    for h, w, queries, classes in dict.fromkeys(case for cases in groups.values() for case in cases):
        models = peer.pair(backbone, queries, classes, SEED)
        calls = [call(kind, side, models, (1, h, w), classes) for side in (0, 1)]
        a, b = (min(t) for t in interleaved(calls, 2))
        x, y = (memory(backbone, kind, side, (1, h, w), queries, classes) for side in (0, 1))
        found[h, w, queries, classes] = [a, b, x, y]
        print(f"| {h} x {w} | {queries} | {classes} | {a:.2f} s | {b:.2f} s | {b / a:.2f}x | {x:.0f} | {y:.0f} |")
    print("\n| exponent with | time, ours | transformers | memory, ours | transformers |\n|---|---|---|---|---|")
    for what, cases in groups.items():
        sizes = [float(h * w if what == "pixels" else q if what == "queries" else c) for h, w, q, c in cases]
        columns = zip(*(found[case] for case in cases), strict=True)
        print(f"| {what} | {' | '.join(f'{exponent(sizes, list(values)):.2f}' for values in columns)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small images, the small backbone only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        measure_memory(options.memory_of)
        return
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    print(f"{processor}, {options.threads} thread(s), seed {SEED}, fp32, Python {platform.python_version()}, "
          f"torch {torch.__version__}, transformers {transformers.__version__}, timm {timm.__version__}")
    for backbone in ("tf_efficientnet_lite0",) if options.quick else ("resnet50", "tf_efficientnet_lite0"):
        compare(backbone, options.quick)
    for kind in ("map", "step"):
        growth("tf_efficientnet_lite0", kind, options.quick)


if __name__ == "__main__":
    main()
