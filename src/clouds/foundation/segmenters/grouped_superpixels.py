"""The embedded promptable segmenter: a small network groups superpixels around the points. CPU only, no download.

``superpixels`` unites what lies under the points and knows nothing of the rest. Here every superpixel of the finest
level is asked whether it belongs to the object that the points lie on. 19 numbers about it and the points (does a
coarser level join them, how far is it, how like in colour and texture, how large is what the points touch) go through a
network of 337 weights, which was fitted to the true components of rendered scenes and has seen no photograph
(``benchmarks/segmenter.py --fit`` makes the file beside this one). Features of the embedded backbone were tried as
further inputs and added nothing: docs/design/pseudo-labels.md has the numbers.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from torch import Tensor

from clouds.base.files import sha256
from clouds.config.backends import Backend
from clouds.foundation.segmenters.superpixels import Superpixels

BACKEND = Backend(
    "segmenter",
    "grouped-superpixels",
    "grouped superpixels",
    stand_in="superpixels that a small network groups around the points; embedded, not SAM",
    better="SAM: selftrain.segmenter=sam/facebook/sam-vit-huge, or a small one as edgetam/ORGANISATION/NAME",
    takes=("points",),
    build="GroupedSuperpixels",
)
WEIGHTS = Path(__file__).with_name("grouped_superpixels.json")
# probabilities to belong to the object, above which a superpixel is of the small, middle and large candidate
THRESHOLDS = np.array([0.6, 0.35, 0.15], np.float32)
MOST = 2**21  # (point, superpixel) pairs looked at in one go: 8 MB a map
NEAR = 0.01  # of the shorter side, added to how far the points spread: one point alone has no spread

F32 = npt.NDArray[np.float32]
Embedding = dict[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """One hidden layer. pair (12, H), prompt (6, H), leaf (1, H): of the three kinds of inputs; bias (H,); out (H,)."""

    pair: F32
    prompt: F32
    leaf: F32
    bias: F32
    out: F32
    shift: float


@cache
def read_weights() -> Weights:
    stored = json.loads(WEIGHTS.read_text("utf-8"))
    shift = float(stored.pop("shift"))
    return Weights(**{name: np.array(value, np.float32) for name, value in stored.items()}, shift=shift)


class GroupedSuperpixels:
    """Superpixels that a small network groups around the points."""

    name = "grouped-superpixels"

    def __init__(self, device: str = "cpu") -> None:
        self.superpixels = Superpixels(device)
        self.weights = read_weights()
        self.identity = f"{self.name} {sha256(WEIGHTS)} {Superpixels.identity}"

    def encode(self, image: npt.NDArray[np.uint8]) -> Embedding:
        """Of ``image`` (H, W, 3) uint8 RGB: "levels" (4, H, W) uint16, nested superpixels, the finest first; "parents"
        (4, N) uint16, the region of each level that a finest one is part of; "leaves" (N, 6), their mean lightness and
        colours (Lab), the spread of their lightness, and their middles' x and y in pixels."""
        levels = self.superpixels.encode(image)
        width, ids = image.shape[1], levels[0].ravel().astype(np.intp)
        pixels = np.bincount(ids).astype(np.float32)
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
        y, x = np.divmod(np.arange(ids.size), width)
        sums = [np.bincount(ids, values) for values in (*lab.T, lab[:, 0] ** 2, x, y)]
        leaves = np.stack(sums, axis=-1) / pixels[:, None]
        leaves[:, 3] = np.sqrt(np.maximum(leaves[:, 3] - leaves[:, 0] ** 2, 0))
        somewhere = np.empty(len(pixels), np.intp)
        somewhere[ids] = np.arange(ids.size)  # one pixel of each
        parents = levels.reshape(len(levels), -1)[:, somewhere]
        return {
            "levels": torch.from_numpy(levels),
            "parents": torch.from_numpy(parents),
            "leaves": torch.from_numpy(leaves.astype(np.float32)),
        }

    def levels(self, embedding: Embedding) -> npt.NDArray[np.uint16]:
        """Everything there is on the image: nested partitions (L, H, W), the finest first."""
        return embedding["levels"].numpy()

    def masks(self, embedding: Embedding, points: F32) -> tuple[npt.NDArray[np.bool_], F32]:
        """Candidates for points (P, K, 2) x, y: masks (P, 3, H, W) bool, small to large, and quality (P, 3) in [0, 1].

        Quality is the IoU that the network's probabilities let expect. A prompt's answer does not depend on the prompts
        beside it, up to rounding. Memory: P * 3 * H * W bytes, and about 200 MB.
        """
        ids = embedding["levels"][0].numpy()
        pixels = np.bincount(ids.ravel()).astype(np.float32)
        masks = np.empty((len(points), len(THRESHOLDS), *ids.shape), np.bool_)
        quality = np.empty((len(points), len(THRESHOLDS)), np.float32)
        step = max(1, MOST // (len(pixels) * points.shape[1]))
        for start in range(0, len(points), step):
            part = slice(start, start + step)
            sure, touched = self.belongs(embedding, points[part])
            chosen = sure[:, None] >= THRESHOLDS[:, None]  # (p, 3, N)
            np.put_along_axis(chosen, touched[:, None].repeat(len(THRESHOLDS), axis=1), values=True, axis=2)
            inside, mass = chosen @ pixels, (chosen * sure[:, None]) @ pixels
            quality[part] = mass / (inside + (sure @ pixels)[:, None] - mass)
            np.take(chosen, ids, axis=2, out=masks[part])
        return masks, quality

    def belongs(self, embedding: Embedding, points: F32) -> tuple[F32, npt.NDArray[np.intp]]:
        """The probability (P, N) that a superpixel is of the object that points (P, K, 2) lie on, and the superpixels
        (P, K) under the points."""
        pair, prompt, leaf, touched = inputs(embedding, points)
        w = self.weights
        hidden = pair.reshape(-1, pair.shape[-1]) @ w.pair
        hidden = hidden.reshape(*pair.shape[:2], -1)
        hidden += (prompt @ w.prompt + w.bias)[:, None]
        hidden += leaf @ w.leaf
        return expit(np.maximum(hidden, 0, out=hidden) @ w.out + w.shift), touched


def inputs(embedding: Embedding, points: F32) -> tuple[F32, F32, F32, npt.NDArray[np.intp]]:
    """What the network is asked: of pairs (P, N, 12), of prompts (P, 6), of superpixels (N, 1), each float32, and which
    superpixels (P, K) the points (P, K, 2) lie on."""
    ids, parents = embedding["levels"][0].numpy(), embedding["parents"].numpy().astype(np.intp)
    leaves = embedding["leaves"].float().numpy()
    height, width = ids.shape
    pixels = np.bincount(ids.ravel()).astype(np.float32)
    share = pixels / pixels.sum()
    x = np.clip(np.rint(points[..., 0]), 0, width - 1).astype(np.intp)
    y = np.clip(np.rint(points[..., 1]), 0, height - 1).astype(np.intp)
    touched = ids[y, x].astype(np.intp)  # (P, K)
    rows = np.arange(len(points))[:, None]

    pair, prompt = [], []
    for parent in parents:
        hit = np.zeros((len(points), int(parent.max()) + 1), np.float32)
        hit[rows, parent[touched]] = 1
        pair.append(hit[:, parent])
        prompt.append(np.log(hit @ np.bincount(parent, share).astype(np.float32)))

    side = min(height, width)
    at = np.stack([x, y], axis=-1).astype(np.float32) / side  # (P, K, 2)
    middle = leaves[:, 4:] / side  # (N, 2)
    spread = np.sqrt(np.square(at - at.mean(axis=1, keepdims=True)).sum(axis=-1).mean(axis=1)) + NEAR  # (P,)
    near = np.sqrt(_apart(at, middle).min(axis=1))
    past = np.maximum(at.min(axis=1)[:, None] - middle, middle - at.max(axis=1)[:, None])  # (P, N, 2) the points' box
    past = np.maximum(past, 0) / spread[:, None, None]
    pair += [near, near / spread[:, None], past[..., 0], past[..., 1]]

    color = leaves[:, :3] - leaves[:, :3].mean(axis=0)
    color /= np.sqrt(3) * color.std(axis=0).mean() + 1e-6
    unlike = _apart(color[touched], color)  # (P, K, N) squared
    usual = np.sqrt(unlike.mean(axis=1))
    within = np.sqrt(np.take_along_axis(unlike, touched[:, None].repeat(points.shape[1], axis=1), axis=2).mean((1, 2)))
    texture = leaves[:, 3] / (leaves[:, 3].mean() + 1e-6)
    rough = np.abs(texture[touched].mean(axis=1)[:, None] - texture)
    pair += [np.sqrt(unlike.min(axis=1)), usual, usual - within[:, None], rough]
    prompt += [np.log(spread), within]
    stacked = np.stack(pair, axis=-1).astype(np.float32)
    return stacked, np.stack(prompt, axis=-1).astype(np.float32), np.log(share)[:, None], touched


def _apart(a: F32, b: F32) -> F32:
    """Squared distances (P, K, N) of a (P, K, D) from b (N, D)."""
    squares: F32 = np.square(a).sum(axis=-1)[..., None] + np.square(b).sum(axis=-1) - 2 * (a @ b.T)
    return np.maximum(squares, 0, out=squares)
