"""The whole path from bytes to labels as one ONNX model."""

import json
from collections.abc import Callable
from typing import Any

from clouds.export.ends import IR, after, before
from clouds.export.network import network
from clouds.model.inference import Inference, Size
from clouds.model.segmenter import Segmenter


def onnx_model(model: Segmenter, size: Size | None) -> Any:
    """ONNX model ``image`` uint8 (1, 3, H, W) RGB -> ``labels`` uint8 (1, H, W): the labels of ``predict``.

    size: the one size of images it takes, None for any. Class names, colours, shorter side and backbone stand in its
    metadata as JSON.
    """
    from onnx import checker, compose, helper

    side = model.settings["shorter_side"]
    padded = None
    if size:
        height, width = Inference(side).sizes(size)[0]
        padded = (height + -height % 32, width + -width % 32)
    side_values = model.mean.flatten().tolist(), model.std.flatten().tolist()
    first = before(side, *side_values, size)
    last = after(size)
    _rename(first.graph, lambda name: name if name == "image" else f"before/{name}")
    _rename(last.graph, lambda name: name if name == "labels" else f"after/{name}")
    middle = compose.add_prefix(network(model, padded), "network/")
    for part in (first, middle, last):
        part.ir_version = IR
    passed = ["before/size", "before/inner"]
    joined = compose.merge_models(
        first, middle, [("before/padded", "network/images")], outputs=["network/classes", "network/masks", *passed]
    )
    links = [("network/classes", "after/classes"), ("network/masks", "after/masks")]
    links += [(name, name.replace("before", "after")) for name in passed]
    whole = compose.merge_models(joined, last, links, name="clouds", producer_name="clouds")
    helper.set_model_props(whole, {
        "classes": json.dumps(model.classes), "colors": json.dumps(model.colors), "shorter_side": json.dumps(side),
        "vision": json.dumps(model.settings["vision"]),
    })  # fmt: skip
    checker.check_model(whole)
    return whole


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
