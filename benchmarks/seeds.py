"""Several demo runs (one a seed) as one Markdown table: mean and spread of warm-up, joint and their difference.

    python benchmarks/seeds.py runs/seed0 runs/seed1 runs/seed2
"""

import argparse
import json
from pathlib import Path

import numpy as np
import yaml

from clouds.model.inference import protocol_text


def cell(values: list[float]) -> str:
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    runs = parser.parse_args().runs
    before = [json.loads((run / "results-warmup.json").read_text()) for run in runs]
    after = [json.loads((run / "results.json").read_text()) for run in runs]
    recipes = [yaml.safe_load((run / "recipe.yaml").read_text()) for run in runs]
    rendered = {"town", "fog", "night", "rain", "snow"}
    domains = [row["name"] for row in after[0]["domains"]]
    groups = {name: [name] for name in domains}
    groups["**mean, rendered**"] = [name for name in domains if name in rendered]
    if photos := [name for name in domains if name not in rendered]:
        groups["**mean, photos**"] = photos
    info = {row["name"]: row for row in after[0]["domains"]}

    def score(result: dict, names: list[str]) -> float:  # type: ignore[type-arg]
        return float(np.mean([row["miou"] for row in result["domains"] if row["name"] in names]))

    print("| unseen domain | images | label set | warm-up | joint | difference |")
    print("|---|---|---|---|---|---|")
    for label, names in groups.items():
        first = [score(result, names) for result in before]
        last = [score(result, names) for result in after]
        gains = [b - a for a, b in zip(first, last, strict=True)]
        about = f"{info[label]['images']} | {info[label]['label_set']}" if label in info else " | "
        sign = "+" if np.mean(gains) >= 0 else ""
        print(f"| {label} | {about} | {cell(first)} | {cell(last)} | {sign}{cell(gains)} |")
    seeds = ", ".join(str(recipe["seed"]) for recipe in recipes)
    hardware = recipes[0]["hardware"]
    print(
        f"\nmIoU in %, mean ± standard deviation over seeds {seeds}; commit {after[0]['commit']}; "
        f"{protocol_text(after[0]['protocol'])}; "
        f"{hardware['cores']} cores of {hardware['machine']}, {hardware['threads']} threads"
    )


if __name__ == "__main__":
    main()
