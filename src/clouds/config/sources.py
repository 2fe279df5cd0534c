"""Settings of what is learned from, with labels and without, and how it is augmented."""

from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field

from clouds.config.drawing import RestyledSource
from clouds.config.kinds import Count, Float, Folder, Mark, Positive, Settings, Share, Side


def _no_switches(value: Any) -> Any:
    if isinstance(value, dict) and any(isinstance(each, bool) for pair in value.items() for each in pair):
        raise ValueError("expected values and classes, not true or false; quote a class of that name")
    return value


LabelMap = Annotated[dict[int | str, int | str | None], BeforeValidator(_no_switches)]


class Labelled(Settings):
    """A labelled dataset. The keys from `images` on are the layout of the dataset `folder` (docs/datasets.md)."""

    dataset: str
    """A name that `clouds classes` lists, `folder`, `streets` (rendered), or a class of your own as `MODULE:NAME`."""
    split: str | None = None
    """The split to use; null: the training split, or for scoring the usual one."""
    root: Folder | None = None
    """The dataset's own folder or archive; null is its folder below `data.root`."""
    version: str = ""
    """The dataset's version where several exist (mapillary, carla)."""
    partial: bool = False
    """Whether to use an incomplete set: complete pairs are used, the rest is skipped."""
    images: str | None = None
    """Pattern of the images, with `{key}`, `{ext}` and `{split}`; null: `images/{key}.{ext}`."""
    labels: str | None = None
    """Pattern of the label files; null: `labels/{key}.png`."""
    label_map: LabelMap | None = None
    """A stored value -> a class of `label_set`, or null to ignore it. null: values are indices of `label_set`. For
    datasets other than `folder`: a class of the dataset -> a class of the model, or null to ignore it."""
    label_set: str | dict[str, list[str]] | None = None
    """The classes of the labels: a set's name, or class -> the model's classes that it holds; null: `model.classes`."""
    encoding: str | None = None
    """How a label file stores classes: `index`, `red`, `colour` or `polygons`; null: `index`."""
    annotations: str | None = None
    """For `coco`: the JSON files, as a pattern below the root (`annotations/stuff_*.json`); null: found by itself."""
    columns: list[str] | None = None
    """For `huggingface`: the columns of image and label map; null: found by their names."""
    rows: Count | None = None
    """For `huggingface`: the first so many rows of each split, streamed if the set is on the hub; null: all."""

    def layout(self, classes: Any) -> dict[str, Any]:
        """What the dataset "folder" takes, as far as it is given; ``classes``: the model's label set."""
        keys = ["images", "labels", "label_set", "encoding", "annotations", "columns", "rows"]
        keys += ["label_map"] * (self.dataset == "folder")
        given = {"label_set": classes} if self.dataset == "folder" else {}
        return given | {key: getattr(self, key) for key in keys if getattr(self, key) is not None}

    @property
    def fold(self) -> dict[str, str | None]:
        """A dataset's class -> the model's, as far as the recipe says."""
        given = {} if self.dataset == "folder" else self.label_map or {}
        if self.dataset == "huggingface":  # whose classes may have no names but their numbers
            given = {str(key): value for key, value in given.items()}
        return cast(dict[str, str | None], given)

    def faults(self) -> list[str]:
        if strange := [each for pair in self.fold.items() for each in pair if not isinstance(each, str | None)]:
            return [f"label_map: got {strange[0]!r}; the map of {self.dataset} has names of classes on both sides, "
                    f"`clouds classes {self.dataset}` lists them"]  # fmt: skip
        return []


class UnlabelledSet(Settings):
    """Photos without labels, of any size: joint training learns from them as from generated images (docs/howto.md)."""

    folder: Folder | None = None
    """A folder (with everything below it), an archive or a video."""
    dataset: str | None = None
    """Or a dataset's name, as in `data.source`; its labels are not read."""
    split: str | None = None
    """The part of the dataset; null is its training split."""
    root: Folder | None = None
    """The dataset's own folder or archive; null is its folder below `data.root`."""
    weight: Positive | None = None
    """How often the set is used, against the other sets. null: its share of the weight 1 that all sets without labels
    have together; a labelled set has 1."""
    every: Annotated[Float, Field(ge=0.01)] = 2.0
    """Seconds between two frames that are taken from a video."""

    def faults(self) -> list[str]:
        if (self.folder is None) == (self.dataset is None):
            got = "neither folder nor dataset" if self.folder is None else "both folder and dataset"
            return [f"folder: got {got}; expected one of them: folder is a folder, an archive or a video, dataset the "
                    "name of a dataset"]
        if self.folder is not None and (self.split or self.root):
            return ["folder: split and root are a dataset's; leave them out beside it"]
        return []


class LabelledSet(Labelled):
    """A labelled dataset to learn from."""

    weight: Positive | None = None
    """How often the set is used, against the other sets; null: 1 if another set has a weight, else its size."""
    own_car: Literal["keep", "ignore"] = "keep"
    """`ignore` removes the recording car's own bonnet, a vehicle at the bottom of every label map, from the labels."""
    every: Count = 1
    """Learn from one image in this many, in the order of their names: 16 takes a sixteenth of the set."""

    def faults(self) -> list[str]:
        if self.every > 1 and self.dataset == "streets":
            return [*super().faults(), f"every: got {self.every}; streets are rendered: set data.source_count"]
        return super().faults()


class DomainSet(Labelled):
    """A labelled dataset to score on, under a name of its own."""

    name: Annotated[str, Field(pattern=r"^\w[\w.@-]{0,79}$")]
    """What results and the report call it."""

    @property
    def known(self) -> bool:
        """Whether it was given by name alone: a rendered world, or a dataset below `data.root`."""
        return self == DomainSet(name=self.dataset, dataset=self.dataset)


def sets_of(value: Any) -> Any:
    """One name, one set or a list of either -> a list of sets."""
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, str | dict | Labelled) for item in items):
        raise ValueError("expected a dataset's name, a set ({dataset: NAME, ...}), or a list of those")
    return [{"dataset": item} if isinstance(item, str) else item for item in items]


def domains_of(value: Any) -> Any:
    """A list of names and sets -> a list of sets; a name stands for a set that is known by it."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, str | dict | DomainSet) for item in value):
        raise ValueError("expected a list of domains: names, or sets such as {name: NAME, dataset: folder, root: PATH}")
    return [{"name": item, "dataset": item} if isinstance(item, str) else item for item in value]


def _unlabelled_sets(value: Any) -> Any:
    """One path, one set or a list of either -> a list of sets."""
    items = value if isinstance(value, list | tuple) else [] if value is None else [value]
    if not all(isinstance(item, str | Path | dict | UnlabelledSet) for item in items):
        raise ValueError("expected a folder, archive or video, a set ({folder: PATH} or {dataset: NAME}), or a list "
                         "of those")  # fmt: skip
    return [{"folder": item} if isinstance(item, str | Path) else item for item in items]


class Data(Settings):
    """The training data: labelled sets, and photos without labels."""

    root: Annotated[Folder | None, Mark.SCORING] = None
    """The folder that holds one folder per dataset; null: none, only rendered domains are scored."""
    source: Annotated[list[LabelledSet], BeforeValidator(sets_of), Field(min_length=1)] = Field(
        default_factory=lambda: [LabelledSet(dataset="streets")]
    )
    """The labelled sets: one or several."""
    unlabelled: Annotated[list[UnlabelledSet], BeforeValidator(_unlabelled_sets), Mark.JOINT] = Field(
        default_factory=list
    )
    """Photos without labels for joint training, beside the generated images or, with `generate.count=0`, instead of
    them: a folder, an archive, a video, or a list of sets."""
    source_count: Count = 400
    """Images of the rendered source, `streets`."""
    source_size: tuple[Side, Side] = (256, 512)
    """Height and width, in pixels, of the rendered source's images."""
    rare_classes: Positive | None = None
    """Rare-class sampling at this temperature (DAFormer's is 0.01): images with rare classes are used more often, and
    cropped where those are. null: no."""
    cache: Annotated[Folder | None, Mark.RESUMABLE] = None
    """A folder for decoded images, which processes and runs can share; null: decode each time."""
    cache_gb: Annotated[Positive, Mark.RESUMABLE] = 50.0
    """The most that `cache` takes, in GB of 2^30 bytes."""
    max_bad: Annotated[Share, Mark.RESUMABLE] = 0.01
    """The share of files that may turn out to be bad during training; they are skipped."""
    exif: Literal["refuse", "ignore", "apply"] = "refuse"
    """Labelled images with an EXIF rotation: `refuse` them; or their labels belong to the stored pixels (`ignore`) or
    to the upright image (`apply`)."""
    restyle: RestyledSource | None = None
    """Source images in other styles, with the same labels; null: none."""


class Augment(Settings):
    """Augmentation; half of all images are also mirrored."""

    scale: tuple[Positive, Positive] = (0.5, 2.0)
    """Smallest and largest factor by which a source image or a photo is resized."""
    shorter_side: Side | None = None
    """The shorter side, in pixels, to which source images and photos are resized first, so that sets of different
    resolutions show things at the same size. null: source images keep their size, and photos take that of the first
    source image."""
    crop: tuple[Side, Side] = (768, 768)
    """Height and width, in pixels, of the crop of a source image or a photo."""
    jitter: bool = True
    """Whether to change colours a little, as in SSD."""
    distort: Share = 0.0
    """The share of samples, source and generated, whose colours are changed strongly, beyond `jitter`."""

    def faults(self) -> list[str]:
        if self.scale[0] > self.scale[1]:
            return [f"scale: got {list(self.scale)}; expected [smallest, largest]"]
        return []
