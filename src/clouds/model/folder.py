"""What is kept on disk of a model: the model folder (``config.json``, ``model.safetensors``) for use, and training
checkpoints for going on. Written whole or not at all, read strictly, safetensors only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from clouds.base.files import json_text, sha256, whole_folder
from clouds.base.text import some
from clouds.errors import BackendError, CloudsError, DataError
from clouds.model.folder_config import DIGEST, damage, read_config, with_digest
from clouds.model.place import CONFIG, TRAINED_ON, WEIGHTS, check_place
from clouds.model.segmenter import Segmenter


def save_model(model: Segmenter, folder: Path) -> None:
    """Write the model folder; equal weights and settings give equal bytes."""
    with whole_folder(folder) as temporary, _said_plainly(folder):
        # the folder holds every weight: reading it must not fetch the pre-trained ones first
        config = {**cast(dict[str, Any], model._hub_mixin_config), "pretrained": False}
        model.save_pretrained(temporary, config=config)
        # the hub mixin's placeholder card; a card is written from a run instead
        (temporary / "README.md").unlink(missing_ok=True)
        text = json_text(with_digest(config, sha256(temporary / WEIGHTS)), indent=2)
        (temporary / CONFIG).write_text(text + "\n", encoding="utf-8")
        if model.trained_on is not None:
            (temporary / TRAINED_ON).write_text("".join(f"{each}\n" for each in sorted(model.trained_on)))


def load_model(folder: Path) -> Segmenter:
    """Read a model folder: every tensor must be there, none may be left over, nothing is unpickled.

    The configuration is checked, and the sizes of the tensors against it, before anything of those sizes is made.
    Raises DataError naming the file at fault, also where a digest that the folder carries does not hold.
    """
    check_place(folder)
    config = read_config(folder)
    if damaged := damage(folder, config):
        raise DataError(damaged)
    settings = {key: value for key, value in config.items() if key != DIGEST} | {"pretrained": False}
    try:
        shapes = _shapes(settings)
    except BackendError as error:  # nothing is wrong with the file
        raise BackendError(f"{folder / CONFIG}: {error}") from error
    except (ValueError, TypeError, RuntimeError, CloudsError) as error:
        raise DataError(f"{folder / CONFIG}: not a CLOUDS model configuration ({error})") from error
    try:
        if shapes is not None:
            _check_shapes(folder, shapes)
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{folder / WEIGHTS}: cannot be read as safetensors ({error})") from error
    if unreal := [name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.isnan().any()]:
        raise DataError(f"{folder / WEIGHTS}: holds weights that are no numbers (NaN) in {some(unreal, 5)}: no model "
                        "that can be used; take an earlier one, or train again")  # fmt: skip
    model = Segmenter(**settings)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise DataError(f"{folder / WEIGHTS}: does not fit {CONFIG} beside it. {error}") from error
    if (folder / TRAINED_ON).is_file():
        model.trained_on = frozenset((folder / TRAINED_ON).read_text().splitlines())
    return model.eval()


def _shapes(settings: dict[str, Any]) -> dict[str, Tensor] | None:
    """The tensors of such a model without their memory; None where its backbone cannot be made so."""
    try:
        with torch.device("meta"):
            return Segmenter(**settings).state_dict()
    except NotImplementedError:  # a backbone of one's own that looks at its weights
        return None


def _check_shapes(folder: Path, wanted: dict[str, Tensor]) -> None:
    """DataError unless the file holds these tensors, by name and shape; reads nothing but its header."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    faults = [f"{name} is missing" for name in wanted if name not in found]
    faults += [f"{name} is left over" for name in found if name not in wanted]
    faults += [f"{name} has the shape {list(shape)}, not {list(wanted[name].shape)}"
               for name, shape in found.items() if name in wanted and shape != tuple(wanted[name].shape)]  # fmt: skip
    if faults:
        raise DataError(f"{folder / WEIGHTS}: does not fit {CONFIG} beside it: {some(faults, 5, '; ')}")


@contextmanager
def _said_plainly(folder: Path) -> Iterator[None]:
    """safetensors has its own error for a full disk."""
    try:
        yield
    except SafetensorError as error:
        raise CloudsError(f"{folder}: cannot be written ({error}); finished work is kept, run again") from error
