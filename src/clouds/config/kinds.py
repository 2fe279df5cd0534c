"""Kinds of values that settings have."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from clouds.base.text import did_you_mean
from clouds.config.plugins import OWN, is_plugged


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


Int = Annotated[int, BeforeValidator(_no_switch)]
Float = Annotated[float, BeforeValidator(_no_switch)]
Count = Annotated[Int, Field(ge=1)]
Whole = Annotated[Int, Field(ge=0)]
Side = Annotated[Int, Field(ge=16)]  # pixels; the street renderer draws nothing smaller
Share = Annotated[Float, Field(ge=0, le=1)]
Positive = Annotated[Float, Field(gt=0)]
Weight = Annotated[Float, Field(ge=0)]
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


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
