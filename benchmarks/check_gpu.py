"""`make check-gpu`: what has to hold on a GPU, and how fast it is. Run it on any CUDA GPU and send back what it prints.

    python benchmarks/check_gpu.py [--out gpu.json] [--seconds 270] [--device cuda]

First the checks of gpu_checks.py, then the measurements of gpu.py, at most ``--seconds`` in all on a GPU. It writes one
JSON and prints one Markdown table for docs/results.md. It ends with 1 if a check failed. Without a GPU it says so, runs
its own logic on the CPU with tiny networks, and ends with 0 unless that fails.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import gpu
import gpu_checks
from clouds.base.files import write_json
from clouds.base.machine import commit, versions

CHECKS_SHARE = 0.5  # of the seconds: later checks are left out


def checked(device: str, seconds: float) -> list[dict[str, Any]]:
    """Every check: {"claim", "outcome": passed, failed or skipped, "detail", "seconds"}."""
    rows = []
    start = time.monotonic()
    for claim, (check, cuda_only) in gpu_checks.CHECKS.items():
        began = time.monotonic()
        if began - start > seconds:
            outcome, detail = "skipped", "no time was left; give more --seconds"
        elif cuda_only and not device.startswith("cuda"):
            outcome, detail = "skipped", "needs a CUDA GPU"
        else:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    outcome, detail = "passed", check(device, Path(folder))
                except gpu_checks.Skipped as why:
                    outcome, detail = "skipped", str(why)
                except Exception as error:  # whatever goes wrong in one, the others are still made
                    outcome, detail = "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        taken = round(time.monotonic() - began, 1)
        print(f"{outcome:>7}  {claim}: {detail} ({taken} s)", file=sys.stderr, flush=True)
        rows.append({"claim": claim, "outcome": outcome, "detail": detail, "seconds": taken})
    return rows


def whole(device: str, seconds: float) -> dict[str, Any]:
    """The object that is written."""
    began = time.monotonic()
    cuda = device.startswith("cuda")
    about = {
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "memory_gb": round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1) if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "versions": versions(), "commit": commit(), "seed": gpu.SEED,
    }  # fmt: skip
    checks = checked(device, CHECKS_SHARE * seconds)
    left = seconds - (time.monotonic() - began)
    measured = gpu.measure(gpu.Plan() if cuda else gpu.TINY, device, left)
    return {**about, "checks": checks, **measured, "seconds": round(time.monotonic() - began, 1)}


def page(result: dict[str, Any]) -> str:
    """Markdown for docs/results.md."""
    lines = [f"{result['device']}, torch {result['versions']['torch']}, CUDA {result['cuda'] or 'none'}, seed "
             f"{result['seed']}, commit {result['commit'] or 'none'}\n", "| claim | | |", "|---|---|---|"]  # fmt: skip
    lines += [f"| {row['claim']} | {row['outcome']} | {row['detail'].replace('|', '/')} |" for row in result["checks"]]
    return "\n".join([*lines, "", gpu.table(result)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--seconds", type=float, default=270, help="at most, on a GPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    if not given.device.startswith("cuda"):
        print("No CUDA GPU here: the checks run on the CPU with tiny networks, and the times say nothing.", flush=True)
    result = whole(given.device, given.seconds)
    write_json(given.out, result)
    print(page(result))
    print(f"\nwritten: {given.out}")
    failed = [row["claim"] for row in result["checks"] if row["outcome"] == "failed"]
    if given.device == "cpu":  # on a GPU a size that does not fit is a finding
        failed += [f"{row['call']} of {row['backbone']}" for row in result["rows"] if "problem" in row]
    if failed:
        print(f"failed: {json.dumps(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
