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
from clouds.predict.exported import ExportedPredictor
from clouds.predict.predictor import Predictor
from clouds.predict.runtimes import planes

Label = Callable[[Pixels], Labels]  # image (H, W, 3) RGB -> labels (H, W)


def open_file(format_: str, file: Path, batch: int | None = 1) -> tuple[Label, str]:
    """What labels an image, and the runtime's name and version; on this process's number of PyTorch threads.

    batch: as the file was exported. An image is the last of its batch, after mirrored ones.
    """
    if format_ == "torch-export":
        return _torch(file, batch or 1)
    predictor = ExportedPredictor(file, threads=torch.get_num_threads())
    count = batch or 2
    return lambda image: predictor.predict_batch(_filled(image, count), count)[-1].labels, predictor.opened.runtime


def _filled(image: Pixels, batch: int) -> list[Pixels]:
    return [*[np.ascontiguousarray(image[:, ::-1])] * (batch - 1), image]


def _torch(file: Path, batch: int) -> tuple[Label, str]:
    program = torch.export.load(file).module()

    @torch.inference_mode()
    def label(image: Pixels) -> Labels:
        out: Labels = program(torch.from_numpy(planes(_filled(image, batch))))[-1].numpy()
        return out

    return label, f"torch {torch.__version__}"


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
