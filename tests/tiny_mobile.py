"""A checkpoint with the names and shapes of the published mobile_sam.pt, and values that depend on the names alone."""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

DIMS, DEPTHS, HEADS, WINDOWS = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)
Shape = tuple[int, ...]
Named = Iterator[tuple[str, Shape]]


def conv_norm(name: str, out: int, per_group: int, side: int) -> Named:
    yield f"{name}.c.weight", (out, per_group, side, side)
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.bn.{part}", (out,)
    yield f"{name}.bn.num_batches_tracked", ()


def pair(name: str, *shape: int) -> Named:
    """A weight and its bias; a norm where there is one size."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def block(name: str, dim: int, heads: int, window: int) -> Named:
    yield f"{name}.attn.attention_biases", (heads, window * window)
    yield from pair(f"{name}.attn.norm", dim)
    yield from pair(f"{name}.attn.qkv", 3 * dim, dim)
    yield from pair(f"{name}.attn.proj", dim, dim)
    yield from pair(f"{name}.mlp.norm", dim)
    yield from pair(f"{name}.mlp.fc1", 4 * dim, dim)
    yield from pair(f"{name}.mlp.fc2", dim, 4 * dim)
    yield from conv_norm(f"{name}.local_conv", dim, 1, 3)


def encoder() -> Named:
    yield from conv_norm("patch_embed.seq.0", 32, 3, 3)
    yield from conv_norm("patch_embed.seq.2", 64, 32, 3)
    for stage, (dim, depth) in enumerate(zip(DIMS, DEPTHS, strict=True)):
        for i in range(depth):
            name = f"layers.{stage}.blocks.{i}"
            if stage:
                yield from block(name, dim, HEADS[stage], WINDOWS[stage])
            else:
                yield from conv_norm(f"{name}.conv1", 4 * dim, dim, 1)
                yield from conv_norm(f"{name}.conv2", 4 * dim, 1, 3)
                yield from conv_norm(f"{name}.conv3", dim, 4 * dim, 1)
        if stage < 3:
            wide = DIMS[stage + 1]
            yield from conv_norm(f"layers.{stage}.downsample.conv1", wide, dim, 1)
            yield from conv_norm(f"layers.{stage}.downsample.conv2", wide, 1, 3)
            yield from conv_norm(f"layers.{stage}.downsample.conv3", wide, wide, 1)
    yield from pair("norm_head", 320)
    yield from pair("head", 1000, 320)
    yield "neck.0.weight", (256, 320, 1, 1)
    yield from pair("neck.1", 256)
    yield "neck.2.weight", (256, 256, 3, 3)
    yield from pair("neck.3", 256)


def prompts() -> Named:
    yield "pe_layer.positional_encoding_gaussian_matrix", (2, 128)
    for name in (*(f"point_embeddings.{i}" for i in range(4)), "not_a_point_embed", "no_mask_embed"):
        yield f"{name}.weight", (1, 256)
    yield from pair("mask_downscaling.0", 4, 1, 2, 2)
    yield from pair("mask_downscaling.1", 4)
    yield from pair("mask_downscaling.3", 16, 4, 2, 2)
    yield from pair("mask_downscaling.4", 16)
    yield from pair("mask_downscaling.6", 256, 16, 1, 1)


def attention(name: str, inner: int) -> Named:
    for part in ("q_proj", "k_proj", "v_proj"):
        yield from pair(f"{name}.{part}", inner, 256)
    yield from pair(f"{name}.out_proj", 256, inner)


def decoder() -> Named:
    for layer in ("transformer.layers.0", "transformer.layers.1"):
        yield from attention(f"{layer}.self_attn", 256)
        yield from attention(f"{layer}.cross_attn_token_to_image", 128)
        yield from attention(f"{layer}.cross_attn_image_to_token", 128)
        yield from pair(f"{layer}.mlp.lin1", 2048, 256)
        yield from pair(f"{layer}.mlp.lin2", 256, 2048)
        for i in range(1, 5):
            yield from pair(f"{layer}.norm{i}", 256)
    yield from attention("transformer.final_attn_token_to_image", 128)
    yield from pair("transformer.norm_final_attn", 256)
    yield "iou_token.weight", (1, 256)
    yield "mask_tokens.weight", (4, 256)
    yield "output_upscaling.0.weight", (256, 64, 2, 2)
    yield "output_upscaling.0.bias", (64,)
    yield from pair("output_upscaling.1", 64)
    yield "output_upscaling.3.weight", (64, 32, 2, 2)
    yield "output_upscaling.3.bias", (32,)
    for head, out in (*((f"output_hypernetworks_mlps.{i}", 32) for i in range(4)), ("iou_prediction_head", 4)):
        for i, wide in enumerate((256, 256, out)):
            yield from pair(f"{head}.layers.{i}", wide, 256)


def shapes() -> dict[str, Shape]:
    """All 439 tensors of the published file."""
    parts = {"image_encoder": encoder, "prompt_encoder": prompts, "mask_decoder": decoder}
    return {f"{part}.{name}": shape for part, named in parts.items() for name, shape in named()}


def value(name: str, shape: Shape) -> torch.Tensor:
    """Of the size that keeps activations at work, the same on every machine."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if not shape:
        return torch.tensor(7)
    drawn = rng.standard_normal(shape)
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        drawn = 1 + 0.2 * np.tanh(drawn)
    elif len(shape) == 1:
        drawn = 0.1 * drawn
    elif not re.search(r"positional|attention_biases|point_embeddings|(embed|tokens?)\.weight", name):
        drawn = drawn / np.sqrt(np.prod(shape[1:]))
    return torch.tensor(drawn, dtype=torch.float32)


def checkpoint() -> dict[str, torch.Tensor]:
    return {name: value(name, shape) for name, shape in shapes().items()}


def save(path: Path) -> Path:
    torch.save(checkpoint(), path)
    return path
