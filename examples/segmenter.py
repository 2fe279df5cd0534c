"""Felzenszwalb's graph segmentation as the promptable segmenter: ``clouds train demo
selftrain.segmenter=segmenter:Felzenszwalb selftrain.strategy=central``.

Three scales are the three candidates; a mask is the union of the regions under its points.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

SCALES = (50, 150, 450)


class Felzenszwalb:
    name = "Felzenszwalb"

    def __init__(self, device: str) -> None:
        pass  # runs on the CPU whatever the device

    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Region ids (3, H, W) of an image (H, W, 3): an array, so that ``selftrain.cache`` can keep it."""
        padded = np.pad(image, ((0, 1), (0, 1), (0, 0)), "edge")  # scikit-image takes no image one pixel wide
        regions = [felzenszwalb(padded, scale=scale, min_size=20)[:-1, :-1] for scale in SCALES]
        return np.stack(regions).astype(np.int32)

    def masks(
        self, embedding: NDArray[np.int32], points: NDArray[np.float32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Points (P, K, 2), x then y -> masks (P, 3, H, W) and quality (P, 3), the share of points in one region."""
        height, width = embedding.shape[1:]
        x, y = np.moveaxis(np.rint(points).astype(int), -1, 0)
        x, y = x.clip(0, width - 1), y.clip(0, height - 1)
        masks = np.zeros((len(points), len(SCALES), height, width), np.bool_)
        quality = np.zeros(masks.shape[:2], np.float32)
        for prompt, scale in np.ndindex(quality.shape):
            found, counts = np.unique(embedding[scale, y[prompt], x[prompt]], return_counts=True)
            masks[prompt, scale] = np.isin(embedding[scale], found)
            quality[prompt, scale] = counts.max() / counts.sum()
        return masks, quality
