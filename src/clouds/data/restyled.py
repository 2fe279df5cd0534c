"""A labelled source of which a share of the samples shows restyled variants: other pixels, the very same label."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clouds.data.archives import Folder
from clouds.data.cache import identity
from clouds.data.decode import LazyImage
from clouds.data.pairing import Place
from clouds.data.source import Picture, Source
from clouds.errors import DataError


class Restyled:
    """The variants of a source's images. ``pair(index, rng)`` is a sample of the source, restyled or not."""

    def __init__(self, source: Source, folder: Path, variants: Mapping[int, list[str]], share: float) -> None:
        """variants: index in the source -> files in ``folder``; share: how often a draw shows one of them."""
        self.source, self.folder, self.variants, self.share = source, Folder(folder), variants, share

    def pair(self, index: int, rng: np.random.Generator) -> tuple[Picture, NDArray[np.uint8]]:
        """Image (H, W, 3) to be sliced, and label (H, W) of train ids, uint8, as ``Source`` gives them.

        An image without variants is shown as it is. DataError names a file that cannot be read or has another size.
        """
        chosen = rng.random() < self.share
        names = self.variants.get(index)
        if not (chosen and names):
            return self.source[index]
        place, label = Place(self.folder, names[int(rng.integers(len(names)))]), self.source.label(index)
        image = self._image(place)
        if image.shape[:2] != label.shape:
            (h, w), (lh, lw) = image.shape[:2], label.shape
            raise DataError(f"{place}: is {w}x{h} but the label of its source {lw}x{lh}; delete it, then train again")
        return image, label

    def _image(self, place: Place) -> Picture:
        cache = self.source.cache
        if cache is None:
            return LazyImage(place.read(), str(place))
        return cache.get(identity(place), lambda: np.asarray(LazyImage(place.read(), str(place))))
