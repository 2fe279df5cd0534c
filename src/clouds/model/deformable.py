"""Reading feature planes at learned places: the inner loop of multi-scale deformable attention, in three forms.

A bilinear read is a weighted sum of four cells, so a token's whole read is a weighted sum of 4 L P rows of a table. On
a CPU that is ``embedding_bag``, which stores no sampled value, forwards or backwards. On an NVIDIA GPU it is a Triton
kernel, where that works. Elsewhere, and in graphs that are compiled or exported, it is ``grid_sample``. All are the
same numbers up to rounding.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from clouds.base.progress import say
from clouds.errors import cause

Shapes = list[tuple[int, int]]
BORDER = 2  # zero cells around a plane: a place clamped to them reads zeros and has no gradient


def deformable_sample(value: Tensor, x: Tensor, y: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    """Weighted bilinear reads, zero outside the planes.

    value (B, K, M, C): the planes of ``shapes``, flattened and joined, for each of M heads; x, y, weights
    (B, N, M, L, P): column and row of each read in cells of its level, where a cell's centre is a whole number
    -> (B, N, M, C).
    """
    if torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return sample_by_grid(value, x, y, weights, shapes)
    if value.device.type == "cpu" and value.dtype in (torch.float32, torch.float64):
        out: Tensor = _Bags.apply(value, x, y, weights, shapes)
        return out
    if value.device.type == "cuda" and triton_works(str(value.device), value.dtype):
        from clouds.model.deformable_triton import sample_by_triton

        return sample_by_triton(value, x, y, weights, shapes)
    return sample_by_grid(value, x, y, weights, shapes)


def softmax_of_few(x: Tensor) -> Tensor:
    """Softmax over a short last side, (..., L P). On a CPU that goes row by row, and takes five times as long as over
    the first side, where many rows are done at once."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return x.softmax(-1)
    return x.flatten(0, -2).t().softmax(0).t().contiguous().view(x.shape)


@cache
def triton_works(device: str, dtype: torch.dtype) -> bool:
    """Whether the Triton kernels can be built for this device and agree there with ``grid_sample`` on a small case,
    forwards and backwards. Asked once; where they do not, a line says why."""
    if importlib.util.find_spec("triton") is None or dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return False
    try:
        from clouds.model.deformable_triton import sample_by_triton

        found = [small_case(sample, device, dtype) for sample in (sample_by_triton, sample_by_grid)]
        tolerance = 1e-4 if dtype == torch.float32 else 2e-2
        apart = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found, strict=True))
        if apart <= tolerance:
            return True
        why = f"its numbers are off by {apart:.1e}"
    except Exception as error:  # a compiler's, a driver's or a library's: they have no common class
        why = cause(error)
    say(f"deformable attention on {device}: grid_sample is used, the Triton kernel does not work ({why})")
    return False


@torch.enable_grad()
def small_case(sample: Callable[..., Tensor], device: str, dtype: torch.dtype) -> list[Tensor]:
    """A few reads in and around two planes: what comes out, and all gradients, in float32."""
    drawn = torch.Generator().manual_seed(0)
    shapes = [(5, 7), (3, 4)]
    value = torch.randn(2, 47, 2, 24, generator=drawn).to(device, dtype).requires_grad_()
    form = (2, 9, 2, 2, 3)
    places = [(torch.rand(form, generator=drawn) * 9 - 1).to(device).requires_grad_() for _ in range(2)]
    weights = torch.rand(form, generator=drawn).to(device).requires_grad_()
    with torch.autocast(torch.device(device).type, enabled=False):
        given = (value, *places, weights)
        used = [each.float() for each in given] if sample is sample_by_grid else given
        out = sample(*used, shapes).float()
        wave = torch.randn(out.shape, generator=drawn).to(device)
        gradients = torch.autograd.grad((out * wave).sum(), given)
    return [out.detach(), *(each.float() for each in gradients)]


def sample_by_grid(value: Tensor, x: Tensor, y: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    """``deformable_sample`` by grid_sample: differentiable twice, exportable, at home on a GPU."""
    b, m = x.shape[0], x.shape[2]
    planes = value.permute(0, 2, 3, 1).flatten(0, 1)  # (B M, C, K)
    shares = weights.permute(0, 2, 3, 1, 4).flatten(0, 1)[:, :, None]  # (B M, L, 1, N, P)
    mixed, start = planes.new_zeros(()), 0
    for level, (height, width) in enumerate(shapes):
        plane = planes[..., start : start + height * width].unflatten(-1, (height, width))
        grid = torch.stack(
            ((2 * x[..., level, :] + 1) / width - 1, (2 * y[..., level, :] + 1) / height - 1), dim=-1
        )  # (B, N, M, P, 2)
        grid = grid.transpose(1, 2).flatten(0, 1)  # (B M, N, P, 2)
        sampled = F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        mixed = mixed + (sampled * shares[:, level]).sum(-1)  # (B M, C, N)
        start += height * width
    out: Tensor = mixed.unflatten(0, (b, m)).permute(0, 3, 1, 2)
    return out


def _table(value: Tensor, shapes: Shapes) -> Tensor:
    """value (B, K, M, C) -> rows (B M R, C): per head the planes, each with a border of zeros."""
    b, _, m, c = value.shape
    sizes = [(h + 2 * BORDER) * (w + 2 * BORDER) for h, w in shapes]
    table = value.new_zeros(b, m, sum(sizes), c)
    _planes(table, shapes, lambda plane, part: plane.copy_(part), value)
    return table.view(-1, c)


def _untable(table: Tensor, form: torch.Size, shapes: Shapes) -> Tensor:
    """The reverse of ``_table``, for gradients: rows (B M R, C) -> ``form`` (B, K, M, C)."""
    b, _, m, c = form
    out = table.new_empty(form)
    _planes(table.view(b, m, -1, c), shapes, lambda plane, part: part.copy_(plane), out)
    return out


def _planes(table: Tensor, shapes: Shapes, copy: Any, value: Tensor) -> None:
    """Call ``copy(inside of a level's bordered plane, the level's part of value)``, both (B, M, h, w, C)."""
    start = row = 0
    for h, w in shapes:
        high, wide = h + 2 * BORDER, w + 2 * BORDER
        plane = table[:, :, row : row + high * wide].unflatten(2, (high, wide))
        part = value[:, start : start + h * w].unflatten(1, (h, w)).permute(0, 3, 1, 2, 4)
        copy(plane[:, :, BORDER:-BORDER, BORDER:-BORDER], part)
        start, row = start + h * w, row + high * wide


def _cells(x: Tensor, y: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each read, all (B N, M L P) but the last: the table's row of the upper left of its four cells, int32; how far
    right and down of its centre the read is, 0..1; and (M L P,) int32, rows from a cell to the one below it.

    Every operation runs over whole arrays with one row of constants: index arithmetic costs more than the reads
    themselves, so it is kept in long inner loops.
    """
    b, n, m, levels, p = x.shape

    def columns(numbers: list[int], dtype: torch.dtype = x.dtype) -> Tensor:
        return torch.tensor(numbers, dtype=dtype).repeat_interleave(p).repeat(m)  # (M L P,)

    sizes = [(h + 2 * BORDER) * (w + 2 * BORDER) for h, w in shapes]
    starts = [sum(sizes[:level]) + BORDER * (w + 2 * BORDER + 1) for level, (_, w) in enumerate(shapes)]
    step = columns([w + 2 * BORDER for _, w in shapes], torch.int32)
    # fmax, not clamp: a place that is not a number must not become a row that is not there
    x = x.reshape(b * n, -1).fmax(x.new_tensor(-BORDER)).fmin(columns([w for _, w in shapes]))
    y = y.reshape(b * n, -1).fmax(y.new_tensor(-BORDER)).fmin(columns([h for h, _ in shapes]))
    left, above = x.floor(), y.floor()
    heads = torch.arange(m, dtype=torch.int32).repeat_interleave(levels * p) * sum(sizes)
    images = torch.arange(b, dtype=torch.int32).repeat_interleave(n)[:, None] * (m * sum(sizes))
    row = above.int().mul_(step).add_(left.int()).add_(columns(starts, torch.int32) + heads)
    if b > 1:
        row += images
    return row, x.sub_(left), y.sub_(above), step


def _corners(
    row: Tensor, right: Tensor, down: Tensor, step: Tensor, weights: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows and shares, both (B N, M L P), of the four cells of each read, one after the other: upper left, upper right,
    lower left, lower right. A share is the read's weight times the cell's bilinear part."""
    lower = weights * down
    for line, share in ((row, weights - lower), (row + step, lower)):
        second = share * right
        yield line, share - second
        yield line + 1, second


class _Bags(torch.autograd.Function):
    """``deformable_sample`` by weighted bags of table rows."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, x: Tensor, y: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
        b, n, m, levels, p = x.shape
        table, cells, weights = _table(value, shapes), _cells(x, y, shapes), weights.reshape(b * n, -1)
        ctx.save_for_backward(table, *cells, weights)
        ctx.shapes, ctx.form, ctx.places = shapes, value.shape, x.shape
        out = None
        for rows, shares in _corners(*cells, weights):
            rows, shares = (t.view(-1, levels * p) for t in (rows, shares))
            part = F.embedding_bag(rows, table, per_sample_weights=shares, mode="sum")  # (B N M, C)
            out = part if out is None else out.add_(part)
        assert out is not None
        return out.view(b, n, m, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        table, row, right, down, step, weights = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])  # (B N M, C)
        reads = ctx.places[-2] * ctx.places[-1]
        ends = torch.arange(0, weights.numel() + 1, reads, dtype=torch.int32)
        table_grad, dots = torch.zeros_like(table), []
        for rows, shares in _corners(row, right, down, step, weights):
            table_grad += _scatter(rows.view(-1), shares.view(-1), ends, grad, len(table))
            dots.append(_dots(rows.view(-1), ends, grad, table).view_as(weights))
        upper, lower = torch.lerp(dots[0], dots[1], right), torch.lerp(dots[2], dots[3], right)
        sideways = torch.lerp(dots[1].sub_(dots[0]), dots[3].sub_(dots[2]), down)
        of_weights = torch.lerp(upper, lower, down)
        of_x, of_y = sideways.mul_(weights), lower.sub_(upper).mul_(weights)
        return _untable(table_grad, ctx.form, ctx.shapes), *(g.view(ctx.places) for g in (of_x, of_y, of_weights)), None


def _scatter(rows: Tensor, shares: Tensor, ends: Tensor, grad: Tensor, count: int) -> Tensor:
    """Add ``shares`` times each bag's gradient (bags, C) to its table rows: (count, C).

    SciPy's column-compressed product is this loop and nothing else; torch sorts all entries first, ten times slower.
    """
    matrix = scipy.sparse.csc_array((shares.numpy(), rows.numpy(), ends.numpy()), shape=(count, len(grad)))
    return torch.from_numpy(matrix @ grad.numpy())


def _dots(rows: Tensor, ends: Tensor, grad: Tensor, table: Tensor) -> Tensor:
    """Dot product of each bag's gradient (bags, C) with each of the table rows it read: flat, as ``rows``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        pattern = torch.sparse_csr_tensor(
            ends, rows, table.new_zeros(len(rows)), size=(len(grad), len(table)), check_invariants=False
        )
    dots: Tensor = torch.sparse.sampled_addmm(pattern, grad, table.T, beta=0.0).values()
    return dots
