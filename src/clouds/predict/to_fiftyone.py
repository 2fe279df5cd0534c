"""Predictions into a FiftyOne dataset: masks, scores and class names beside what its samples have already."""

from pathlib import Path
from typing import Any

import numpy as np

from clouds.base.progress import track
from clouds.config.label_sets import IGNORE
from clouds.data.images import write_png
from clouds.errors import BackendError, DataError
from clouds.predict.predictor import Predictor


def add_to_fiftyone(
    samples: Any, model: Predictor, folder: str | Path, field: str = "predictions"
) -> list[dict[str, str]]:
    """Segment the images of a FiftyOne dataset or view, and add to each sample what the model sees.

    ``field`` of a sample is a ``Segmentation``, a PNG in ``folder`` that holds class k as k + 1, as FiftyOne does not
    show 0. ``{field}_scores`` is a ``Heatmap`` of the winner's share, a PNG of 0..255, and ``{field}_confidence`` its
    mean, 0..1. The dataset's ``mask_targets`` get the names of the classes. What was there under these names is
    replaced. Returns the images that could not be read, as {"path", "what"}: they get no prediction.

    BackendError where ``fiftyone`` is not installed.
    """
    try:
        import fiftyone
    except ImportError as error:
        raise BackendError("predictions for FiftyOne need a package that is not here: pip install fiftyone") from error
    folder, failed = Path(folder).absolute(), []
    for sample in track(samples.iter_samples(autosave=True), "segmenting", len(samples), unit="images"):
        try:
            result = model.predict(sample.filepath)
        except DataError as error:
            failed.append({"path": str(sample.filepath), "what": str(error)})
            continue
        name = f"{Path(sample.filepath).stem[:80]}-{sample.id}.png"
        mask, scores = folder / "masks" / name, folder / "scores" / name
        write_png(mask, np.where(result.labels == IGNORE, 0, result.labels + np.uint8(1)))
        result.save(scores, "scores")
        sample[field] = fiftyone.Segmentation(mask_path=str(mask))
        sample[f"{field}_scores"] = fiftyone.Heatmap(map_path=str(scores), range=[0, 255])
        sample[f"{field}_confidence"] = float(result.scores.mean())
    names = {k + 1: name for k, name in enumerate(model.classes)}
    samples.mask_targets = {**samples.mask_targets, field: names}
    return failed
