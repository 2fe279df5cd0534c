"""The promptable segmenter, SAM's role in the paper: points in, crisp masks out. The protocol, and backends by name."""

import difflib
import json
import re
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clouds.config.plugins import OWN, code_of, is_plugged, make, plugged
from clouds.errors import UsageError
from clouds.foundation import SAM_FAMILIES, backend_name

TEXT = "sam3-text"  # asked with class names, so for regions only
MOBILE = "mobile-sam"  # read from the published checkpoint, a file; the other families are folders of transformers
SEGMENTERS: tuple[str, ...] = ("superpixels", *(f"{family}/MODEL" for family in SAM_FAMILIES), OWN)
HUB_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")  # tensors only: no pickles
TOKENIZER_FILES = ("tokenizer*.json", "special_tokens_map.json", "vocab.json", "merges.txt")  # of sam3-text


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
    name: str,
    device: str = "cpu",
    dtype: str = "float32",
    revision: str | None = None,
    second_pass: bool = False,
) -> PromptableSegmenter:
    """The segmenter called ``name``: "superpixels", ``FAMILY/MODEL``, docs/segmenters.md, or ``module:Class``.

    MODEL is a hub id ``org/name`` (at ``revision``), or the path of a folder that ``save_pretrained`` wrote; of
    mobile-sam, the path of the published checkpoint. ``dtype`` is the weights', as torch calls it. The superpixels
    always run on the CPU. ``second_pass``: each prompt is asked again with its best mask beside its points.

    Raises UsageError for a name that cannot be, BackendError where the hub does not answer, DataError for weights that
    do not fit.
    """
    check_second_pass(name, second_pass)
    place = segmenter_place(name, revision)
    if is_plugged(name):
        own: PromptableSegmenter = make(name, "selftrain.segmenter", device)
        return own
    if place is None:
        from clouds.foundation.segmenters.superpixels import Superpixels

        return Superpixels()
    family = name.partition("/")[0]
    shown = backend_name(name, revision)
    if family == MOBILE:
        from clouds.foundation.segmenters.mobile_sam import load_mobile_sam

        return load_mobile_sam(Path(place), shown, device, dtype, second_pass=second_pass)
    if family == TEXT:
        from clouds.foundation.segmenters.sam_text import load_sam_text

        return load_sam_text(_folder(name, place, revision), shown, device, dtype)
    from clouds.foundation.segmenters.sam import load_sam

    return load_sam(family, _folder(name, place, revision), shown, device, dtype, second_pass)


def segmenter_identity(segmenter: PromptableSegmenter) -> str:
    """What masks depend on beside image and points: kept work is found by it, so it tells weights and code apart."""
    own = getattr(segmenter, "identity", None)
    return str(own) if own else f"{segmenter.name} {code_of(type(segmenter))}"


def check_segmenter(name: str, revision: str | None = None, fetch: bool = False) -> None:
    """Raises UsageError where ``name`` cannot be a segmenter's; ``fetch`` also has its files at hand, or raises
    BackendError, or DataError where words cannot be read for want of a tokenizer. Loads nothing."""
    place = segmenter_place(name, revision)
    if fetch and place is not None:
        folder = _folder(name, place, revision)
        if name.startswith(f"{TEXT}/"):
            from clouds.foundation.segmenters.sam_text import check_tokenizer

            check_tokenizer(folder)


def check_second_pass(name: str, second_pass: bool) -> None:
    """Raises UsageError where the segmenter ``name`` takes no mask as a prompt but is to be asked with one."""
    if second_pass and (is_plugged(name) or name.partition("/")[0] in ("superpixels", TEXT)):
        raise UsageError(f"second pass: {name} takes no mask as a prompt; leave it out or use a SAM that takes points")


def segmenter_place(name: str, revision: str | None = None) -> Path | str | None:
    """A local folder or checkpoint, a hub repository, or None for what needs no weights; else UsageError."""
    family, _, model = name.partition("/")
    if is_plugged(name):
        plugged(name, "selftrain.segmenter")
    if name == "superpixels" or is_plugged(name):
        if revision is not None:
            raise UsageError(f"selftrain.segmenter_revision: got {revision!r}, but {name} takes none; leave it out")
        return None
    if family not in SAM_FAMILIES or not model:
        near = difflib.get_close_matches(family, SAM_FAMILIES, n=1)
        hint = f"did you mean {near[0]}/{model}? " if near and model else ""
        raise UsageError(f"segmenter {name!r} is not known; {hint}use one of: {', '.join(SEGMENTERS)}")
    path = Path(model).expanduser()
    if revision is not None and path.exists():
        raise UsageError(f"selftrain.segmenter_revision: got {revision!r}, but {path} is local; leave it out")
    if family == MOBILE:
        if not path.is_file():
            raise UsageError(
                f"selftrain.segmenter: got {name!r}; expected {MOBILE}/PATH of the published checkpoint mobile_sam.pt"
            )
        return path
    if path.is_dir():
        _check_kind(path, family)
        return path
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", model) or model.startswith("."):
        raise UsageError(
            f"selftrain.segmenter: got {name!r}; expected {family}/ORGANISATION/NAME of the hub, or {family}/PATH of "
            "a folder that exists, with config.json and model.safetensors"
        )
    return model


def _folder(name: str, place: Path | str, revision: str | None) -> Path:
    """Where the weights are, fetched where they are not local."""
    if isinstance(place, Path):
        return place
    from clouds.foundation.weights import hub_folder

    files = (*HUB_FILES, *TOKENIZER_FILES) if name.startswith(f"{TEXT}/") else HUB_FILES
    return hub_folder(place, files, revision, name, "selftrain.segmenter")


def _check_kind(folder: Path, family: str) -> None:
    """Raises UsageError unless the folder's configuration is of a model that the family's class loads."""
    try:
        kind = json.loads((folder / "config.json").read_bytes()).get("model_type")
    except (OSError, ValueError, AttributeError):
        raise UsageError(
            f"selftrain.segmenter: {folder}: expected config.json and model.safetensors, as save_pretrained of "
            "transformers writes them; no readable config.json there"
        ) from None
    if kind not in SAM_FAMILIES[family]:
        other = next((f for f, kinds in SAM_FAMILIES.items() if kind in kinds), None)
        hint = f"; use {other}/{folder}" if other else ""
        raise UsageError(
            f"selftrain.segmenter: {folder}: its config.json says model_type {kind!r}; expected one of "
            f"{', '.join(SAM_FAMILIES[family])} for {family}{hint}"
        )
