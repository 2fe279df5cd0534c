"""A contact sheet: pairs of a dataset, each image beside its label, with the colours explained."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clouds.base.arrays import Pixels
from clouds.check.inspect import THUMBNAIL, Example
from clouds.config.label_sets import IGNORE
from clouds.data.labels import LabelSet, colorize
from clouds.data.legend import INK, PALE, draw_legend

COLUMNS, MARGIN, CAPTION, LINE = 2, 16, 24, 26
OPACITY = 0.6


def contact_sheet(title: str, examples: Sequence[Example], label_set: LabelSet) -> Pixels:
    """Examples in rows of two, image | overlay, under a title and a legend of what they show: (H, W, 3) uint8."""
    width = THUMBNAIL
    cell = 2 * width + MARGIN
    total = COLUMNS * cell + (COLUMNS + 1) * MARGIN
    font, large = ImageFont.load_default(14), ImageFont.load_default(19)
    shown = sorted({int(k) for e in examples for k in np.unique(e.label)} - {IGNORE})
    legend = draw_legend([*((label_set.classes[k], label_set.colors[k]) for k in shown), ("ignored", (0, 0, 0))], total)
    rows = [examples[i : i + COLUMNS] for i in range(0, len(examples), COLUMNS)]
    heights = [max(e.image.shape[0] for e in row) + CAPTION for row in rows]
    top = 2 * MARGIN + LINE + len(legend)
    sheet = Image.new("RGB", (total, top + sum(heights) + MARGIN * len(rows)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), _shorten(title, total - 2 * MARGIN, large), INK, large)
    sheet.paste(Image.fromarray(legend), (0, MARGIN + LINE))
    y = top
    for row, height in zip(rows, heights, strict=True):
        for column, example in enumerate(row):
            x = MARGIN + column * (cell + MARGIN)
            sheet.paste(Image.fromarray(example.image), (x, y))
            sheet.paste(Image.fromarray(_overlay(example, label_set)), (x + width + MARGIN // 2, y))
            draw.text((x, y + example.image.shape[0] + 3), _shorten(example.name, cell, font), PALE, font)
        y += height + MARGIN
    return np.asarray(sheet)


def _overlay(example: Example, label_set: LabelSet) -> Pixels:
    """Classes in colour over the image; ignored pixels darkened."""
    mixed = colorize(example.label, label_set) * OPACITY + example.image * (1 - OPACITY)
    return mixed.round().astype(np.uint8)


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _shorten(text: str, width: int, font: Font) -> str:
    """The text, its middle left out where it is wider than ``width``."""
    for keep in range(len(text), 8, -2):
        short = text if keep == len(text) else f"{text[: keep // 2]}...{text[-keep // 2 :]}"
        if font.getlength(short) <= width:
            return short
    return text[-8:]
