"""SAM 3 asked with words: masks proposed for every class name, so that a region comes with the class it is for.

Its detector (``Sam3Model`` of transformers) takes a short noun phrase and gives the masks of all its instances, each
with a score. It takes no points here and so cannot refine by them: ``selftrain.refinement=regions`` only.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from clouds.base.files import sha256
from clouds.errors import DataError, UsageError, cause
from clouds.foundation.segmenters.sam import FAMILIES, image_processor, quiet, read_model

SCORE = 0.5  # of a proposal: as in transformers' documentation of the model
MASK = 0.5  # of a pixel, as a probability


class TextSegmenter:
    """Proposes masks for the names of classes."""

    def __init__(
        self, model: Any, processor: Any, name: str, files: Sequence[Path], synonyms: Sequence[Sequence[str]]
    ) -> None:
        self.model, self.processor, self.name, self.files = model.eval(), processor, name, files
        some = next(model.parameters())
        self.device, self.dtype = some.device, some.dtype
        self.texts = [(text, index) for index, group in enumerate(synonyms) for text in group]

    @cached_property
    def identity(self) -> str:
        """What proposals depend on beside the image."""
        content = [sha256(file) for file in self.files]
        return " ".join(["Sam3Model", str(self.dtype), str(SCORE), str(MASK), repr(self.texts), *content])

    @torch.no_grad()
    def propose(self, image: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.bool_], float, int]]:
        """``image`` (H, W, 3) uint8 RGB -> (mask (H, W) bool, score in 0..1, class index), name by name.

        The image is encoded once; each name is a run of the detector, so that memory does not grow with the names.
        """
        made = self.processor(images=image, return_tensors="pt", input_data_format="channels_last")
        seen = self.model.get_vision_features(pixel_values=made["pixel_values"].to(self.device, self.dtype))
        for (_, index), (features, attention) in zip(self.texts, self._embedded, strict=True):
            # the forward pass reads one field of what get_text_features returns
            said = SimpleNamespace(pooler_output=features)
            out = self.model(vision_embeds=seen, text_embeds=said, attention_mask=attention)
            (found,) = self.processor.image_processor.post_process_instance_segmentation(
                out, threshold=SCORE, mask_threshold=MASK, target_sizes=[image.shape[:2]]
            )
            for mask, score in zip(found["masks"], found["scores"].tolist(), strict=True):
                yield mask.bool().cpu().numpy(), score, index

    def encode(self, _image: NDArray[np.uint8]) -> NoReturn:
        """Refused with UsageError: points cannot be asked for."""
        raise UsageError(
            f"{self.name}: takes class names and no points; use it with selftrain.refinement=regions, or a segmenter "
            "that takes points, such as sam3/MODEL with the same weights"
        )

    def masks(self, _embedding: Any, _points: NDArray[np.float32]) -> NoReturn:
        """Refused, as ``encode``."""
        self.encode(_embedding)

    @cached_property
    def _embedded(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Features (1, L, D) and attention mask (1, L) of every name."""
        embedded = []
        for text, _ in self.texts:
            tokens = self.processor(text=text, return_tensors="pt").to(self.device)
            with torch.no_grad():
                features = self.model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
            embedded.append((features, tokens["attention_mask"]))
        return embedded


def check_tokenizer(folder: Path) -> None:
    """Raises DataError where ``folder`` holds no tokenizer: transformers would make up an empty one."""
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json")):
        raise DataError(
            f"{folder}: holds no tokenizer; expected tokenizer.json and tokenizer_config.json, or vocab.json and "
            "merges.txt, beside config.json"
        )


def load_sam_text(
    folder: Path, name: str, device: str, dtype: str, synonyms: Sequence[Sequence[str]]
) -> TextSegmenter:
    """The detector and the tokenizer that ``save_pretrained`` wrote to ``folder``; safetensors only, in silence.

    Raises BackendError where this transformers has no such model, DataError for files that are damaged or do not fit.
    """
    import transformers

    check_tokenizer(folder)
    model = read_model("Sam3Model", folder, name, device, dtype)
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as many kinds as a tokenizer has files
        raise DataError(f"{folder}: its tokenizer cannot be loaded ({cause(error)})") from error
    side = model.config.vision_config.backbone_config.image_size
    images = image_processor(FAMILIES["sam3"], side if isinstance(side, int) else side[0])
    processor = transformers.Sam3Processor(images, tokenizer)
    return TextSegmenter(model, processor, name, sorted(folder.glob("*.safetensors")), synonyms)
