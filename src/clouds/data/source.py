"""The embedded labelled source: rendered street scenes of one clean town, drawn once into the run folder."""

from collections.abc import Iterator
from pathlib import Path

import cv2

from clouds.config import Recipe
from clouds.data import streets
from clouds.files import whole_file
from clouds.progress import track


def render_source(recipe: Recipe, folder: Path) -> list[tuple[Path, Path]]:
    """Render what is missing of the source set; returns (image, label) paths. Scene k depends on (recipe, k) only."""
    count = recipe.data.source_count
    paths = [(folder / f"{k:06d}.png", folder / f"{k:06d}_label.png") for k in range(count)]
    missing = [k for k, (image, label) in enumerate(paths) if not (image.exists() and label.exists())]

    def make() -> Iterator[None]:
        for k in missing:
            scene = streets.sample("source", recipe.seed * 100_000 + k)
            for path, picture in zip(paths[k], streets.render(scene, recipe.data.source_size), strict=True):
                data = cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture)[1]
                with whole_file(path) as temporary:
                    temporary.write_bytes(data.tobytes())  # cv2.imwrite would be silent on a full disk
            yield

    for _ in track(make(), "rendering the source", count, count - len(missing), "scenes"):
        pass
    return paths
