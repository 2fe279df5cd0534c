"""Where a model is: a folder, a run, or a repository of the hub. Nothing of it is read here, and no torch is needed."""

import re
from pathlib import Path

from clouds.base.hub import hub_problem
from clouds.errors import BackendError, DataError, cause

WEIGHTS, CONFIG = "model.safetensors", "config.json"
TRAINED_ON = "trained_on.txt"  # a line for each photo without labels that the model learned from: its fingerprint
EXPORTED = (".onnx", ".xml")  # endings of files that ``clouds export`` wrote and ``clouds predict`` takes


def check_place(folder: Path) -> None:
    """DataError where a folder does not hold the two files of a model, or an exported file is not there."""
    if is_exported(folder):
        if not folder.is_file():
            raise DataError(f"{folder}: no such file; expected a file that `clouds export` wrote")
        return
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            lacking = f"no {name} there" if folder.is_dir() else "no such folder"
            raise DataError(f"{folder}: {lacking}; expected a model folder holding {CONFIG} and {WEIGHTS}")


HUB_ID = re.compile(r"(?P<repository>\w[\w.-]*/[\w.-]*\w)(@(?P<revision>[\w./-]+))?", re.ASCII)


def is_hub_id(word: str | Path) -> bool:
    """Whether a word names a repository on the hub: ``owner/name`` or ``owner/name@revision``, and nothing here."""
    return isinstance(word, str) and bool(HUB_ID.fullmatch(word)) and not is_exported(word) and not Path(word).exists()


def is_exported(word: str | Path) -> bool:
    """Whether a word names an exported file, by its ending."""
    return Path(word).suffix.lower() in EXPORTED


def files_of(place: Path) -> list[Path]:
    """The files that a model's predictions follow from: of a folder, or an exported file (OpenVINO's are two)."""
    if is_exported(place):
        return [place, place.with_suffix(".bin")] if place.suffix.lower() == ".xml" else [place]
    return [place / WEIGHTS, place / CONFIG]


def model_folder(word: str | Path) -> Path:
    """The folder with the model that a word stands for: that folder, a run's final ``model/``, or the downloaded files
    of a hub repository. An exported file stands for itself.

    ``Path`` objects are never hub ids. What is no model is given back as it is. Raises
    BackendError where the hub has no such model, or cannot be reached and the cache holds none.
    """
    if not is_hub_id(word):
        folder = Path(word)
        return folder if (folder / CONFIG).exists() or not (folder / "model").is_dir() else folder / "model"
    from huggingface_hub import snapshot_download

    repository, _, revision = str(word).partition("@")
    wanted = [CONFIG, WEIGHTS, TRAINED_ON, "recipe.yaml"]
    problem = hub_problem()
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=wanted))
    except Exception as error:  # the client's own kinds and those of its HTTP library alike
        raise BackendError(
            f"{word}: no such folder here, and the hub gave no model of that name ({problem or cause(error)}). "
            "Check the path or the hub id; without a network only what was downloaded before can be used"
        ) from error
    if lacking := [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]:
        raise BackendError(f"{word}: the hub's repository holds no {' and no '.join(lacking)}: no CLOUDS model")
    return folder
