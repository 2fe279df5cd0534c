"""The README's picture, made from a demo run: how a drawn image gets its labels, and what that does on unseen domains.

    python benchmarks/picture.py runs/demo

Only rendered domains are shown: photographs of the benchmark sets stay out of the repository.
"""

import argparse
import json
import textwrap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clouds.config.label_sets import IGNORE
from clouds.data.encodings import read_indices
from clouds.data.images import read_image
from clouds.data.labels import colorize

TILE, GAP, HEAD, LEFT = 232, 10, 26, 64
INK, PAPER = (32, 36, 44), (255, 255, 255)
DOMAINS = ("town", "fog", "night", "rain", "snow")


def read_label(path: Path) -> np.ndarray:
    """(H, W) uint8 class indices of a label PNG."""
    return read_indices(path.read_bytes(), str(path))


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def row(tiles: list[tuple[str, NDArray[np.uint8]]], left: str, height: int) -> Image.Image:
    """Tiles with captions above them, and a word at the left."""
    sheet = Image.new("RGB", (LEFT + len(tiles) * (TILE + GAP), height + HEAD + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((4, HEAD + height // 2 - 8), left, INK, font(15))
    for i, (caption, picture) in enumerate(tiles):
        x = LEFT + i * (TILE + GAP)
        pen.text((x, 6), caption, INK, font(13))
        sheet.paste(Image.fromarray(picture).resize((TILE, height), Image.Resampling.LANCZOS), (x, HEAD))
    return sheet


def with_points(labels: NDArray[np.uint8], points: list[tuple[int, list[tuple[float, float]]]]) -> NDArray[np.uint8]:
    picture = Image.fromarray(colorize(labels))
    pen = ImageDraw.Draw(picture)
    for _, places in points:
        for x, y in places:
            pen.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), fill=PAPER, outline=INK)
    return np.asarray(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images/demo.png"))
    asked = parser.parse_args()

    panel = sorted((asked.run / "pseudo").iterdir())[-1]
    image, teacher = read_image(panel / "image.png"), read_label(panel / "teacher.png")
    points = json.loads((panel / "points.json").read_text())
    decided = read_label(panel / "refined.png")
    refined = np.where((decided == IGNORE)[..., None], np.uint8(226), colorize(decided))
    drawn = asked.run / "generated"
    manifest = [json.loads(line) for line in (drawn / "metadata.jsonl").read_text().splitlines()]
    prompt = next(r["prompt"] for r in manifest if np.array_equal(read_image(drawn / r["file_name"]), image))
    said = Image.new("RGB", (TILE, TILE), (238, 241, 246))
    ImageDraw.Draw(said).text((14, 30), textwrap.fill(f"“{prompt}”", 26), INK, font(15))
    sheets = [
        row(
            [
                ("1  a prompt is written", np.asarray(said)),
                ("2  and drawn", image),
                ("3  teacher's labels, points", with_points(teacher, points)),
                ("4  refined (grey: undecided)", refined),
            ],
            "train",
            TILE,
        )
    ]
    for domain in DOMAINS:
        folder = asked.run / "evaluation" / "examples" / domain / "1"
        names = ("truth", "warmup", "joint")
        captions = ("truth", "warm-up", "joint") if domain == DOMAINS[0] else ("", "", "")
        tiles = [("never seen in training" if domain == DOMAINS[0] else "", read_image(folder / "photo.png"))]
        tiles += [(c, colorize(read_label(folder / f"{n}.png"))) for c, n in zip(captions, names, strict=True)]
        sheets.append(row(tiles, domain, TILE // 2))
    sheet = Image.new("RGB", (sheets[0].width, sum(s.height for s in sheets)), PAPER)
    top = 0
    for part in sheets:
        sheet.paste(part, (0, top))
        top += part.height
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(200).save(asked.out, optimize=True)
    print(f"{asked.out}: {sheet.width} x {sheet.height}, {asked.out.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
