"""What is kept on disk of a model: the model folder (``config.json``, ``model.safetensors``) for use, and training
checkpoints for going on. Written whole or not at all, read strictly, safetensors only."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clouds.base.files import read_json, sha256, whole_folder, write_json
from clouds.base.progress import say
from clouds.errors import BackendError, CloudsError, DataError, cause
from clouds.model.segmenter import Segmenter

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_model(model: Segmenter, folder: Path) -> None:
    """Write the model folder; equal weights and settings give equal bytes."""
    with whole_folder(folder) as temporary, _said_plainly(folder):
        # the folder holds every weight: reading it must not fetch the pre-trained ones first
        config = cast(dict[str, Any], model._hub_mixin_config)
        model.save_pretrained(temporary, config={**config, "pretrained": False})
        readme = temporary / "README.md"  # the hub mixin's placeholder card; a card is written from a run instead
        if readme.exists():
            readme.unlink()


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


@dataclass
class Checkpoint:
    """What evolves at a step: ``tensors`` by group ("student", "optimizer", "teacher"), and plain ``counts``."""

    stage: str
    step: int
    tensors: dict[str, dict[str, Tensor]]
    counts: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write ``folder/STAGE-STEP`` whole, then drop all but the last ``keep`` of the stage."""
    path = folder / f"{checkpoint.stage}-{checkpoint.step:06d}"
    with whole_folder(path) as temporary, _said_plainly(path):
        digests = {}
        for group, tensors in checkpoint.tensors.items():
            file = temporary / f"{group}.safetensors"
            save_file({name: t.contiguous() for name, t in tensors.items()}, file)
            digests[group] = sha256(file)
        state = {"stage": checkpoint.stage, "step": checkpoint.step, "sha256": digests, "counts": checkpoint.counts}
        write_json(temporary / "state.json", {**state, "digest": _digest(state)})
    for old in _of_stage(folder, checkpoint.stage)[:-keep]:
        shutil.rmtree(old)
    return path


def latest_checkpoint(folder: Path, stage: str) -> Checkpoint | None:
    """The newest whole checkpoint of a stage; a damaged one is named and the one before it taken."""
    for path in reversed(_of_stage(folder, stage)):
        try:
            state = read_json(path / "state.json")
            if state.pop("digest") != _digest(state):
                raise DataError(f"{path / 'state.json'}: its content is not what was written")
            tensors = {}
            for group, digest in state["sha256"].items():
                file = path / f"{group}.safetensors"
                if sha256(file) != digest:
                    raise DataError(f"{file}: its content is not what was written")
                tensors[group] = load_file(file)
            return Checkpoint(state["stage"], state["step"], tensors, state["counts"])
        except (DataError, OSError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            say(f"checkpoint {path} is damaged ({error}); trying the one before it")
    return None


def _of_stage(folder: Path, stage: str) -> list[Path]:
    """The stage's checkpoints, oldest first."""
    return sorted(folder.glob(f"{stage}-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def has_model(folder: Path) -> bool:
    """Whether a model was saved there whole."""
    return (folder / "config.json").exists() and (folder / "model.safetensors").exists()


FILES = ("config.json", "model.safetensors", "recipe.yaml")
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
        return folder if (folder / FILES[0]).exists() or not (folder / "model").is_dir() else folder / "model"
    from huggingface_hub import snapshot_download

    match = HUB_ID.fullmatch(str(word))
    assert match  # is_hub_id
    try:
        folder = Path(snapshot_download(match["repository"], revision=match["revision"], allow_patterns=list(FILES)))
    except Exception as error:  # the client's own kinds and those of its HTTP library alike
        raise BackendError(
            f"{word}: no such folder here, and the hub gave no model of that name ({cause(error)}). "
            "Check the path or the hub id; without a network only what was downloaded before can be used"
        ) from error
    if lacking := [name for name in FILES[:2] if not (folder / name).is_file()]:
        raise BackendError(f"{word}: the hub's repository holds no {' and no '.join(lacking)}: no CLOUDS model")
    return folder
