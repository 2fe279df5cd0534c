"""The masked-attention transformer decoder of Mask2Former with the two class heads of CLOUDS.

Bilinear resizing and the dot product over channels commute, so the attention masks of each level come from mask
features shrunk once per level; full-size masks are made only where something needs them.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clouds.model.pixel_decoder import LEVELS, relu, sine_positions
from clouds.model.vocabulary import max_over_synonyms


@dataclass
class Prediction:
    """What the decoder says at each of its L outputs, the last one the final word.

    logits: L tensors (B, Q, C + 1), void last; empty at outputs nobody reads.
    mask_embeddings: L tensors (B, Q, D). mask_features: (B, D, H/4, W/4).
    """

    logits: list[Tensor]
    mask_embeddings: list[Tensor]
    mask_features: Tensor

    def masks(self, output: int = -1) -> Tensor:
        """Mask logits (B, Q, H/4, W/4) of one output."""
        return torch.einsum("bqd,bdhw->bqhw", self.mask_embeddings[output], self.mask_features)


class Attention(nn.Module):
    """Multi-head attention whose boolean mask is shared by the heads, not copied for each."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * hidden))
        self.out_proj = nn.Linear(hidden, hidden)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """query (B, Q, D); key, value (B, N, D); allowed bool (B, Q, N), True = may look -> (B, Q, D)."""
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, w, b).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )  # (B, heads, ., D/heads)
        mask = None if allowed is None else allowed[:, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward; post-norm, as in the paper's reference."""

    def __init__(self, hidden: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.cross_attn, self.self_attn = Attention(hidden, heads), Attention(hidden, heads)
        self.cross_norm, self.self_norm, self.ffn_norm = (nn.LayerNorm(hidden) for _ in range(3))
        self.linear1, self.linear2 = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, queries: Tensor, embed: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
        queries = self.cross_norm(queries + self.cross_attn(queries + embed, key, value, allowed))
        placed = queries + embed
        queries = self.self_norm(queries + self.self_attn(placed, placed, queries))
        out: Tensor = self.ffn_norm(queries + self.linear2(relu(self.linear1(queries))))
        return out


class MLP(nn.Sequential):
    """Three linear layers with ReLU between."""

    def __init__(self, hidden: int, out: int) -> None:
        super().__init__(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out)
        )


class LinearHead(nn.Module):
    """The released configurations' class head: query -> C + 1 logits."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, classes + 1)

    def forward(self, queries: Tensor) -> Tensor:
        out: Tensor = self.linear(queries)
        return out


class TextHead(nn.Module):
    """The open-vocabulary head: pool the mask features under the query's own mask, compare with the class names."""

    void: nn.Parameter

    def __init__(self, hidden: int, text_dim: int) -> None:
        super().__init__()
        self.pool_proj = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden))
        self.embed = MLP(hidden, text_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.void = nn.Parameter(torch.randn(1, text_dim))

    def embeddings(self, queries: Tensor, masks: Tensor, features: Tensor) -> Tensor:
        """queries (B, Q, D), mask logits (B, Q, h, w), mask features (B, D, h, w) -> unit rows (B, Q, T)."""
        inside = (masks.detach() > 0).to(features.dtype).flatten(2)
        inside = inside / inside.sum(-1, keepdim=True).clamp(min=1)  # an empty mask pools to zero
        pooled = inside @ features.flatten(2).transpose(1, 2)
        return F.normalize(self.embed(self.pool_proj(pooled) + queries), dim=-1)

    def forward(self, queries: Tensor, masks: Tensor, features: Tensor, vocabulary: Tensor, synonyms: Tensor) -> Tensor:
        """vocabulary (N, T) unit rows, synonyms (C, S) from ``synonym_index`` -> logits (B, Q, C + 1), void last."""
        embedded = self.embeddings(queries, masks, features)
        scale = self.logit_scale.exp().clamp(max=100)
        classes = max_over_synonyms(scale * embedded @ vocabulary.T, synonyms)
        void = scale * embedded @ F.normalize(self.void, dim=-1).T
        return torch.cat((classes, void), dim=-1)


class TransformerDecoder(nn.Module):
    """Q learned queries look at the memories, coarse to fine in turn, each inside its own current mask.

    ``checkpointing``: as in the pixel decoder.
    """

    checkpointing = False

    def __init__(
        self, *, hidden: int, queries: int, layers: int, heads: int, ffn: int, head: Literal["linear", "text"],
        classes: int, text_dim: int, linked: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if not linked:  # else they come from a Rein
            self.query_feat = nn.Embedding(queries, hidden)
        self.query_embed = nn.Embedding(queries, hidden)
        self.level_embed = nn.Embedding(len(LEVELS), hidden)
        self.layers = nn.ModuleList(DecoderLayer(hidden, heads, ffn) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.mask_embed = MLP(hidden, hidden)
        self.class_head: LinearHead | TextHead = (
            TextHead(hidden, text_dim) if head == "text" else LinearHead(hidden, classes)
        )

    def forward(
        self, mask_features: Tensor, memories: list[Tensor], vocabulary: Tensor, synonyms: Tensor, auxiliary: bool,
        queries: Tensor | None = None,
    ) -> Prediction:  # fmt: skip
        """mask_features (B, D, h, w), memories at strides 32, 16, 8; auxiliary: class logits at every output too;
        queries (Q, D): instead of learned ones."""
        batch = mask_features.shape[0]
        keys, values, shrunk = [], [], []
        # channels last, which shrinking on a CPU would else make of them at each level
        features = mask_features.detach().contiguous(memory_format=torch.channels_last)
        for memory, level in zip(memories, self.level_embed.weight, strict=True):
            height, width = memory.shape[-2:]
            value = memory.flatten(2).transpose(1, 2) + level  # (B, N, D)
            position = sine_positions(height, width, value.shape[-1], value.device, value.dtype)
            values.append(value)
            keys.append(value + position.flatten(1).T)
            small = F.interpolate(features, size=(height, width), mode="bilinear", align_corners=False)
            shrunk.append(small.flatten(2).contiguous())  # (B, D, N)
        queries = (self.query_feat.weight if queries is None else queries).expand(batch, -1, -1)
        embed = self.query_embed.weight.expand(batch, -1, -1)
        prediction = Prediction([], [], mask_features)
        for i in range(len(self.layers) + 1):
            last = i == len(self.layers)
            self._predict(queries, prediction, vocabulary, synonyms, classes=auxiliary or last)
            if last:
                break
            level = i % len(LEVELS)
            with torch.no_grad():
                allowed = prediction.mask_embeddings[-1] @ shrunk[level] >= 0  # sigmoid >= 0.5
                allowed |= ~allowed.any(-1, keepdim=True)  # an empty mask may look everywhere
            arguments = (queries, embed, keys[level], values[level], allowed)
            if self.checkpointing and torch.is_grad_enabled():
                queries = checkpoint(self.layers[i], *arguments, use_reentrant=False)
            else:
                queries = self.layers[i](*arguments)
        return prediction

    def _predict(
        self, queries: Tensor, prediction: Prediction, vocabulary: Tensor, synonyms: Tensor, classes: bool
    ) -> None:
        queries = self.norm(queries)
        prediction.mask_embeddings.append(self.mask_embed(queries))
        if not classes:
            return
        if isinstance(self.class_head, TextHead):
            with torch.no_grad():
                masks = prediction.masks()
            logits = self.class_head(queries, masks, prediction.mask_features, vocabulary, synonyms)
        else:
            logits = self.class_head(queries)
        prediction.logits.append(logits)
