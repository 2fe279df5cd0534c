"""timm's networks as backbones: which there are, which weights they take, and how one is built.

``timm/ARCHITECTURE[.TAG]`` is a transformer of one stride (``timm_vit.py``) or a network with strides of its own
(``timm_pyramid.py``).
"""

from pathlib import Path
from typing import Any

from clouds.base.text import did_you_mean
from clouds.config.backends import Backend
from clouds.errors import UsageError
from clouds.foundation.weights import HUB, place_of

BACKEND = Backend("vision", "timm/MODEL", "{model} (timm, {weights})")
FILES = ("model.safetensors", "pytorch_model.bin")
PLAIN_VITS = ("vision_transformer", "eva")  # the modules of timm that hold them


def timm_config(name: str) -> Any:
    """timm's record of ``timm/ARCHITECTURE[.TAG]``: pixel statistics and where its weights are, or UsageError."""
    import timm

    architecture = name.partition("/")[2]
    try:
        config = timm.get_pretrained_cfg(architecture, allow_unregistered=False)
    except RuntimeError:
        config = None
    if config is None:
        known = [*timm.list_pretrained(), *timm.list_models()]
        hint = did_you_mean(architecture, known, "did you mean timm/{}? ", 3).replace(" or ", " or timm/")
        raise UsageError(f"model.vision: unknown to timm: {name!r}; {hint}allowed: any name of timm.list_models()")
    return config


def check(name: str, _key: str) -> None:
    """Raises UsageError for what timm does not know."""
    timm_config(name)


def is_plain_vit(architecture: str) -> bool:
    """Whether timm's ARCHITECTURE[.TAG] is a transformer of one stride, of the kinds that ``timm_vit.py`` reads."""
    from timm.models import is_model_in_modules

    return bool(is_model_in_modules(architecture, PLAIN_VITS))


def default_weights(name: str) -> str:
    """timm's own, on the hub; UsageError where it has none."""
    repository = timm_config(name).hf_hub_id
    if not repository:
        raise UsageError(f"model.weights: needed for {name}, which has no default; give a file's path")
    return f"{HUB}{repository}"


def place(name: str, source: str | None, revision: str | None) -> Path | str:
    """A file or a hub repository; UsageError where there can be none."""
    return place_of(source or default_weights(name), revision, {}, name)


def build(name: str, file: Path | None) -> Any:
    """The network with the weights of ``file``, None for a random start."""
    from clouds.foundation.backbones.timm_pyramid import TimmVision, statistics, timm_tensors
    from clouds.foundation.backbones.timm_vit import PlainVit

    architecture = name.partition("/")[2]
    kind = PlainVit if is_plain_vit(architecture) else TimmVision
    return kind(name, architecture, *statistics(timm_config(name)), timm_tensors(file) if file else None)
