"""Kinds of values that settings have, and what a group of settings is."""

from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from clouds.base.text import did_you_mean
from clouds.config.plugins import OWN, is_plugged


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


def _named(value: Any) -> Any:
    """An empty path would be the current folder."""
    if value == "":
        raise ValueError("expected a path; the current folder is .")
    return value


Int = Annotated[int, BeforeValidator(_no_switch)]
Float = Annotated[float, BeforeValidator(_no_switch)]
# the upper bounds are far above what anybody means: what is beyond them fills the memory before it fails
Count = Annotated[Int, Field(ge=1, le=10_000_000)]
Whole = Annotated[Int, Field(ge=0, le=10_000_000)]
Seed = Annotated[Int, Field(ge=0, lt=1 << 63)]
Side = Annotated[Int, Field(ge=16, le=16_384)]  # pixels; the street renderer draws nothing smaller
Width = Annotated[Int, Field(ge=1, le=16_384)]  # of a layer
Depth = Annotated[Int, Field(ge=1, le=100)]  # layers
Share = Annotated[Float, Field(ge=0, le=1)]
Positive = Annotated[Float, Field(gt=0)]
Folder = Annotated[Path, BeforeValidator(_named), AfterValidator(Path.expanduser)]
Device = Annotated[str, Field(pattern=r"^(cpu|mps|cuda(:\d+)?)$")]


def one_of(*allowed: str) -> AfterValidator:
    """A name out of ``allowed``; ``prefix/MODEL`` there allows any model, whose own library knows its name, and
    MODULE:NAME what is imported by that path."""
    open_ended = {name.partition("/")[0] for name in allowed if "/" in name}

    def known(value: str) -> str:
        prefix, slash, model = value.partition("/")
        own = OWN in allowed and is_plugged(value)
        if own or (model.strip() and prefix in open_ended) or (value in allowed and not slash and value != OWN):
            return value
        hint = did_you_mean(prefix, (name.partition("/")[0] for name in allowed), f"did you mean {{}}{slash}{model}? ")
        raise ValueError(f"{hint}expected {' or '.join(allowed)}")

    return AfterValidator(known)


def server(value: str) -> str:
    """An address without secrets: recipes are kept in run folders for all to read."""
    parts = urlsplit(value)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("expected an address without user, password, query or fragment; keys go into CLOUDS_API_KEY")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected http://HOST:PORT/v1 or https://HOST/v1")
    return value.rstrip("/")


WHOLE = frozenset({"model.classes"})  # mappings that are one value, the order of whose keys counts


class Mark(Enum):
    """What a key, or all keys of a group, may do beside being set; it stands in the field's annotation."""

    RESUMABLE = "May change on resume."  # it changes no result: how and where this machine works
    SCORING = "May change on resume: scores are made anew."  # the model stays
    JOINT = "The warm-up does not read it."


class Settings(BaseModel):
    """A group of keys. The text under a key is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    def faults(self) -> list[str]:
        """What cannot be, though each key alone may be: "key: got ...", the key as seen from this group."""
        return []


def group_of(field: FieldInfo) -> type[Settings] | None:
    """The group of keys that a key stands for, also where it may be null; None for a value."""
    kinds = get_args(field.annotation) if isinstance(field.annotation, UnionType) else (field.annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)), None)


def keys_of(model: type[Settings], mark: Mark | None = None, prefix: str = "") -> list[str]:
    """Every key in order, as ["seed", "train.steps", ...]; with ``mark`` those that have it, or whose group has it."""
    found = []
    for name, field in model.model_fields.items():
        wanted = None if mark in field.metadata else mark
        if group := group_of(field):
            found += keys_of(group, wanted, f"{prefix}{name}.")
        elif wanted is None:
            found.append(prefix + name)
    return found
