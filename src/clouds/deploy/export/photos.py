"""Images that an export is checked with, and calibrated on."""

from importlib.util import find_spec
from pathlib import Path

import cv2

from clouds import streets
from clouds.base.arrays import Pixels
from clouds.base.pick import evenly
from clouds.data.walk import find_images
from clouds.errors import UsageError
from clouds.model.inference import Size
from clouds.predict.pictures import as_rgb

NAMES = ("rocket.jpg", "coffee.png", "astronaut.png", "chelsea.png", "motorcycle_left.png")  # of scikit-image
SCENES = 2
SEED = 3_000_017  # of no scene that is trained or scored on


def photos(paths: list[Path]) -> tuple[dict[str, Pixels], str]:
    """Pictures by name, and in words what they are: those of ``paths``, or public photos of scikit-image (those that
    its installed package holds) and rendered street scenes."""
    if paths:
        files = _files(paths)
        return {str(file): as_rgb(file) for file in files}, f"{len(files)} given"
    spec = find_spec("skimage")
    folder = Path(spec.origin).parent / "data" if spec and spec.origin else Path()
    found = {name: as_rgb(folder / name) for name in NAMES if (folder / name).is_file()}
    scenes = {f"town-{k}": streets.render(streets.sample("town", SEED + k))[0] for k in range(SCENES)}
    words = [f"{len(found)} photos of scikit-image"] if found else []
    return found | scenes, " and ".join([*words, f"{SCENES} rendered street scenes"])


def calibration(folder: Path | None, count: int) -> tuple[list[Pixels], str]:
    """At most ``count`` images, evenly spaced, of a folder, else rendered scenes of all looks; and what they are."""
    if folder is not None:
        files = _files([folder])
        chosen = [files[k] for k in evenly(len(files), count)]
        return [as_rgb(file) for file in chosen], f"{len(chosen)} of {folder}"
    looks = ("town", "fog", "night", "rain", "snow")
    scenes = [streets.render(streets.sample(looks[k % len(looks)], SEED + 100 + k))[0] for k in range(count)]
    return scenes, f"{count} rendered street scenes"


def variants(pictures: dict[str, Pixels], size: Size | None, side: int) -> dict[str, Pixels]:
    """The pictures at the export's one size; or at their own, and the first also upright, as a strip, smaller than
    the model's shorter ``side`` and larger."""
    if size:
        return {name: sized(picture, size) for name, picture in pictures.items()}
    name, first = next(iter(pictures.items()))
    side = side or min(first.shape[:2])
    forms = {
        "upright": (side * 3 // 2 + 5, side + 1), "strip": (side // 3, side + 3),
        "small": (side // 2 + 1, side * 2 // 3), "large": (side * 3 // 2 + 3, side * 2 + 7),
    }  # fmt: skip
    return pictures | {f"{name}, {form}": sized(first, wanted) for form, wanted in forms.items()}


def _files(paths: list[Path]) -> list[Path]:
    files = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such image or folder")
        files += find_images(path) if path.is_dir() else [path]
    return files


def sized(picture: Pixels, size: Size) -> Pixels:
    smaller = size[0] * size[1] < picture.shape[0] * picture.shape[1]
    out: Pixels = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return out
