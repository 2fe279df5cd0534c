"""Writes docs/images/streets.png: every distribution and a few prompts, each picture above its label.

Usage: python benchmarks/contact_sheet.py [OUT.png] [FIRST_SEED]
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from clouds.config.label_sets import COLORS
from clouds.streets import DISTRIBUTIONS, from_prompt, render, sample

PROMPTS = (
    "A photo of a narrow street in an old town at golden hour, with parked bicycles",
    "A photo of a country road in light mist at dawn in autumn, with cyclists",
    "A photo of a busy downtown avenue after the rain at night, with buses and a crowd of people",
)
COLUMNS = 4
SIZE = (128, 256)  # of a cell; rendered at twice that


def main() -> None:
    root = Path(__file__).parents[1]
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "docs" / "images" / "streets.png"
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: len(COLORS)] = COLORS
    rows = []
    for name in (*DISTRIBUTIONS, *PROMPTS):
        pictures, labels = [], []
        for seed in range(first, first + COLUMNS):
            scene = sample(name, seed) if name in DISTRIBUTIONS else from_prompt(name, seed)
            picture, label = render(scene, (SIZE[0] * 2, SIZE[1] * 2))
            pictures.append(cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA))
            labels.append(palette[cv2.resize(label, SIZE[::-1], interpolation=cv2.INTER_NEAREST)])
        title = np.full((18, SIZE[1] * COLUMNS, 3), 255, dtype=np.uint8)
        cv2.putText(title, name, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
        rows += [title, np.hstack(pictures), np.hstack(labels)]
    sheet = np.vstack(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    # a palette keeps the file small; pictures lose nothing one would see at this size
    from PIL import Image

    Image.fromarray(sheet).quantize(255, dither=Image.Dither.FLOYDSTEINBERG).save(out, optimize=True)
    print(
        f"{out}: {sheet.shape[1]} x {sheet.shape[0]}, {out.stat().st_size / 1e6:.2f} MB, "
        f"seeds {first}..{first + COLUMNS - 1}"
    )


if __name__ == "__main__":
    main()
