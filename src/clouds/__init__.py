"""CLOUDS: label-free robustness for semantic segmentation.

    model = clouds.load("runs/demo")        # a run, a model folder, an exported file or a model of the hub
    result = model.predict("street.jpg")    # a notebook shows it; result.labels, result.mask("road"), result.save(...)

``clouds.api`` trains, scores, draws and checks; ``clouds.refine(image, labels, segmenter)`` sharpens a label map;
``clouds.push`` publishes a model; ``clouds.data`` reads datasets. Names load on first use, so that ``import clouds`` is
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clouds.base import former

if TYPE_CHECKING:
    from clouds import api as api
    from clouds import data as data
    from clouds.deploy.push import push as push
    from clouds.predict.loading import load as load
    from clouds.predict.predictor import Predictor as Predictor
    from clouds.predict.result import Result as Result
    from clouds.selftrain.refine import refine as refine

former.install()

__version__ = "0.1.0"
__all__ = ["Predictor", "Result", "api", "data", "load", "push", "refine"]

_HOME = {
    "Predictor": "predict.predictor",
    "Result": "predict.result",
    "load": "predict.loading",
    "push": "deploy.push",
    "refine": "selftrain.refine",
}
_ROOMS = ("api", "data")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"clouds.{_HOME[name]}"), name)
    if name in _ROOMS:
        return import_module(f"clouds.{name}")
    raise AttributeError(f"module 'clouds' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__version__"]
