"""A segmenter of the true architecture, a recipe and data sets small enough for a test to train on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.data.datasets import open_dataset
from clouds.data.images import write_png
from clouds.data.source import Source
from clouds.testing.model_contract import CLASSES as CLASSES
from clouds.testing.model_contract import PALETTE
from clouds.testing.model_contract import SYNONYMS as SYNONYMS
from clouds.testing.model_contract import small_segmenter as segmenter  # noqa: F401 - tiny.segmenter

torch.set_num_threads(1)  # on tensors this small a second thread costs ten times what it brings

CROP = (64, 64)


def change_config(folder: Path, **changes: Any) -> None:
    """Settings of a model folder's config.json changed by hand: its digests go."""
    path = folder / "config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}
    path.write_text(json.dumps({**config, **changes}))


def recipe(*overrides: str) -> Recipe:
    """The demo's recipe at 64 x 64, with the settings that tests rely on pinned; later overrides win."""
    return load_recipe(
        "demo",
        [
            "generate.size=[64,64]",
            "augment.crop=[64,64]",
            "loss.points=48",
            "augment.scale=[0.5,2.0]",
            "selftrain.floor=0.01",
            "selftrain.points=5",
            "selftrain.decay=0.99",
            "selftrain.undecided=teacher",
            "selftrain.confidence=0.3",
            "train.batch_size=2",
            "train.learning_rate=5.0e-4",
            "train.schedule=poly",
            "train.clip=0.01",
            "train.ramp_steps=2",
            "train.checkpoint_every=3",
            "train.log_every=2",
            "train.workers=1",
            *overrides,
        ],
    )


def label_map(height: int, width: int, seed: int) -> np.ndarray:
    """Road below, sky above, a car and a tree between them: uint8 (height, width)."""
    rng = np.random.default_rng(seed)
    horizon = int(height * rng.uniform(0.35, 0.6))
    label = np.zeros((height, width), np.uint8)
    label[:horizon] = 1
    for class_ in (2, 3):
        h, w = height // 4, width // 4
        y, x = horizon - h // 2, int(rng.integers(width - w))
        label[y : y + h, x : x + w] = class_
    return label


def picture(label: np.ndarray, seed: int) -> np.ndarray:
    """The label in its colours, with noise: uint8 (H, W, 3)."""
    noise = np.random.default_rng(seed).normal(0, 12, (*label.shape, 3))
    return np.clip(PALETTE[label] + noise, 0, 255).astype(np.uint8)


def source_set(folder: Path, count: int = 4, size: tuple[int, int] = (96, 128), **options: Any) -> Source:
    """``count`` pairs images/K.png, labels/K.png on disk, opened."""
    for k in range(count):
        label = label_map(*size, seed=k)
        write_png(folder / "images" / f"{k}.png", picture(label, k))
        write_png(folder / "labels" / f"{k}.png", label)
    return Source([open_dataset("folder", folder)], **options)


def generated_set(folder: Path, count: int = 3) -> list[Path]:
    """``count`` images K.png of the crop's size on disk."""
    paths = [folder / f"{k}.png" for k in range(count)]
    for k, path in enumerate(paths):
        write_png(path, picture(label_map(*CROP, seed=100 + k), k))
    return paths


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    """Of the loss's random points, one an image."""
    return [torch.Generator().manual_seed(seed + b) for b in range(count)]
