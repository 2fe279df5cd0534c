"""The network's ONNX model in numbers of fewer bits."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from clouds.base.arrays import Pixels
from clouds.base.progress import track
from clouds.predict.runtimes import planes, session

# Places in an image and statistics of a whole map do not fit into 16 bits: 8 pixels of 2048, sums past 65504.
EXACT = ("GridSample", "InstanceNormalization", "GroupNormalization", "LayerNormalization", "ReduceSum", "ReduceL2",
         "Sin", "Cos", "Range", "Resize")  # fmt: skip


def halved(network: Any, first: Any) -> Any:  # noqa: ARG001 - a ``Change``
    """Weights and arithmetic in float16, but for ``EXACT``; inputs and outputs stay float32."""
    import onnx_ir
    from onnxruntime.transformers import float16

    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *EXACT]
    model = onnx_ir.from_proto(float16.convert_float_to_float16(network, keep_io_types=True, op_block_list=blocked))
    model.graph.sort()  # casts stand last
    return onnx_ir.to_proto(model)


def quantised(pictures: list[Pixels]) -> Callable[[Any, Any], Any]:
    """A ``Change`` to int8: static, weights by channel, activations by the ranges seen on ``pictures``.

    Convolutions only: with products quantised too the model lost more and gained little speed.
    """

    def change(network: Any, first: Any) -> Any:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        resize = session(first.SerializeToString(), torch.get_num_threads())
        batch = first.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.left: Iterator[Pixels] = track(pictures, "calibrating", len(pictures), unit="images")

            def get_next(self) -> dict[str, Any] | None:
                picture = next(self.left, None)
                if picture is None:
                    return None
                return {"images": resize.run(["padded"], {"image": planes([picture] * batch)})[0]}

        with tempfile.TemporaryDirectory() as folder:
            plain, prepared, done = (str(Path(folder) / f"{name}.onnx") for name in ("plain", "prepared", "done"))
            onnx.save(network, plain)
            quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared, done, Reader(), per_channel=True, op_types_to_quantize=["Conv"],
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
            return onnx.load(done)

    return change
