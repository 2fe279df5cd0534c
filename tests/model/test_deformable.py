"""Both forms of deformable sampling equal each other, forwards and backwards."""

import os
import subprocess
import sys
import types

import pytest
import torch

from clouds.model import deformable, pixel_decoder
from clouds.model.deformable import deformable_sample, sample_by_grid

SHAPES = [[(1, 1)], [(1, 2), (1, 5), (3, 7)], [(2, 3), (4, 5), (9, 11)]]


def case(shapes, batch, dtype, seed=0):
    """Places from well outside the planes to their middle; whole numbers among them."""
    torch.manual_seed(seed)
    cells, heads, channels, points, tokens = sum(h * w for h, w in shapes), 3, 4, 2, 6
    value = torch.randn(batch, cells, heads, channels, dtype=dtype)
    x, y = (torch.randn(batch, tokens, heads, len(shapes), points, dtype=dtype) * 4 + 1 for _ in range(2))
    weights = torch.rand_like(x)
    return [t.requires_grad_() for t in (value, x, y, weights)]


def results(sample, tensors, shapes):
    out = sample(*tensors, shapes)
    torch.manual_seed(9)
    return out, *torch.autograd.grad((out * torch.randn(out.shape, dtype=out.dtype)).sum(), tensors)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shapes", SHAPES)
def test_bags_equal_grid_sample_with_all_gradients(shapes, batch, dtype, tolerance):
    tensors = case(shapes, batch, dtype)
    names = ("out", "value", "x", "y", "weights")
    mine, wanted = results(deformable_sample, tensors, shapes), results(sample_by_grid, tensors, shapes)
    for name, a, b in zip(names, mine, wanted, strict=True):
        assert b.abs().max() > 0.01, name
        assert (a - b).abs().max() <= tolerance * max(1.0, b.abs().max().item()), name


def test_far_places_read_nothing_and_places_that_are_no_number_do_not_crash():
    shapes = [(2, 3)]
    value, x, y, weights = case(shapes, 1, torch.float32)
    for bad in (float("nan"), float("inf"), -float("inf"), 1e9, -1e9, 3.5, -1.5):
        tensors = value, torch.full_like(x, bad).requires_grad_(), y, weights
        out, of_value, *_ = results(deformable_sample, tensors, shapes)
        assert not out.any()
        assert not of_value.any()


def test_reading_a_cell_centre_gives_the_cell():
    value = torch.arange(6.0).view(1, 6, 1, 1)
    x, y = torch.tensor([2.0, 0.0, 1.5]), torch.tensor([1.0, 0.0, 0.5])
    read = deformable_sample(value, *(t.view(1, 3, 1, 1, 1) for t in (x, y, torch.ones(3))), [(2, 3)])
    assert read.flatten().tolist() == [5.0, 0.0, 3.0]


def test_the_gradient_stores_no_sampled_value():
    tensors = case([(4, 5), (8, 10)], 2, torch.float32)
    value, _, _, weights = tensors
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t):
        deformable_sample(*tensors, [(4, 5), (8, 10)])
    bordered = value.numel() * (8 * 9 + 12 * 14) // (4 * 5 + 8 * 10)
    of_reads = weights[0, 0].numel()  # a row of constants
    assert sorted(held) == sorted([bordered, *[weights.numel()] * 4, of_reads])


def test_a_layer_is_the_same_in_both_forms(monkeypatch):
    torch.manual_seed(0)
    attention = pixel_decoder.DeformableAttention(8, 2, 3, 4)
    torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.5)
    shapes = [(1, 2), (2, 3), (3, 5)]
    query, tokens = torch.randn(2, 2, 23, 8)
    reference = pixel_decoder.reference_points(shapes, torch.device("cpu"))

    def run():
        attention.zero_grad()
        out = attention(query, tokens, reference, pixel_decoder.extents(shapes, query), shapes)
        out.square().sum().backward()
        return [out, *(p.grad.clone() for p in attention.parameters())]

    mine = run()
    monkeypatch.setattr(pixel_decoder, "deformable_sample", sample_by_grid)
    for a, b in zip(mine, run(), strict=True):
        assert torch.allclose(a, b, atol=1e-5 * b.abs().max().clamp(min=1).item())


def test_a_captured_graph_takes_the_grid(monkeypatch):
    """Bags have no ONNX form, and SciPy has no place in a graph."""
    monkeypatch.setattr(deformable, "_Bags", None)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    tensors = case([(2, 3)], 1, torch.float32)
    assert torch.equal(deformable_sample(*tensors, [(2, 3)]), sample_by_grid(*tensors, [(2, 3)]))


@pytest.mark.slow
def test_the_triton_kernels_equal_grid_sample_in_tritons_interpreter():
    """In a process of its own, as the interpreter is chosen when a kernel is read."""
    pytest.importorskip("triton")
    code = (
        "import torch\n"
        "from clouds.model.deformable import sample_by_grid, small_case\n"
        "from clouds.model.deformable_triton import sample_by_triton\n"
        "for dtype in (torch.float32, torch.float16):\n"
        "    found = [small_case(sample, 'cpu', dtype) for sample in (sample_by_triton, sample_by_grid)]\n"
        "    assert all(b.abs().max() > 0.01 for b in found[1])\n"
        "    print(max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found, strict=True)))\n"
    )
    here = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=here)
    assert done.returncode == 0, done.stderr
    single, half = map(float, done.stdout.split())
    assert single <= 1e-4
    assert half <= 2e-3


def test_a_kernel_that_does_not_work_leaves_the_grid(monkeypatch, capsys):
    broken = types.ModuleType("clouds.model.deformable_triton")

    def sample_by_triton(*_):
        raise RuntimeError("no compiler")

    broken.sample_by_triton = sample_by_triton
    monkeypatch.setitem(sys.modules, "clouds.model.deformable_triton", broken)
    monkeypatch.setattr(deformable.importlib.util, "find_spec", lambda name: name)
    deformable.triton_works.cache_clear()
    assert not deformable.triton_works("cpu", torch.float32)
    assert "the Triton kernel does not work (RuntimeError: no compiler)" in capsys.readouterr().err
    broken.sample_by_triton = lambda *given: 2 * sample_by_grid(*given)
    deformable.triton_works.cache_clear()
    assert not deformable.triton_works("cpu", torch.float32)
    assert "its numbers are off" in capsys.readouterr().err
    broken.sample_by_triton = lambda *given: sample_by_grid(*given) * 1
    deformable.triton_works.cache_clear()
    assert deformable.triton_works("cpu", torch.float32)
    deformable.triton_works.cache_clear()
