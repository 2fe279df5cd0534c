"""What is asked of an export, checked before any work."""

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clouds.errors import UsageError
from clouds.model.inference import LEAST_SIDE, LONGEST, Size
from clouds.model.place import check_place, is_hub_id, model_folder

SUFFIX = {"onnx": ".onnx", "torch-export": ".pt2", "openvino": ".xml"}
MOST_IMAGES = 1024  # of a batch
_ONNX = ("onnx", "onnxscript", "onnxruntime")
_NEEDS = {"onnx": _ONNX, "torch-export": (), "openvino": (*_ONNX, "openvino")}


@dataclass(frozen=True)
class ExportRequest:
    """format: a key of ``SUFFIX``. out: the file. size: the one size (height, width) of images, None for any.
    batch: images at a time, None for any number.
    half: weights in 16 bits. int8: weights and activations of convolutions in 8."""

    format: str
    out: Path
    size: Size | None = None
    half: bool = False
    int8: bool = False
    batch: int | None = 1


def request(
    model: str | Path, format_: str, out: Path | None, size: str, half: bool, int8: bool, tuning: Sequence[str] = (),
    batch: str = "1",
) -> ExportRequest:
    """UsageError naming what cannot be: format, size, options that exclude each other, missing packages, paths.

    tuning: options and settings given that only ``int8`` uses.
    """
    if format_ not in SUFFIX:
        raise UsageError(f"--format: got {format_!r}; expected {', '.join(SUFFIX)}")
    file = out or Path(f"model{SUFFIX[format_]}")
    wanted, number = _size(size), _batch(batch)
    if half and int8:
        raise UsageError("--half and --int8: one number format at a time; leave one out")
    if int8 and format_ != "onnx":
        raise UsageError(f"--int8: {format_} has none here; use --format onnx")
    if stray := [word for word in tuning if not word.startswith("--") and "=" not in word]:
        raise UsageError(f"{' '.join(stray)}: expected KEY=VALUE; of several photos each takes its own --photos")
    if tuning and not int8:
        raise UsageError(f"{', '.join(tuning)}: only --int8 uses such; add it, or leave them out")
    if format_ == "torch-export" and wanted is None:
        raise UsageError(
            "--size: a torch-export program holds one size of images; add it, such as --size 720x1280 (onnx and "
            "openvino take any size)"
        )
    if format_ == "torch-export" and number is None:
        raise UsageError("--batch: a torch-export program holds one number of images; name it, such as --batch 8")
    if format_ == "openvino" and file.suffix != ".xml":
        raise UsageError(f"--out: {file}: OpenVINO's models are a .xml file and a .bin beside it; name the .xml")
    if file.is_dir():
        raise UsageError(f"--out: {file} is a folder; name a file in it, such as {file / ('model' + SUFFIX[format_])}")
    if format_ == "onnx" and file.suffix.lower() != ".onnx":
        raise UsageError(f"--out: {file}: expected a name that ends in .onnx, by which the file is known later")
    blocking = next((parent for parent in file.absolute().parents if parent.exists()), None)
    if blocking is not None and not blocking.is_dir():
        raise UsageError(f"--out: {blocking} is a file where a folder is needed; choose another place")
    if not is_hub_id(model) and not Path(model).is_dir():
        raise UsageError(f"{model}: no such folder; expected a model folder, a run folder or a hub id")
    if not is_hub_id(model):
        check_place(model_folder(model))
    if missing := [name for name in _NEEDS[format_] if importlib.util.find_spec(name) is None]:
        raise UsageError(f"--format {format_}: needs {', '.join(missing)}; pip install 'clouds[export]'")
    return ExportRequest(format_, file, wanted, half, int8, number)


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdigit() or not 1 <= int(text) <= MOST_IMAGES:
        raise UsageError(f"--batch: got {text!r}; expected 1 to {MOST_IMAGES} images, or dynamic")
    return int(text)


def _size(text: str) -> Size | None:
    if text == "dynamic":
        return None
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if not match:
        raise UsageError(f"--size: got {text!r}; expected HEIGHTxWIDTH, such as 720x1280, or dynamic")
    size = int(match[1]), int(match[2])
    if not all(LEAST_SIDE <= side <= LONGEST for side in size):
        raise UsageError(f"--size: got {text}; expected sides of {LEAST_SIDE} to {LONGEST} pixels")
    return size
