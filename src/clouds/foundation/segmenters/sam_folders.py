"""SAM and its descendants as folders of transformers: their rows, and which folder or repository a name means."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from clouds.config.backends import Backend
from clouds.errors import UsageError
from clouds.foundation.weights import hub_folder

BACKENDS = (
    Backend("segmenter", "sam/MODEL", "sam ({model})", takes=("points", "masks")),
    Backend("segmenter", "sam-hq/MODEL", "sam-hq ({model})", takes=("points", "masks")),
    Backend("segmenter", "sam2/MODEL", "sam2 ({model})", takes=("points", "masks")),
    Backend("segmenter", "edgetam/MODEL", "edgetam ({model})", takes=("points", "masks")),
    Backend("segmenter", "sam3/MODEL", "sam3 ({model})", takes=("points", "masks")),
    Backend("segmenter", "sam3-text/MODEL", "sam3-text ({model})", takes=("names",)),
)
MODEL_TYPES = {  # what the configurations say that each family loads
    "sam": ("sam",),
    "sam-hq": ("sam_hq",),
    "sam2": ("sam2", "sam2_video"),
    "edgetam": ("edgetam", "edgetam_video"),
    "sam3": ("sam3_tracker", "sam3_tracker_video", "sam3_video"),
    "sam3-text": ("sam3", "sam3_video"),
}
TEXT = "sam3-text"  # asked with class names, so for regions only
HUB_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")  # tensors only: no pickles
TOKENIZER_FILES = ("tokenizer*.json", "special_tokens_map.json", "vocab.json", "merges.txt")  # of sam3-text


def place(name: str, _source: str | None, revision: str | None) -> Path | str:
    """The local folder or the hub repository of ``FAMILY/MODEL``; else UsageError."""
    family, _, model = name.partition("/")
    path = Path(model).expanduser()
    if revision is not None and path.exists():
        raise UsageError(f"selftrain.segmenter_revision: got {revision!r}, but {path} is local; leave it out")
    if path.is_dir():
        _check_kind(path, family)
        return path
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", model) or model.startswith("."):
        raise UsageError(
            f"selftrain.segmenter: got {name!r}; expected {family}/ORGANISATION/NAME of the hub, or {family}/PATH of "
            "a folder that exists, with config.json and model.safetensors"
        )
    return model


def fetch(name: str, revision: str | None) -> Path:
    """The folder of the weights, fetched where it is not local. BackendError where the hub does not answer, DataError
    where words cannot be read for want of a tokenizer."""
    where, is_text = place(name, None, revision), name.startswith(f"{TEXT}/")
    files = (*HUB_FILES, *TOKENIZER_FILES) if is_text else HUB_FILES
    folder = where if isinstance(where, Path) else hub_folder(where, files, revision, name, "selftrain.segmenter")
    if is_text:
        from clouds.foundation.segmenters.sam_text import check_tokenizer

        check_tokenizer(folder)
    return folder


def _check_kind(folder: Path, family: str) -> None:
    """Raises UsageError unless the folder's configuration is of a model that the family's class loads."""
    try:
        kind = json.loads((folder / "config.json").read_bytes()).get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        raise UsageError(
            f"selftrain.segmenter: {folder}: expected config.json and model.safetensors, as save_pretrained of "
            "transformers writes them; no readable config.json there"
        ) from None
    if kind not in MODEL_TYPES[family]:
        other = next((f for f, kinds in MODEL_TYPES.items() if kind in kinds), None)
        hint = f"; use {other}/{folder}" if other else ""
        raise UsageError(
            f"selftrain.segmenter: {folder}: its config.json says model_type {kind!r}; expected one of "
            f"{', '.join(MODEL_TYPES[family])} for {family}{hint}"
        )


def build(name: str, shown: str, device: str, dtype: str, revision: str | None, second_pass: bool,
          synonyms: Sequence[Sequence[str]]) -> object:  # fmt: skip
    """The segmenter in that folder, as ``sam.py`` or ``sam_text.py`` loads it."""
    from clouds.foundation.segmenters.sam import load_sam
    from clouds.foundation.segmenters.sam_text import load_sam_text

    family, folder = name.partition("/")[0], fetch(name, revision)
    if family == TEXT:
        return load_sam_text(folder, shown, device, dtype, synonyms)
    return load_sam(family, folder, shown, device, dtype, second_pass)
