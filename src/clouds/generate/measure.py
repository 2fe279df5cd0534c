"""What is measured of one image, and kept by the image's content: an audit that is run again measures what is new."""

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.base.files import make_folder
from clouds.base.progress import track
from clouds.data.images import decode_image
from clouds.errors import DataError
from clouds.generate.duplicates import perceptual_hash

CACHE = ".audit"  # a folder inside the set
FORMAT = 1  # of what is measured: another number measures anew

Values = dict[str, Any]


class Measures:
    """Values by key, each appended to a file of the set as it is measured; ``settings`` tell the files apart."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        told = json.dumps([FORMAT, settings], sort_keys=True, default=str)
        self.path = folder / CACHE / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:12]}.jsonl"
        self._known: dict[str, Values] = {}
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:  # a kill cut the last line
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        for line in whole.splitlines():
            try:
                key, values = json.loads(line)
                self._known[key] = dict(values)
            except (ValueError, TypeError):
                continue  # measured again

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def get(self, key: str, measure: Callable[[], Values]) -> Values:
        """What is known of ``key``, else measured now, and on disk when this returns."""
        if key not in self._known:
            self._known[key] = measure()
            make_folder(self.path.parent)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, self._known[key]]) + "\n")
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


def pixels_key(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of an image's pixels and shape."""
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
