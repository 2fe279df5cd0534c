"""A segmenter's image embeddings, computed once: generated images never change, and encoding is most of SAM's work.

On disk in a bounded folder that processes and runs may share, by the content of the image and of the weights, floats
in half precision; and the last used ones in memory.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from clouds.base.bounded import BoundedFolder, Codec
from clouds.config.recipe import Recipe
from clouds.errors import UsageError
from clouds.foundation.segmenter import PromptableSegmenter, load_segmenter, segmenter_identity

if TYPE_CHECKING:  # a cache is opened before torch is imported, to see that it can be
    from torch import Tensor

    Tensors = dict[str, Tensor]

_FORMAT = "1"
ARRAY = "array"  # the name of an embedding that is one numpy array
UNKNOWN_BYTES = 2**24  # what an embedding that does not tell its size is taken for


def _read(path: Path) -> "Tensors":
    from safetensors.torch import load

    return load(path.read_bytes())


def _bytes(value: "Tensors") -> bytes:
    from safetensors.torch import save

    return save(value)


def _write(file: BinaryIO, value: "Tensors") -> None:
    file.write(_bytes(value))


TENSORS: "Codec[Tensors]" = Codec(
    ".safetensors", _read, _write, lambda value: len(_bytes(value)), (SafetensorError, ValueError, KeyError)
)


class Cached:
    """``segmenter`` with its embeddings kept below ``folder``, at most ``max_bytes`` of them.

    Embeddings are an array or tensors by name. They come back in half precision from the start, so that what follows
    does not depend on whether the cache had them.
    """

    def __init__(self, segmenter: PromptableSegmenter, folder: Path, max_bytes: int) -> None:
        """Raises UsageError where ``folder`` cannot be written."""
        self.segmenter, self.name = segmenter, segmenter.name
        self.identity = segmenter_identity(segmenter)
        self.store = open_store(folder, max_bytes)

    def encode(self, image: NDArray[np.uint8]) -> Any:
        """As the segmenter's own; floats are float16."""
        found = self.store.get(key_of(image, self.identity), lambda: self._made(image))
        return found[ARRAY].numpy() if ARRAY in found else found

    def masks(self, embedding: Any, points: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """As the segmenter's own."""
        return self.segmenter.masks(embedding, points)

    def _made(self, image: NDArray[np.uint8]) -> "Tensors":
        import torch

        embedding = self.segmenter.encode(image)
        if isinstance(embedding, np.ndarray):
            embedding = {ARRAY: torch.tensor(embedding)}
        if not isinstance(embedding, dict) or not all(isinstance(each, torch.Tensor) for each in embedding.values()):
            raise UsageError(
                f"selftrain.cache: embeddings of {self.name} are {type(embedding).__name__}, neither an array nor "
                "tensors by name, and cannot be kept on disk; leave the setting out"
            )
        return {name: _halved(each) for name, each in embedding.items()}


def open_store(folder: Path, max_bytes: int) -> "BoundedFolder[Tensors]":
    """The embeddings kept below ``folder``; raises UsageError where it cannot be written."""
    try:
        return BoundedFolder(folder / "embeddings", max_bytes, TENSORS)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UsageError(f"selftrain.cache: {folder}: cannot be written ({why}); name another folder") from error


def key_of(image: NDArray[np.uint8], identity: str) -> str:
    """Name of an image's embedding by the segmenter of this ``identity``."""
    digest = hashlib.sha256(f"{_FORMAT}\0{identity}\0{image.shape}\0{image.dtype}\0".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _halved(tensor: "Tensor") -> "Tensor":
    """float16 on the CPU, unless that cannot hold the values."""
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if bool(half.isfinite().all()) else tensor


class Recent:
    """The last used embeddings in memory, at most ``max_bytes`` of them (but always the last)."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used = 0
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make()`` gave when ``key`` was last made."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        value = self._kept[key] = make()
        self.used += nbytes(value)
        while self.used > self.max_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self.used -= nbytes(oldest)
        return value


def nbytes(embedding: Any) -> int:
    """Bytes of arrays and tensors, alone or in containers; a guess for what does not tell."""
    if isinstance(embedding, dict | list | tuple):
        return sum(map(nbytes, embedding.values() if isinstance(embedding, dict) else embedding))
    return int(getattr(embedding, "nbytes", UNKNOWN_BYTES))


def plain_segmenter(recipe: Recipe) -> PromptableSegmenter:
    """The recipe's promptable segmenter."""
    chosen = recipe.selftrain
    return load_segmenter(
        chosen.segmenter, recipe.train.device, chosen.segmenter_dtype, chosen.segmenter_revision, chosen.second_pass,
        recipe.model.label_set.synonyms,
    )


def build_segmenter(recipe: Recipe) -> PromptableSegmenter:
    """The recipe's promptable segmenter, behind its cache of embeddings where it has one."""
    chosen, segmenter = recipe.selftrain, plain_segmenter(recipe)
    return Cached(segmenter, chosen.cache, int(chosen.cache_gb * 2**30)) if chosen.cache else segmenter
