"""What training with a backbone in parts (``train.shard_backbone``) needs of memory, by the number of processes.

Counted on PyTorch's meta device, which knows shapes and holds nothing: a network of billions takes seconds.
"""

from typing import Any

import torch
from torch import Tensor, nn

from clouds.config.recipe import Recipe
from clouds.foundation.backbone import check_shards
from clouds.model.segmenter import Segmenter

GB = 2**30
STATES = 4  # of a trained number: itself, its gradient, two moments of AdamW
MOST = 1024  # processes


def memory_by_processes(recipe: Recipe, model: Segmenter) -> dict[str, Any]:
    """The object that ``clouds train RECIPE --dry-run --json`` prints for such a recipe; ``model`` is on meta.
    Raises UsageError for a backbone that cannot be held in parts.
    """
    check_shards(recipe.model.vision)
    blocks: Any = model.backbone.network.blocks  # type: ignore[union-attr]
    parts = [sum(_bytes(p) for p in block.parameters() if not p.requires_grad and p.ndim > 1) for block in blocks]
    trained = sum(_bytes(p) for p in model.parameters() if p.requires_grad)
    frozen = sum(map(_bytes, [*model.parameters(), *model.buffers()])) - trained - sum(parts)
    states = STATES + (recipe.train.stage != "warmup")  # the teacher's
    image = activations(model, recipe.augment.crop) // (1 if recipe.train.precision == "fp32" else 2)
    rows = []
    for count in (1 << k for k in range(MOST.bit_length())):
        images, rest = divmod(recipe.train.batch_size, count * recipe.train.accumulate)
        if rest or not images:
            continue
        several = count > 1
        weights = sum(parts) // count + several * 2 * max(parts) + frozen  # a block in use, and the next one
        training = trained * (states + several)  # DDP's buckets
        rows.append({
            "processes": count,
            "images_at_a_time": images,
            "weights_gb": round(weights / GB, 2),
            "training_gb": round(training / GB, 2),
            "activations_gb": round(images * image / GB, 2),
            "memory_gb": round((weights + training + images * image) / GB, 2),
        })  # fmt: skip
    return {
        "recipe": recipe.name,
        "device": "meta",
        "batch_size": recipe.train.batch_size,
        "backbone_gb": round(sum(map(_bytes, model.backbone.parameters())) / GB, 2),
        "blocks": len(blocks),
        "loading_gb": round(2 * sum(map(_bytes, model.parameters())) / GB, 2),
        "memory": rows,
    }


def memory_text(result: dict[str, Any]) -> str:
    """The same for a person."""
    r = result
    return "\n".join([
        f"{r['recipe']}: counted without weights, data or a step (train.shard_backbone=false measures two steps)",
        f"  the backbone   {r['backbone_gb']:g} GB, {r['blocks']} blocks; a step has {r['batch_size']} images",
        "  memory of a process in GB, by their number:",
        "    processes  weights  training  activations   all",
        *(f"    {row['processes']:9}{row['weights_gb']:9.1f}{row['training_gb']:10.1f}{row['activations_gb']:13.1f}"
          f"{row['memory_gb']:6.1f}" for row in r["memory"]),
        "  training: gradients, AdamW's moments, the teacher. activations: of the images that a process has at a time",
        f"  the main process holds up to {r['loading_gb']:g} GB more in the CPU's memory while it loads",
        "  what lasts shorter than a layer, and the libraries themselves, are not counted",
    ])  # fmt: skip


def activations(model: Segmenter, crop: tuple[int, int]) -> int:
    """Bytes that a step in fp32 keeps of one image for its backward pass; ``model`` is on the meta device."""
    kept: dict[int, Tensor] = {}  # tensors that share their numbers once, alive so that no id is used again

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            owner = tensor if tensor._base is None else tensor._base
            kept[id(owner)] = owner
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(torch.empty(1, 3, *crop, device="meta"))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
