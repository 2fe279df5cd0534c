"""``clouds.load``: the predictor of whatever stands for a model. Torch is imported for a folder, not for a file."""

from pathlib import Path
from typing import Any

from clouds.base.progress import loading
from clouds.model.place import check_place, is_exported, model_folder
from clouds.predict.exported import ExportedPredictor
from clouds.predict.image_predictor import ImagePredictor


def check_and_say(*models: str | Path) -> list[Path]:
    """The places of what ``load`` takes, and a line that loading takes seconds, if it does. A model that is not there
    is an error as of ``load``, before PyTorch is imported."""
    places = [model_folder(model) for model in models]
    for place in places:
        check_place(place)
    if not all(is_exported(place) for place in places):
        loading("PyTorch and the model")
    return places


def load(path: str | Path, device: Any = "cpu", threads: int | None = None) -> ImagePredictor:
    """The predictor of a model folder, of a run folder's final ``model/``, or of an exported .onnx or .xml file.

    It needs no hub, text tower or recipe.

    A string that is no folder here may be a hub id, ``"owner/name"`` or ``"owner/name@revision"`` (see
    ``model.folder``): its files are downloaded once, and kept in the hub's cache. ``device`` is torch's, as "cuda".
    ``threads``: CPU threads of an exported file; of a folder PyTorch's own setting counts.

    Raises DataError naming the file that is missing, damaged or does not fit, BackendError where the hub has no such
    model or cannot be reached, or where a file's runtime is not installed.
    """
    if is_exported(path):
        return ExportedPredictor(path, str(device), threads)
    from clouds.predict.predictor import load as load_folder

    return load_folder(path, device)
