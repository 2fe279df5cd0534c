"""A written file in the runtime it is for: labels from images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Label = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]  # image (H, W, 3) RGB -> labels (H, W)


def open_file(format_: str, file: Path) -> tuple[Label, str]:
    """What labels an image, and the runtime's name and version; on this process's number of PyTorch threads."""
    return {"onnx": _onnxruntime, "torch-export": _torch, "openvino": _openvino}[format_](file)


def session(model: Path | bytes) -> Any:
    """onnxruntime's session of a file or a serialised model on the CPU, with as many threads as PyTorch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # warnings are about its own optimiser
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )


def _onnxruntime(file: Path) -> tuple[Label, str]:
    import onnxruntime

    opened = session(file)

    def label(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        out: NDArray[np.uint8] = opened.run(["labels"], {"image": planes(image)})[0][0]
        return out

    return label, f"onnxruntime {onnxruntime.__version__}"


def _torch(file: Path) -> tuple[Label, str]:
    program = torch.export.load(file).module()

    @torch.inference_mode()
    def label(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        out: NDArray[np.uint8] = program(torch.from_numpy(planes(image)))[0].numpy()
        return out

    return label, f"torch {torch.__version__}"


def _openvino(file: Path) -> tuple[Label, str]:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)

    def label(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        out: NDArray[np.uint8] = compiled(planes(image))[0][0]
        return out

    return label, f"openvino {openvino.__version__.split('-')[0]}"


def planes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) -> (1, 3, H, W)."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])
