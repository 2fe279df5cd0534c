"""A large frozen backbone held in parts: each process keeps its share of every block's weights, by FSDP2.

A block's weights are whole only while it is computed. Student and teacher use the same shares. What trains (the
decoder, LoRA, SoMA, Rein) and what is small (biases, norms, patches) is whole in every process, and DDP adds up its
gradients. Only the main process ever loads a whole model, into the CPU's memory; it sends it to the others by blocks.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from clouds.base.processes import PATIENCE
from clouds.foundation.backbones.timm_vit import PlainVit
from clouds.model.segmenter import Segmenter
from clouds.train.engine import Engine


def built(make: Callable[[], Segmenter], engine: Engine) -> Segmenter:
    """What ``make`` makes, on the engine's device. To be sharded it stays on the main process's CPU, and the others get
    the same network without memory, for ``shard`` to fill."""
    if not engine.shards:
        return make().to(engine.device)
    made = make() if engine.main else None
    settings = engine.processes.gather(_settings(made) if made else {})[0]
    if made is not None:
        return made
    with torch.device("meta"):
        return Segmenter(**settings).eval()


def shard(student: Segmenter, teacher: Segmenter | None, engine: Engine) -> None:
    """Fill ``student`` and its copy ``teacher`` on the engine's device, of the backbone's blocks with a share alone.

    Nothing happens where ``engine.shards`` is false. All processes have to call it, and from then on to compute the
    same number of features, by either network.
    """
    if not engine.shards:
        return
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # a group of its own, so that its messages and those of DDP need no common order
    group: Any = dist.new_group(timeout=PATIENCE)
    mesh = DeviceMesh.from_group(group, engine.device.type)
    networks = [student] if teacher is None else [student, teacher]
    sent: dict[int, Tensor] = {}
    for blocks in zip(*(_blocks(network) for network in networks), strict=True):
        for block in blocks:
            _send(block, engine, sent)
        own = dict(blocks[0].named_parameters())
        shared = [name for name, p in own.items() if not p.requires_grad and p.ndim > 1]
        whole = set(own.values()) - {own[name] for name in shared}
        for name in shared:
            del sent[id(own.pop(name))]  # the last reference to the whole weight
        fully_shard(blocks[0], mesh=mesh, reshard_after_forward=True, ignored_params=whole)
        for block in blocks[1:]:
            _lend(blocks[0], block, shared)
    for network in networks:
        _send(network, engine, sent)
    # the blocks' root, so that weights of the next block come while one is computed
    backbone = student.backbone
    fully_shard(backbone, mesh=mesh, reshard_after_forward=True, ignored_params=set(backbone.parameters()))
    register_fsdp_forward_method(backbone, "features")


def whole(model: Segmenter, engine: Engine) -> Segmenter:
    """The main process's ``model`` with whole weights, to be written; others get theirs back. All have to call it."""
    from torch.distributed.tensor import DTensor

    if not engine.shards:
        return model
    tensors = {}
    for name, tensor in model.state_dict().items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if engine.main:
            tensors[name] = full.cpu()
    if not engine.main:
        return model
    with torch.device("meta"):
        gathered = Segmenter(**_settings(model))
    gathered.load_state_dict(tensors, assign=True)
    gathered.trained_on = model.trained_on
    return gathered


def _settings(model: Segmenter) -> dict[str, Any]:
    return {**cast(dict[str, Any], model._hub_mixin_config), "pretrained": False}


def _blocks(model: Segmenter) -> Any:
    assert isinstance(model.backbone, PlainVit)  # ``check_shards`` has seen to it
    return model.backbone.network.blocks


def _send(module: nn.Module, engine: Engine, sent: dict[int, Tensor]) -> None:
    """Bring the main process's tensors of ``module`` onto every process's device, each one in its place: who refers to
    it, as the teacher does to the student's, still does. ``sent``: those that are there already, by id."""
    from torch.distributed.tensor import DTensor

    for tensor in [*module.parameters(), *module.buffers()]:
        if id(tensor) in sent or isinstance(tensor, DTensor):
            continue
        with torch.no_grad():
            there = tensor.detach().to(engine.device).contiguous() if engine.main else (
                torch.empty(tensor.shape, dtype=tensor.dtype, device=engine.device))  # fmt: skip
            dist.broadcast(there.view(-1).view(torch.uint8), 0)  # as bytes: gloo knows no truth values
            if isinstance(tensor, nn.Parameter):
                there = nn.Parameter(there, requires_grad=tensor.requires_grad)
        torch.utils.swap_tensors(tensor, there)
        sent[id(tensor)] = tensor


def _lend(block: Any, borrower: nn.Module, names: list[str]) -> None:
    """``borrower`` computes with the weights ``names`` of the sharded ``block``: whole in its forward, else shares."""
    places = []
    for name in names:
        path, _, leaf = name.rpartition(".")
        places.append((block.get_submodule(path)._parameters, borrower.get_submodule(path)._parameters, leaf))

    def take() -> None:
        for theirs, own, leaf in places:
            own[leaf] = theirs[leaf]

    def before(*_: Any) -> None:
        block.unshard()
        take()

    def after(*_: Any) -> None:
        block.reshard()
        take()

    borrower.register_forward_pre_hook(before)
    borrower.register_forward_hook(after)
    take()
