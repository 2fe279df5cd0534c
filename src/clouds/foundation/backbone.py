"""The vision-and-text role: a frozen backbone that sees, a frozen text tower that turns names into a classifier.

The paper's choice is CLIP. Backends by name: ``open_clip/MODEL`` for both; ``timm/MODEL`` for vision; the embedded
defaults, which need no hub; ``module:Class``, code of one's own. An adapter may train a little inside a frozen backbone
(``backbones/adapters.py``). Names are checked without loading anything; weights are fetched where they are not local,
and recorded by their SHA-256.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from clouds.base.files import sha256
from clouds.config.backends import find
from clouds.config.plugins import is_plugged, make
from clouds.errors import UsageError
from clouds.foundation.registry import builder, check, default_weights, hook, place
from clouds.foundation.weights import hub_file, revision_of

if TYPE_CHECKING:  # names are checked before torch is imported
    from torch import Tensor, nn


class Vision(Protocol):
    """What the segmenter needs of a backbone, which is also a ``torch.nn.Module`` that stays in eval mode.

    ``mean``, ``std``: of the pixels it was trained with, on the 0..255 scale; ``channels``: of each stride's features.
    A class of one's own is called with ``pretrained``: whether to load its weights or be filled from a model folder.
    """

    channels: dict[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def features(self, images: "Tensor") -> "dict[int, Tensor]":
        """Normalised images float (B, 3, H, W), H and W multiples of 32 -> {stride: (B, C, H/stride, W/stride)}."""
        ...


class Text(Protocol):
    """What the vocabulary needs of a text tower; a class of one's own is called with nothing."""

    dim: int

    def embed(self, texts: Sequence[str]) -> "Tensor":
        """N texts -> float32 (N, D), each row of unit length."""
        ...


if TYPE_CHECKING:

    class OwnVision(nn.Module, Vision):
        """A plugged backbone as type checkers see it."""

        name: str


def build_vision(name: str, pretrained: bool = True, weights: Mapping[str, Any] | None = None) -> "OwnVision":
    """The backbone ``name``; ``pretrained=False`` builds the bare network, to be filled from a model folder.

    weights: a record of ``weights_record``; None for the name's default. Raises UsageError for an unknown name,
    BackendError where the hub is needed and does not answer, DataError for a file that does not fit.
    """
    if is_plugged(name):  # perhaps by a model folder, which may import nothing
        own = make(name, "model.vision", pretrained, named=False)
        own.name = name
    else:
        check_vision(name)
        own = builder("vision", name)(name, weight_file(name, *_of(weights)) if pretrained else None)
    return cast("OwnVision", own)


def check_adapter(vision: str, adapter: Mapping[str, Any], hidden: int) -> None:
    """Raises UsageError unless the backbone has a place for the adapter, BackendError unless what it needs is there.

    Builds both, without memory for weights.
    """
    import torch

    from clouds.foundation.backbones.adapters import adapt

    with torch.device("meta"):
        adapt(build_vision(vision, pretrained=False), adapter, hidden)


def check_shards(vision: str) -> None:
    """Raises UsageError unless the backbone has blocks to hold in parts, or where PyTorch is too old for it.

    Builds it, without memory for weights.
    """
    import inspect

    import torch
    from torch.distributed.fsdp import fully_shard

    from clouds.foundation.backbones.timm_vit import PlainVit

    with torch.device("meta"):
        if not isinstance(build_vision(vision, pretrained=False), PlainVit):
            raise UsageError(f"train.shard_backbone: takes the blocks of a plain ViT, which {vision} is not; leave it "
                             "out, or take one (docs/models.md)")  # fmt: skip
    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise UsageError(f"train.shard_backbone: PyTorch {torch.__version__} is too old for it; install a newer one")


def build_text(name: str, weights: Mapping[str, Any] | None = None) -> Text:
    """The text tower ``name``, with its weights: those of the record, by default the paper's. Raises as above."""
    if is_plugged(name):
        return cast(Text, make(name, "model.text", named=False))
    check_text(name)
    return cast(Text, builder("text", name)(name, weight_file(name, *_of(weights))))


def check_vision(name: str) -> None:
    """Raises UsageError unless ``name`` is a backbone's."""
    check("vision", name)


def check_text(name: str) -> None:
    """Raises UsageError unless ``name`` is a text tower's."""
    check("text", name)


def check_backends(vision: str, text: str, weights: str | None = None, revision: str | None = None) -> None:
    """Check names, tags, hub ids and paths, and have the files at hand: UsageError or BackendError before any work.

    ``weights`` are the backbone's, and those of a text tower of the same name.
    """
    if "/" not in vision and (weights or revision):
        raise UsageError(f"model.weights: got {weights!r}, but {vision} brings its own; leave it out")
    check_vision(vision)
    check_text(text)
    for name in dict.fromkeys((vision, text)):
        file = weight_file(name, *((weights, revision) if name == vision else ()))
        if name == text and file and (further := hook("text", name, "check_text")):
            further(name, file)


def weights_record(name: str, source: str | None = None, revision: str | None = None) -> dict[str, Any] | None:
    """The weights a backbone takes, for good: {"source", "revision", "sha256"}; fetches them. None: its own."""
    source = source or default_weights(name)
    file = weight_file(name, source, revision) if source else None
    if source is None or file is None:
        return None
    local = _place(name, source, revision) == file
    return {
        "source": str(file.resolve()) if local else source,
        "revision": revision_of(file, revision),
        "sha256": sha256(file),
    }


def weight_file(name: str, source: str | None = None, revision: str | None = None) -> Path | None:
    """The file or folder with the weights of ``name``, fetched where it is not local; None for code of one's own."""
    where = _place(name, source, revision)
    if not isinstance(where, str):
        return where
    files = hook(_role(name), name, "FILES")
    file = hub_file(where, files, revision, f"{name} ({source or default_weights(name)})")
    if more := hook(_role(name), name, "check_fetched"):
        more(name, where, revision)
    return file


def _place(name: str, source: str | None, revision: str | None) -> Path | str | None:
    return None if is_plugged(name) else place(_role(name), name, source, revision)


def _role(name: str) -> str:
    row = find(name, "vision", "text")
    return row.role if row else "vision"


def _of(weights: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    return (weights["source"], weights["revision"]) if weights else (None, None)
