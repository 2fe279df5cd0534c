"""Datasets and label sets, read as their sites hand them out. Names load on first use, so that importing is free.

``layouts`` is the table of datasets, start there; ``datasets`` reads them, ``labels`` folds label sets, ``source`` is
what a recipe learns from, ``batches`` what a step takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clouds.data.datasets import ACDC as ACDC
    from clouds.data.datasets import BDD100K as BDD100K
    from clouds.data.datasets import CARLA as CARLA
    from clouds.data.datasets import FOLDERS as FOLDERS
    from clouds.data.datasets import GTA5 as GTA5
    from clouds.data.datasets import IDD as IDD
    from clouds.data.datasets import CamVid as CamVid
    from clouds.data.datasets import Cityscapes as Cityscapes
    from clouds.data.datasets import DarkZurich as DarkZurich
    from clouds.data.datasets import Folder as Folder
    from clouds.data.datasets import Generated as Generated
    from clouds.data.datasets import IDDLite as IDDLite
    from clouds.data.datasets import Mapillary as Mapillary
    from clouds.data.datasets import Segmentation as Segmentation
    from clouds.data.datasets import Synthia as Synthia
    from clouds.data.datasets import UrbanSyn as UrbanSyn
    from clouds.data.datasets import dataset_names as dataset_names
    from clouds.data.datasets import open_dataset as open_dataset
    from clouds.data.labels import LABEL_SETS as LABEL_SETS
    from clouds.data.labels import LabelSet as LabelSet
    from clouds.data.labels import colorize as colorize
    from clouds.data.labels import folding as folding
    from clouds.data.labels import make_label_set as make_label_set
    from clouds.data.labels import train_ids as train_ids

_HOME = {
    "labels": ("LABEL_SETS", "LabelSet", "colorize", "folding", "make_label_set", "train_ids"),
    "datasets": (
        *("ACDC", "BDD100K", "CARLA", "CamVid", "Cityscapes", "DarkZurich", "FOLDERS", "Folder", "GTA5", "Generated"),
        *("IDD", "IDDLite", "Mapillary", "Segmentation", "Synthia", "UrbanSyn", "dataset_names", "open_dataset"),
    ),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_MODULE]
