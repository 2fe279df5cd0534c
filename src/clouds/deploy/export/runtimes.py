"""A written file in the runtime it is for: labels from images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clouds.base.arrays import Labels, Pixels
from clouds.base.progress import track
from clouds.errors import BackendError
from clouds.evaluate.domains import Domain, class_table
from clouds.evaluate.metrics import confusion, mean_iou
from clouds.predict.predictor import Predictor

Label = Callable[[Pixels], Labels]  # image (H, W, 3) RGB -> labels (H, W)


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

    run = session(file).run
    return lambda image: run(["labels"], {"image": planes(image)})[0][0], f"onnxruntime {onnxruntime.__version__}"


def _torch(file: Path) -> tuple[Label, str]:
    program = torch.export.load(file).module()

    @torch.inference_mode()
    def label(image: Pixels) -> Labels:
        out: Labels = program(torch.from_numpy(planes(image)))[0].numpy()
        return out

    return label, f"torch {torch.__version__}"


def _openvino(file: Path) -> tuple[Label, str]:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)
    return lambda image: compiled(planes(image))[0][0], f"openvino {openvino.__version__.split('-')[0]}"


def planes(image: Pixels) -> Pixels:
    """(H, W, 3) -> (1, 3, H, W)."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


LEAST = {"full": 0.999, "half": 0.99, "int8": 0.0}  # share of equal labels


def compare(predictor: Predictor, label: Label, pictures: dict[str, Pixels]) -> dict[str, Any]:
    """{"agreement": share of all pixels with equal labels, "worst": that of the worst image, "images": of each}.

    BackendError for labels of another shape or a runtime's error, naming the image.
    """
    rows: list[dict[str, Any]] = []
    for name, picture in track(pictures.items(), "comparing with PyTorch", len(pictures), unit="images"):
        expected = predictor.predict(picture).labels
        size = f"{picture.shape[0]}x{picture.shape[1]}"
        try:
            found = label(picture)
        except Exception as error:  # a runtime's errors have no common class
            raise BackendError(f"{name} ({size}): the exported file cannot label it ({str(error)[:300]})") from error
        if found.shape != expected.shape:
            raise BackendError(f"{name} ({size}): the exported file's labels are {found.shape}, not the image's size")
        rows.append({"name": name, "size": size, "pixels": found.size, "agreement": float((found == expected).mean())})
    total = sum(row["pixels"] for row in rows)
    share = sum(row["agreement"] * row["pixels"] for row in rows) / total
    return {"agreement": share, "worst": min(row["agreement"] for row in rows), "images": rows}


def demand(found: dict[str, Any], least: float, runtime: str) -> None:
    """BackendError where fewer labels are equal than must be."""
    if found["agreement"] >= least:
        return
    worst = min(found["images"], key=lambda row: row["agreement"])
    raise BackendError(
        f"the file's labels in {runtime} agree with PyTorch's on {100 * found['agreement']:.3f} % of the pixels, "
        f"{100 * least:g} % are needed; worst: {worst['name']} ({worst['size']}), {100 * worst['agreement']:.3f} %. "
        "Nothing was written"
    )


def score(label: Label, classes: tuple[str, ...], domain: Domain, what: str) -> float:
    """mIoU of a labeller on a domain, as ``clouds evaluate`` has it."""
    table, count = class_table(classes, domain.name, domain.label_set), len(domain.label_set.classes)
    counts: NDArray[np.int64] = np.zeros((count, count + 1), np.int64)
    for i in track(range(domain.length), f"scoring {what}", domain.length, unit="images"):
        _, image, truth = domain.sample(i)
        counts += confusion(truth, table[label(image)], count)
    return float(mean_iou(counts))
