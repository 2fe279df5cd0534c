"""Reads labels that are drawn: the shapes of each sample, painted when they are asked for."""

from collections.abc import Mapping

from clouds.base.arrays import Labels
from clouds.data.exif import orientation
from clouds.data.images import MAX_PIXELS, image_size
from clouds.data.samples import Sample
from clouds.data.shapes import Drawing, paint


def upright_size(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of an image as viewers show it, on which tools draw that store no size."""
    height, width = image_size(data, where, max_pixels)
    return (width, height) if 5 <= orientation(data) <= 8 else (height, width)


class DrawnLabels:
    """``reader(sample, max_pixels)`` -> (H, W) uint8 indices; ``background`` under no shape.

    ``meaning``: a text that differs where the same sample reads otherwise. ``notes()``: what was clipped so far.
    """

    def __init__(self, drawings: Mapping[str, Drawing], background: int, meaning: str) -> None:
        self.drawings, self.background, self.meaning = drawings, background, meaning
        self.clipped: dict[str, tuple[int, str]] = {}  # by the label's place: how many shapes, and the first of them

    def drawing(self, sample: Sample, max_pixels: int) -> Drawing:  # noqa: ARG002 - a reader that asks sizes needs it
        """What is drawn of a sample."""
        return self.drawings[sample.name]

    def __call__(self, sample: Sample, max_pixels: int) -> Labels:
        where = f"{sample.label}: {sample.name}"
        label, clipped = paint(self.drawing(sample, max_pixels), where, self.background, max_pixels)
        if clipped:
            self.clipped[where] = len(clipped), clipped[0]
        return label

    def notes(self) -> list[str]:
        if not self.clipped:
            return []
        count, where = sum(count for count, _ in self.clipped.values()), min(self.clipped)
        reach = "shape reaches beyond its image and is" if count == 1 else "shapes reach beyond their image and are"
        return [f"{count} {reach} clipped, such as {self.clipped[where][1]} of {where}"]
