"""How texts become tokens for an open_clip tower: CLIP's own way, which ships inside open_clip, or files of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from clouds.errors import BackendError, cause

FILES = ("tokenizer.json", "tokenizer_config.json")


def clip_tokenizer(name: str, config: Mapping[str, Any], weights: Path) -> Callable[[list[str]], Tensor]:
    """N texts -> tokens int64 (N, L). SigLIP's tokenizer is read from the folder of ``weights``, else from the hub.

    Raises BackendError where it is needed and neither has it.
    """
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    text = config["text_cfg"]
    length = text.get("context_length", 77)
    named = text.get("hf_tokenizer_name")
    if not named:
        plain: Callable[[list[str]], Tensor] = SimpleTokenizer(context_length=length)
        return plain
    folder = weights.parent
    where = str(folder) if any((folder / file).is_file() for file in FILES) else named
    try:
        read: Callable[[list[str]], Tensor] = HFTokenizer(where, length, **text.get("tokenizer_kwargs", {}))
    except Exception as error:  # transformers' own kinds and those of the hub's client alike
        raise BackendError(
            f"tokenizer of {name}: {where} gives none ({cause(error)}). Try again with a network, or "
            f"fetch its files ({', '.join(FILES)}) elsewhere and put them beside {weights}"
        ) from error
    return read
