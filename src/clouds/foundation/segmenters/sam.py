"""SAM and its descendants by transformers: one adapter over SAM, SAM-HQ, SAM 2, EdgeTAM and SAM 3.

All embed an image once and decode many point prompts from that. They differ in how an image enters (SAM and SAM-HQ:
longest side resized, then padded; the later ones: squashed to a square) and in the maps an embedding consists of; both
are data below. Each prompt's masks are tokens 1 to 3 of the decoder, its three candidates; quality is the predicted
IoU. SAM 2's object score says whether a tracked thing is in the frame and plays no part for points on an image, as in
its own image predictor. SAM-HQ adds its token's mask to each candidate and sorts them by quality.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clouds.base.files import sha256
from clouds.errors import BackendError, DataError, cause
from clouds.foundation.weights import listed

Embedding = dict[str, Tensor]
Maps = list[Tensor]

CHUNK_BYTES = 2**29  # what decoding one batch of prompts may take beside the result
DECODER = 16  # copies of the coarsest map that decoding a prompt takes: keys, values, sums, upscaled maps


@dataclass(frozen=True)
class Family:
    """How one family is used: its classes in transformers, and its embedding to and from a list of maps (1, ...)."""

    model: str
    processor: str

    @property
    def padded(self) -> bool:
        """Whether an image keeps its shape and leaves a part of the model's input empty."""
        return self.processor == "SamImageProcessor"

    def maps(self, model: Any, pixels: Tensor) -> Maps:
        """One map of SAM; of the later families three strides, the coarsest last. SAM-HQ's decoder also reads the
        features after the first global block, and only those of the four it is given."""
        found = model.get_image_embeddings(pixels)
        if isinstance(found, Tensor):
            return [found]
        return [found[0], found[1][0]] if self.padded else list(found)

    def inputs(self, maps: Maps) -> dict[str, Any]:
        """What the model's forward takes of the maps."""
        if not self.padded:
            return {"image_embeddings": maps}
        return {"image_embeddings": maps[0]} | ({"intermediate_embeddings": maps[1:]} if maps[1:] else {})


SAM = Family("SamModel", "SamImageProcessor")
FAMILIES = {
    "sam": SAM,
    "sam-hq": Family("SamHQModel", "SamImageProcessor"),
    "sam2": Family("Sam2Model", "Sam2ImageProcessor"),
    "edgetam": Family("EdgeTamModel", "Sam2ImageProcessor"),
    "sam3": Family("Sam3TrackerModel", "Sam3ImageProcessor"),
}


class TransformersSegmenter:
    """A promptable segmenter around one of transformers' SAM models, whose weights came from ``files``."""

    def __init__(
        self, model: Any, family: Family, name: str, files: Sequence[Path],
        chunk_bytes: int = CHUNK_BYTES, second_pass: bool = False,
    ) -> None:  # fmt: skip
        """``second_pass``: ask again with each prompt's best mask beside its points; that is the answer."""
        self.model, self.family, self.name = model.eval(), family, name
        self.files, self.chunk_bytes, self.second_pass = files, chunk_bytes, second_pass
        self.side = int(model.config.prompt_encoder_config.image_size)
        self.processor = image_processor(family, self.side)
        some = next(model.parameters())
        self.device, self.dtype = some.device, some.dtype

    @cached_property
    def identity(self) -> str:
        """What an embedding depends on beside the image: the architecture, the content of the weights, the dtype."""
        return " ".join([self.family.model, str(self.dtype), *(sha256(file) for file in self.files)])

    @torch.no_grad()
    def encode(self, image: NDArray[np.uint8]) -> Embedding:
        """``image`` (H, W, 3) uint8 RGB -> tensors on the CPU: "size" (H, W), "frame" (h, w) that the image fills of
        the model's square input, and maps "0", "1", ... (1, ...) in the model's dtype. Raises DataError for others."""
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise DataError(f"segmenter: image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        made = self.processor(images=image, return_tensors="pt", input_data_format="channels_last")
        pixels = made["pixel_values"].to(self.device, self.dtype)
        frame = made.get("reshaped_input_sizes", torch.tensor([pixels.shape[-2:]]))[0]
        maps = self.family.maps(self.model, pixels)
        return {
            "size": torch.tensor(image.shape[:2]),
            "frame": torch.as_tensor(frame),
            **{str(i): each.contiguous().cpu() for i, each in enumerate(maps)},
        }

    def masks(self, embedding: Embedding, points: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Candidates for points (P, K, 2) x, y: masks (P, 3, H, W) bool and predicted IoU (P, 3).

        Points outside the image are moved to its border. A prompt's answer does not depend on the prompts beside it,
        up to rounding. Memory: the result, and at most about ``chunk_bytes``. Raises DataError for other points.
        """
        masks, quality, _ = self._decode(embedding, points, stable=False)
        return masks, quality

    def stable_masks(
        self, embedding: Embedding, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
        """``masks``, and their stability (P, 3) in [0, 1]: what of a mask stays when its logits' threshold moves from
        -1 to 1, the criterion by which SAM segments everything."""
        return self._decode(embedding, points, stable=True)

    @torch.no_grad()
    def _decode(
        self, embedding: Embedding, points: NDArray[np.float32], stable: bool
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
        height, width = embedding["size"].tolist()
        frame = embedding["frame"].tolist()
        placed = _placed(points, (height, width), frame)
        maps = [embedding[str(i)].to(self.device, self.dtype) for i in range(len(embedding) - 2)]
        masks = np.empty((len(placed), 3, height, width), np.bool_)
        quality = np.empty((len(placed), 3), np.float32)
        stability = np.ones((len(placed), 3), np.float32)
        step = self._prompts_at_once(height * width, maps)
        for start in range(0, len(placed), step):
            part = slice(start, start + step)
            low, rated = self._ask(maps, placed[part].to(self.device))
            logits = self._logits(low.float(), frame, (height, width))
            masks[part] = (logits > 0).cpu().numpy()
            quality[part] = rated.float().cpu().numpy()
            if stable:
                most = (logits > -1).sum((-2, -1)).clamp(min=1)
                stability[part] = ((logits > 1).sum((-2, -1)) / most).cpu().numpy()
        return masks, quality, stability

    def _ask(self, maps: Maps, points: Tensor) -> tuple[Tensor, Tensor]:
        """Points (P, K, 2) in the model's input -> logits (P, 3, h, w) and quality (P, 3)."""
        out = self.model(**self.family.inputs(maps), input_points=points[None], multimask_output=True)
        low, quality = out.pred_masks[0], out.iou_scores[0]
        if not self.second_pass:
            return low, quality
        best = low[torch.arange(len(low)), quality.argmax(1), None]  # (P, 1, h, w)
        if not self.family.padded:
            best = best.clamp(-32, 32)  # as SAM 2's own predictor hands masks on
        # a mask prompt belongs to an image of the batch, not to one of its points: here every prompt is an image
        copies = [each.expand(len(points), *each.shape[1:]) for each in maps]
        out = self.model(
            **self.family.inputs(copies), input_points=points[:, None], input_masks=best, multimask_output=True
        )
        return out.pred_masks[:, 0], out.iou_scores[:, 0]

    def _prompts_at_once(self, pixels: int, maps: Maps) -> int:
        floats = 3 * (self.side**2 + 2 * pixels) + DECODER * min(each.numel() for each in maps)
        return max(1, self.chunk_bytes // (4 * floats))

    def _logits(self, low: Tensor, frame: list[int], size: tuple[int, int]) -> Tensor:
        """Logits (P, 3, h, w) -> (P, 3, H, W): to the model's input where it was padded, cut, to the image."""
        planes = low.flatten(0, 1)[:, None]  # one channel each: three channels are resized at a third of the speed
        if self.family.padded:
            planes = F.interpolate(planes, (self.side, self.side), mode="bilinear", align_corners=False)
            planes = planes[..., : frame[0], : frame[1]]
        resized = F.interpolate(planes, size, mode="bilinear", align_corners=False)
        logits: Tensor = resized[:, 0].unflatten(0, low.shape[:2])
        return logits


def _placed(points: NDArray[np.float32], size: tuple[int, int], frame: list[int]) -> Tensor:
    """Points (P, K, 2) of an image of ``size`` -> float32 in the model's input, where the image fills ``frame``."""
    points = np.asarray(points)
    if points.ndim != 3 or points.shape[1] < 1 or points.shape[2] != 2 or not np.isfinite(points).all():
        raise DataError(f"segmenter: points must be finite, (P, K, 2) with K at least 1, got {points.shape}")
    last = np.array([size[1] - 1, size[0] - 1])
    scale = np.array([frame[1] / size[1], frame[0] / size[0]])
    return torch.from_numpy((np.clip(points.astype(np.float64), 0, last) * scale).astype(np.float32))


def image_processor(family: Family, side: int) -> Any:
    """The family's image processor, with its published pixel statistics, for a model of this input size."""
    import transformers

    square = {"height": side, "width": side}
    kind = getattr(transformers, family.processor)
    return kind(size={"longest_edge": side}, pad_size=square) if family.padded else kind(size=square)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and reports of transformers in here: what is wrong is raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_sam(
    family: str, folder: Path, name: str, device: str, dtype: str, second_pass: bool = False
) -> TransformersSegmenter:
    """The model that ``save_pretrained`` wrote to ``folder``, as ``read_model`` reads it."""
    used = FAMILIES[family]
    model = read_model(used.model, folder, name, device, dtype)
    return TransformersSegmenter(model, used, name, sorted(folder.glob("*.safetensors")), second_pass=second_pass)


def read_model(kind: str, folder: Path, name: str, device: str, dtype: str) -> Any:
    """transformers' model ``kind`` from ``folder``; safetensors only, every tensor there, in silence.

    Raises BackendError where this transformers has no such model, DataError for weights that are damaged or do not fit.
    """
    import transformers

    made = getattr(transformers, kind, None)
    if made is None:
        raise BackendError(f"{name}: transformers {transformers.__version__} has no {kind}; install a newer one")
    with quiet():
        try:
            model, found = made.from_pretrained(
                folder, dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True,
                output_loading_info=True,
            )  # fmt: skip
        except Exception as error:  # damaged files raise kinds of safetensors, json, torch and transformers' own
            raise DataError(f"{folder}: cannot be loaded as {kind} ({cause(error)})") from error
    missing = sorted(found["missing_keys"]) + [str(each) for each in found["mismatched_keys"]]
    if missing:
        raise DataError(f"{folder}: its tensors do not fit {kind}. {len(missing)} missing: {listed(missing)}")
    return model.to(device)
