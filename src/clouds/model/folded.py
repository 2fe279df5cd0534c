"""A frozen backbone made fast on a CPU: its batch norms folded into the convolutions before them, channels last.

A frozen batch norm only scales and shifts, so the convolution before it can do that: the numbers are the same to
rounding. Weights on disk and in ``state_dict`` stay as they are: what is folded is a copy beside them.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

CLOSE = 1e-3  # of a map's deviation: what the folded network may differ by before it is not used

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]


class Folded:
    """The folded copy of one backbone, made at its first use and again whenever the backbone's tensors change.

    A change is seen by a tensor's version, so it must not be made through ``.data`` in place. A deep copy of the model,
    as the teacher is, keeps using the copy while it shares the backbone's tensors.
    """

    def __init__(self) -> None:
        self._made: tuple[list[Tensor], list[int], Any] | None = None  # of which tensors, in which version; what

    def __call__(self, backbone: nn.Module, images: Tensor) -> Any:
        """The network to use for ``images`` (normalised, B, 3, H, W): the folded one where that is known to give the
        same, on a CPU in float32; else the backbone itself."""
        if images.device.type != "cpu" or images.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return backbone
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return backbone
        norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        if not norms or any(norm.training for norm in norms):  # these follow the batch
            return backbone
        tensors = [*backbone.parameters(), *backbone.buffers()]
        if any(tensor.is_inference() for tensor in tensors):  # loaded in torch.inference_mode(): they have no version
            return backbone
        made = self._made
        if made is None or not _same(tensors, made[0], made[1]):
            versions = [t._version for t in tensors]
            made = self._made = [t.detach() for t in tensors], versions, fold(backbone, images[:1])
        return made[2]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Folded":
        other = Folded()
        other._made = self._made
        return other

    def __reduce__(self) -> tuple[type["Folded"], tuple[()]]:
        return Folded, ()


def _same(tensors: list[Tensor], held: list[Tensor], versions: list[int]) -> bool:
    """Whether they still are the tensors that are held (so their memory is not another's) and unchanged since."""
    return len(tensors) == len(held) and all(
        t.data_ptr() == h.data_ptr() and t._version == v for t, h, v in zip(tensors, held, versions, strict=True)
    )


@torch.no_grad()
def fold(backbone: Any, image: Tensor) -> Any:
    """A copy of ``backbone`` without the batch norms that follow a convolution when it sees ``image`` (1, 3, H, W); it
    shares all other tensors. The backbone itself where it has none, or where the copy's features are not the same."""
    shared = {id(t): t for t in (*backbone.parameters(), *backbone.buffers())}
    folded = copy.deepcopy(backbone, memo=shared)
    pairs, wanted = _pairs(folded, image)
    if not pairs:
        return backbone
    parents = {child: (parent, name) for parent in folded.modules() for name, child in parent.named_children()}
    for convolution, norm in pairs:
        _fold(convolution, norm)
        parent, name = parents[norm]
        setattr(parent, name, getattr(norm, "act", nn.Identity()))  # timm's norms hold the activation behind them
    folded = _ChannelsLast(folded)
    found = folded.features(image)
    same = all(bool((found[s] - wanted[s]).abs().max() <= CLOSE * wanted[s].std()) for s in wanted)
    return folded if same else backbone


class _ChannelsLast:
    """A backbone whose images come in channels-last memory, which its convolutions then keep."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def features(self, images: Tensor) -> dict[int, Tensor]:
        found: dict[int, Tensor] = self.network.features(images.contiguous(memory_format=torch.channels_last))
        return found


def _pairs(backbone: Any, image: Tensor) -> tuple[list[Pair], dict[int, Tensor]]:
    """Convolutions whose result goes into a batch norm, each called once; and the features of ``image``."""
    made: list[tuple[Tensor, nn.Conv2d]] = []  # keeps the results, so that no other has one's id
    calls: list[nn.Module] = []
    found: list[Pair] = []

    def behind(module: nn.Module, _: Any, result: Tensor) -> None:
        calls.append(module)
        made.append((result, module))  # type: ignore[arg-type]

    def before(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls.append(module)
        found.extend((c, module) for result, c in made if result is given[0])  # type: ignore[misc]

    hooks: list[Any] = []
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and "weight" in module._parameters:
            hooks.append(module.register_forward_hook(behind))
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(before))
    features = backbone.features(image)
    for hook in hooks:
        hook.remove()
    return [pair for pair in found if all(calls.count(module) == 1 for module in pair)], features


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Computed in float64, so that one rounding is added and not four."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        shift = shift + norm.bias.double()
    if convolution.bias is not None:
        shift = shift + convolution.bias.double() * scale
    weight = (convolution.weight.double() * scale[:, None, None, None]).to(convolution.weight.dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    convolution.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=False)
