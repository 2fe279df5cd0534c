"""CLOUDS: label-free robustness for semantic segmentation.

``clouds.load(MODEL)`` reads a model folder, a run or a model of the hub, ``clouds.push`` publishes one;
``clouds.refine(image, labels, segmenter)`` sharpens a label map. Names load on first use, so that ``import clouds`` is
quick. To read the code start with ``pipeline.py``, the method in its order.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clouds.base import former

if TYPE_CHECKING:
    from clouds.deploy.push import push as push
    from clouds.predict.predictor import Predictor as Predictor
    from clouds.predict.predictor import load as load
    from clouds.predict.result import Result as Result
    from clouds.selftrain.refine import refine as refine

former.install()

__version__ = "0.1.0"
__all__ = ["Predictor", "Result", "load", "push", "refine"]

_HOME = {
    "Predictor": "predict.predictor",
    "Result": "predict.result",
    "load": "predict.predictor",
    "push": "deploy.push",
    "refine": "selftrain.refine",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"clouds.{_HOME[name]}"), name)
    if name == "data":
        return import_module("clouds.data")
    raise AttributeError(f"module 'clouds' has no attribute {name!r}")
