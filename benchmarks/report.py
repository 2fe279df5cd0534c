"""What a report with 1,000 examples costs to write, to keep and to open, beside the same page with nothing folded away.

Scenes are rendered, predictions are the truth with blocks of it moved: the page is as heavy as a real one. Opened in
headless Chromium, repeats taking turns, medians: seconds until the page is parsed, until its load event, and until its
screenshot is on disk, a blank page's taken off.

    python benchmarks/report.py [--examples 1000] [--size 1024 512] [--repeats 5] [--keep FOLDER]
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from clouds import streets
from clouds.base.progress import track
from clouds.config.label_sets import NAMES
from clouds.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--window-size=1280,900"]  # fmt: skip
DISTINCT = 50  # scenes rendered; the others are these, turned
PROBE = """<script>addEventListener("load", () => { document.title = JSON.stringify(
  [performance.getEntriesByType("navigation")[0].domInteractive, performance.now()]); });</script>"""


def fabricate(run: Path, count: int, size: tuple[int, int]) -> None:
    """A run whose examples are ``count`` images of one domain, (width, height) pixels each."""
    rng = np.random.default_rng(0)
    scenes = []
    for k in range(min(DISTINCT, count)):
        image, label = streets.render(streets.sample("town", k))
        scenes.append((np.asarray(Image.fromarray(image).resize(size)),
                       np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))))  # fmt: skip
    for k in track(range(count), "making examples", count):
        image, label = (np.roll(each, 37 * (k // DISTINCT), 1) for each in scenes[k % DISTINCT])
        folder = run / "evaluation" / "examples" / "town" / f"typical-{k}"
        folder.mkdir(parents=True)
        maps = {"truth": label, "warmup": moved(label, rng, 40), "joint": moved(label, rng, 25)}
        Image.fromarray(image).save(folder / "photo.png", compress_level=1)
        for name, pixels in maps.items():
            Image.fromarray(pixels).save(folder / f"{name}.png", compress_level=1)
        (folder / "example.json").write_text(json.dumps({"name": f"town-{k:04d}", "warmup": 0.3, "joint": 0.35}))
    images = [{"name": f"town-{k:04d}", "miou": min(1.0, abs(rng.normal(0.35, 0.05))), "accuracy": 0.8}
              for k in range(count)]  # fmt: skip
    counts = (np.eye(19, dtype=int) * 900 + rng.integers(0, 60, (19, 19))).tolist()
    domain = {"label_set": "cityscapes19", "classes": list(NAMES), "confusion": counts, "per_image": images}
    row = {"name": "town", "images": count, "label_set": "cityscapes19", "miou": 0.35, "ci95": [0.34, 0.36],
           "iou": dict.fromkeys(NAMES, 0.35)}  # fmt: skip
    for stage, file in (("warmup", "results-warmup.json"), ("joint", "results.json")):
        (run / "evaluation" / f"{stage}.json").write_text(json.dumps({"domains": {"town": domain}}))
        (run / file).write_text(json.dumps({"domains": [row], "mean_miou": 0.35}))


def moved(label: np.ndarray, rng: np.random.Generator, blocks: int) -> np.ndarray:
    """The label map with some of its blocks put elsewhere: about as ragged as a prediction."""
    changed = label.copy()
    high, wide = label.shape[0] // 12, label.shape[1] // 12
    for _ in range(blocks):
        y, x, v, u = (int(rng.integers(0, end)) for end in (label.shape[0] - high, label.shape[1] - wide) * 2)
        changed[y : y + high, x : x + wide] = label[v : v + high, u : u + wide]
    return changed


def unfolded(page: str) -> str:
    """Every example on the page."""
    return page.replace('<details class="rest">', '<details class="rest" open>')


def open_page(page: Path, *flags: str) -> tuple[float, str]:
    """Seconds a browser takes for the page, start included, and what it printed."""
    assert CHROMIUM
    with tempfile.TemporaryDirectory() as profile:
        began = time.monotonic()
        done = subprocess.run([CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()],
                              capture_output=True, check=True, text=True)  # fmt: skip
        return time.monotonic() - began, done.stdout


def times(page: Path) -> list[float]:
    """Seconds until the page is parsed and loaded, by its own clock, and the wall clock's until its screenshot."""
    _, dom = open_page(page, "--dump-dom")
    parsed, loaded = json.loads(dom.partition("<title>")[2].partition("</title>")[0])
    wall, _ = open_page(page, f"--screenshot={page.with_suffix('.png')}")
    return [parsed / 1000, loaded / 1000, wall]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 256))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="a folder for the run and its pages, used again")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = (asked.keep or Path(folder)).resolve()
        if not (run / "results.json").exists():
            fabricate(run, asked.examples, tuple(asked.size))
        began, worked = time.monotonic(), time.process_time()
        page = write_report(run)
        print(f"{asked.examples} examples of {asked.size[0]} x {asked.size[1]}, 4 pictures each: "
              f"{page.stat().st_size / 1e6:.1f} MB, written in {time.monotonic() - began:.1f} s, "
              f"{time.process_time() - worked:.1f} s of a core")  # fmt: skip
        if not CHROMIUM:
            print("no Chromium found: opening is not measured")
            return
        # the page's policy lets no script run but its own, so the measured copies go without it
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', PROBE, page.read_text("utf-8"))
        pages = {name: page.with_name(f"{name}.html") for name in ("folded", "unfolded")}
        blank = page.with_name("blank.html")
        blank.write_text(f"<!doctype html>{PROBE}")
        pages["folded"].write_text(text)
        pages["unfolded"].write_text(unfolded(text))
        turns = [{name: times(each) for name, each in {**pages, "blank": blank}.items()} for _ in range(asked.repeats)]
        base = statistics.median(turn["blank"][2] for turn in turns)
        print(f"{'page':<12}{'parsed s':>10}{'loaded s':>10}{'on screen s':>13}")
        for name in pages:
            parsed, loaded, wall = (statistics.median(turn[name][k] for turn in turns) for k in range(3))
            print(f"{name:<12}{parsed:>10.2f}{loaded:>10.2f}{wall - base:>13.2f}")


if __name__ == "__main__":
    main()
