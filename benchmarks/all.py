"""Every claim of speed, memory or growth in README and docs, measured in one run, with its goal beside it.

    python benchmarks/all.py [--minutes 30] [--only WORD ...]

Each benchmark of the table below runs in a process of its own, one after the other, as its page says; of what it prints
the ratios are read. They are of sides measured in turns, so they hold on other machines and, roughly, on busy ones.
What the minutes do not suffice for is named. It ends with 0 whatever was measured: a missed goal is a finding.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

HERE = Path(__file__).parent


class Claim(NamedTuple):
    """What is claimed and on which page; a pattern whose group is the number; the goal, at least or at most; per cent
    are divided by 100."""

    text: str
    page: str
    pattern: str
    goal: float | None
    least: bool = True


class Benchmark(NamedTuple):
    """A script of this folder with its words, or a call of one of its functions."""

    words: tuple[str, ...]
    claims: tuple[Claim, ...]


def _model(backbone: str, map_time: float, step_time: float) -> Benchmark:
    page = "design/network.md"
    return Benchmark(("-c", f"import model; model.compare({backbone!r}, False)"), (
        Claim(f"{backbone}: map faster than transformers'", page, r"\| map .* time .*\| ([\d.]+)x faster", map_time),
        Claim(f"{backbone}: map's memory of theirs", page, r"\| map .* memory .*\| ([\d.]+)x \|", 0.5, False),
        Claim(f"{backbone}: step faster than theirs", page, r"\| step .* time .*\| ([\d.]+)x faster", step_time),
        Claim(f"{backbone}: step's memory of theirs", page, r"\| step .* memory .*\| ([\d.]+)x \|", 0.6, False),
    ))  # fmt: skip


def _export(name: str, goal: float, *words: str) -> Benchmark:
    page = "export.md"
    return Benchmark(("export.py", *words), (
        Claim(f"{name}: predict by onnxruntime, of PyTorch's", page, r"onnxruntime .*ratio ([\d.]+) wall", None),
        Claim(f"{name}: predict by OpenVINO, of PyTorch's", page, r"openvino .*ratio ([\d.]+) wall", None),
        Claim(f"{name}: predict by the best runtime", page, r"best runtime: ratio ([\d.]+) wall", goal),
    ))  # fmt: skip


BENCHMARKS = (
    _export("embedded model", 1.8, "--image", "720x1280", "--repeats", "10"),
    _model("resnet50", 2.0, 1.7),
    _model("tf_efficientnet_lite0", 1.8, 1.3),
    Benchmark(("selftraining.py",), (
        Claim("joint step by points, of the reference's", "selftraining.md", r"points: ([\d.]+)x faster", 2.6),
        Claim("joint step by regions, of the reference's", "selftraining.md", r"regions: ([\d.]+)x faster", 3.0),
    )),
    _export("RN50", 1.4, "--rn50", "--image", "512x1024", "--repeats", "3"),
    Benchmark(("serving.py", "--seconds", "10", "--rounds", "3", "--exported"), (
        Claim("16 clients of the server, of the bare model", "serve.md", r"median ratio ([\d.]+)", 0.9),
        Claim("16 clients of an ONNX file's server, of the folder's", "export.md", r"served: ([\d.]+) times", 1.8),
    )),
    Benchmark(("loading.py",), (
        Claim("loading crops cold, of the plain pipeline", "index.md", r"ours, cold \| .* \| ([\d.]+) \|", 1.5),
        Claim("loading crops cached, of the plain pipeline", "index.md", r"ours, cached \| .* \| ([\d.]+) \|", 3.0),
    )),
    Benchmark(("training.py",), (
        Claim("of a step outside the networks, %", "scaling.md", r"Outside the networks: ([\d.]+)%", 10, False),
    )),
    Benchmark(("scoring.py",), (
        Claim("counting an image, of its prediction", "design/scoring.md", r"\*confusion\*.* ([\d.]+) \|", 0.05, False),
    )),
    Benchmark(("scale.py", "--sizes", "1000", "10000", "--parts", "pairs", "manifest"), (
        Claim("exponent of time with a set's size (first column)", "scaling.md", r"exponent \| ([-\d.]+)", 1.1, False),
    )),
)  # fmt: skip


def worst(claim: Claim, printed: str) -> float | None:
    """The number of a claim, the worst where a benchmark prints several; None where it prints none."""
    found = [float(each) for each in re.findall(claim.pattern, printed)]
    return None if not found else min(found) if claim.least else max(found)


def row(claim: Claim, value: float | None, note: str = "") -> str:
    sign = ">=" if claim.least else "<="
    goal = "" if claim.goal is None else f"{sign} {claim.goal:g}"
    if value is None:
        verdict = note or "not printed"
    elif claim.goal is None:
        verdict = ""
    else:
        verdict = "met" if (value >= claim.goal if claim.least else value <= claim.goal) else "MISSED"
    return f"| {claim.text} | {claim.page} | {'' if value is None else f'{value:.2f}'} | {goal} | {verdict} |"


def printed_by(words: tuple[str, ...], seconds: float) -> tuple[str, str]:
    """What a benchmark prints, and why there is no more of it."""
    command = [sys.executable, *(str(HERE / word) if word.endswith(".py") else word for word in words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(
        [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])}  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment, cwd=HERE)
    except subprocess.TimeoutExpired:
        return "", "no time was left"
    last = done.stderr.strip().rpartition("\n")[2][:100]
    return done.stdout, f"failed: {last}" if done.returncode else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--only", nargs="+", default=[], help="benchmarks whose words hold one of these")
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    load = f"load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores at the start"
    print(f"torch {torch.__version__}, one thread a side, {load}\n")
    print("| claim | page | measured | goal | |\n|---|---|---|---|---|", flush=True)
    for words, claims in BENCHMARKS:
        if given.only and not any(each in " ".join(words) for each in given.only):
            continue
        left = end - time.monotonic()
        printed, problem = printed_by(words, left) if left > 1 else ("", "no time was left")
        for claim in claims:
            print(row(claim, worst(claim, printed), problem), flush=True)


if __name__ == "__main__":
    main()
