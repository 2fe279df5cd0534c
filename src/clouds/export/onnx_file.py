"""The whole path from bytes to labels as one ONNX model."""

import json
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
    first = compose.add_prefix(before(side, *side_values, size), "before/")
    middle = compose.add_prefix(network(model, padded), "network/")
    last = after(size)  # no prefix: compose would not carry it into the loop
    for part in (first, middle, last):
        part.ir_version = IR
    joined = compose.merge_models(
        first, middle, [("before/padded", "network/images")],
        outputs=["network/classes", "network/masks", "before/size", "before/inner"],
    )  # fmt: skip
    links = {"network/classes": "classes", "network/masks": "masks", "before/size": "size", "before/inner": "inner"}
    whole = compose.merge_models(joined, last, list(links.items()), name="clouds", producer_name="clouds")
    _rename(whole.graph, "before/image", "image")
    helper.set_model_props(whole, {
        "classes": json.dumps(model.classes), "colors": json.dumps(model.colors), "shorter_side": json.dumps(side),
        "vision": json.dumps(model.settings["vision"]),
    })  # fmt: skip
    checker.check_model(whole)
    return whole


def _rename(graph: Any, old: str, new: str) -> None:
    for value in graph.input:
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for i, link in enumerate(node.input):
            node.input[i] = new if link == old else link
