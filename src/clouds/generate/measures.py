"""What is measured of an image of a set, once: kept in a file of the set's folder by the image's digest."""

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from clouds.base.arrays import Pixels
from clouds.base.journal import Journal
from clouds.base.progress import track
from clouds.data.images import decode_image
from clouds.errors import DataError
from clouds.generate.duplicates import perceptual_hash

Values = dict[str, Any]
CACHE = ".audit"  # a folder inside the set
FORMAT = 1  # of what is measured: another number measures anew


class Measures:
    """Values by key, each appended to a file of the set as it is measured; ``settings`` tell the files apart."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        text = json.dumps([FORMAT, settings], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        self._journal = Journal(folder / CACHE / f"{name}-{digest}.jsonl", skip_damaged=True)
        self._journal.mend()
        self._known: dict[str, Values] = {}
        for row in self._journal.rows:
            try:
                key, values = row
                self._known[key] = dict(values)
            except (ValueError, TypeError):
                continue  # measured again

    def get(self, key: str, measure: Callable[[], Values]) -> Values:
        """What is known of ``key``, else measured now, and on disk when this returns."""
        if key not in self._known:
            self._known[key] = measure()
            self._journal.add([key, self._known[key]])
        return self._known[key]

    def each(self, what: str, wanted: Mapping[Hashable, tuple[str, Callable[[], Values]]]) -> dict[Any, Values]:
        """{item: values} for {item: (key, how to measure it)}, with progress of those that are new."""
        found = {item: self._known[key] for item, (key, _) in wanted.items() if key in self._known}
        left = [item for item in wanted if item not in found]
        for item in track(left, what, len(wanted), len(found), "images"):
            key, measure = wanted[item]
            found[item] = self.get(key, measure)
        return found


def look(data: bytes, name: str) -> Values:
    """What needs no model, of an image file's bytes: "size" [height, width], "spread" (standard deviation of the grey
    values, 0..255), "contrast" (1st to 99th percentile, a share of 255), "sharpness" (variance of the Laplacian of the
    image at 256 pixels a side), "hash" (perceptual, 16 hex digits) and "pixels" (SHA-256); or "broken": why."""
    try:
        pixels = decode_image(data, name)
    except DataError as error:
        return {"broken": str(error).removeprefix(f"{name}: ").removesuffix(", fetch it again")}
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    dark, bright = np.percentile(grey, (1, 99))
    small = cv2.resize(grey, (256, 256), interpolation=cv2.INTER_AREA)
    return {
        "size": list(grey.shape),
        "spread": round(float(grey.std()), 3),
        "contrast": round(float(bright - dark) / 255, 4),
        "sharpness": round(float(cv2.Laplacian(small, cv2.CV_32F).var()), 2),
        "hash": f"{perceptual_hash(grey):016x}",
        "pixels": pixels_key(pixels),
    }


def pixels_key(pixels: Pixels) -> str:
    """SHA-256 of an image's pixels and shape."""
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
