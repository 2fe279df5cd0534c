"""``config.json`` of a model folder: what it may say, checked before anything of that size is made, and its digest.

Needs no torch.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from clouds.base.files import as_written
from clouds.base.progress import say
from clouds.config.kinds import Width
from clouds.errors import DataError
from clouds.model.inference import LEAST_SIDE, LONGEST
from clouds.model.place import CONFIG, WEIGHTS

DIGEST = "sha256"  # the key of the digests: {"config": of all other keys, "model.safetensors": of that file}

Byte = Annotated[int, Field(ge=0, le=255)]
Name = Annotated[str, Field(min_length=1, max_length=1000)]
Depth = Annotated[int, Field(ge=0, le=100)]


class FolderConfig(BaseModel):
    """The arguments of ``Segmenter``, with the bounds that a file from elsewhere has to keep."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    vision: Name
    text: Name
    text_dim: Width
    classes: Annotated[list[Name], Field(min_length=1, max_length=255)]  # a label map is 8 bits, 255 is no class
    synonyms: list[Annotated[list[Name], Field(min_length=1, max_length=1000)]]
    colors: list[Annotated[list[Byte], Field(min_length=3, max_length=3)]]
    head: Literal["linear", "text"] = "text"
    hidden: Width = 256
    queries: Width = 100
    heads: Width = 8
    pixel_layers: Depth = 6
    pixel_ffn: Width = 1024
    layers: Depth = 9
    ffn: Width = 2048
    shorter_side: Annotated[int, Field(ge=0, le=LONGEST)] = 1024
    freeze: bool = True
    adapt: dict[str, Any] | None = None
    weights: dict[str, Any] | None = None
    seen: list[bool] | None = None
    pretrained: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        count = len(self.classes)
        if twice := next((name for name in self.classes if self.classes.count(name) > 1), None):
            raise ValueError(f"classes: {twice!r} is there twice")
        for name, found in (("synonyms", self.synonyms), ("colors", self.colors), ("seen", self.seen)):
            if found is not None and len(found) != count:
                raise ValueError(f"{name}: {len(found)} for {count} classes")
        if self.hidden % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide hidden, {self.hidden}")
        if 0 < self.shorter_side < LEAST_SIDE:
            raise ValueError(f"shorter_side: {self.shorter_side}; expected 0 or at least {LEAST_SIDE}")
        return self


def checked_config(data: bytes) -> dict[str, Any]:
    """The bytes of ``config.json`` -> the arguments of ``Segmenter``, and its digests if it has some under ``DIGEST``.

    ValueError in one line for what is no such file.
    """
    try:
        config = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(config, dict):
        raise ValueError("expected an object")
    try:
        FolderConfig.model_validate({key: value for key, value in config.items() if key != DIGEST})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise ValueError(f"{place + ': ' if place else ''}{fault['msg'].removeprefix('Value error, ')}"[:300]) from None
    return config


def with_digest(config: dict[str, Any], weights: str) -> dict[str, Any]:
    """The configuration with digests; ``weights``: the SHA-256 of ``model.safetensors``."""
    bare = {key: value for key, value in config.items() if key != DIGEST}
    return {**bare, DIGEST: {"config": config_digest(bare), "model.safetensors": weights}}


def config_digest(config: dict[str, Any]) -> str:
    """Of all keys but the digests, whatever their order."""
    bare = {key: value for key, value in config.items() if key != DIGEST}
    return hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model folder, checked; DataError where it is none."""
    try:
        return checked_config((folder / CONFIG).read_bytes())
    except ValueError as error:
        raise DataError(f"{folder / CONFIG}: not a CLOUDS model configuration ({error})") from error


def damage(folder: Path, config: dict[str, Any]) -> str | None:
    """What is wrong with a folder that carries digests, None where they hold or there are none."""
    if DIGEST not in config:
        return None
    digests = config[DIGEST] if isinstance(config[DIGEST], dict) else {}
    if digests.get("config") != config_digest(config):
        return (f"{folder / CONFIG}: its content is not what was written: damaged, or changed by hand. Restore it, or "
                f"take the key {DIGEST!r} out of it if the change was meant")  # fmt: skip
    if not as_written(folder / WEIGHTS, str(digests.get(WEIGHTS))):  # of one file it is found once
        return (f"{folder / WEIGHTS}: its content is not what was written: damaged, or replaced. Restore it, or take "
                f"the key {DIGEST!r} out of {CONFIG} if the change was meant")  # fmt: skip
    return None


def has_model(folder: Path) -> bool:
    """Whether a model was saved there whole; of one whose digest does not hold any more a line says so."""
    if not ((folder / CONFIG).exists() and (folder / WEIGHTS).exists()):
        return False
    try:
        damaged = damage(folder, read_config(folder))
    except DataError as error:
        damaged = str(error)
    if damaged:
        say(damaged)
    return not damaged
