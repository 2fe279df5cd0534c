"""The vision-and-text role: a frozen backbone that sees, a frozen text tower that turns names into a classifier.

The paper's choice is CLIP. Backends by name: ``open_clip/MODEL`` for both; ``timm/MODEL`` for vision; the embedded
defaults, which need no hub; ``module:Class``, code of one's own. An adapter may train a little inside a frozen backbone
(``backbones/adapters.py``). Each kind has a file of its own; this one says what a backend is and builds it by name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from clouds.config.plugins import is_plugged, make
from clouds.foundation.backbones.adapters import adapt
from clouds.foundation.backbones.openclip import OpenClipText, OpenClipVision, clip_tensors, clip_vit
from clouds.foundation.backbones.packaged import MiniLM, efficientnet_lite0
from clouds.foundation.backbones.sources import (
    CLIP,
    TIMM,
    VISION,
    check_text,
    check_vision,
    clip_config,
    is_plain_vit,
    timm_config,
    weight_file,
)
from clouds.foundation.backbones.timm_pyramid import STRIDES as STRIDES
from clouds.foundation.backbones.timm_pyramid import TimmVision, statistics, timm_tensors
from clouds.foundation.backbones.timm_vit import PlainVit
from clouds.foundation.weights import read_weights


class Vision(Protocol):
    """What the segmenter needs of a backbone, which is also a ``torch.nn.Module`` that stays in eval mode.

    ``mean``, ``std``: of the pixels it was trained with, on the 0..255 scale; ``channels``: of each stride's features.
    A class of one's own is called with ``pretrained``: whether to load its weights or be filled from a model folder.
    """

    channels: dict[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """Normalised images float (B, 3, H, W), H and W multiples of 32 -> {stride: (B, C, H/stride, W/stride)}."""
        ...


class Text(Protocol):
    """What the vocabulary needs of a text tower; a class of one's own is called with nothing."""

    dim: int

    def embed(self, texts: Sequence[str]) -> Tensor:
        """N texts -> float32 (N, D), each row of unit length."""
        ...


class OwnVision(nn.Module, Vision):
    """What type checkers are told of a plugged backbone."""

    name: str


def build_vision(
    name: str, pretrained: bool = True, weights: Mapping[str, Any] | None = None
) -> TimmVision | PlainVit | OpenClipVision | OwnVision:
    """The backbone ``name``; ``pretrained=False`` builds the bare network, to be filled from a model folder.

    weights: a record of ``sources.weights_record``; None for the name's default. Raises UsageError for an unknown name,
    BackendError where the hub is needed and does not answer, DataError for a file that does not fit.
    """
    if is_plugged(name):  # perhaps by a model folder, which may import nothing
        own = cast(OwnVision, make(name, "model.vision", pretrained, named=False))
        own.name = name
        return own
    check_vision(name)
    if name == VISION:
        return efficientnet_lite0(pretrained)
    file = weight_file(name, *_of(weights)) if pretrained else None
    if name.startswith(TIMM):
        architecture = name.removeprefix(TIMM)
        kind = PlainVit if is_plain_vit(architecture) else TimmVision
        return kind(name, architecture, *statistics(timm_config(name)), timm_tensors(file) if file else None)
    config = clip_config(name)
    build = clip_vit if is_plain_vit(config["vision_cfg"].get("timm_model_name", "")) else OpenClipVision
    return build(name, config, _tensors(file) if file else None, str(file))


def check_adapter(vision: str, adapter: Mapping[str, Any], hidden: int) -> None:
    """Raises UsageError unless the backbone has a place for the adapter, BackendError unless what it needs is there.

    Builds both, without memory for weights.
    """
    with torch.device("meta"):
        adapt(build_vision(vision, pretrained=False), adapter, hidden)


def build_text(name: str, weights: Mapping[str, Any] | None = None) -> Text:
    """The text tower ``name``, with its weights: those of the record, by default the paper's. Raises as above."""
    if is_plugged(name):
        return cast(Text, make(name, "model.text", named=False))
    check_text(name)
    file = weight_file(name, *_of(weights)) if name.startswith(CLIP) else None
    if file is None:
        return MiniLM()
    return OpenClipText(name, clip_config(name), _tensors(file), str(file))


def _tensors(file: Path) -> dict[str, Tensor]:
    return clip_tensors(read_weights(file), str(file))


def _of(weights: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    return (weights["source"], weights["revision"]) if weights else (None, None)

