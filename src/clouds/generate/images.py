"""Draw the generated set: image k depends only on (recipe, k), so that work can stop anywhere and go on."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.config import Recipe
from clouds.errors import CloudsError
from clouds.files import make_folder, read_jsonl, whole_file, write_jsonl
from clouds.foundation.diffusion import build_generator
from clouds.progress import track

METADATA = "metadata.jsonl"


def image_seed(seed: int, k: int) -> int:
    """A 32-bit seed for image k of a run's seed."""
    return int(np.random.SeedSequence((seed, k)).generate_state(1)[0])


def write_png(path: Path, image: NDArray[np.uint8]) -> str:
    """Write RGB (H, W, 3) or grey (H, W) as PNG, whole or not at all; returns the file's SHA-256."""
    ok, data = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)
    if not ok:
        raise CloudsError(f"{path}: OpenCV could not encode the image")
    with whole_file(path) as temporary:
        temporary.write_bytes(data.tobytes())
    return hashlib.sha256(data.tobytes()).hexdigest()


def draw(recipe: Recipe, prompts: list[str], folder: Path) -> list[dict[str, Any]]:
    """Draw what is missing of the set into ``folder``; returns the manifest's rows, in order.

    A row and its file stand or fall together: an image without its row, or a row whose image is gone or was made by
    other settings, is drawn again.
    """
    settings = recipe.generate
    generator = build_generator(settings.generator, settings.size)
    wanted: list[dict[str, Any]] = [
        {
            "file_name": f"{k:06d}.png",
            "prompt": prompts[k % len(prompts)],
            "seed": image_seed(recipe.seed, k),
            "generator": generator.name,
            "revision": generator.revision,
            "steps": None,
            "guidance": None,
            "size": list(settings.size),
        }
        for k in range(settings.count)
    ]
    manifest = folder / METADATA
    known = {row["file_name"]: row for row in read_jsonl(manifest, cut_is_fine=True)} if manifest.exists() else {}

    def is_made(row: dict[str, Any]) -> bool:
        old = known.get(row["file_name"])
        same = old is not None and all(old.get(key) == value for key, value in row.items())
        return same and (folder / row["file_name"]).exists()

    missing = [row for row in wanted if not is_made(row)]
    rows = {row["file_name"]: known[row["file_name"]] for row in wanted if is_made(row)}
    make_folder(folder)
    if missing:
        write_jsonl(manifest, list(rows.values()))

    def make() -> Iterator[None]:
        with manifest.open("a", encoding="utf-8") as log:
            for row in missing:
                image = generator.generate([row["prompt"]], [row["seed"]])[0]
                digest = write_png(folder / row["file_name"], image)
                rows[row["file_name"]] = {**row, "sha256": digest}
                log.write(json.dumps(rows[row["file_name"]], ensure_ascii=False) + "\n")
                log.flush()
                yield

    for _ in track(make(), "drawing prompts", settings.count, settings.count - len(missing), "images"):
        pass
    ordered = [rows[row["file_name"]] for row in wanted]
    if missing:
        write_jsonl(manifest, ordered)
    return ordered
