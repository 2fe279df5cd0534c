"""Score a model on domains it never saw: confusion matrices, IoU per class, and how sure we are of the mean.

Protocol: the image is brought to a shorter side, predicted whole (or as the recipe's ``evaluate.window``, ``scales``
and ``flip`` say), its semantic map brought back to the label's own size, and scored there. A model's 19 classes are
folded into the label set of the domain after the argmax.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clouds.classes import IGNORE, NAMES
from clouds.config import load_recipe
from clouds.data import streets
from clouds.data.datasets import FOLDERS, PHOTOS, Segmentation, open_dataset
from clouds.data.labels import LabelSet, find_label_set, folding
from clouds.errors import DataError, UsageError
from clouds.files import write_json
from clouds.foundation import backend_name
from clouds.foundation.sources import default_weights
from clouds.model.inference import Inference, protocol_text
from clouds.predict import Predictor, load
from clouds.progress import track
from clouds.runs import commit, usable_device
from clouds.settings import Recipe

RENDERED = ("town", "fog", "night", "rain", "snow")
TARGET_SEED = 2_000_003  # rendered targets come from seeds that neither training nor the choice of settings used

Sample = tuple[str, NDArray[np.uint8], NDArray[np.uint8]]


@dataclass
class Domain:
    """A set of labelled images to score on: ``sample(i)`` -> (id, image (H, W, 3), label (H, W)) in ``label_set``.

    Without ``data``, scenes are rendered from ``seed`` on.
    """

    name: str
    label_set: LabelSet
    length: int
    data: Segmentation | None = None
    indices: tuple[int, ...] = ()
    seed: int = TARGET_SEED

    def sample(self, i: int) -> Sample:
        if self.data is None:
            image, label = streets.render(streets.sample(self.name, self.seed + i))
            return f"{self.name}-{i:03d}", image, label
        k = self.indices[i]
        image, label = self.data.image(k), self.data.label(k)
        if image.shape[:2] != label.shape:
            raise DataError(f"{self.data.names[k]}: image is {image.shape[:2]} but its label {label.shape}; not a pair")
        return self.data.names[k], image, label


def rendered_domain(name: str, count: int) -> Domain:
    """One of the unseen rendered worlds."""
    return Domain(name, find_label_set("cityscapes19"), count)


def photo_domain(name: str, root: Path, max_images: int | None = None) -> Domain:
    """A dataset below ``root``; at most ``max_images`` of it, evenly spaced. Raises DataError where it is not whole."""
    data = open_dataset(name, root / FOLDERS[name], PHOTOS.get(name))
    count = min(len(data), max_images or len(data))
    indices = tuple(int(i) for i in np.linspace(0, len(data) - 1, count).round())
    return Domain(name, data.label_set, count, data, indices)


def find_domains(names: list[str], recipe: Recipe) -> list[Domain]:
    """Domains by name; ``UsageError`` for an unknown one and for one whose folder is not under ``data.root``,
    ``DataError`` for one whose folder is not whole."""
    root, settings = recipe.data.root, recipe.evaluate
    domains = []
    for name in names:
        if name in RENDERED:
            domains.append(rendered_domain(name, settings.rendered_count))
        elif name in FOLDERS:
            if root is None:
                raise UsageError(f"{name}: needs data.root=PATH, the folder that holds {FOLDERS[name]}/")
            if not (root / FOLDERS[name]).exists():
                raise UsageError(f"{name}: data.root={root} holds no {FOLDERS[name]}/; it has one folder per dataset")
            domains.append(photo_domain(name, root, settings.max_images))
        else:
            raise UsageError(f"unknown domain {name!r}; rendered: {', '.join(RENDERED)}; photos: {', '.join(FOLDERS)}")
    return domains


def unseen_domains(recipe: Recipe) -> list[Domain]:
    """Every rendered target, then the benchmark's photo targets that ``data.root`` has."""
    root = recipe.data.root
    if root is not None and not root.is_dir():
        raise UsageError(f"data.root: {root} is no folder; expected one with a folder per dataset")
    photos = [name for name in PHOTOS if root is not None and (root / FOLDERS[name]).exists()]
    if root is not None and not photos:
        raise UsageError(
            f"data.root: {root} holds none of {', '.join(sorted({FOLDERS[n] for n in PHOTOS}))}; "
            "point it at the folder that has one folder per dataset"
        )
    return find_domains([*RENDERED, *photos], recipe)


def confusion(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Counts (K, K), rows truth, columns prediction, over pixels whose truth is not ignored.

    A pixel predicted outside the label set counts in an extra last column (K, K + 1): a miss for its true class.
    """
    known = truth != IGNORE
    predicted = np.minimum(prediction[known], classes).astype(np.int64)
    index = truth[known].astype(np.int64) * (classes + 1) + predicted
    return np.bincount(index, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(..., K, K + 1) counts -> IoU (..., K) in 0..1; NaN for a class that the truth never shows."""
    counts = counts.astype(np.float64)
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    truth = counts.sum(-1)
    union = truth + counts[..., :-1].sum(-2) - hit
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(truth > 0, hit / union, np.nan)


def mean_iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(..., K, K + 1) -> mean IoU (...) over the classes present."""
    values = iou(counts)
    present = ~np.isnan(values)
    mean: NDArray[np.float64] = np.where(present, values, 0).sum(-1) / present.sum(-1).clip(min=1)
    return mean


def bootstrap_interval(per_image: NDArray[np.int64], seed: int = 0, draws: int = 1000) -> list[float]:
    """95 % interval of mean IoU when the N images (N, K, K + 1) are drawn again with replacement."""
    n = len(per_image)
    picks = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    sums = (picks @ per_image.reshape(n, -1)).reshape(draws, *per_image.shape[1:])
    low, high = np.percentile(mean_iou(sums), (2.5, 97.5))
    return [float(low), float(high)]


@dataclass
class Score:
    """Of one domain: its row of RESULTS, and the summed confusion matrix (K, K + 1)."""

    row: dict[str, Any]
    counts: NDArray[np.int64]


def score(predictor: Predictor, domain: Domain) -> Iterator[tuple[Sample, NDArray[np.uint8], NDArray[np.int64]]]:
    """Predict the domain image by image -> (sample, prediction in the domain's label set, its confusion counts)."""
    if predictor.classes != NAMES:
        raise UsageError(f"{domain.name}: this model's classes are not the 19 Cityscapes classes, it cannot be scored")
    table = folding(domain.label_set)
    for i in range(domain.length):
        sample = domain.sample(i)
        prediction = table[predictor.predict(sample[1]).labels]
        yield sample, prediction, confusion(sample[2], prediction, len(domain.label_set.classes))


def summarise(domain: Domain, per_image: NDArray[np.int64]) -> Score:
    """Counts per image (N, K, K + 1) -> the domain's score."""
    counts = per_image.sum(0)
    values = iou(counts)
    row = {
        "name": domain.name,
        "images": domain.length,
        "label_set": domain.label_set.name,
        "miou": float(mean_iou(counts)),
        "ci95": bootstrap_interval(per_image),
        "iou": {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(domain.label_set.classes, values, strict=True)
        },
    }
    return Score(row, counts)


Keep = Callable[[Domain, int, Sample, NDArray[np.uint8]], None]


def evaluate(predictor: Predictor, domains: list[Domain], what: str, keep: Keep | None = None) -> list[Score]:
    """Score every domain; ``keep(domain, i, sample, prediction)`` sees each prediction (for examples)."""
    total = sum(domain.length for domain in domains)

    def run() -> Iterator[Score | None]:
        for domain in domains:
            per_image = []
            for i, (sample, prediction, counts) in enumerate(score(predictor, domain)):
                per_image.append(counts)
                if keep:
                    keep(domain, i, sample, prediction)
                yield None if i + 1 < domain.length else summarise(domain, np.stack(per_image))

    return [s for s in track(run(), f"scoring: {what}", total, unit="images") if s]


def results(
    scores: list[Score], *, model: str, commit: str | None, seed: int, inference: Inference, backends: dict[str, str]
) -> dict[str, Any]:
    """The RESULTS object of ``results.json``."""
    rows = [s.row for s in scores]
    return {
        "model": model,
        "commit": commit,
        "seed": seed,
        "protocol": {**inference.as_record(), "scored_at": "the label's own size"},
        "backends": backends,
        "domains": rows,
        "mean_miou": float(np.mean([row["miou"] for row in rows])),
    }


def evaluate_model(path: Path, words: list[str], out: Path | None) -> dict[str, Any]:
    """Score a model folder or run on the domains named in ``words`` (mixed with key=value settings)."""
    overrides = [word for word in words if "=" in word]
    names = [word for word in words if "=" not in word]
    if not names:
        raise UsageError("name at least one domain, such as town or camvid-day")
    recipe = load_recipe("demo", overrides)
    domains = find_domains(names, recipe)
    predictor = load(path, usable_device(recipe.train.device))
    asked = Inference.of(recipe.evaluate)
    sized = any(word.startswith("evaluate.shorter_side=") for word in overrides)
    predictor.inference = asked if sized else replace(asked, shorter_side=predictor.inference.shorter_side)
    scores = evaluate(predictor, domains, path.name)
    settings = predictor.model.settings
    source = (settings["weights"] or {}).get("source")
    vision, text = settings["vision"], settings["text"]
    played = {
        "vision": backend_name(vision, source),
        "text": backend_name(text, source if text == vision else default_weights(text)),
    }
    row = results(
        scores,
        model=str(path),
        commit=commit(),
        seed=recipe.seed,
        inference=predictor.inference,
        backends=played,
    )
    if out:
        write_json(out / "results.json", row)
    return row


def results_table(result: dict[str, Any]) -> str:
    """Domain, images, mIoU and interval, for a terminal."""
    lines = [f"{'domain':<14}{'images':>7}{'mIoU %':>8}   {'95 % interval':<16} label set"]
    for row in result["domains"]:
        low, high = (100 * value for value in row["ci95"])
        start = f"{row['name']:<14}{row['images']:>7}{100 * row['miou']:>8.1f}"
        lines.append(f"{start}   {f'{low:.1f} .. {high:.1f}':<16} {row['label_set']}")
    lines.append(f"mean {100 * result['mean_miou']:.1f}; {protocol_text(result['protocol'])}")
    return "\n".join(lines)
