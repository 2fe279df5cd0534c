"""Which weights a named backbone or text tower takes: the paper's tag, another tag, a hub repository, or a file.

Names are checked without loading anything; files are fetched where they are not local, and recorded by their SHA-256.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clouds.base.files import sha256
from clouds.config.plugins import OWN, is_plugged, plugged
from clouds.errors import UsageError
from clouds.foundation import PAPER_WEIGHTS
from clouds.foundation.backbones.clip_tokenizer import clip_tokenizer
from clouds.foundation.weights import HUB, hub_file, listed, place_of, revision_of

CLIP, TIMM = "open_clip/", "timm/"
VISION, TEXT = "efficientnet-lite0", "all-minilm-l6-v2"  # the embedded defaults: weights come in packages
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
PLAIN_VITS = ("vision_transformer", "eva")  # the modules of timm that hold them
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")


def check_backends(vision: str, text: str, weights: str | None = None, revision: str | None = None) -> None:
    """Check names, tags, hub ids and paths, and have the files at hand: UsageError or BackendError before any work.

    ``weights`` are the backbone's, and those of a text tower of the same name.
    """
    if vision == VISION and (weights or revision):
        raise UsageError(f"model.weights: got {weights!r}, but {VISION} brings its own in a package; leave it out")
    if is_plugged(vision) and (weights or revision):
        raise UsageError(f"model.weights: got {weights!r}, but {vision} loads its own; leave it out")
    check_vision(vision)
    check_text(text)
    for name in dict.fromkeys((vision, text)):
        file = weight_file(name, *((weights, revision) if name == vision else ()))
        if name == text and file is not None:
            clip_tokenizer(name, clip_config(name), file)


def check_vision(name: str) -> None:
    """Raises UsageError unless ``name`` is a backbone's."""
    if is_plugged(name):
        plugged(name, "model.vision")
    elif name.startswith(TIMM):
        timm_config(name)
    elif name.startswith(CLIP):
        clip_config(name)
    elif name != VISION:
        raise UsageError(unknown("model.vision: unknown backbone", name, (VISION, CLIP + "MODEL", TIMM + "MODEL", OWN)))


def check_text(name: str) -> None:
    """Raises UsageError unless ``name`` is a text tower's."""
    if is_plugged(name):
        plugged(name, "model.text")
    elif name.startswith(CLIP):
        clip_config(name, "model.text")
    elif name != TEXT:
        raise UsageError(unknown("model.text: unknown text tower", name, (TEXT, CLIP + "MODEL", OWN)))


def weights_record(name: str, source: str | None = None, revision: str | None = None) -> dict[str, Any] | None:
    """The weights a backbone takes, for good: {"source", "revision", "sha256"}; fetches them. None: a package's."""
    file = weight_file(name, source, revision)
    if file is None:
        return None
    source = source or default_weights(name)
    local = place(name, source, revision) == file
    return {
        "source": str(file.resolve()) if local else source,
        "revision": revision_of(file, revision),
        "sha256": sha256(file),
    }


def weight_file(name: str, source: str | None = None, revision: str | None = None) -> Path | None:
    """The file with the weights of ``name``, fetched where it is not local; None where a package holds them."""
    where = place(name, source, revision)
    if where is None or isinstance(where, Path):
        return where
    files = TIMM_FILES if name.startswith(TIMM) else CLIP_FILES
    return hub_file(where, files, revision, f"{name} ({source or default_weights(name)})")


def place(name: str, source: str | None = None, revision: str | None = None) -> Path | str | None:
    """A local file, a hub repository, or None for weights in a package; raises UsageError where there can be none."""
    source = source or default_weights(name)
    if source is None:
        return None
    return place_of(source, revision, published(name, source) if name.startswith(CLIP) else {}, name)


def default_weights(name: str) -> str | None:
    """The paper's weights, timm's own, or an open_clip model's only ones; None for what comes in a package."""
    if name in PAPER_WEIGHTS or not name.startswith((CLIP, TIMM)):
        return PAPER_WEIGHTS.get(name)
    if name.startswith(TIMM):
        repository = timm_config(name).hf_hub_id
        if repository:
            return f"{HUB}{repository}"
        tags = []
    elif len(tags := list(published(name))) == 1:
        return tags[0]
    known = f"one of {', '.join(tags)}, or " if tags else ""
    raise UsageError(f"model.weights: needed for {name}, which has no default; give {known}a file's path")


def clip_config(name: str, key: str = "model.vision") -> dict[str, Any]:
    """open_clip's configuration of ``open_clip/MODEL``; UsageError unless it is a ResNet, a ConvNeXt or a timm ViT."""
    import open_clip

    model, known = name.removeprefix(CLIP), open_clip.list_models()
    usable = {n: c for n in known if _is_usable(c := open_clip.get_model_config(n))}
    if model not in usable:
        why = "no ResNet, ConvNeXt or timm ViT" if model in known else "unknown to open_clip"
        raise UsageError(unknown(f"{key}: {why}:", name, [CLIP + n for n in usable]))
    config: dict[str, Any] = usable[model]
    return config


def timm_config(name: str) -> Any:
    """timm's record of ``timm/ARCHITECTURE[.TAG]``: pixel statistics and where its weights are, or UsageError."""
    import timm

    architecture = name.removeprefix(TIMM)
    try:
        config = timm.get_pretrained_cfg(architecture, allow_unregistered=False)
    except RuntimeError:
        config = None
    if config is None:
        near = difflib.get_close_matches(architecture, [*timm.list_pretrained(), *timm.list_models()], n=3)
        hint = f"did you mean {' or '.join(TIMM + n for n in near)}? " if near else ""
        raise UsageError(f"model.vision: unknown to timm: {name!r}; {hint}allowed: any name of timm.list_models()")
    return config


def unknown(what: str, name: str, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, allowed, n=2)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{what} {name!r}; {hint}allowed: {', '.join(allowed) if len(allowed) < 10 else listed(allowed)}"


def is_plain_vit(architecture: str) -> bool:
    """Whether timm's ARCHITECTURE[.TAG] is a transformer of one stride, of the kinds that ``timm_vit.py`` reads."""
    from timm.models import is_model_in_modules

    return bool(is_model_in_modules(architecture, PLAIN_VITS))


def _is_usable(config: Mapping[str, Any]) -> bool:
    """A ModifiedResNet, ConvNeXt or ViT of timm, and a text tower of open_clip's own beside it."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    timm_name = str(vision.get("timm_model_name"))
    trunk = isinstance(vision.get("layers"), list) or "convnext" in timm_name or is_plain_vit(timm_name)
    return trunk and not text.get("hf_model_name")


def published(name: str, source: str | None = None) -> dict[str, str]:
    """Tags of an open_clip model's published weights -> hub repository.

    Raises UsageError where ``source``, or the first tag, was trained with another activation than ``name`` builds:
    open_clip only warns, and gives wrong features.
    """
    import open_clip
    from open_clip import pretrained

    model = name.removeprefix(CLIP)
    quick = open_clip.get_model_config(model).get("quick_gelu", False)
    records = {t: pretrained.get_pretrained_cfg(model, t) for t in pretrained.list_pretrained_tags_by_model(model)}
    fit = {t: record["hf_hub"].strip("/") for t, record in records.items() if record.get("quick_gelu", False) == quick}
    asked = source or next(iter(records), None)
    if asked in records and asked not in fit:
        raise UsageError(
            f"model.weights: {asked!r} was trained with QuickGELU, but {name} builds GELU towers that do not fit it; "
            f"use {name}-quickgelu (for model.vision and model.text)"
        )
    return fit
