"""A restyler with the styles it takes them from: which style an image gets follows from its seed alone.

Styles are images of a folder, photographs that come with scikit-image, scenes that the street renderer draws, or, for a
pipeline, prompts; never photos that models are scored on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clouds import streets
from clouds.base.arrays import Pixels
from clouds.base.files import as_bytes
from clouds.base.progress import track
from clouds.config.backends import takes
from clouds.config.recipe import Recipe, Restyle
from clouds.config.scene import STREETS
from clouds.data.datasets import FOLDERS, PHOTOS
from clouds.data.images import ENDINGS, decode_image, image_size
from clouds.data.walk import find_images
from clouds.errors import UsageError
from clouds.foundation.restyler import Restyler, Style, build_restyler, check_restyler
from clouds.foundation.weights import package_file
from clouds.foundation.writers.grammar import Grammar

DRAWN = (256, 512)  # height, width of a drawn style
# Photographs of no street inside the package scikit-image, in the public domain or CC0 as its documentation says
PUBLIC_PHOTOS = ("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png",
                 "rocket.jpg")  # fmt: skip


class Look:
    """``record(seed)`` says how the image of a seed is restyled, ``restyle`` does it."""

    def __init__(self, restyler: Restyler, files: Mapping[str, Path], prompts: Sequence[str] = ()) -> None:
        """files: style images by name, all read once to know that they can be; prompts: for a restyler of prompts."""
        self.restyler, self.files, self.prompts = restyler, dict(files), list(prompts)
        self.digest = _digest(self.files) if files else None

    def record(self, seed: int, prompt: str | None = None) -> dict[str, Any]:
        """What the manifest says of an image: the restyler's record, the ``style`` and a digest of all ``styles``.

        ``prompt``: the image's own, which a pipeline then takes.
        """
        choose = np.random.default_rng((seed, 0x57)).integers
        if self.restyler.takes == "prompt":
            style = prompt or self.prompts[int(choose(len(self.prompts)))]
        elif self.files:
            style = list(self.files)[int(choose(len(self.files)))]
        else:
            (style,) = Grammar().write((), 1, seed)
        return {**self.restyler.record, "style": style, "styles": self.digest}

    def restyle(self, images: Sequence[Pixels], styles: Sequence[str], seeds: Sequence[int]) -> list[Pixels]:
        """Images uint8 (H, W, 3), the ``style`` of each as recorded -> images of the same sizes.

        BackendError where the restyler cannot be used, RuntimeError or ValueError where these images fail.
        """
        loaded = [self._style(style, seed) for style, seed in zip(styles, seeds, strict=True)]
        found = self.restyler.restyle(images, loaded, seeds)
        if [each.shape for each in found] != [each.shape for each in images]:
            raise RuntimeError(f"the restyler changed the size of an image: {[each.shape for each in found]}")
        return found

    def _style(self, style: str, seed: int) -> Style:
        if self.restyler.takes == "prompt":
            return style
        if self.files:
            path = self.files[style]
            return decode_image(path.read_bytes(), str(path))
        return streets.render(streets.from_prompt(style, seed), DRAWN)[0]


def look_of(
    settings: Restyle, key: str, recipe: Recipe, prompts: Sequence[str] = (), generated: Sequence[Path] = ()
) -> Look:
    """The look of the restyle settings at ``key`` of a recipe.

    ``generated``: the run's set, where the styles come from there. Raises UsageError for styles that are not there,
    DataError for one that is no image, BackendError for a backend that cannot be used.
    """
    restyler = build_restyler(settings, key)
    if settings.styles == "generated":
        return Look(restyler, {path.name: path for path in generated}, prompts)
    return Look(restyler, style_files(settings, key, recipe), prompts)


def check_looks(recipe: Recipe, drawn: bool, source: bool) -> None:
    """What can be known before any work of the restyling of drawn images and of the source; raises as ``look_of``."""
    if (restyle := recipe.generate.restyle) and drawn and recipe.generate.folder is None:
        check_restyler(restyle, "generate.restyle")
        style_files(restyle, "generate.restyle", recipe)
    if (restyle := recipe.data.restyle) and source:
        check_restyler(restyle, "data.restyle")
        style_files(restyle, "data.restyle", recipe)


def style_files(settings: Restyle, key: str, recipe: Recipe) -> dict[str, Path]:
    """The images of the styles by their path below their folder, in order; none where they are drawn or generated.

    UsageError for a folder that cannot be and for drawn styles where the scene is none that is drawn, BackendError for
    photographs that their package does not hold.
    """
    if settings.styles is None and "image" in takes(settings.backend) and recipe.scene.shipped != STREETS:
        raise UsageError(
            f"{key}.styles: null takes styles from the street renderer, and the scene is {recipe.scene.name}; name a "
            "folder of style images, or `photos`"
        )
    if settings.styles in (None, "generated"):
        return {}
    if settings.styles == "photos":
        return {name: package_file("skimage", f"data/{name}", "scikit-image") for name in PUBLIC_PHOTOS}
    folder = Path(str(settings.styles)).expanduser()
    if not folder.is_dir():
        raise UsageError(f"{key}.styles: {folder} is not a folder; expected one of style images ({', '.join(ENDINGS)})")
    root = recipe.data.root
    scored = [root / FOLDERS[name] for name in PHOTOS] if root else []
    if any(folder.resolve().is_relative_to(photos.resolve()) for photos in scored):
        raise UsageError(f"{key}.styles: {folder} holds photos that models are scored on; take styles from elsewhere")
    files = find_images(folder, f"{key}.styles: ")
    return {name: folder / name for name in sorted(path.relative_to(folder).as_posix() for path in files)}


def _digest(files: Mapping[str, Path]) -> str:
    """Of names and contents: other styles make other images. DataError for a file that is no image."""
    digest = hashlib.sha256()
    for name, path in track(files.items(), "reading styles", len(files), unit="images"):
        data = path.read_bytes()
        image_size(data, str(path))
        digest.update(as_bytes(f"{name}\0{hashlib.sha256(data).hexdigest()}\0"))
    return digest.hexdigest()[:16]
