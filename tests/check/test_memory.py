"""Memory by the number of processes, counted without weights."""

import json

import pytest
import torch

import tiny_vit
from clouds.check.dry_run import dry_run, dry_run_text, random_model
from clouds.check.memory import activations
from clouds.cli import run as cli
from clouds.config.load import load_recipe
from clouds.errors import UsageError

SMALL = ["augment.crop=[64,64]", "generate.size=[64,64]", "model.hidden=32", "model.ffn=32", "model.pixel_ffn=32",
         "model.layers=1", "model.pixel_layers=1"]  # fmt: skip


@pytest.mark.slow
def test_seven_billion_numbers_are_counted_without_memory_for_them(capsys):
    assert cli(["train", "gta-dinov3-7b", "--dry-run", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["device"], record["blocks"], record["backbone_gb"]) == ("meta", 40, 25.02)
    rows = record["memory"]
    assert [(row["processes"], row["images_at_a_time"]) for row in rows] == [(1, 8), (2, 4), (4, 2), (8, 1)]
    for row in rows:
        parts = (row["weights_gb"], row["training_gb"], row["activations_gb"])
        assert sum(parts) == pytest.approx(row["memory_gb"], abs=0.02)
    # 25 GB of blocks in parts, two blocks of 0.625 GB whole, and the rest
    assert rows[3]["weights_gb"] - rows[0]["weights_gb"] == pytest.approx(25 / 8 + 1.25 - 25, abs=0.02)
    said = dry_run_text(record)
    assert "the backbone   25.02 GB, 40 blocks; a step has 8 images" in said
    assert f"{8:9}{rows[3]['weights_gb']:9.1f}" in said


def test_activations_are_what_autograd_keeps():
    """Against the numbers that a real step holds on to."""
    tiny_vit.register()
    words = [*SMALL, "model.vision=timm/tiny_dinov3", "model.adapt=rein"]
    recipe = load_recipe("gta-dinov3-7b", words)
    with torch.device("meta"):
        counted = activations(random_model(recipe), recipe.augment.crop)
    model, kept = random_model(recipe).train(), {}

    def keep(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # alive, so that no address is used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.zeros(1, 3, *recipe.augment.crop))
    # not equal: on a CPU deformable attention keeps no sampled values
    assert 0.75 * counted < sum(size for size, _ in kept.values()) <= counted
    with torch.device("meta"):
        frozen = activations(random_model(load_recipe("gta-dinov3-7b", words[:-1])), recipe.augment.crop)
    assert frozen < counted / 2


def test_a_backbone_without_blocks_is_refused():
    with pytest.raises(UsageError, match="takes the blocks of a plain ViT"):
        dry_run(load_recipe("gta-dinov3-7b", ["model.vision=efficientnet-lite0"]))
