"""The promptable segmenter, SAM's role in the paper: points in, crisp masks out. The protocol, and backends by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from clouds.config.backends import takes
from clouds.config.label_sets import CITYSCAPES
from clouds.config.plugins import code_of, is_plugged, make
from clouds.errors import UsageError
from clouds.foundation.registry import backend_name, builder, hook, place


class PromptableSegmenter(Protocol):
    """Anything that turns points on an image into candidate masks.

    A class of one's own is called with the device's name, as torch has it. It may have ``identity``, a text that tells
    two of its kind apart which give different masks; what is kept on disk of its work goes by that.
    """

    @property
    def name(self) -> str:
        """Which backend played the role; reports print it."""
        ...

    def encode(self, image: npt.NDArray[np.uint8]) -> Any:
        """What ``masks`` needs to know about ``image`` (H, W, 3) uint8 RGB, computed once an image."""
        ...

    def masks(
        self, embedding: Any, points: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        """Three candidates a prompt, and how good the segmenter thinks they are.

        points (P, K, 2) float32, x then y in pixels of the encoded image, all K on the wanted object.
        Returns masks (P, 3, H, W) bool and quality (P, 3) float32, higher is better.
        """
        ...


def load_segmenter(
    name: str, device: str = "cpu", dtype: str = "float32", revision: str | None = None, second_pass: bool = False,
    synonyms: Sequence[Sequence[str]] = CITYSCAPES.synonyms
) -> PromptableSegmenter:
    """The segmenter called ``name``: "superpixels", ``FAMILY/MODEL``, docs/segmenters.md, or ``module:Class``.

    MODEL is a hub id ``org/name`` (at ``revision``), or the path of a folder that ``save_pretrained`` wrote; of
    mobile-sam, the path of the published checkpoint. ``dtype`` is the weights', as torch calls it. The superpixels
    always run on the CPU. ``second_pass``: each prompt is asked again with its best mask beside its points.
    ``synonyms``: the words for each class, of a segmenter that takes words.

    Raises UsageError for a name that cannot be, BackendError where the hub does not answer, DataError for weights that
    do not fit.
    """
    check_second_pass(name, second_pass)
    segmenter_place(name, revision)
    if is_plugged(name):
        made = make(name, "selftrain.segmenter", device)
    elif "/" in name:
        shown = backend_name(name, revision)
        made = builder("segmenter", name)(name, shown, device, dtype, revision, second_pass, synonyms)
    else:
        made = builder("segmenter", name)(device)
    return cast(PromptableSegmenter, made)


def segmenter_identity(segmenter: PromptableSegmenter) -> str:
    """What masks depend on beside image and points: kept work is found by it, so it tells weights and code apart."""
    own = getattr(segmenter, "identity", None)
    return str(own) if own else f"{segmenter.name} {code_of(type(segmenter))}"


def check_segmenter(name: str, revision: str | None = None, fetch: bool = False) -> None:
    """Raises UsageError where ``name`` cannot be a segmenter's; ``fetch`` also has its files at hand, or raises
    BackendError, or DataError where words cannot be read for want of a tokenizer. Loads nothing."""
    segmenter_place(name, revision)
    if fetch and not is_plugged(name) and (get := hook("segmenter", name, "fetch")):
        get(name, revision)


def check_second_pass(name: str, second_pass: bool) -> None:
    """Raises UsageError where the segmenter ``name`` takes no mask as a prompt but is to be asked with one."""
    if second_pass and "masks" not in takes(name):
        raise UsageError(f"second pass: {name} takes no mask as a prompt; leave it out or use a SAM that takes points")


def segmenter_place(name: str, revision: str | None = None) -> Path | str | None:
    """A local folder or checkpoint, a hub repository, or None for what needs no weights; else UsageError."""
    return place("segmenter", name, None, revision)
