"""What scoring costs: our counts beside common ways to the same numbers, memory speed, and a prediction.

    python benchmarks/scoring.py [MODEL]

Maps of 1024 x 2048 pixels of a rendered street, 19 classes, a tenth void. All in one process on one thread, turn by
turn, so that other work on the machine slows all alike; the best turn of each counts. Every other way is first held to
our result. Without MODEL, the demo's network with untrained heads predicts: its time does not depend on its weights.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from clouds import streets
from clouds.config.label_sets import IGNORE
from clouds.config.load import load_recipe
from clouds.evaluate.metrics import BOUNDARY, boundary_parts, calibration, confusion
from clouds.model.build import build_model
from clouds.predict.predictor import Predictor, load

SIZE = (1024, 2048)
CLASSES = 19
TURNS = 15

Labels = NDArray[np.uint8]


def maps() -> tuple[NDArray[np.uint8], Labels, Labels, NDArray[np.float32]]:
    """Photo, truth, a prediction with bent outlines and specks, and confidence."""
    rng = np.random.default_rng(0)
    image, truth = streets.render(streets.sample("town", 1), SIZE)
    bend = [cv2.GaussianBlur(noise, (0, 0), 9) * 60 for noise in rng.normal(0, 1, (2, *SIZE)).astype(np.float32)]
    y, x = np.indices(SIZE) + np.stack(bend).astype(int)
    prediction = truth[y.clip(0, SIZE[0] - 1), x.clip(0, SIZE[1] - 1)]
    specks = rng.random(SIZE) < 0.02
    prediction[specks | (prediction == IGNORE)] = rng.integers(0, CLASSES)
    truth[: SIZE[0] // 10] = IGNORE
    confidence = cv2.GaussianBlur(rng.random(SIZE, np.float32), (0, 0), 2)
    return image, truth, prediction, (confidence - confidence.min()) / np.ptp(confidence)


def by_bincount(truth: Labels, prediction: Labels) -> NDArray[Any]:
    """As most evaluation scripts do it, with int64 indices."""
    known = truth != IGNORE
    pairs = CLASSES * truth[known].astype(np.int64) + prediction[known]
    return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def by_torch(truth: Labels, prediction: Labels) -> NDArray[Any]:
    """As metric libraries for torch do it."""
    t, p = torch.from_numpy(truth).long(), torch.from_numpy(prediction).long()
    known = t != IGNORE
    return torch.bincount(CLASSES * t[known] + p[known], minlength=CLASSES**2).reshape(CLASSES, CLASSES).numpy()


def by_add_at(truth: Labels, prediction: Labels) -> NDArray[Any]:
    known = truth != IGNORE
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(counts, (truth[known], prediction[known]), 1)
    return counts


def by_unique(truth: Labels, prediction: Labels) -> NDArray[Any]:
    """As cityscapesscripts does it where its compiled helper is missing."""
    values, found = np.unique(truth.astype(np.int32) * 256 + prediction, return_counts=True)
    counts = np.zeros((256, 256), np.int64)
    counts[values // 256, values % 256] = found
    return counts[:CLASSES, :CLASSES]


def rims_by_class(truth: Labels, prediction: Labels) -> NDArray[Any]:
    """Boundary IoU as its authors publish it: class by class a mask minus its erosion."""
    seen = np.where(truth == IGNORE, truth, prediction)
    reach = round(BOUNDARY * float(np.hypot(*truth.shape)))

    def rim(mask: Labels) -> Labels:
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        return mask - cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=reach)[1:-1, 1:-1]

    found = []
    for k in range(CLASSES):
        one, two = rim((truth == k).astype(np.uint8)), rim((seen == k).astype(np.uint8))
        found.append([(one & two).sum(dtype=np.int64), one.sum(dtype=np.int64), two.sum(dtype=np.int64)])
    return np.array(found).T


def bins_by_class_masks(truth: Labels, prediction: Labels, confidence: NDArray[np.float32]) -> NDArray[Any]:
    """Calibration as most scripts have it: a mask for each bin."""
    known = truth != IGNORE
    sure, right = confidence[known], truth[known] == prediction[known]
    places = np.minimum((sure * 15).astype(int), 14)
    return np.array([[(p := places == k).sum(), sure[p].sum(dtype=float), right[p].sum()] for k in range(15)]).T


def best(ways: dict[str, Callable[[], Any]], turns: int = TURNS) -> dict[str, float]:
    """Milliseconds of each; those that take long have fewer turns."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        for name, way in ways.items():
            if turn < 3 or min(spent[name]) < 300:
                began = time.perf_counter()
                way()
                spent[name].append(1000 * (time.perf_counter() - began))
    return {name: min(each) for name, each in spent.items()}


def main() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    image, truth, prediction, confidence = maps()
    counts = confusion(truth, prediction, CLASSES)[:, :CLASSES]
    for way in (by_bincount, by_torch, by_add_at, by_unique):
        assert np.array_equal(way(truth, prediction), counts), way
    assert np.array_equal(rims_by_class(truth, prediction), boundary_parts(truth, prediction, CLASSES))
    ours, theirs = calibration(truth, prediction, confidence), bins_by_class_masks(truth, prediction, confidence)
    assert np.abs(ours - theirs).max() < 1e-4 * truth.size

    predictor = load(Path(sys.argv[1])) if sys.argv[1:] else Predictor(build_model(load_recipe("demo", [])))
    whole = np.stack([truth, prediction])
    room = np.empty_like(whole)
    spent = best({
        "both maps copied": lambda: np.copyto(room, whole),
        "**confusion**": lambda: confusion(truth, prediction, CLASSES),
        "numpy, bincount of int64": lambda: by_bincount(truth, prediction),
        "torch, bincount of int64": lambda: by_torch(truth, prediction),
        "numpy, unique of int32": lambda: by_unique(truth, prediction),
        "numpy, add.at": lambda: by_add_at(truth, prediction),
        "**calibration**": lambda: calibration(truth, prediction, confidence),
        "numpy, a mask a bin": lambda: bins_by_class_masks(truth, prediction, confidence),
        "**boundary parts**": lambda: boundary_parts(truth, prediction, CLASSES),
        "OpenCV, erosions class by class": lambda: rims_by_class(truth, prediction),
        "a prediction": lambda: predictor.predict(image),
    })  # fmt: skip
    copied, predicted = spent["both maps copied"], spent["a prediction"]
    print(f"shorter side {predictor.inference.shorter_side}, OpenCV {cv2.__version__}, numpy {np.__version__}, "
          f"torch {torch.__version__}\n")  # fmt: skip
    print(f"| {SIZE[0]} x {SIZE[1]} | ms | ns a pixel | of copying | of a prediction |\n|---|---|---|---|---|")
    for name, ms in spent.items():
        print(f"| {name} | {ms:.2f} | {1e6 * ms / truth.size:.2f} | {ms / copied:.1f} | {ms / predicted:.3f} |")


if __name__ == "__main__":
    main()
