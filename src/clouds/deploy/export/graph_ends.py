"""The two ends of the exported graph, around the network: bytes to a padded image, masks to labels.

Written in ONNX's own text form, as image sizes are known only when the graph runs, and the tracing of PyTorch code
would have to guess at them. They compute what ``predict`` does: OpenCV's resizing and ``segmenter.merge``.
"""

from typing import Any

import numpy as np

from clouds.model.inference import LONGEST, Size

OPSET, IR = 20, 10

# One side of the image, as weights of the input's lines in each output line. Shrinking is OpenCV's INTER_AREA: the
# share of an output cell that an input cell covers, crumbs below a thousandth dropped; enlarging is bilinear with its
# fixed-point weights of 1/2048. Equal to the byte, as a byte that is off by one can turn over a mask far away. Lines
# are gathered, not multiplied by a matrix of mostly zeros.
_SIDE = """
    {s}_in = Gather (sizes, {axis})
    {s}_out = Gather (inners, {axis})
    {s}_scale = Div ({s}_in, {s}_out)
    {s}_count = Cast <to = 7> ({s}_out)
    {s}_range = Range (zero, {s}_count, one)
    {s}_cells = Cast <to = 11> ({s}_range)
    {s}_left = Mul ({s}_cells, {s}_scale)
    {s}_right = Add ({s}_left, {s}_scale)
    {s}_last = Sub ({s}_in, unit)
    {s}_shift = Mul ({s}_scale, half)
    {s}_middle = Add ({s}_left, {s}_shift)
    {s}_centre = Sub ({s}_middle, half)
    {s}_start = Where (shrinking, {s}_left, {s}_centre)
    {s}_first = Floor ({s}_start)
    {s}_ceil = Ceil ({s}_scale)
    {s}_most = Where (shrinking, {s}_ceil, unit)
    {s}_many = Cast <to = 7> ({s}_most)
    {s}_taps = Add ({s}_many, one)
    {s}_steps = Range (zero, {s}_taps, one)
    {s}_step = Cast <to = 11> ({s}_steps)
    {s}_column = Unsqueeze ({s}_first, last_axis)
    {s}_lines = Add ({s}_column, {s}_step)
    {s}_ends = Add ({s}_lines, unit)
    {s}_l = Unsqueeze ({s}_left, last_axis)
    {s}_r = Unsqueeze ({s}_right, last_axis)
    {s}_c = Unsqueeze ({s}_centre, last_axis)
    {s}_from = Max ({s}_lines, {s}_l)
    {s}_to = Min ({s}_ends, {s}_r)
    {s}_covered = Sub ({s}_to, {s}_from)
    {s}_tiny = LessOrEqual ({s}_covered, crumb)
    {s}_cover = Where ({s}_tiny, nought, {s}_covered)
    {s}_area = Div ({s}_cover, {s}_scale)
    {s}_away = Sub ({s}_lines, {s}_c)
    {s}_far = Abs ({s}_away)
    {s}_nearness = Sub (unit, {s}_far)
    {s}_scaled = Mul ({s}_nearness, fixed_point)
    {s}_near = Round ({s}_scaled)
    {s}_share = Where (shrinking, {s}_area, {s}_near)
    {s}_positive = Max ({s}_share, nought)
    {s}_flat = Cast <to = 1> ({s}_positive)
    {s}_weights = Unsqueeze ({s}_flat, middle_axis)
    {s}_inside = Clip ({s}_lines, nought, {s}_last)
    {s}_index = Cast <to = 7> ({s}_inside)
"""

_BEFORE = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
before (uint8[1, 3, {h}, {w}] image) => (float[1, 3, PH, PW] padded, int64[2] size, int64[2] inner)
<float[1, 3, 1, 1] mean = {{{mean}}}, float[1, 3, 1, 1] deviation = {{{std}}}, double side = {{{side}}},
 double limit = {{{limit}}}, double unit = {{1.0}}, double nought = {{0.0}}, double half = {{0.5}},
 double crumb = {{0.001}}, double fixed_point = {{2048.0}}, double two = {{2.0}}, double sixteen = {{16.0}},
 double sixteen_bits = {{65536.0}}, double quarter = {{4.0}}, float nudge = {{0.001}}, float still = {{0.0}},
 int64 zero = {{0}}, int64 one = {{1}}, int64[1] three = {{3}}, int64[2] ones = {{1, 1}}, int64[1] last_axis = {{-1}},
 int64[1] middle_axis = {{1}}, int64[2] block = {{32, 32}}, int64[4] nothing = {{0, 0, 0, 0}},
 int64[2] front = {{0, 0}}>
{{
    size = Shape <start = 2> (image)
    sizes = Cast <to = 11> (size)
    shortest = ReduceMin <keepdims = 0> (sizes)
    longest = ReduceMax <keepdims = 0> (sizes)
    strip_long = Mul (longest, side)
    strip_short = Mul (shortest, limit)
    strip = Greater (strip_long, strip_short)
    goal = Where (strip, limit, side)
    given = Where (strip, longest, shortest)
    factor = Div (goal, given)
    scaled = Mul (sizes, factor)
    rounded = Round (scaled)
    whole = Cast <to = 7> (rounded)
    inner = Max (whole, ones)
    inners = Cast <to = 11> (inner)
    less = Less (inner, size)
    lesser = Cast <to = 7> (less)
    any = ReduceMax <keepdims = 0> (lesser)
    shrinking = Cast <to = 9> (any)
    {height}
    {width}
    turned = Transpose <perm = [0, 1, 3, 2]> (image)
    columns = Gather <axis = 2> (turned, w_index)
    column_floats = Cast <to = 1> (columns)
    column_sums = MatMul (w_weights, column_floats)
    narrow = Squeeze (column_sums, three)
    upright = Transpose <perm = [0, 1, 3, 2]> (narrow)
    rows = Gather <axis = 2> (upright, h_index)
    halving_h = Equal (h_scale, two)
    halving_w = Equal (w_scale, two)
    halving = And (halving_h, halving_w)
    up = Where (halving, nudge, still)
    bytes = If (shrinking) <then_branch = covered () => (float[1, 3, RH, RW] then_bytes) {{
        row_sums = MatMul (h_weights, rows)
        flat_sums = Squeeze (row_sums, three)
        nudged = Add (flat_sums, up)
        then_bytes = Round (nudged)
    }}, else_branch = mixed () => (float[1, 3, RH, RW] else_bytes) {{
        exact_rows = Cast <to = 11> (rows)
        sixteenths = Div (exact_rows, sixteen)
        shifted = Floor (sixteenths)
        turned_weights = Transpose <perm = [0, 2, 1]> (h_weights)
        exact_weights = Cast <to = 11> (turned_weights)
        products = Mul (shifted, exact_weights)
        high_bits = Div (products, sixteen_bits)
        high = Floor (high_bits)
        added = ReduceSum <keepdims = 0> (high, three)
        rounding = Add (added, two)
        quarters = Div (rounding, quarter)
        whole_bytes = Floor (quarters)
        else_bytes = Cast <to = 1> (whole_bytes)
    }}>
    {normalise}
}}
"""

_OWN_SIZE = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
before (uint8[1, 3, {h}, {w}] image) => (float[1, 3, PH, PW] padded, int64[2] size, int64[2] inner)
<float[1, 3, 1, 1] mean = {{{mean}}}, float[1, 3, 1, 1] deviation = {{{std}}}, int64[2] block = {{32, 32}},
 int64[4] nothing = {{0, 0, 0, 0}}, int64[2] front = {{0, 0}}>
{{
    size = Shape <start = 2> (image)
    inner = Identity (size)
    bytes = Cast <to = 1> (image)
    {normalise}
}}
"""

_NORMALISE = """
    centred = Sub (bytes, mean)
    normal = Div (centred, deviation)
    negative = Neg (inner)
    lacking = Mod (negative, block)
    pads = Concat <axis = 0> (nothing, front, lacking)
    padded = Pad (normal, pads)
"""

# ``merge`` in blocks of 32 rows, so that memory is a block's. Enlarging masks by 4 is a convolution that makes the 16
# pixels of each cell; classes come last from there on, as enlarging the map and its argmax are then twice as fast.
_AFTER = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
after (float[1, Q, C] classes, float[1, Q, MH, MW] masks, int64[2] size, int64[2] inner) => (uint8[1, {h}, {w}] labels)
<float[16, 1, 3, 3] pixels = {{{pixels}}}, int64[8] borders = {{0, 0, 1, 1, 0, 0, 1, 1}}, int64 eight = {{8}},
 int64 ten = {{10}}, bool yes = {{1}}, int64[1] first = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}},
 int64[3] cells = {{4, 4, 8}}, int64[2] flatter = {{0, -1}}, int64[1] rest = {{-1}}, int64[2] origin = {{0, 0}},
 int64[2] axes = {{1, 2}}>
{{
    weights = Squeeze (classes, first)
    bordered = Pad <mode = "edge"> (masks, borders)
    by_query = Transpose <perm = [1, 0, 2, 3]> (bordered)
    mask_rows = Shape <start = 2, end = 3> (masks)
    block_list = Div (mask_rows, eight)
    blocks = Squeeze (block_list)
    count = Shape <start = 2> (classes)
    mask_width = Shape <start = 3> (masks)
    cell_form = Concat <axis = 0> (cells, mask_width, count)
    stacked = Loop (blocks, yes) <body = body (int64 i, bool going) => (bool goes_on, float[8, 4, MW, 4, C] part) {{
        goes_on = Identity (going)
        top = Mul (i, eight)
        bottom = Add (top, ten)
        tops = Unsqueeze (top, first)
        bottoms = Unsqueeze (bottom, first)
        block = Slice (by_query, tops, bottoms, two)
        full = Conv (block, pixels)
        inside = Sigmoid (full)
        flat = Reshape (inside, flatter)
        sums = Gemm <transA = 1> (flat, weights)
        form = Reshape (sums, cell_form)
        part = Transpose <perm = [2, 0, 3, 1, 4]> (form)
    }}>
    four = Add (two, two)
    width = Mul (mask_width, four)
    map_form = Concat <axis = 0> (one, rest, width, count)
    whole = Reshape (stacked, map_form)
    map = Slice (whole, origin, inner, axes)
    target = Concat <axis = 0> (one, size, count)
    scores = Resize <mode = "linear"> (map, , , target)
    best = ArgMax <axis = 3, keepdims = 0> (scores)
    labels = Cast <to = 2> (best)
}}
"""


def before(shorter_side: int, mean: list[float], std: list[float], size: Size | None) -> Any:
    """ONNX model: ``image`` uint8 (1, 3, H, W) -> ``padded`` float32 (1, 3, 32 a, 32 b), resized to the shorter side,
    normalised by ``mean`` and ``std`` (0..255 scale) and zero-padded; ``size`` (H, W); ``inner``, the resized size."""
    values: dict[str, Any] = {"mean": _numbers(mean), "std": _numbers(std), "normalise": _NORMALISE}
    if shorter_side:
        values |= {"side": float(shorter_side), "limit": float(LONGEST)}
        values |= {"height": _SIDE.format(s="h", axis="zero"), "width": _SIDE.format(s="w", axis="one")}
    return _parsed(_BEFORE if shorter_side else _OWN_SIZE, size, values)


def after(size: Size | None) -> Any:
    """ONNX model: ``classes`` (1, Q, C) and ``masks`` (1, Q, 8 a, 8 b) of the network, ``size``, ``inner`` ->
    ``labels`` uint8 (1, H, W)."""
    away = (np.arange(4) - 1.5) / 4  # of a pixel from the middle of its cell, in cells
    taps = np.stack([np.maximum(-away, 0), 1 - abs(away), np.maximum(away, 0)], 1)  # of the cells around: (4, 3)
    pixels = taps[:, None, :, None] * taps[None, :, None, :]  # (4, 4, 3, 3)
    return _parsed(_AFTER, size, {"pixels": _numbers(pixels.ravel().tolist())})


def _parsed(text: str, size: Size | None, values: dict[str, Any]) -> Any:
    from onnx import parser

    height, width = size or ("H", "W")
    return parser.parse_model(text.format(ir=IR, opset=OPSET, h=height, w=width, **values))


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.9g}" if "." in f"{value:.9g}" else f"{value:.1f}" for value in values)
