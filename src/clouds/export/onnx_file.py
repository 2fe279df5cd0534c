"""The whole path from bytes to labels as one ONNX model."""

import json
from collections.abc import Callable
from typing import Any

from clouds import __version__
from clouds.export.ends import IR, after, before
from clouds.export.network import network
from clouds.model.inference import Inference, Size
from clouds.model.segmenter import Segmenter

Change = Callable[[Any, Any], Any]  # the network's and the first end's ONNX models -> the network's in other numbers


def onnx_model(model: Segmenter, size: Size | None, change: Change | None = None) -> Any:
    """ONNX model ``image`` uint8 (1, 3, H, W) RGB -> ``labels`` uint8 (1, H, W): the labels of ``predict``.

    size: the one size of images it takes, None for any. Its metadata is ``properties``.
    """
    from onnx import checker, compose, helper

    side = model.settings["shorter_side"]
    padded = None
    if size:
        height, width = Inference(side).sizes(size)[0]
        padded = (height + -height % 32, width + -width % 32)
    first = before(side, model.mean.flatten().tolist(), model.std.flatten().tolist(), size)
    last = after(size)
    middle = network(model, padded)
    if change:
        middle = change(middle, first)
    _rename(first.graph, lambda name: name if name == "image" else f"before/{name}")
    _rename(last.graph, lambda name: name if name == "labels" else f"after/{name}")
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
    whole.producer_version = __version__
    helper.set_model_props(whole, properties(model))
    checker.check_model(whole)
    return whole


def properties(model: Segmenter) -> dict[str, str]:
    """What a file says of its model, each value as JSON: class names, RGB colours, backbone, head, package version, and
    the protocol: how an image is seen."""
    values = {
        "classes": model.classes,
        "colors": model.colors,
        "vision": model.settings["vision"],
        "head": model.settings["head"],
        "clouds": __version__,
        "protocol": Inference(model.settings["shorter_side"]).as_record(),
    }
    return {name: json.dumps(value) for name, value in values.items()}


def _rename(graph: Any, name: Callable[[str], str]) -> None:
    """Rename every value, those inside loops and branches too, which ``compose.add_prefix`` does not."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = name(value.name)
    for node in graph.node:
        for links in (node.input, node.output):
            links[:] = [name(link) if link else link for link in links]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, name)
