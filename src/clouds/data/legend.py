"""A legend as pixels: which colour is which class."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clouds.base.arrays import Pixels
from clouds.config.label_sets import Color

INK, PALE, PAPER = (30, 30, 34), (110, 110, 118), (255, 255, 255)


def draw_legend(entries: Sequence[tuple[str, Color]], width: int, size: int = 14, margin: int = 16) -> Pixels:
    """Names beside squares of their colours, on as many lines as they need: (h, ``width``, 3) uint8.

    size: of the letters, in pixels. margin: free pixels to the left and right. A name wider than the strip is cut.
    """
    font = ImageFont.load_default(size)
    square, line = round(1.15 * size), round(1.85 * size)
    places: list[tuple[int, int]] = []
    x, y = margin, 0
    for name, _ in entries:
        wide = square + size // 2 + round(font.getlength(name))
        if x + wide > width - margin and x > margin:
            x, y = margin, y + line
        places.append((x, y))
        x += wide + round(1.3 * size)
    strip = Image.new("RGB", (width, y + line if entries else 0), PAPER)
    draw = ImageDraw.Draw(strip)
    for (name, color), (x, y) in zip(entries, places, strict=True):
        top = y + (line - square) // 2
        draw.rectangle((x, top, x + square, top + square), fill=tuple(map(int, color)), outline=PALE)
        draw.text((x + square + size // 2, y + line // 2), name, INK, font, anchor="lm")
    return np.asarray(strip)
