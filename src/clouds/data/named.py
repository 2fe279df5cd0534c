"""The datasets as classes, for use outside CLOUDS: ``Cityscapes("/data/cityscapes", split="val")[0]``."""

from pathlib import Path
from typing import Any, ClassVar

from clouds.data.datasets import Segmentation


class _Named(Segmentation):
    dataset: ClassVar[str]

    def __init__(self, root: str | Path, split: str | None = None, **options: Any) -> None:
        """``root``: the dataset's own folder, or an archive of it. Options as in ``Segmentation``."""
        super().__init__(self.dataset, root, split, **options)


class ACDC(_Named):
    """Adverse conditions, all four of them; ``open_dataset("acdc-fog", ...)`` for one."""

    dataset = "acdc"


class BDD100K(_Named):
    """The 10k images with semantic masks. Splits train, val, all."""

    dataset = "bdd100k"


class CamVid(_Named):
    """Cambridge streets, 11 classes."""

    dataset = "camvid"


class CARLA(_Named):
    """Captures of the simulator's camera and semantic camera, in images/ and labels/."""

    dataset = "carla"


class Cityscapes(_Named):
    """The fine annotations, 19 classes."""

    dataset = "cityscapes"


class DarkZurich(_Named):
    """Night in Zurich; the 50 validation images have labels."""

    dataset = "dark-zurich"


class Folder(_Named):
    """Any images and labels: say where they are and what the label values mean (``clouds.data.folder.folder_spec``)."""

    dataset = "folder"


class Generated(_Named):
    """A generated set: images and ``metadata.jsonl``, no labels."""

    dataset = "generated"


class GTA5(_Named):
    """Playing for Data: frames of a game, labelled with Cityscapes ids."""

    dataset = "gta5"


class IDD(_Named):
    """India Driving Dataset, segmentation, read from its polygons."""

    dataset = "idd"


class IDDLite(_Named):
    """The small India Driving Dataset, 7 groups."""

    dataset = "idd-lite"


class Mapillary(_Named):
    """Mapillary Vistas v1.2 or v2.0."""

    dataset = "mapillary"


class Synthia(_Named):
    """SYNTHIA-RAND-CITYSCAPES, 16 classes."""

    dataset = "synthia"


class UrbanSyn(_Named):
    """Synthetic streets, 19 classes."""

    dataset = "urbansyn"
