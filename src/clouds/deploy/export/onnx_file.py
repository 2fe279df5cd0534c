"""The whole path from bytes to labels as one ONNX model."""

import copy
import json
import logging
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from clouds.deploy.export.export_request import MOST_IMAGES
from clouds.deploy.export.graph_ends import IR, OPSET, after, before
from clouds.errors import BackendError, cause
from clouds.foundation.backbones.adapters import merge_adapters
from clouds.model.inference import Inference, Size
from clouds.model.segmenter import Segmenter, backends_of

Change = Callable[[Any, Any], Any]  # the network's and the first end's ONNX models -> the network's in other numbers


def onnx_model(model: Segmenter, size: Size | None, change: Change | None = None, batch: int | None = 1) -> Any:
    """ONNX model ``image`` uint8 (N, 3, H, W) RGB -> ``labels`` uint8 (N, H, W), ``scores`` float32 (N, H, W): those of
    ``predict``.

    size: the one size of images it takes, batch: the one N; None for any. Its metadata is ``properties``.
    """
    from onnx import checker, compose, helper

    side = model.settings["shorter_side"]
    padded = None
    if size:
        height, width = Inference(side).sizes(size)[0]
        padded = (height + -height % 32, width + -width % 32)
    first = before(side, model.mean.flatten().tolist(), model.std.flatten().tolist(), size, batch)
    last = after(size, batch)
    middle = network(model, padded, batch)
    middle = change(middle, first) if change else middle
    _rename(first.graph, lambda name: name if name == "image" else f"before/{name}")
    _rename(last.graph, lambda name: name if name in ("labels", "scores") else f"after/{name}")
    middle = compose.add_prefix(middle, "network/")
    for part in (first, middle, last):
        part.ir_version = IR
    passed = ["before/size", "before/inner"]
    joined = compose.merge_models(
        first, middle, [("before/padded", "network/images")], outputs=["network/classes", "network/masks", *passed]
    )
    links = [("network/classes", "after/classes"), ("network/masks", "after/masks")]
    links += [(name, name.replace("before", "after")) for name in passed]
    whole = compose.merge_models(joined, last, links, name="clouds", producer_name="clouds")
    whole.producer_version = version("clouds")
    helper.set_model_props(whole, properties(model))
    checker.check_model(whole)
    return whole


def properties(model: Segmenter) -> dict[str, str]:
    """What a file says of its model, each value as JSON: class names, RGB colours, backbone, head, what results call
    its backends, package version, the protocol: how an image is seen; and the photos without labels it learned from."""
    values = {
        "classes": model.classes, "colors": model.colors,
        "vision": model.settings["vision"], "head": model.settings["head"], "backends": backends_of(model.settings),
        "clouds": version("clouds"),
        "protocol": Inference(model.settings["shorter_side"]).as_record(),
    }  # fmt: skip
    if model.trained_on is not None:
        values["trained_on"] = sorted(model.trained_on)
    return {name: json.dumps(value) for name, value in values.items()}


def _rename(graph: Any, name: Callable[[str], str]) -> None:
    """Rename every value and node, those inside loops and branches too, which ``compose.add_prefix`` does not."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = name(value.name)
    for node in graph.node:
        node.name = name(node.name)
        for links in (node.input, node.output):
            links[:] = [name(link) if link else link for link in links]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, name)


MOST = 256  # blocks of 32 pixels a side: ``inference.LONGEST``


class Core(nn.Module):
    """Normalised images (N, 3, 32 a, 32 b) -> class shares without void (N, Q, C), mask logits (N, Q, 8 a, 8 b)."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        merge_adapters(self.model.backbone)  # a file needs no adapter beside its weights
        fix_padding(self.model.backbone)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        prediction = self.model.decode(self.model.backbone.features(images), auxiliary=False)
        return prediction.logits[-1].softmax(-1)[..., :-1], prediction.masks()


def fix_padding(module: nn.Module) -> None:
    """Replace "same" convolutions, whose padding follows from the image's size, by what they do for multiples of 32.

    With the size unknown their arithmetic takes the exporter minutes.
    """
    from timm.layers import Conv2dSame

    for name, child in module.named_children():
        if not isinstance(child, Conv2dSame):
            fix_padding(child)
            continue
        reach = [d * (k - 1) + 1 for d, k in zip(child.dilation, child.kernel_size, strict=True)]
        high, wide = (max(r - s, 0) for r, s in zip(reach, child.stride, strict=True))
        plain = nn.Conv2d(
            child.in_channels, child.out_channels, child.kernel_size, child.stride,
            dilation=child.dilation, groups=child.groups, bias=child.bias is not None,
        )  # fmt: skip
        plain.weight, plain.bias = child.weight, child.bias
        border = nn.ZeroPad2d((wide // 2, wide - wide // 2, high // 2, high - high // 2))
        setattr(module, name, nn.Sequential(border, plain))


def network(model: Segmenter, padded: Size | None, batch: int | None = 1) -> Any:
    """ONNX model ``images`` -> ``classes``, ``masks`` of ``Core``, for one padded size (H, W) and N; None for any.

    BackendError where the exporter cannot.
    """
    core = Core(model)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # what its optimiser leaves as it is
    sample = torch.zeros(batch or 2, 3, *(padded or (256, 448)))
    free: dict[int, Any] = {} if batch else {0: torch.export.Dim("n", min=1, max=MOST_IMAGES)}
    if padded is None:
        free |= {2: 32 * torch.export.Dim("a", min=1, max=MOST), 3: 32 * torch.export.Dim("b", min=1, max=MOST)}
    sides = (free,) if free else None
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own internals
            program = torch.export.export(core, (sample,), dynamic_shapes=sides, strict=False)
            found = torch.onnx.export(
                program, dynamo=True, verbose=False, opset_version=OPSET,
                input_names=["images"], output_names=["classes", "masks"],
            )  # fmt: skip
    except Exception as error:  # the exporter's errors have no common class
        hint = "; --size HxW, one size of images, may work" if padded is None else ""
        raise BackendError(f"{model.settings['vision']}: cannot be exported ({cause(error)}){hint}") from error
    assert found is not None
    return _unfused(found.model_proto)


def _unfused(network: Any) -> Any:
    """Sums before normalisations as Sum, not Add: onnxruntime joins Add and LayerNormalization into one operator, which
    on a CPU takes five times as long as the two."""
    normalised = {node.input[0] for node in network.graph.node if node.op_type == "LayerNormalization"}
    for node in network.graph.node:
        if node.op_type == "Add" and node.output[0] in normalised:
            node.op_type = "Sum"
    return network
