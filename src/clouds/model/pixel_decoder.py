"""The pixel decoder of Mask2Former: multi-scale deformable attention over strides 8, 16, 32, then an FPN to stride 4.

Plain PyTorch: no compiled extension. Maths as in Deformable DETR (arXiv 2010.04159) and Mask2Former (arXiv 2112.01527).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clouds.model.deformable import deformable_sample, softmax_of_few

LEVELS = (32, 16, 8)  # strides, coarse to fine: the order of tokens and of the decoder's memories
POINTS = 4  # that a head samples of each level


def sine_positions(height: int, width: int, channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Fixed 2-D sine position embedding, normalised to 2 pi: (channels, height, width)."""
    half, eps = channels // 2, 1e-6
    frequency = 10000 ** (2 * (torch.arange(half, device=device) // 2) / half)

    def axis(length: int) -> Tensor:
        position = torch.arange(1, length + 1, device=device, dtype=torch.float32)
        angle = position / (length + eps) * 2 * math.pi
        angle = angle[:, None] / frequency
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)  # (length, half)

    rows = axis(height)[:, None].expand(-1, width, -1)
    columns = axis(width)[None].expand(height, -1, -1)
    return torch.cat((rows, columns), dim=2).permute(2, 0, 1).to(dtype)


def reference_points(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """Centres of the cells of all levels, normalised to 0..1: (N, 2) as x, y."""
    points = []
    for height, width in shapes:
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        points.append(torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 2))
    return torch.cat(points)


def extents(shapes: list[tuple[int, int]], like: Tensor) -> Tensor:
    """Widths and heights of all levels in cells: (2, L). The host does not wait for their copy to the device."""
    sides = torch.tensor([[width for _, width in shapes], [height for height, _ in shapes]], dtype=like.dtype)
    return sides.to(like.device, non_blocking=True)


def relu(x: Tensor) -> Tensor:
    """In place where no gradient is wanted. A linear layer's result is a view: its gradient would be copied thrice."""
    return F.relu(x, inplace=not torch.is_grad_enabled())


class DeformableAttention(nn.Module):
    """Each token samples ``points`` places on every level around itself and mixes them with learned weights."""

    def __init__(self, hidden: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(hidden, heads * levels * points * 2)
        self.attention_weights = nn.Linear(hidden, heads * levels * points)
        self.value_proj = nn.Linear(hidden, hidden)
        self.output_proj = nn.Linear(hidden, hidden)
        self._reset()

    def _reset(self) -> None:
        """Deformable DETR's start: uniform weights, head m looks in direction 2 pi m / heads, point p at distance p."""
        nn.init.zeros_(self.sampling_offsets.weight)
        theta = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack((theta.cos(), theta.sin()), -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1)
        grid = direction[:, None, None] * steps[None, None, :, None]  # (heads, 1, points, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(grid.expand(-1, self.levels, -1, -1).reshape(-1))
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, query: Tensor, tokens: Tensor, reference: Tensor, extent: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        """query, tokens (B, N, D); reference (N, 2) in 0..1; extent (2, L) from ``extents``; shapes of the levels
        -> (B, N, D)."""
        b, n = query.shape[:2]
        form = (self.heads, self.levels, self.points)
        # Columns and rows come from a linear layer each, in cells: long inner loops, and no interleaved pairs
        weight, bias = (t.unflatten(0, (-1, 2)) for t in (self.sampling_offsets.weight, self.sampling_offsets.bias))
        places = []
        for axis in (0, 1):  # x, y
            size = extent[axis, :, None].expand(form).reshape(-1)  # (M L P,)
            offset = F.linear(query, weight[:, axis], bias[:, axis] - 0.5)
            places.append(torch.addcmul(offset, reference[:, axis, None], size).unflatten(-1, form))
        weights = softmax_of_few(self.attention_weights(query).view(b, n, self.heads, -1)).unflatten(-1, form[1:])
        value = self.value_proj(tokens).unflatten(-1, (self.heads, -1))  # (B, N, M, D/M)
        mixed = deformable_sample(value, places[0], places[1], weights, shapes)
        out: Tensor = self.output_proj(mixed.flatten(2))
        return out


class EncoderLayer(nn.Module):
    """Deformable self-attention and feed-forward, post-norm."""

    def __init__(self, hidden: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(hidden, heads, len(LEVELS), POINTS)
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.linear1, self.linear2 = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)

    def forward(
        self, tokens: Tensor, position: Tensor, reference: Tensor, extent: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        attended = self.self_attn(tokens + position, tokens, reference, extent, shapes)
        tokens = self.norm1(tokens + attended)
        out: Tensor = self.norm2(tokens + self.linear2(relu(self.linear1(tokens))))
        return out


class GroupNorm(nn.GroupNorm):
    """For maps of any size: torch's own refuses a group of one value, which 32 channels have of an image of at most
    32 x 32 pixels at stride 32. That group becomes its bias."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class PixelDecoder(nn.Module):
    """Backbone features -> mask features (B, D, H/4, W/4) and three memories (B, D, h, w) at strides 32, 16, 8.

    ``checkpointing``: what a layer computes is forgotten, and computed again for its gradients.
    """

    checkpointing = False

    def __init__(self, channels: dict[int, int], *, hidden: int, layers: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels[s], hidden, 1), GroupNorm(32, hidden)) for s in LEVELS
        )
        self.level_embed = nn.Parameter(torch.randn(len(LEVELS), hidden))
        self.layers = nn.ModuleList(EncoderLayer(hidden, heads, ffn) for _ in range(layers))
        self.lateral = nn.Sequential(nn.Conv2d(channels[4], hidden, 1, bias=False), GroupNorm(32, hidden))
        self.output = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1, bias=False), GroupNorm(32, hidden), nn.ReLU(inplace=True)
        )
        self.mask_features = nn.Conv2d(hidden, hidden, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, EncoderLayer):
                nn.init.xavier_uniform_(module.linear1.weight)
                nn.init.xavier_uniform_(module.linear2.weight)

    def forward(self, features: dict[int, Tensor]) -> tuple[Tensor, list[Tensor]]:
        maps = [project(features[s]) for project, s in zip(self.input_proj, LEVELS, strict=True)]
        shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        tokens = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)  # (B, N, D)
        hidden, device = tokens.shape[-1], tokens.device
        position = torch.cat([sine_positions(h, w, hidden, device, tokens.dtype).flatten(1).T + embed
                              for (h, w), embed in zip(shapes, self.level_embed, strict=True)])  # fmt: skip
        reference, extent = reference_points(shapes, device).to(tokens.dtype), extents(shapes, tokens)
        for layer in self.layers:
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(layer, tokens, position, reference, extent, shapes, use_reentrant=False)
            else:
                tokens = layer(tokens, position, reference, extent, shapes)
        parts = tokens.transpose(1, 2).split([h * w for h, w in shapes], dim=2)
        memories = [part.unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]
        top = self.lateral(features[4])
        top = top + F.interpolate(memories[-1], size=top.shape[-2:], mode="bilinear", align_corners=False)
        return self.mask_features(self.output(top)), memories
