"""Parameter-efficient adaptation of a frozen backbone: a few trained tensors inside it, its own weights untouched.

LoRA (Hu et al., ICLR 2022, arXiv 2106.09685) through peft, SoMA (Yun et al., CVPR 2025, arXiv 2412.04077; ``soma.py``)
on top of it, and Rein (Wei et al., CVPR 2024, arXiv 2312.04265).
"""

import importlib.util
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clouds.errors import BackendError, UsageError
from clouds.foundation.backbones.soma import behind, fuse, minor_components, split_fused


class Rein(nn.Module):
    """Learned tokens that refine the features behind each of ``layers`` blocks of a transformer.

    With T = A B, of low rank, the tokens of a block, and f its features (patch tokens, of width c):

        S = softmax(f T^t / sqrt(c)),  d = S' (T' W_T + b_T),  f <- f + scale ((d + f) W_f + b_f)

    where ' leaves the first token out: what looks at it is not refined. Both linear maps are shared by all blocks.
    Linked to the decoder (``hidden`` is its width) the tokens are its object queries too, one each: largest, mean and
    last over the blocks of T W_Q + b_Q, side by side, brought to ``hidden`` by one more linear map.

    The scale starts at 0.001 as in the published implementation, so that training starts near the frozen network.
    """

    def __init__(self, width: int, layers: int, tokens: int, rank: int, hidden: int | None = None) -> None:
        super().__init__()
        self.tokens_a = nn.Parameter(torch.empty(layers, tokens, rank))
        self.tokens_b = nn.Parameter(torch.empty(layers, rank, width))
        self.scale = nn.Parameter(torch.tensor(0.001))
        self.value, self.refine = nn.Linear(width, width), nn.Linear(width, width)
        self.query = nn.Linear(width, hidden) if hidden else None
        self.merge = nn.Linear(3 * hidden, hidden) if hidden else None
        bound = math.sqrt(6 / (3 * 16 * 16 + math.sqrt(width * rank)))  # the published implementation's
        for part in (self.tokens_a, self.tokens_b):
            nn.init.uniform_(part, -bound, bound)

    def forward(self, features: Tensor, layer: int, prefix: int) -> Tensor:
        """Tokens (B, N, c) behind block ``layer`` -> the same, all but the first ``prefix`` of them refined."""
        kept, patches = features[:, :prefix], features[:, prefix:]
        tokens = self.tokens_a[layer] @ self.tokens_b[layer]  # (m, c)
        share = (patches @ tokens.T / math.sqrt(tokens.shape[1])).softmax(-1)  # (B, N, m)
        added = share[..., 1:] @ self.value(tokens[1:])
        return torch.cat((kept, patches + self.scale * self.refine(added + patches)), dim=1)

    def queries(self) -> Tensor | None:
        """The decoder's object queries (m, hidden), or None where they are not linked."""
        if self.query is None or self.merge is None:
            return None
        per_layer = self.query(self.tokens_a @ self.tokens_b)  # (layers, m, hidden)
        out: Tensor = self.merge(torch.cat((per_layer.amax(0), per_layer.mean(0), per_layer[-1]), dim=-1))
        return out


def adapt(backbone: Any, adapter: Mapping[str, Any], hidden: int) -> None:
    """Put a fresh adapter into ``backbone``: {"kind": "lora", rank, alpha, layers}, {"kind": "soma", rank,
    frozen_share, layers} or {"kind": "rein", tokens, rank, link}; ``hidden``: the decoder's width.

    What it computes is unchanged by LoRA and SoMA. Raises UsageError where the backbone has no place for the adapter,
    BackendError where peft is needed and not installed.
    """
    if adapter["kind"] == "rein":
        if not hasattr(backbone, "rein"):
            raise UsageError(
                f"model.adapt: rein refines the tokens of a plain transformer, which {backbone.name} is not; "
                "take a ViT (docs/models.md), or for a ConvNeXt model.adapt=lora"
            )
        linked = hidden if adapter["link"] else None
        layers = len(backbone.network.blocks)
        backbone.rein = Rein(backbone.width, layers, adapter["tokens"], adapter["rank"], linked)
        return
    kind, rank = adapter["kind"], adapter["rank"]
    chosen = _layers(backbone, kind, adapter["layers"])
    if kind == "soma":
        chosen = split_fused(backbone, behind(backbone, chosen, adapter["frozen_share"]), rank)
        backbone.trains_biases = True  # of the layers that are adapted
    from peft import LoraConfig, inject_adapter_in_model

    alpha = rank if kind == "soma" else adapter["alpha"]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=chosen), backbone)
    backbone.adapted = True


def start_adapter(backbone: nn.Module, adapter: Mapping[str, Any]) -> None:
    """What an adapter takes from the pre-trained weights, once they are there: SoMA's minor components."""
    if adapter["kind"] == "soma":
        minor_components(backbone)


def adapter_parameters(backbone: nn.Module) -> list[nn.Parameter]:
    """What an adapter trains in ``backbone``; nothing where it has none."""
    biases = ".base_layer.bias" if getattr(backbone, "trains_biases", False) else "no such"
    return [p for name, p in backbone.named_parameters()
            if name.startswith("rein.") or ".lora_" in name or name.endswith(biases)]  # fmt: skip


def merge_adapters(backbone: nn.Module) -> None:
    """Add low-rank updates to the weights beside them: the plain network again, equal up to rounding. Rein stays, as no
    weight can hold it."""
    for name, module in list(backbone.named_modules()):
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            module.merge()
            backbone.set_submodule(name, module.base_layer)
    fuse(backbone)


def _layers(backbone: Any, kind: str, layers: tuple[str, ...]) -> list[str]:
    """The names of the linear layers whose last part is one of ``layers``; checked."""
    if importlib.util.find_spec("peft") is None:
        raise BackendError(f"model.adapt={kind} needs the package peft. Install it with: pip install 'clouds[adapt]'")
    linear = [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    # a module is called for its output; what a network computes from a layer's bare weight an adapter never sees
    called = _called(backbone, linear)
    chosen = [name for name in called if _last([name]) in layers]
    if not called:
        raise UsageError(
            f"model.adapt: got {kind}, but {backbone.name} computes its features with no linear layer; take a ViT or a "
            "ConvNeXt (docs/models.md), or model.adapt=none"
        )
    if not chosen:
        raise UsageError(
            f"model.{kind}.layers: got {list(layers)}; the linear layers of {backbone.name} are called {_last(called)}"
        )
    wanted = [name for name in linear if "blocks." in name and _last([name]) in layers]
    if bare := [name for name in wanted if name not in called]:
        raise UsageError(
            f"model.{kind}.layers: {backbone.name} reads the weights of its layers {_last(bare)} without calling them, "
            f"so an update would not be seen there; leave them out: model.{kind}.layers=[{_last(chosen)}]"
        )
    return chosen


def _last(names: list[str]) -> str:
    """The last parts of dotted names, each once."""
    return ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in names))


def _called(backbone: Any, names: list[str]) -> list[str]:
    """Those of the modules ``names`` that computing features calls."""
    seen: set[nn.Module] = set()
    modules = dict(backbone.named_modules())
    hooks = [modules[name].register_forward_pre_hook(lambda module, _: seen.add(module)) for name in names]
    try:
        with torch.no_grad():
            backbone.features(torch.zeros(1, 3, 64, 64, device=next(backbone.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return [name for name in names if modules[name] in seen]
