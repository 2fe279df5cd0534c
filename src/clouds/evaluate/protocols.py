"""How publications score: the size, window, label size and classes of each domain, under the name of each.

Read from the published code: CLOUDS (yasserben/CLOUDS: clouds/data/dataset_mappers/mapper_test.py), Rein (w1oves/Rein)
and SoMA (ysj9909/SoMA): configs/_base_/datasets/*_512x512.py and *_1024x1024.py, tools/convert_datasets/
mapillary_resize.py, rein/dg_metrics.py; Cityscapes' own is cityscapesscripts'. docs/publications.md has them as a
table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Pillow

from clouds.base.arrays import Labels, Pixels
from clouds.data.batches.augment import resized_window
from clouds.model.inference import OWN_SIZE, Inference, resized

OWN, HALF, SEEN = OWN_SIZE, "half the label's size", "the size the image is seen at"


@dataclass(frozen=True)
class View:
    """How one domain is seen and scored. ``how``: how the model looks at an image; ``scored_at``: OWN, HALF or SEEN;
    ``absent_counts``: whether a class that the truth never shows counts as 0 where it is predicted."""

    how: Inference
    scored_at: str = OWN
    absent_counts: bool = False

    def inference(self) -> Inference:
        """How the model looks at what ``prepare`` returns."""
        return Inference(0) if self.scored_at == SEEN else self.how

    def prepare(self, image: Pixels, label: Labels) -> tuple[Pixels, Labels]:
        """(H, W, 3) and (H, W) uint8 as the publication scores them: as they are, or both shrunk."""
        if self.scored_at == OWN:
            return image, label
        height, width = image.shape[:2]
        if self.scored_at == SEEN:
            size = resized((height, width), self.how.shorter_side)
            return resized_window(image, size, (0, 0), size), _nearest(label, size)
        small = Pillow.fromarray(image).resize((width // 2, height // 2), Pillow.Resampling.BICUBIC)
        return np.asarray(small), _nearest(label, (height // 2, width // 2))

    def as_record(self) -> dict[str, Any]:
        """Plain data for ``results.json``."""
        absent = {"absent_classes": "count as 0 where they are predicted"} if self.absent_counts else {}
        return {**self.how.as_record(), "scored_at": self.scored_at, **absent}


def _nearest(label: Labels, size: tuple[int, int]) -> Labels:
    return np.asarray(Pillow.fromarray(label).resize((size[1], size[0]), Pillow.Resampling.NEAREST))


def _mmseg(long: int, short: int, crop: int, scored_at: str = OWN) -> View:
    """mmsegmentation's: an image within long x short pixels, by OpenCV's filter; windows of 2/3 overlap."""
    how = Inference(short, window=crop, stride=round(crop * 2 / 3), within=(long, short), smooth=False)
    return View(how, scored_at, absent_counts=True)


# by protocol: the first part of a domain's name -> how it is seen; "" is every other domain, as Cityscapes
PROTOCOLS: Mapping[str, Mapping[str, View]] = {
    "clouds": {"": View(Inference(1024), SEEN)},
    "rein": {
        "": _mmseg(1024, 512, 512), "bdd100k": _mmseg(1280, 720, 512), "acdc": _mmseg(960, 540, 512),
        "mapillary": _mmseg(1024, 512, 512, HALF),
    },
    "rein-1024": {
        "": _mmseg(2048, 1024, 1024), "acdc": _mmseg(1920, 1080, 1024), "mapillary": _mmseg(2048, 1024, 1024, HALF),
    },
    "soma": {
        "": _mmseg(2048, 1024, 512), "bdd100k": _mmseg(1280, 720, 512), "acdc": _mmseg(960, 540, 512),
        "mapillary": _mmseg(2048, 1024, 512, HALF),
    },
    "soma-1024": {
        "": _mmseg(2048, 1024, 1024), "acdc": _mmseg(1920, 1080, 1024), "mapillary": _mmseg(2048, 1024, 1024, HALF),
    },
    "cityscapes": {"": View(Inference(0), absent_counts=True)},
}  # fmt: skip
MAPILLARY = ("mapillary", "mapillary-rein")  # the two tables of its classes: HRDA's, which CLOUDS has, and Rein's


def view_of(protocol: str, domain: str) -> View:
    """How the protocol sees a domain."""
    rows = PROTOCOLS[protocol]
    return rows.get(domain.partition("@")[0].partition("-")[0], rows[""])


def domain_of(protocol: str | None, name: str) -> str:
    """The domain that the protocol scores under a name: Mapillary's classes follow its own table."""
    base = name.partition("@")[0]
    if base not in MAPILLARY or protocol in (None, "cityscapes"):
        return name
    wanted = MAPILLARY[protocol != "clouds"]
    return name if base == wanted else wanted
