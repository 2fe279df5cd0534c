"""An exported file in the runtime it is for, onnxruntime or OpenVINO; no torch."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Pixels
from clouds.errors import BackendError, CloudsError, DataError, UsageError, cause
from clouds.model.place import check_place

OUTPUTS = ("labels", "scores")
Run = Callable[[Pixels], list[NDArray[Any]]]  # images (B, 3, H, W) uint8 -> labels (B, H, W), scores (B, H, W)


@dataclass(frozen=True)
class Opened:
    """run: see ``Run``. about: what the file says of its model, by name, each value as JSON text. shape: of its input,
    (batch, height, width), None where any is taken. runtime: its name and version."""

    run: Run
    about: dict[str, str]
    shape: tuple[int | None, int | None, int | None]
    runtime: str


def open_exported(file: Path, device: str = "cpu", threads: int | None = None) -> Opened:
    """An exported file, ready to run. ``threads``: of the CPU, by default OMP_NUM_THREADS, else all cores.

    DataError for a file that is not there, is damaged, or was not written by ``clouds export``; UsageError for a device
    that its runtime does not have here; BackendError where the runtime is not installed.
    """
    check_place(file)
    name, opener = {".onnx": ("onnxruntime", _onnxruntime), ".xml": ("openvino", _openvino)}[file.suffix.lower()]
    if importlib.util.find_spec(name) is None:
        raise BackendError(f"{file}: needs {name}, not installed here; pip install 'clouds[export]'")
    try:
        return opener(file, device, threads or default_threads())
    except CloudsError:
        raise
    except Exception as error:  # a runtime's errors have no common class
        raise DataError(f"{file}: {name} cannot open it ({cause(error)}); export the model again") from error


def default_threads() -> int:
    """OMP_NUM_THREADS where it is set, as for PyTorch, else the cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def session(model: Path | bytes, threads: int, device: str = "cpu") -> Any:
    """onnxruntime's session of a file or a serialised model; UsageError for a device that it does not have."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # which it keeps in a database in the user's cache
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # warnings are about its own optimiser
    providers: list[Any] = ["CPUExecutionProvider"]
    if device != "cpu":
        kind, _, index = device.partition(":")
        there = onnxruntime.get_available_providers()
        if kind != "cuda" or "CUDAExecutionProvider" not in there:
            raise UsageError(
                f"--device: onnxruntime has no {device} here, it has {', '.join(there)}; take cpu, or install "
                "onnxruntime-gpu for cuda"
            )
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(index or 0)}))
    return onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=providers)


def _onnxruntime(file: Path, device: str, threads: int) -> Opened:
    import onnxruntime

    opened = session(file, threads, device)
    names = [each.name for each in opened.get_outputs()]
    _demand(file, [each.name for each in opened.get_inputs()], names)
    batch, _, height, width = (each if isinstance(each, int) else None for each in opened.get_inputs()[0].shape)

    def run(images: Pixels) -> list[NDArray[Any]]:
        found: list[NDArray[Any]] = opened.run([*OUTPUTS], {"image": images})
        return found

    about = dict(opened.get_modelmeta().custom_metadata_map)
    return Opened(run, about, (batch, height, width), f"onnxruntime {onnxruntime.__version__}")


def _openvino(file: Path, device: str, threads: int) -> Opened:
    import openvino

    if device != "cpu":
        raise UsageError(f"--device: got {device}; an OpenVINO file is run on the cpu here")
    core = openvino.Core()
    read = core.read_model(str(file))
    _demand(file, [each.any_name for each in read.inputs], [each.any_name for each in read.outputs])
    batch, _, height, width = (
        None if each.is_dynamic else each.get_length() for each in read.inputs[0].get_partial_shape()
    )
    about = {name: value.astype(str) for name, value in read.get_rt_info(["clouds"]).astype(dict).items()}
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(read, "CPU", settings)

    def run(images: Pixels) -> list[NDArray[Any]]:
        found = compiled(images)
        return [np.array(found[name]) for name in OUTPUTS]  # copied: its own memory is used again

    return Opened(run, about, (batch, height, width), f"openvino {openvino.__version__.split('-')[0]}")


def _demand(file: Path, inputs: list[str], outputs: list[str]) -> None:
    if inputs != ["image"] or not {*OUTPUTS} <= {*outputs}:
        raise DataError(
            f"{file}: has the inputs {', '.join(inputs)} and the outputs {', '.join(outputs)}; expected image, and "
            "labels and scores: a file that this version of `clouds export` wrote. Export the model again"
        )


def planes(images: list[Pixels]) -> Pixels:
    """Images (H, W, 3) of one size -> (B, 3, H, W)."""
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
