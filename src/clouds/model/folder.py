"""What is kept on disk of a model: the model folder (``config.json``, ``model.safetensors``) for use, and training
checkpoints for going on. Written whole or not at all, read strictly, safetensors only."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file

from clouds.base.files import whole_folder
from clouds.errors import BackendError, CloudsError, DataError, cause
from clouds.model.segmenter import Segmenter

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_model(model: Segmenter, folder: Path) -> None:
    """Write the model folder; equal weights and settings give equal bytes."""
    with whole_folder(folder) as temporary, _said_plainly(folder):
        # the folder holds every weight: reading it must not fetch the pre-trained ones first
        config = cast(dict[str, Any], model._hub_mixin_config)
        model.save_pretrained(temporary, config={**config, "pretrained": False})
        # the hub mixin's placeholder card; a card is written from a run instead
        (temporary / "README.md").unlink(missing_ok=True)


def load_model(folder: Path) -> Segmenter:
    """Read a model folder: every tensor must be there, none may be left over, nothing is unpickled.

    Raises DataError naming the file at fault.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            lacking = f"no {name} there" if folder.is_dir() else "no such folder"
            raise DataError(f"{folder}: {lacking}; expected a model folder holding {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads((folder / CONFIG).read_text())
        model = Segmenter(**{**config, "pretrained": False})
    except BackendError as error:  # nothing is wrong with the file
        raise BackendError(f"{folder / CONFIG}: {error}") from error
    except (ValueError, TypeError, RuntimeError, CloudsError) as error:
        raise DataError(f"{folder / CONFIG}: not a CLOUDS model configuration ({error})") from error
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{folder / WEIGHTS}: cannot be read as safetensors ({error})") from error
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise DataError(f"{folder / WEIGHTS}: does not fit {CONFIG} beside it. {error}") from error
    return model.eval()


@contextmanager
def _said_plainly(folder: Path) -> Iterator[None]:
    """safetensors has its own error for a full disk."""
    try:
        yield
    except SafetensorError as error:
        raise CloudsError(f"{folder}: cannot be written ({error}); finished work is kept, run again") from error


def has_model(folder: Path) -> bool:
    """Whether a model was saved there whole."""
    return (folder / CONFIG).exists() and (folder / WEIGHTS).exists()


HUB_ID = re.compile(r"(?P<repository>\w[\w.-]*/[\w.-]*\w)(@(?P<revision>[\w./-]+))?", re.ASCII)


def is_hub_id(word: str | Path) -> bool:
    """Whether a word names a repository on the hub: ``owner/name`` or ``owner/name@revision``, and nothing here."""
    return isinstance(word, str) and bool(HUB_ID.fullmatch(word)) and not Path(word).exists()


def model_folder(word: str | Path) -> Path:
    """The folder with the model that a word stands for: that folder, a run's final ``model/``, or the downloaded files
    of a hub repository.

    ``Path`` objects are never hub ids. What is no model is given back as it is. Raises
    BackendError where the hub has no such model, or cannot be reached and the cache holds none.
    """
    if not is_hub_id(word):
        folder = Path(word)
        return folder if (folder / CONFIG).exists() or not (folder / "model").is_dir() else folder / "model"
    from huggingface_hub import snapshot_download

    repository, _, revision = str(word).partition("@")
    wanted = [CONFIG, WEIGHTS, "recipe.yaml"]
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=wanted))
    except Exception as error:  # the client's own kinds and those of its HTTP library alike
        raise BackendError(
            f"{word}: no such folder here, and the hub gave no model of that name ({cause(error)}). "
            "Check the path or the hub id; without a network only what was downloaded before can be used"
        ) from error
    if lacking := [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]:
        raise BackendError(f"{word}: the hub's repository holds no {' and no '.join(lacking)}: no CLOUDS model")
    return folder
