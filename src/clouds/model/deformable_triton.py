"""``deformable_sample`` as a Triton kernel, forward and backward, for NVIDIA GPUs: no sampled value is stored.

A program reads the places of a few (image, query, head) rows. Sums are made in float32 whatever the values are. Triton
comes with torch on Linux; its interpreter (TRITON_INTERPRET=1) runs the same code on a CPU, which is how it is tested.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

Shapes = list[tuple[int, int]]
ROWS = 16  # (image, query, head) rows of a program


@triton.jit
def _place(x, y, weights, at, live, height, width):  # type: ignore[no-untyped-def]
    """Column and row of the upper left of the four cells, the shares of the right and lower ones, and the weight."""
    column = tl.load(x + at, mask=live, other=-2.0).to(tl.float32)
    row = tl.load(y + at, mask=live, other=-2.0).to(tl.float32)
    # what is outside, or no number, is brought to where nothing is read
    column = tl.minimum(tl.maximum(column, -2.0), width.to(tl.float32))
    row = tl.minimum(tl.maximum(row, -2.0), height.to(tl.float32))
    left, above = tl.floor(column), tl.floor(row)
    weight = tl.load(weights + at, mask=live, other=0.0).to(tl.float32)
    return left.to(tl.int32), above.to(tl.int32), column - left, row - above, weight


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    value, x, y, weights, shapes, out, total, queries, cells,
    heads: tl.constexpr, levels: tl.constexpr, points: tl.constexpr, channels: tl.constexpr, wide: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    rows = (tl.program_id(0) * block + tl.arange(0, block)).to(tl.int64)
    live = rows < total
    head, image = rows % heads, rows // (queries * heads)
    c = tl.arange(0, wide)
    sums = tl.zeros((block, wide), tl.float32)
    for level in range(levels):
        start = tl.load(shapes + 3 * level)
        height, width = tl.load(shapes + 3 * level + 1), tl.load(shapes + 3 * level + 2)
        for point in range(points):
            at = rows * (levels * points) + level * points + point
            left, above, fx, fy, weight = _place(x, y, weights, at, live, height, width)
            for corner in tl.static_range(4):
                column, row = left + corner % 2, above + corner // 2
                share = weight * (fx if corner % 2 else 1.0 - fx) * (fy if corner // 2 else 1.0 - fy)
                inside = live & (column >= 0) & (column < width) & (row >= 0) & (row < height)
                cell = ((image * cells + start + row * width + column) * heads + head) * channels
                read = tl.load(value + cell[:, None] + c, mask=inside[:, None] & (c < channels)[None, :], other=0.0)
                sums += share[:, None] * read.to(tl.float32)
    tl.store(out + rows[:, None] * channels + c, sums, mask=live[:, None] & (c < channels)[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def _backward(  # type: ignore[no-untyped-def]
    value, x, y, weights, shapes, given, to_value, to_x, to_y, to_weights, total, queries, cells,
    heads: tl.constexpr, levels: tl.constexpr, points: tl.constexpr, channels: tl.constexpr, wide: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    rows = (tl.program_id(0) * block + tl.arange(0, block)).to(tl.int64)
    live = rows < total
    head, image = rows % heads, rows // (queries * heads)
    c = tl.arange(0, wide)
    wanted = live[:, None] & (c < channels)[None, :]
    gradient = tl.load(given + rows[:, None] * channels + c, mask=wanted, other=0.0).to(tl.float32)
    for level in range(levels):
        start = tl.load(shapes + 3 * level)
        height, width = tl.load(shapes + 3 * level + 1), tl.load(shapes + 3 * level + 2)
        for point in range(points):
            at = rows * (levels * points) + level * points + point
            left, above, fx, fy, weight = _place(x, y, weights, at, live, height, width)
            by_x = tl.zeros((block,), tl.float32)
            by_y = tl.zeros((block,), tl.float32)
            by_weight = tl.zeros((block,), tl.float32)
            for corner in tl.static_range(4):
                column, row = left + corner % 2, above + corner // 2
                across, down = (fx if corner % 2 else 1.0 - fx), (fy if corner // 2 else 1.0 - fy)
                inside = live & (column >= 0) & (column < width) & (row >= 0) & (row < height)
                cell = ((image * cells + start + row * width + column) * heads + head) * channels
                mask = inside[:, None] & (c < channels)[None, :]
                read = tl.load(value + cell[:, None] + c, mask=mask, other=0.0).to(tl.float32)
                product = tl.sum(read * gradient, axis=1)
                by_weight += across * down * product
                by_x += weight * down * product * (1.0 if corner % 2 else -1.0)
                by_y += weight * across * product * (1.0 if corner // 2 else -1.0)
                tl.atomic_add(to_value + cell[:, None] + c, (weight * across * down)[:, None] * gradient, mask=mask)
            tl.store(to_weights + at, by_weight, mask=live)
            tl.store(to_x + at, by_x, mask=live)
            tl.store(to_y + at, by_y, mask=live)


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, x: Tensor, y: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
        value, x, y, weights = (t.contiguous() for t in (value, x, y, weights))
        starts = [sum(h * w for h, w in shapes[:level]) for level in range(len(shapes))]
        table = torch.tensor([(s, h, w) for s, (h, w) in zip(starts, shapes, strict=True)], dtype=torch.int32)
        table = table.to(value.device, non_blocking=True)
        out = value.new_empty(*x.shape[:3], value.shape[3])
        _launch(_forward, value, x, (value, x, y, weights, table, out))
        ctx.save_for_backward(value, x, y, weights, table)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        value, x, y, weights, table = ctx.saved_tensors
        to_value = torch.zeros_like(value, dtype=torch.float32)  # sums of many: half precision would lose them
        places = [torch.empty_like(t, dtype=torch.float32) for t in (x, y, weights)]
        _launch(_backward, value, x, (value, x, y, weights, table, given.contiguous(), to_value, *places))
        to_x, to_y, to_weights = (g.to(t.dtype) for g, t in zip(places, (x, y, weights), strict=True))
        return to_value.to(value.dtype), to_x, to_y, to_weights, None


def _launch(kernel: Any, value: Tensor, x: Tensor, arguments: tuple[Tensor, ...]) -> None:
    b, n, heads, levels, points = x.shape
    total, channels = b * n * heads, value.shape[3]
    with torch.cuda.device_of(value):
        kernel[(triton.cdiv(total, ROWS),)](
            *arguments, total, n, value.shape[1], heads=heads, levels=levels, points=points, channels=channels,
            wide=triton.next_power_of_2(channels), block=ROWS,
        )  # fmt: skip


def sample_by_triton(value: Tensor, x: Tensor, y: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    """``deformable_sample`` by the kernels: float32, float16 or bfloat16, differentiable once."""
    out: Tensor = _Sample.apply(value, x, y, weights, shapes)
    return out
