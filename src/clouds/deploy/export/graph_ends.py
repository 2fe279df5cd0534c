"""The two ends of the exported graph, around the network: bytes to a padded image, masks to labels.

Written as ONNX operators, as image sizes are known only when the graph runs, and the tracing of PyTorch code would have
to guess at them. They compute what ``predict`` does: Pillow's resizing and ``segmenter.merge``.
"""

from typing import Any

import numpy as np

from clouds.model.inference import LONGEST, Size

OPSET, IR = 20, 10


def before(
    shorter_side: int, mean: list[float], std: list[float], size: Size | None, batch: int | None = 1
) -> Any:
    """ONNX model: ``image`` uint8 (N, 3, H, W) -> ``padded`` float32 (N, 3, 32 a, 32 b), resized to the shorter side,
    normalised by ``mean`` and ``std`` (0..255 scale) and zero-padded; ``size`` (H, W); ``inner``, the resized size.

    size: the one size that is taken; batch: the one N; None for any."""
    from onnxscript import FLOAT, INT64, UINT8, script
    from onnxscript import opset20 as op
    from onnxscript.values import Opset

    side, limit = (_constant([value], np.float64) for value in (shorter_side, LONGEST))
    middle, deviation = (_constant(np.reshape(each, (1, 3, 1, 1)), np.float32) for each in (mean, std))
    own = Opset("clouds", 1)

    # Pillow's bilinear filter, one side at a time: a triangle over the input's lines, which widens where it shrinks,
    # its weights whole numbers of 2^-22. Equal to the byte, as a byte that is off by one can turn over a mask far away:
    # so places are whole numbers of half an output line. Lines are gathered, not multiplied by a matrix of mostly
    # zeros; weights go in halves that float32 holds.
    @script(own)
    def along(image, length, wanted):  # type: ignore[no-untyped-def]
        line, reach = wanted * 2, op.Max(length, wanted) * 2  # of an input line; of the triangle to one side
        centre = op.Unsqueeze((op.Range(0, wanted, 1) * 2 + 1) * length - wanted, [-1])
        taps = (reach + line - 1) / line * 2 + 1
        lines = op.Max(centre - reach, 0) / line + op.Range(0, taps, 1)  # (wanted, taps)
        near = op.Max(reach - op.Abs(lines * line - centre), 0)
        inside = op.Where(lines < length, near, op.CastLike(0, near))
        total = op.ReduceSum(inside, [-1])
        high = inside * 2048 / total
        low = op.Floor(op.Cast(inside * 2048 - high * total, to=11) / op.Cast(total, to=11) * 2048.0 + 0.5)
        upper, lower = op.Cast(high, to=1), op.Cast(low, to=1) / 2048.0
        halves = op.Concat(op.Unsqueeze(upper, [1]), op.Unsqueeze(lower, [1]), axis=1)
        index = op.Min(lines, length - 1)
        values = op.Cast(op.Transpose(image, perm=[0, 1, 3, 2]), to=1)
        gathered = op.Gather(values, index, axis=2)  # (N, 3, wanted, taps, other side)
        sums = op.MatMul(halves, gathered)
        low = op.Floor(op.Gather(sums, 1, axis=3) + 1024.0)  # half of the 2^22 that the sum is divided by, to round
        return op.Cast(op.Min(op.Floor((op.Gather(sums, 0, axis=3) + low) * 0.00048828125), 255.0), to=2)

    @script(own)
    def normalised(values, inner):  # type: ignore[no-untyped-def]
        normal = (op.Cast(values, to=1) - op.Constant(value=middle)) / op.Constant(value=deviation)
        return op.Pad(normal, op.Concat([0, 0, 0, 0], [0, 0], op.Mod(op.Neg(inner), [32, 32]), axis=0))

    @script()
    def resized(image):  # type: ignore[no-untyped-def]
        size = op.Shape(image, start=2)
        sizes = op.Cast(size, to=11)
        shortest, longest = op.ReduceMin(sizes, keepdims=0), op.ReduceMax(sizes, keepdims=0)
        goal, most = op.Squeeze(op.Constant(value=side)), op.Squeeze(op.Constant(value=limit))
        strip = longest * goal > shortest * most
        factor = op.Where(strip, most, goal) / op.Where(strip, longest, shortest)
        inner = op.Max(op.Cast(op.Round(sizes * factor), to=7), [1, 1])
        narrow = along(image, op.Gather(size, 1), op.Gather(inner, 1))  # (N, 3, W', H)
        return normalised(along(narrow, op.Gather(size, 0), op.Gather(inner, 0)), inner), size, inner

    @script()
    def as_it_is(image):  # type: ignore[no-untyped-def]
        size = op.Shape(image, start=2)
        return normalised(image, size), size, op.Identity(size)

    number, (height, width) = batch or "N", size or ("H", "W")
    types = {"input_types": [UINT8[number, 3, height, width]],
             "output_types": [FLOAT[number, 3, "PH", "PW"], INT64[2], INT64[2]]}  # fmt: skip
    model = (resized if shorter_side else as_it_is).to_model_proto(**types, ir_version=IR)
    return _finished(model, ["padded", "size", "inner"])


def after(size: Size | None, batch: int | None = 1) -> Any:
    """ONNX model: ``classes`` (N, Q, C) and ``masks`` (N, Q, 8 a, 8 b) of the network, ``size``, ``inner`` ->
    ``labels`` uint8 (N, H, W) and ``scores`` float32 (N, H, W), the winner's share of its pixel's sum.

    ``merge`` in blocks of 32 rows of an image, so that memory is a block's. Enlarging masks by 4 is a convolution that
    makes the 16 pixels of each cell; classes come last from there on, as enlarging the map and its argmax are then
    twice as fast.
    """
    from onnxscript import BOOL, FLOAT, INT64, UINT8, graph, script
    from onnxscript import opset20 as op
    from onnxscript.values import Opset

    away = (np.arange(4) - 1.5) / 4  # of a pixel from the middle of its cell, in cells
    taps = np.stack([np.maximum(-away, 0), 1 - abs(away), np.maximum(away, 0)], 1)  # of the cells around: (4, 3)
    pixels = _constant((taps[:, None, :, None] * taps[None, :, None, :]).reshape(16, 1, 3, 3), np.float32)

    @script(Opset("clouds", 1))
    def places(length, wanted):  # type: ignore[no-untyped-def]
        """Along a side: the two neighbours of each place, and the second one's share."""
        last = op.Cast(length, to=1)
        line = (op.Cast(op.Range(0, wanted, 1), to=1) + 0.5) * (last / op.Cast(wanted, to=1)) - 0.5
        line = op.Min(op.Max(line, 0.0), last - 1.0)
        first = op.Floor(line)
        return op.Cast(first, to=7), op.Cast(op.Min(first + 1.0, last - 1.0), to=7), line - first

    @script()
    def merged(classes, masks, size, inner):  # type: ignore[no-untyped-def]
        kernel, edged = op.Constant(value=pixels), op.Pad(masks, [0, 0, 1, 1, 0, 0, 1, 1], mode="edge")
        number, count = op.Shape(classes, end=1), op.Shape(classes, start=2)
        height, width = op.Shape(masks, start=2, end=3), op.Shape(masks, start=3)
        blocks = height / 8
        form = op.Concat([4, 4, 8], width, count, axis=0)

        @graph()  # type: ignore[untyped-decorator]
        def block(i: INT64, going: BOOL):  # type: ignore[no-untyped-def]
            each = op.Unsqueeze(i, [0])
            image, top = each / blocks, op.Mod(each, blocks) * 8
            part = op.Slice(edged, op.Concat(image, top, axis=0), op.Concat(image + 1, top + 10, axis=0), [0, 2])
            inside = op.Sigmoid(op.Conv(op.Transpose(part, perm=[1, 0, 2, 3]), kernel))
            weights = op.Squeeze(op.Slice(classes, image, image + 1, [0]), [0])
            sums = op.Gemm(op.Reshape(inside, [0, -1]), weights, transA=1)
            return op.Identity(going), op.Transpose(op.Reshape(sums, form), perm=[2, 0, 3, 1, 4])

        stacked = op.Loop(op.Squeeze(number * blocks), True, body=block)
        whole = op.Slice(op.Reshape(stacked, op.Concat(number, height * 4, width * 4, count, axis=0)),
                         [0, 0], inner, [1, 2])  # fmt: skip
        # Winners at the image's size: where one class wins in all four cells around a pixel, it wins in their mix.
        # Elsewhere, at few pixels, the scores of all classes are mixed (``predict.enlarge`` does the same).
        best, winners = op.TopK(whole, [1], axis=-1)
        total = op.Unsqueeze(op.ReduceSum(whole, [3], keepdims=0), [1])
        both = op.Concat(op.Transpose(best, perm=[0, 3, 1, 2]), total, axis=1)
        both = op.Resize(both, None, None, op.Concat(number, [2], size, axis=0), mode="linear")
        above, below, down = places(op.Gather(inner, 0), op.Gather(size, 0))
        before, behind, right = places(op.Gather(inner, 1), op.Gather(size, 1))
        small = op.Cast(op.Squeeze(winners, [3]), to=2)
        first, second = op.Gather(small, before, axis=2), op.Gather(small, behind, axis=2)
        level, upper = first == second, op.Gather(first, above, axis=1)
        one = op.And(op.And(op.Gather(level, above, axis=1), op.Gather(level, below, axis=1)),
                     upper == op.Gather(first, below, axis=1))  # fmt: skip
        where = op.NonZero(op.Not(one))  # (3, K): image, row, column
        many = op.Squeeze(op.Shape(where, start=1))
        cells = op.Reshape(whole, op.Concat([-1], count, axis=0))
        tall, wide = op.Gather(inner, 0), op.Gather(inner, 1)

        @graph()  # type: ignore[untyped-decorator]
        def chunk(i: INT64, going: BOOL):  # type: ignore[no-untyped-def]
            mine = op.Gather(where, op.Min(op.Range(i * 8192, i * 8192 + 8192, 1), many - 1), axis=1)
            r, c = op.Gather(mine, 1), op.Gather(mine, 2)
            start = op.Gather(mine, 0) * tall
            high, low = (start + op.Gather(above, r)) * wide, (start + op.Gather(below, r)) * wide
            left, other = op.Gather(before, c), op.Gather(behind, c)
            across, along = op.Unsqueeze(op.Gather(right, c), [1]), op.Unsqueeze(op.Gather(down, r), [1])
            top = op.Gather(cells, high + left) * (1.0 - across) + op.Gather(cells, high + other) * across
            bottom = op.Gather(cells, low + left) * (1.0 - across) + op.Gather(cells, low + other) * across
            won, found = op.TopK(top * (1.0 - along) + bottom * along, [1], axis=-1)
            return op.Identity(going), op.Cast(found, to=2), op.Identity(won)

        found, won = op.Loop((many + 8191) / 8192, True, body=chunk)
        every, index = op.Unsqueeze(many, [0]), op.Transpose(where, perm=[1, 0])
        chosen = op.ScatterND(upper, index, op.Slice(op.Reshape(found, [-1]), [0], every))
        highest = op.ScatterND(op.Gather(both, 0, axis=1), index, op.Slice(op.Reshape(won, [-1]), [0], every))
        return chosen, highest / op.Max(op.Gather(both, 1, axis=1), 1e-6)

    number, (height, width) = batch or "N", size or ("H", "W")
    inputs = [FLOAT[number, "Q", "C"], FLOAT[number, "Q", "MH", "MW"], INT64[2], INT64[2]]
    outputs = [UINT8[number, height, width], FLOAT[number, height, width]]
    model = merged.to_model_proto(input_types=inputs, output_types=outputs, ir_version=IR)
    return _finished(model, ["labels", "scores"])


def _constant(values: Any, dtype: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(values, dtype))


def _finished(model: Any, outputs: list[str]) -> Any:
    """The model with its functions and the types of its constants resolved, and with these names of its outputs."""
    from onnx import helper
    from onnxscript import optimizer

    model = optimizer.optimize(model)
    names = dict(zip((each.name for each in model.graph.output), outputs, strict=True))
    for fixed in [each for each in model.graph.initializer if each.name in names]:  # an output is a node's
        model.graph.node.insert(0, helper.make_node("Constant", [], [fixed.name], value=fixed))
        model.graph.initializer.remove(fixed)
    for each in model.graph.output:
        each.name = names[each.name]
    for node in model.graph.node:
        for links in (node.input, node.output):
            links[:] = [names.get(link, link) for link in links]
    return model
