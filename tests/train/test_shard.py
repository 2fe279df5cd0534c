"""A frozen backbone held in parts: two processes take the steps of one, and each holds half of it."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny
import tiny_vit
from clouds import pipeline
from clouds.check.training import check_training
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.errors import UsageError
from clouds.generate.adopt import adopt
from clouds.model.folder import load_model
from clouds.selftrain.pseudo import PseudoLabeller

ADAPTERS = {
    "none": ["data.source=streets", "data.source_count=6", "data.source_size=[64,128]", "train.accumulate=2",
             "train.validate_every=1", "train.validate_images=3", "train.choose=best"],
    "rein": ["model.adapt=rein", "model.rein.tokens=8", "model.rein.rank=4"],
    "lora": ["model.adapt=lora", "model.lora.rank=4"],
    "soma": ["model.adapt=soma", "model.soma.rank=4"],
}


def recipe(folder: Path, adapter: str, *overrides: str) -> Recipe:
    tiny_vit.register()
    return tiny.recipe(
        f"data.source=[{{dataset: folder, root: {folder / 'source'}}}]", f"generate.folder={folder / 'generated'}",
        "model.vision=timm/tiny_dinov3", f"model.weights={folder / 'tiny_dinov3.safetensors'}", "model.head=linear",
        "model.hidden=32", "model.queries=8", "model.heads=4", "model.pixel_layers=1", "model.pixel_ffn=32",
        "model.layers=2", "model.ffn=32", "train.batch_size=4",
        "train.steps=4", "train.warmup_share=0.5", "train.log_every=1", "train.clip=1",
        "train.checkpoint_every=1", "train.learning_rate=1.0e-4", "evaluate.shorter_side=64", "selftrain.panels=0",
        "train.shard_backbone=true", "selftrain.confidence=0", "selftrain.floor=0.001", "selftrain.max_swallow=null",
        *ADAPTERS[adapter], *overrides,
    )  # fmt: skip


def train(folder: Path, adapter: str, run: Path) -> Path:
    pipeline.check_work = lambda _: None  # a network that has learned nothing gives refinement nothing to change
    pipeline.train(recipe(folder, adapter), run)
    return run


def process(folder: Path, adapters: list[str]) -> None:
    """One of the two: trains with each adapter, notes its share of the blocks, and resumes what one alone began."""
    held = []

    def shard(student, teacher, engine, real=pipeline.shard):
        from torch.distributed.tensor import DTensor

        frozen = {n for n, p in student.backbone.network.blocks.named_parameters() if not p.requires_grad}
        real(student, teacher, engine)
        here, whole = {}, 0
        for network in (student, teacher) if teacher else (student,):
            for name, p in network.backbone.network.blocks.named_parameters():
                if name in frozen:
                    storage = (p.to_local() if isinstance(p, DTensor) else p).untyped_storage()
                    here[storage.data_ptr()] = storage.nbytes()
                    whole += p.numel() * p.element_size() if network is student else 0
        held.append(sum(here.values()) / whole)

    pipeline.shard = shard
    for adapter in adapters:
        train(folder, adapter, folder / "two" / adapter)
    train(folder, adapters[0], folder / "to two")
    (folder / f"held-{os.environ['RANK']}.json").write_text(json.dumps(held))


@pytest.fixture(scope="module", params=[
    pytest.param(("lora", "rein"), id="lora and rein", marks=[pytest.mark.slow, pytest.mark.long]),
    pytest.param(("none", "soma"), id="none and soma", marks=[pytest.mark.slow, pytest.mark.long]),
])  # fmt: skip
def runs(request, tmp_path_factory):
    """(a folder with the same runs by one process and by two, the adapters)"""
    folder = tmp_path_factory.mktemp("shards")
    tiny.source_set(folder / "source", 6)
    tiny.generated_set(folder / "generated", 6)
    adopt(folder / "generated", None)
    tiny_vit.save("tiny_dinov3", folder)
    for adapter in request.param:
        train(folder, adapter, folder / "one" / adapter)
    halved(folder / "one" / request.param[0], folder / "to two")
    port = socket.create_server(("127.0.0.1", 0)).getsockname()[1]
    path = os.pathsep.join([str(Path(tiny.__file__).parent), os.environ.get("PYTHONPATH", "")])
    meeting = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WORLD_SIZE": "2",
               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    both = [subprocess.Popen([sys.executable, __file__, str(folder), *request.param],
                             env={**meeting, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
            for rank in range(2)]  # fmt: skip
    said = [each.communicate(timeout=500)[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], said[0][-3000:] + said[1][-3000:]
    return folder, request.param


def halved(run: Path, to: Path) -> None:
    """The run as it was after half of its joint steps."""
    shutil.copytree(run, to)
    for name in ("model", "work.json", "drift.json", "checkpoints/joint-000002"):
        path = to / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def losses(run: Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if "loss" in row]


def test_two_processes_with_half_of_the_backbone_each_take_the_steps_of_one(runs):
    folder, adapters = runs
    for adapter in adapters:
        one, two = (losses(folder / name / adapter) for name in ("one", "two"))
        assert [(row["stage"], row["step"]) for row in two] == [(s, k) for s in ("warmup", "joint") for k in (1, 2)]
        for mine, theirs in zip(two, one, strict=True):
            for key in ("loss", "loss_ce", "loss_mask", "loss_dice"):
                assert mine[key] == pytest.approx(theirs[key], rel=1e-5), (adapter, mine["stage"], mine["step"], key)
            assert mine["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-4)


@pytest.mark.parametrize("rank", [0, 1])
def test_each_holds_half_of_the_blocks_for_student_and_teacher_together(runs, rank):
    folder, adapters = runs
    held = json.loads((folder / f"held-{rank}.json").read_text())
    assert len(held) == 2 * len(adapters) + 1
    assert all(0.5 < share < 0.52 for share in held), "biases and norms are whole"


def test_models_and_checkpoints_are_whole_and_those_of_one(runs):
    folder, adapters = runs
    for adapter in adapters:
        one, two = folder / "one" / adapter, folder / "two" / adapter
        for stage in ("warmup", "model"):
            mine, theirs = (load_model(run / stage).state_dict() for run in (two, one))
            for name, tensor in mine.items():
                trains = "head." in name or ".lora_" in name or ".rein." in name or name.endswith("base_layer.bias")
                assert torch.equal(tensor, theirs[name]) or trains, (adapter, name)
                assert torch.allclose(tensor, theirs[name], atol=1e-4), (adapter, name)  # AdamW enlarges roundings
        for name in ("student", "teacher", "optimizer"):
            file = Path("checkpoints", "joint-000002", f"{name}.safetensors")
            mine, theirs = (load_file(run / file) for run in (two, one))
            assert {key: t.shape for key, t in mine.items()} == {key: t.shape for key, t in theirs.items()}


def test_a_run_goes_on_with_another_number_of_processes(runs):
    folder, (adapter, _) = runs
    halved(folder / "two" / adapter, folder / "to one")
    train(folder, adapter, folder / "to one")
    last = losses(folder / "one" / adapter)[-1]
    for name in ("to one", "to two"):
        found = losses(folder / name)[-1]
        assert (found["stage"], found["step"]) == ("joint", 2)
        assert found["loss"] == pytest.approx(last["loss"], rel=1e-5)


def test_the_teacher_looks_in_each_step_where_others_wait_for_it():
    class Looks:
        def __init__(self):
            self.model, self.seen = tiny.segmenter(), []

        def predict(self, images):
            self.seen.append(len(images))

    looks = Looks()
    batch = {"labels": torch.zeros(2, 64, 64, dtype=torch.uint8), "images": torch.zeros(2, 3, 64, 64), "slots": []}
    labeller = PseudoLabeller(looks, None, tiny.recipe().selftrain, 0)
    labeller(batch, 0)
    assert looks.seen == []
    labeller.every_step = True
    assert labeller(batch, 0).numbers == {}
    assert looks.seen == [1]


@pytest.mark.parametrize(("words", "said"), [
    (["model.freeze=false"], "train.shard_backbone: got true with model.freeze=false"),
    (["train.compile=true"], "train.shard_backbone: got true with train.compile=true"),
])  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(words, said):
    with pytest.raises(UsageError, match=said):
        load_recipe("gta-dinov3-7b", words)


def test_a_backbone_without_blocks_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match="takes the blocks of a plain ViT, which efficientnet-lite0 is not"):
        check_training(tiny.recipe("train.shard_backbone=true"), tmp_path)


if __name__ == "__main__":
    process(Path(sys.argv[1]), sys.argv[2:])
