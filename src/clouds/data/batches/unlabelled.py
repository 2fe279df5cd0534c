"""The images without labels that joint training draws from: drawn ones, shown whole, and pictures of any size.

A picture of any size, as a photograph, stands for ``VIEWS`` crops: each is cut as a source image is, at a scale and
place that follow from (seed, the file's content, its number), so that it is an image of the crop's size that never
changes.
"""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from clouds.base.arrays import Pixels
from clouds.base.progress import say
from clouds.config.recipe import Augment, Recipe
from clouds.data.archives import Folder
from clouds.data.batches.augment import resized_window
from clouds.data.cache import DecodedCache, identity
from clouds.data.images import header_size, read_image
from clouds.data.photographs import Photograph, look_at, photograph
from clouds.data.samples import Place
from clouds.data.source import Source
from clouds.errors import DataError

VIEWS = 4  # crops of a picture: the segmenter's work and its memory grow with them


@dataclass(frozen=True)
class View:
    """A crop: the window at ``corner`` (top, left) of ``size`` (h, w) of the picture resized to ``scaled`` (H, W)."""

    picture: Photograph
    scaled: tuple[int, int]
    corner: tuple[int, int]
    size: tuple[int, int]

    @property
    def key(self) -> bytes:
        """What its pixels follow from."""
        return f"{self.picture.sha256} {self.scaled} {self.corner} {self.size}".encode()

    def pixels(self, cache: DecodedCache | None = None) -> Pixels:
        """(h, w, 3) uint8 RGB; DataError naming the file."""
        picture = self.picture
        place = picture.place
        whole = cache.get(identity(place, "upright"), picture.pixels) if cache else picture.pixels()
        return resized_window(whole, self.scaled, self.corner, self.size)

    def __str__(self) -> str:
        return str(self.picture)


def view_of(picture: Photograph, number: int, augment: Augment, side: int, seed: int) -> View:
    """Crop ``number`` of a picture, 0 .. VIEWS - 1.

    ``side``: pixels of the shorter side at factor 1. The range of ``augment.scale``, as far as the crop fits into the
    picture, is cut into VIEWS parts, so that the crops show different scales; a picture that is too small is scaled up.
    """
    rng = np.random.default_rng((seed, int(picture.sha256[:16], 16), number))
    own, crop = picture.size, augment.crop
    fits = max(least / pixels for least, pixels in zip(crop, own, strict=True))
    low, high = (max(factor * side / min(own), fits) for factor in augment.scale)
    factor = low + (high - low) * (number + rng.random()) / VIEWS
    height, width = (max(round(pixels * factor), least) for pixels, least in zip(own, crop, strict=True))
    corner = int(rng.integers(height - crop[0] + 1)), int(rng.integers(width - crop[1] + 1))
    return View(picture, (height, width), corner, crop)


@dataclass(frozen=True)
class Pool:
    """Pictures of any size that are drawn from together: by ``weight`` against other sets, or ``repeat`` times in an
    epoch. ``photographs``: or else a generated set whose images have another size than the crop."""

    pictures: Sequence[Photograph]
    weight: float | None = None
    repeat: float = 1.0
    photographs: bool = True


class Unlabelled:
    """Images without labels, counted through: the drawn ones, then the pictures of each pool.

    Each has one *look* (a drawn image) or VIEWS of them, counted through likewise: a look is an image of the crop's
    size whose pixels never change, so that embeddings, regions and counts go by its number.
    """

    def __init__(
        self, drawn: Sequence[Path], augment: Augment, pools: Sequence[Pool] = (), side: int = 1, seed: int = 0,
        cache: DecodedCache | None = None
    ) -> None:
        """drawn: files of the crop's size. side: as for ``view_of``. cache: of decoded pictures."""
        self.drawn, self.pools, self.cache = list(drawn), list(pools), cache
        self.augment, self.side, self.seed = augment, side, seed
        self.sizes = [len(self.drawn), *(len(pool.pictures) for pool in self.pools)]
        self._ends = list(accumulate(self.sizes))

    def __len__(self) -> int:
        return self._ends[-1]

    def set_of(self, index: int) -> range:
        """The images of the set that image ``index`` belongs to."""
        which = bisect_right(self._ends, index)
        return range(self._ends[which] - self.sizes[which], self._ends[which])

    def _picture(self, index: int) -> tuple[Pool, Photograph]:
        which = bisect_right(self._ends, index)
        pool = self.pools[which - 1]
        return pool, pool.pictures[index - (self._ends[which] - self.sizes[which])]

    def name(self, index: int) -> str:
        """The file of an image."""
        return str(self.drawn[index] if index < len(self.drawn) else self._picture(index)[1])

    def draw(self, index: int, rng: np.random.Generator) -> int:
        """A look at an image, by its number."""
        extra = index - len(self.drawn)
        return index if extra < 0 else len(self.drawn) + extra * VIEWS + int(rng.integers(VIEWS))

    def _image_of(self, look: int) -> tuple[int, int]:
        """The image of a look, and which of its views it is."""
        extra, view = divmod(look - len(self.drawn), VIEWS)
        return (look, 0) if look < len(self.drawn) else (len(self.drawn) + extra, view)

    def look(self, number: int) -> Path | View:
        """A drawn image's file, or a crop of a picture."""
        index, view = self._image_of(number)
        if index < len(self.drawn):
            return self.drawn[index]
        return view_of(self._picture(index)[1], view, self.augment, self.side, self.seed)

    def pixels(self, number: int) -> Pixels:
        """A look, (h, w, 3) uint8 RGB; DataError naming its file, also for a drawn image of another size."""
        look = self.look(number)
        if isinstance(look, View):
            return look.pixels(self.cache)
        image = read_image(look)
        if image.shape[:2] != self.augment.crop:
            raise DataError(f"{look}: is {image.shape[:2]} (height, width), expected {self.augment.crop}")
        return image

    def counts(self, looks: Collection[int]) -> tuple[int, int]:
        """How many generated images and how many photographs these looks show."""
        shown = {self._image_of(look)[0] for look in looks}
        photographs = sum(map(self._of_photographs, shown))
        return len(shown) - photographs, photographs

    def is_photograph(self, look: int) -> bool:
        """Whether a look is at a photograph, and not at a generated image."""
        return self._of_photographs(self._image_of(look)[0])

    def _of_photographs(self, index: int) -> bool:
        return index >= len(self.drawn) and self._picture(index)[0].photographs

    @property
    def photographs(self) -> int:
        """How many photographs there are."""
        return sum(len(pool.pictures) for pool in self.pools if pool.photographs)


def unlabelled_images(
    recipe: Recipe, drawn: list[Path], photographs: Sequence[Sequence[Photograph]], source: Source
) -> Unlabelled:
    """What joint training draws from beside the source: the generated set, then each set of ``data.unlabelled``, whose
    ``photographs`` are given (none where joint training is done).

    A set of ``generate.folder`` whose images have other sizes than the crop is cut like photographs, and that is said;
    of a few such images (``data.max_bad``) training leaves out those.
    """
    weights = [chosen.weight for chosen in recipe.data.unlabelled]
    pools = [Pool(pictures, weight) for pictures, weight in zip(photographs, weights, strict=False)]
    crop, train = recipe.augment.crop, recipe.train
    sizes = [header_size(path) for path in drawn] if recipe.generate.folder else []
    other = [size for size in sizes if size not in (crop, None)]
    if len(other) > recipe.data.max_bad * len(drawn):
        places = [Place(Folder(path.parent), path.name) for path in drawn]
        pictures = list(filter(None, map(photograph, places, look_at(places))))
        say(f"{recipe.generate.folder}: {len(other)} of {len(drawn)} images are not {crop[1]}x{crop[0]}, the first "
            f"one {other[0][1]}x{other[0][0]}: the set is scaled and cropped like photos")  # fmt: skip
        pools.insert(0, Pool(pictures, train.generated_weight, train.generated_repeat, photographs=False))
        drawn = []
    if not pools:
        return Unlabelled(drawn, recipe.augment)
    side = recipe.augment.shorter_side or source.shorter_side()
    return Unlabelled(drawn, recipe.augment, pools, side, recipe.seed, source.cache)
