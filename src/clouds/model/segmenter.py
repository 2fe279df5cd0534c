"""The network the paper trains: a frozen backbone, the Mask2Former decoder, and a vocabulary of class names.

Read from top to bottom: normalise and pad, see (backbone), decode (head), merge queries into a semantic map.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from clouds.foundation.backbone import build_vision
from clouds.foundation.backbones.adapters import adapt as put_adapter
from clouds.foundation.backbones.adapters import adapter_parameters
from clouds.foundation.registry import backend_name, default_weights
from clouds.model.decoder import Prediction, TransformerDecoder
from clouds.model.ensemble import clip_of, geometric_ensemble
from clouds.model.folded import Folded
from clouds.model.pixel_decoder import PixelDecoder
from clouds.model.vocabulary import synonym_index


class Head(nn.Module):
    """Pixel decoder and transformer decoder: all that is trained when the backbone is frozen and has no adapter."""

    def __init__(self, pixel_decoder: PixelDecoder, decoder: TransformerDecoder) -> None:
        super().__init__()
        self.pixel_decoder, self.decoder = pixel_decoder, decoder

    def forward(
        self, features: dict[int, Tensor], vocabulary: Tensor, synonyms: Tensor, auxiliary: bool,
        queries: Tensor | None = None,
    ) -> Prediction:  # fmt: skip
        mask_features, memories = self.pixel_decoder(features)
        out: Prediction = self.decoder(mask_features, memories, vocabulary, synonyms, auxiliary, queries)
        return out


class Segmenter(nn.Module, PyTorchModelHubMixin):
    """Images in, class and mask per query out. Every argument is plain data and stands in ``config.json``.

    classes, synonyms, colors: C names, C groups of synonyms (N in all), C RGB triples.
    adapt: what is trained inside the frozen backbone, see ``foundation.backbones.adapters.adapt``; None for nothing.
    weights: where the frozen weights came from: {"source", "revision", "sha256"}, None for a package's.
    seen: which classes were trained, by default all (the geometric ensemble trusts CLIP more on the others).
    shorter_side: the size images are brought to at inference, in pixels; 0 keeps their own.
    """

    mean: Tensor
    std: Tensor
    vocabulary: Tensor
    synonym_columns: Tensor
    seen: Tensor

    def __init__(
        self,
        *,
        vision: str,
        text: str,
        text_dim: int,
        classes: list[str],
        synonyms: list[list[str]],
        colors: list[list[int]],
        head: Literal["linear", "text"] = "text",
        hidden: int = 256,
        queries: int = 100,
        heads: int = 8,
        pixel_layers: int = 6,
        pixel_ffn: int = 1024,
        layers: int = 9,
        ffn: int = 2048,
        shorter_side: int = 1024,
        freeze: bool = True,
        adapt: dict[str, Any] | None = None,
        weights: dict[str, Any] | None = None,
        seen: list[bool] | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "vision": vision, "text": text, "weights": weights, "head": head, "shorter_side": shorter_side
        }
        self.classes, self.synonyms, self.colors = classes, synonyms, colors
        self.trained_on: frozenset[str] | None = None  # fingerprints of photos without labels; None: not known
        self.backbone = build_vision(vision, pretrained, weights)
        if adapt:
            put_adapter(self.backbone, adapt, hidden)
        self.freeze, self.adapted, self._folded = freeze, adapt is not None, Folded()
        self.head = Head(
            PixelDecoder(self.backbone.channels, hidden=hidden, layers=pixel_layers, heads=heads, ffn=pixel_ffn),
            TransformerDecoder(
                hidden=hidden, queries=queries, layers=layers, heads=heads, ffn=ffn, head=head, classes=len(classes),
                text_dim=text_dim, linked=bool(adapt and adapt.get("link")),
            ),
        )  # fmt: skip
        self.thaw()
        self.register_buffer("mean", torch.tensor(self.backbone.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.backbone.std).view(3, 1, 1), persistent=False)
        self.register_buffer("vocabulary", torch.zeros(sum(map(len, synonyms)), text_dim))
        self.register_buffer("synonym_columns", synonym_index([len(s) for s in synonyms]), persistent=False)
        self.register_buffer("seen", torch.tensor(seen or [True] * len(classes)), persistent=False)

    def thaw(self) -> None:
        """Make trainable the head, the backbone unless it is frozen, and what an adapter added to it."""
        self.head.requires_grad_(True)
        self.backbone.requires_grad_(not self.freeze)
        for parameter in adapter_parameters(self.backbone):
            parameter.requires_grad_(True)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """Images uint8 or float in 0..255 (B, 3, H, W) -> backbone features of the normalised, zero-padded images."""
        x = (images.to(self.mean.dtype) - self.mean) / self.std
        x = F.pad(x, (0, -x.shape[-1] % 32, 0, -x.shape[-2] % 32))
        if self.adapted or not self.freeze:
            return self.backbone.features(x)
        with torch.no_grad():
            found: dict[int, Tensor] = self._folded(self.backbone, x).features(x)
        return found

    def forward(self, images: Tensor, auxiliary: bool = True) -> Prediction:
        """Images (B, 3, H, W) in 0..255 -> Prediction; masks cover the image padded to multiples of 32."""
        return self.decode(self.features(images), auxiliary)

    def decode(self, features: dict[int, Tensor], auxiliary: bool = True) -> Prediction:
        """Backbone features -> Prediction; ``auxiliary`` adds class logits at every output (training)."""
        rein = getattr(self.backbone, "rein", None)
        queries = None if rein is None else rein.queries()
        out: Prediction = self.head(features, self.vocabulary, self.synonym_columns, auxiliary, queries)
        return out

    @torch.no_grad()
    def semantic(self, images: Tensor, ensemble: bool = False) -> Tensor:
        """Images (B, 3, H, W) in 0..255 -> semantic map float32 (B, C, H, W): scores in 0..Q, not normalised.

        ensemble: weigh CLIP's own opinion of each mask in; UsageError where the backbone is no CLIP.
        """
        clip = clip_of(self.backbone, self.settings) if ensemble else None
        features = self.features(images)
        prediction = self.decode(features, auxiliary=False)
        logits, masks = prediction.logits[-1], prediction.masks()
        if clip:
            logits = geometric_ensemble(logits, masks, features, clip, self.vocabulary, self.synonym_columns, self.seen)
        return merge(logits, masks, (images.shape[-2], images.shape[-1]))


def backends_of(settings: dict[str, Any]) -> dict[str, str]:
    """What results call the backbone and the text tower of a model with these settings, {"vision", "text"}."""
    source = (settings["weights"] or {}).get("source")
    vision, text = settings["vision"], settings["text"]
    return {
        "vision": backend_name(vision, source),
        "text": backend_name(text, source if text == vision else default_weights(text)),
    }


def merge(logits: Tensor, masks: Tensor, size: tuple[int, int], rows: int = 32) -> Tensor:
    """Sum over queries of softmax(class)[no void] x sigmoid(mask upsampled by 4): (B, C, H, W).

    logits (B, Q, C + 1), mask logits (B, Q, h, w); the upsampled map is cropped to ``size`` (H, W). Works in blocks of
    output rows, so that memory is a block's and not that of Q full-size masks: the height is resized by mixing two
    rows of masks, then the width, which is what bilinear resizing does in one go.
    """
    height, width = size
    h, w = masks.shape[-2:]
    classes = logits.softmax(-1)[..., :-1].transpose(1, 2)  # (B, C, Q)
    source = ((torch.arange(height, device=masks.device) + 0.5) / 4 - 0.5).clamp(min=0)
    low = source.floor().long().clamp(max=h - 1)
    high = (low + 1).clamp(max=h - 1)
    share = (source - low).to(masks.dtype)[:, None]
    out = masks.new_empty(masks.shape[0], classes.shape[1], height, width)
    for start in range(0, height, rows):
        block = slice(start, min(start + rows, height))
        mixed = torch.lerp(masks[:, :, low[block]], masks[:, :, high[block]], share[block])  # (B, Q, r, w)
        count = mixed.shape[2]
        full = F.interpolate(mixed, size=(count, 4 * w), mode="bilinear", align_corners=False)
        full = full[..., :width].sigmoid_().flatten(2)  # (B, Q, r W)
        out[:, :, block] = (classes @ full).unflatten(2, (count, width))
    return out
