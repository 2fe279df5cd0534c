"""Settings of what is learned from with labels, and how it is augmented."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from clouds.config.drawing import RestyledSource
from clouds.config.kinds import Count, Folder, Mark, Positive, Settings, Share, Side


def _no_switches(value: Any) -> Any:
    if isinstance(value, dict) and any(isinstance(each, bool) for pair in value.items() for each in pair):
        raise ValueError("expected values and classes, not true or false; quote a class of that name")
    return value


LabelMap = Annotated[dict[int | str, int | str | None], BeforeValidator(_no_switches)]


class LabelledSet(Settings):
    """A labelled dataset to learn from. The keys from `images` on are the layout of the dataset `folder`
    (docs/datasets.md)."""

    dataset: str
    """A name that `clouds classes` lists, `folder`, a class of your own as `MODULE:NAME`, or `streets`, rendered
    here."""
    split: str | None = None
    """The part to learn from; null is the dataset's training split."""
    root: Folder | None = None
    """The dataset's own folder or archive; null is its folder below `data.root`."""
    weight: Positive | None = None
    """The set's share of the draws against the other sets'; null is 1 where another set has a weight, else its size."""
    own_car: Literal["keep", "ignore"] = "keep"
    """`ignore` takes the recording car's own bonnet, a vehicle at the bottom of every label map, out of the labels."""
    version: str = ""
    """The dataset's version where several exist (mapillary, carla)."""
    partial: bool = False
    """Whether to use what pairs up of a set that is not whole, and pass over the rest."""
    images: str | None = None
    """Where images lie, with `{key}`, `{ext}` and `{split}`; null is `images/{key}.{ext}`."""
    labels: str | None = None
    """Where label files lie; null is `labels/{key}.png`."""
    label_map: LabelMap | None = None
    """What a label file stores -> a class of `label_set`, null to ignore it; null: indices of `label_set`."""
    label_set: str | dict[str, list[str]] | None = None
    """The classes: the name of a set, or class -> the Cityscapes classes it holds; null is `cityscapes19`."""
    encoding: str | None = None
    """How a label file stores classes, such as `index` or `colour`; null is `index`."""

    @property
    def layout(self) -> dict[str, Any]:
        """What the dataset "folder" takes, as far as it is given."""
        given = {k: getattr(self, k) for k in ("images", "labels", "label_map", "label_set", "encoding")}
        return {key: value for key, value in given.items() if value is not None}


def _sets(value: Any) -> Any:
    """One name, one set or a list of either -> a list of sets."""
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, str | dict | LabelledSet) for item in items):
        raise ValueError("expected a dataset's name, a set ({dataset: NAME, ...}), or a list of those")
    return [{"dataset": item} if isinstance(item, str) else item for item in items]


class Data(Settings):
    """What is learned from with labels."""

    root: Annotated[Folder | None, Mark.SCORING] = None
    """The folder that holds one folder per dataset; null: there is none, and only rendered domains are scored."""
    source: Annotated[list[LabelledSet], BeforeValidator(_sets), Field(min_length=1)] = Field(
        default_factory=lambda: [LabelledSet(dataset="streets")]
    )
    """What is learned from: one set or several."""
    source_count: Count = 400
    """Images of the rendered source, `streets`."""
    source_size: tuple[Side, Side] = (256, 512)
    """Height and width, in pixels, of the rendered source's images."""
    rare_classes: Positive | None = None
    """Rare-class sampling at this temperature (DAFormer's is 0.01): images of rare classes come more often, cropped
    where those are; null draws evenly."""
    cache: Annotated[Folder | None, Mark.RESUMABLE] = None
    """A folder that keeps decoded images and may be shared by processes and runs; null decodes at every look."""
    cache_gb: Annotated[Positive, Mark.RESUMABLE] = 50.0
    """The most that `cache` takes, in GB of 2^30 bytes."""
    max_bad: Annotated[Share, Mark.RESUMABLE] = 0.01
    """The share of the files that may turn out bad during training; they are skipped."""
    exif: Literal["refuse", "ignore", "apply"] = "refuse"
    """An image with a label whose EXIF orientation asks to turn it: `refuse` it, or its label is drawn on the stored
    pixels (`ignore`) or on the turned picture (`apply`)."""
    restyle: RestyledSource | None = None
    """Source images in other looks too, with the same labels; null: none."""


class Augment(Settings):
    """What training changes about an image; half of all images are mirrored."""

    scale: tuple[Positive, Positive] = (0.5, 2.0)
    """The smallest and the largest factor by which a source image is resized."""
    shorter_side: Side | None = None
    """The shorter side, in pixels, that source images are first brought to, so that sets of different resolutions show
    things at one size; null leaves them at their own."""
    crop: tuple[Side, Side] = (768, 768)
    """Height and width, in pixels, of what is cut out of a source image."""
    jitter: bool = True
    """Whether colours are changed a little, as SSD does it."""
    distort: Share = 0.0
    """The share of samples, source and generated, whose look is changed strongly, beyond `jitter`."""

    def faults(self) -> list[str]:
        if self.scale[0] > self.scale[1]:
            return [f"scale: got {list(self.scale)}; expected [smallest, largest]"]
        return []
