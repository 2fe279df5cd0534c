"""Speed and memory on a GPU beside transformers' Mask2Former of the same weights, and where the time goes.

``check_gpu.py`` calls ``measure``; alone: python benchmarks/gpu.py [--seconds S] [--device cpu]

A step is forward, loss and backward of two images with a frozen backbone, each side with its own loss; a map is an
image of bytes to a semantic map at its size. The two sides take turns. Precision: fp32, tf32 (products of fp32 numbers
on tensor cores) and bf16 (autocast). Without a GPU: small networks at 64 x 64 in fp32, which says nothing of speed.
"""

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import peer
from clouds.model.loss import LossSettings, criterion
from clouds.train.loop import _float

SEED = 0
SIDES = ("ours", "transformers")
LEAST, MOST = 0.5, 20  # seconds and calls of a timing


@dataclass(frozen=True)
class Plan:
    """What is measured: timm's backbones, sides of square images, precisions; ``tiny``: networks of a test's size."""

    backbones: tuple[str, ...] = ("resnet50", "convnext_large")
    sizes: tuple[int, ...] = (512, 768)
    precisions: tuple[str, ...] = ("fp32", "tf32", "bf16")
    tiny: bool = False


TINY = Plan(("tf_efficientnet_lite0",), (64,), ("fp32",), True)


@contextmanager
def precision(kind: str, device: str) -> Iterator[None]:
    """tf32 products allowed or not; bf16 autocast."""
    old = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = kind != "fp32"
    try:
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=kind == "bf16"):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = old


def our_step(model: Any, images: torch.Tensor, labels: torch.Tensor) -> None:
    """As the training loop takes it: losses in float32."""
    model.train()
    model.zero_grad()
    prediction = _float(model(images))
    with torch.autocast(images.device.type, enabled=False):
        loss = criterion(prediction, labels, LossSettings(), peer.points_of(len(images)))["loss"]
    loss.backward()


CALLS = {"step": (our_step, peer.their_step), "map": (peer.our_map, peer.their_map)}


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def calls_of(pair: tuple[Any, Any], kind: str, size: int, device: str) -> list[Callable[[], object]]:
    images, labels = (each.to(device) for each in peer.scene(2 if kind == "step" else 1, size, size, seed=SEED))
    given = (images, labels) if kind == "step" else (images,)
    return [lambda side=side: CALLS[kind][side](pair[side], *given) for side in (0, 1)]  # type: ignore[misc]


def timed(calls: list[Callable[[], object]], device: str) -> list[float]:
    """Seconds of a call of each side, the least of as many as ``LEAST`` seconds take, the sides taking turns."""
    for call in calls:
        call()
    wait(device)
    seconds: list[list[float]] = [[] for _ in calls]
    while min(map(sum, seconds)) < LEAST and len(seconds[0]) < (MOST if device != "cpu" else 2):
        for call, mine in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            wait(device)
            mine.append(time.perf_counter() - start)
    return [min(mine) for mine in seconds]


def peak(call: Callable[[], object], device: str) -> float | None:
    """GB above what is held before, of one call; None on a CPU (benchmarks/model.py measures that)."""
    if not device.startswith("cuda"):
        return None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    wait(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**30


def cell(pair: tuple[Any, Any], kind: str, size: int, number: str, device: str) -> dict[str, Any]:
    """One row: a second's calls times images, memory, ratios; "problem" where it could not be measured."""
    row: dict[str, Any] = {"call": kind, "size": size, "precision": number}
    try:
        calls = calls_of(pair, kind, size, device)
        with precision(number, device):
            seconds = timed(calls, device)
            memory = [peak(call, device) for call in calls]
    except Exception as error:  # out of memory, or what the other side cannot do: the rest is still measured
        return {**row, "problem": " ".join(str(error).split())[:200] or type(error).__name__}
    finally:
        for model in pair:
            model.zero_grad()
    row |= {f"{name}_per_second": 1 / s for name, s in zip(SIDES, seconds, strict=True)}
    row |= {f"{name}_gb": m for name, m in zip(SIDES, memory, strict=True)}
    row["faster"] = seconds[1] / seconds[0]
    row["memory"] = memory[0] / memory[1] if memory[0] is not None and memory[1] else None
    return row


def where_time_goes(pair: tuple[Any, Any], size: int, device: str, rows: int = 12) -> list[dict[str, Any]]:
    """The kernels that a training step of ours spends most on: name, calls, milliseconds, share."""
    call = calls_of(pair, "step", size, device)[0]
    call()
    wait(device)
    cuda = device.startswith("cuda")
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as seen:
        call()
        wait(device)
    field = "self_device_time_total" if cuda else "self_cpu_time_total"
    found = sorted(seen.key_averages(), key=lambda each: -getattr(each, field))
    total = sum(getattr(each, field) for each in found) or 1
    return [
        {"name": each.key[:80], "calls": each.count, "ms": getattr(each, field) / 1000,
         "share": getattr(each, field) / total}
        for each in found[:rows]
    ]  # fmt: skip


def measure(plan: Plan, device: str, seconds: float) -> dict[str, Any]:
    """{"rows": of ``cell``, "profiles": by backbone, "left_out": cells that ``seconds`` did not suffice for}."""
    began = time.monotonic()
    found: dict[str, Any] = {"rows": [], "profiles": {}, "left_out": 0}
    for name in plan.backbones:
        small = {"hidden": 32, "layers": (1, 2), "queries": 8} if plan.tiny else {}
        pair = tuple(model.to(device) for model in peer.pair(name, seed=SEED, **small))  # type: ignore[arg-type]
        for size in plan.sizes:
            for number in plan.precisions:
                for kind in CALLS:
                    if time.monotonic() - began > seconds:
                        found["left_out"] += 1
                        continue
                    found["rows"].append({"backbone": name, **cell(pair, kind, size, number, device)})
        if time.monotonic() - began <= seconds:
            found["profiles"][name] = where_time_goes(pair, plan.sizes[0], device)
        del pair
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
    return found


def table(found: dict[str, Any]) -> str:
    """Markdown: rates of a second (steps, images), memory, ratios; then the profiles."""
    lines = [
        "| backbone | call | size | precision | ours, /s | transformers, /s | faster | ours, GB | transformers, GB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        start = f"| {row['backbone']} | {row['call']} | {row['size']} | {row['precision']} |"
        if "problem" in row:
            lines.append(f"{start} not measured: {row['problem'].replace('|', '/')} | | | | |")
            continue
        memory = ["" if row[f"{side}_gb"] is None else f"{row[f'{side}_gb']:.2f}" for side in SIDES]
        rates = [f"{row[f'{side}_per_second']:.2f}" for side in SIDES]
        lines.append(f"{start} {' | '.join(rates)} | {row['faster']:.2f}x | {' | '.join(memory)} |")
    if found["left_out"]:
        lines.append(f"\n{found['left_out']} rows were left out for want of time.")
    for name, rows in found["profiles"].items():
        lines += [f"\nA training step of {name}, by kernel:\n", "| kernel | calls | ms | share |", "|---|---|---|---|"]
        for row in rows:
            kernel = row["name"].replace("|", "/")
            lines.append(f"| `{kernel}` | {row['calls']} | {row['ms']:.2f} | {row['share']:.1%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    print(table(measure(TINY if given.device == "cpu" else Plan(), given.device, given.seconds)))


if __name__ == "__main__":
    main()
