"""CLIP models of open_clip, a backbone and a text tower each: which there are, their weights, how one is built.

The paper takes a ConvNeXt-L; ``openclip.py`` has the networks.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clouds.base.files import read_json
from clouds.base.text import did_you_mean
from clouds.config.backends import Backend
from clouds.errors import BackendError, UsageError
from clouds.foundation.backbones.timm import is_plain_vit
from clouds.foundation.weights import HUB, hub_file, listed, place_of, read_weights

BACKENDS = (
    Backend("vision", "open_clip/MODEL", "{clip}{model} (open_clip, {weights})", build="build_vision"),
    Backend("text", "open_clip/MODEL", "{clip}{model} (open_clip, {weights})", build="build_text"),
)
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
RECORD = "open_clip_config.json"  # lies beside the weights, also on the hub
QUICK = "-quickgelu"
PAPER_WEIGHTS = {  # the published weights that the paper's backbones take where a recipe names none
    "open_clip/convnext_large_d_320": "laion2b_s29b_b131k_ft_soup",
    "open_clip/RN50-quickgelu": "openai",
    "open_clip/RN101-quickgelu": "openai",
}
CLIP = "open_clip/"


def clip_config(name: str, key: str = "model.vision") -> dict[str, Any]:
    """open_clip's configuration of ``open_clip/MODEL``; UsageError unless it is a ResNet, a ConvNeXt or a timm ViT."""
    import open_clip

    model, known = name.removeprefix(CLIP), open_clip.list_models()
    usable = {n: c for n in known if _is_usable(c := open_clip.get_model_config(n))}
    if model not in usable:
        why = "no ResNet, ConvNeXt or timm ViT" if model in known else "unknown to open_clip"
        names = [CLIP + n for n in usable]
        raise UsageError(f"{key}: {why}: {name!r}; {did_you_mean(name, names)}allowed: {listed(names)}")
    config: dict[str, Any] = usable[model]
    return config


check = clip_config


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
    asked = source or next(iter(records), "")
    if asked in records and asked not in fit:
        _check_activation(name, asked, not quick)
    return fit


def default_weights(name: str) -> str:
    """The paper's weights, or the only ones that are published; UsageError where there are others."""
    if name in PAPER_WEIGHTS:
        return PAPER_WEIGHTS[name]
    tags = list(published(name))
    if len(tags) == 1:
        return tags[0]
    known = f"one of {', '.join(tags)}, or " if tags else ""
    raise UsageError(f"model.weights: needed for {name}, which has no default; give {known}a file's path")


def place(name: str, source: str | None, revision: str | None) -> Path | str:
    """A file or a hub repository; UsageError where there can be none."""
    source = source or default_weights(name)
    where = place_of(source, revision, published(name, source), name)
    if isinstance(where, Path):
        _check_activation(name, str(where), _recorded(where.with_name(RECORD)))
    elif (quick := _published_activations().get(where)) is not None:
        _check_activation(name, source, quick)
    return where


def check_fetched(name: str, repository: str, revision: str | None) -> None:
    """Raises UsageError where the weights of a hub repository that open_clip does not list are of other towers."""
    if _twin(name) and repository not in _published_activations():
        try:
            quick = _recorded(hub_file(repository, (RECORD,), revision, name))
        except BackendError:
            quick = None
        _check_activation(name, HUB + repository, quick)


def _twin(name: str) -> str | None:
    """The model of open_clip that differs from ``name`` in its activation alone, if there is one."""
    import open_clip

    other = name.removesuffix(QUICK) if name.endswith(QUICK) else name + QUICK
    return other if other.removeprefix(CLIP) in open_clip.list_models() else None


def _published_activations() -> dict[str, bool]:
    """Hub repositories that open_clip lists -> whether their weights were trained with QuickGELU."""
    from open_clip import pretrained

    records = [pretrained.get_pretrained_cfg(*pair) for pair in pretrained.list_pretrained()]
    return {r["hf_hub"].strip("/"): r.get("quick_gelu", False) for r in records if r.get("hf_hub")}


def _recorded(file: Path) -> bool | None:
    """Whether open_clip's record beside weights says QuickGELU; None where there is no such record."""
    config = read_json(file) if file.is_file() else None
    model = config.get("model_cfg") if isinstance(config, dict) else None
    return bool(model.get("quick_gelu")) if isinstance(model, dict) else None


def _check_activation(name: str, source: str, quick: bool | None) -> None:
    """Raises UsageError where ``name`` builds towers of another activation than the weights of ``source`` were trained
    with, or where nothing says which and all published ones are of the other: the tensors would fit all the same."""
    twin = _twin(name)
    built = name.endswith(QUICK)
    if twin is None or quick is built or (quick is None and built):
        return
    trained, towers = ("QuickGELU", "GELU") if twin.endswith(QUICK) else ("GELU", "QuickGELU")
    use = f"use {twin} (for model.vision and model.text)"
    if quick is None:
        raise UsageError(
            f"model.weights: nothing says whether {source} was trained with QuickGELU, as all that is published of "
            f"{twin} was, and {name} builds GELU towers; {use}, or put an {RECORD} beside it that holds "
            '{"model_cfg": {"quick_gelu": false}}'
        )
    raise UsageError(
        f"model.weights: {source!r} was trained with {trained}, but {name} builds {towers} towers that do not fit it; "
        f"{use}"
    )


def build_vision(name: str, file: Path | None) -> Any:
    """The visual tower with the weights of ``file``, None for a random start."""
    from clouds.foundation.backbones.openclip import OpenClipVision, clip_tensors, clip_vit

    config = clip_config(name)
    made = clip_vit if is_plain_vit(config["vision_cfg"].get("timm_model_name", "")) else OpenClipVision
    return made(name, config, clip_tensors(read_weights(file), str(file)) if file else None, str(file))


def build_text(name: str, file: Path) -> Any:
    """The text tower with the weights of ``file``."""
    from clouds.foundation.backbones.openclip import OpenClipText, clip_tensors

    return OpenClipText(name, clip_config(name), clip_tensors(read_weights(file), str(file)), str(file))


def check_text(name: str, file: Path) -> None:
    """Raises BackendError where the tokenizer of the text tower with these weights cannot be loaded."""
    from clouds.foundation.backbones.clip_tokenizer import clip_tokenizer

    clip_tokenizer(name, clip_config(name), file)
