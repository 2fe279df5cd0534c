"""A picture for the gallery page: images in rows, what the warm-up and the joint model of a run see in them, a legend.

    python benchmarks/gallery.py RUN [PHOTO_OR_FOLDER...] [--out docs/images/gallery.jpg] [--most 8]

Without photos it shows drawn scenes that no training uses.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from clouds import api, streets
from clouds.base.pick import evenly
from clouds.data.legend import draw_legend
from clouds.data.walk import find_images
from clouds.predict.pictures import as_rgb

WIDTH, GAP = 480, 6  # pixels of a column, and between pictures
WORLDS = ("town", "fog", "night", "rain", "snow")
SCENE = 31  # of each world


def pictures(photos: list[Path], most: int) -> list[np.ndarray]:
    """RGB images of one width."""
    files = [file for path in photos for file in (find_images(path) if path.is_dir() else [path])]
    chosen = [as_rgb(files[k]) for k in evenly(len(files), most)] if files else [
        streets.render(streets.sample(world, SCENE), (384, 768))[0] for world in WORLDS]
    return [cv2.resize(each, (WIDTH, round(WIDTH * each.shape[0] / each.shape[1])), interpolation=cv2.INTER_AREA)
            for each in chosen]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, default=Path("docs/images/gallery.jpg"))
    parser.add_argument("--most", type=int, default=8, help="photos at most")
    asked = parser.parse_args()
    run = api.Run(asked.run)
    models = [run.model(stage) for stage in ("warmup", "joint")]
    rows, seen = [], set()
    for image in pictures(asked.photos, asked.most):
        results = [model.predict(image) for model in models]
        seen |= {k for result in results for k in np.unique(result.labels).tolist()}
        gap = np.full((image.shape[0], GAP, 3), 255, np.uint8)
        row = np.hstack([image, gap, results[0].overlay(), gap, results[1].overlay()])
        rows += [row, np.full((GAP, row.shape[1], 3), 255, np.uint8)]
    classes = [(models[0].classes[k], tuple(models[0].colors[k].tolist())) for k in sorted(seen)]
    sheet = np.vstack([*rows, draw_legend(classes, rows[0].shape[1], 20)])
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(asked.out, quality=85)
    print(f"{asked.out}: {sheet.shape[1]} x {sheet.shape[0]}, {asked.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
