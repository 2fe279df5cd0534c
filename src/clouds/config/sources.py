"""Settings of what is learned from with labels, and how it is augmented."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from clouds.config.drawing import RestyledSource
from clouds.config.kinds import Count, Positive, Settings, Share, Side


class LabelledSet(Settings):
    """A labelled dataset to learn from: a name that ``clouds classes`` lists, or "streets", rendered here.

    ``root``: the dataset's own folder or archive; without it the dataset's folder below ``data.root``. ``weight``: its
    share of the draws against the other sets'. ``own_car``: "ignore" takes the recording car's own bonnet, a vehicle at
    the bottom of every label map, out of the labels. ``version`` where several exist (mapillary, carla). The keys from
    ``images`` on tell the dataset "folder" its layout, see ``clouds.data.layouts.folder_spec``; ``label_set`` may be a
    set of one's own: class -> the Cityscapes classes it holds.
    """

    dataset: str
    split: str | None = None
    root: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    weight: Positive | None = None
    own_car: Literal["keep", "ignore"] = "keep"
    version: str = ""
    images: str | None = None
    labels: str | None = None
    label_map: dict[int | str, int | str | None] | None = None
    label_set: str | dict[str, list[str]] | None = None
    encoding: str | None = None

    @property
    def layout(self) -> dict[str, Any]:
        """What the dataset "folder" is told, and nothing else is."""
        told = {k: getattr(self, k) for k in ("images", "labels", "label_map", "label_set", "encoding")}
        return {key: value for key, value in told.items() if value is not None}


def _sets(value: Any) -> Any:
    """One name, one set or a list of either -> a list of sets."""
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, str | dict | LabelledSet) for item in items):
        raise ValueError("expected a dataset's name, a set ({dataset: NAME, ...}), or a list of those")
    return [{"dataset": item} if isinstance(item, str) else item for item in items]


class Data(Settings):
    """``root`` holds one folder per dataset. ``source``: what is learned from with labels, one set or several.

    ``rare_classes``: rare-class sampling at this temperature (DAFormer's is 0.01): an image is drawn for a class, rare
    ones more often, and cropped where that class is. ``cache``: a folder that keeps decoded images, at most
    ``cache_gb``; it may be shared by processes and runs. ``max_bad``: the share of a set's files that may turn out bad
    during training; they are skipped. ``restyle``: source images also in other looks, with the same labels.
    """

    root: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    source: Annotated[list[LabelledSet], BeforeValidator(_sets), Field(min_length=1)] = Field(
        default_factory=lambda: [LabelledSet(dataset="streets")]
    )
    source_count: Count = 400
    source_size: tuple[Side, Side] = (256, 512)
    rare_classes: Positive | None = None
    cache: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    cache_gb: Positive = 50.0
    max_bad: Share = 0.01
    restyle: RestyledSource | None = None


class Augment(Settings):
    """Source: random scale of the image, crop (height, width), colour jitter, flip.

    ``shorter_side``: images are first brought to it, so that sets of different resolutions show things at one size;
    null leaves them at their own. ``distort``: the share of samples, source and generated, whose look is changed
    strongly, beyond ``jitter``.
    """

    scale: tuple[Positive, Positive] = (0.5, 2.0)
    shorter_side: Side | None = None
    crop: tuple[Side, Side] = (768, 768)
    jitter: bool = True
    distort: Share = 0.0
