"""The own car: a bonnet that a recording shows at the bottom of every image, and that its labels call a vehicle.

Cityscapes leaves it out of its labels; simulators and other recordings often do not, and a model that learns from those
sees a car at the bottom of every road.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.classes import IGNORE, NAMES

LOOKED_AT = 60  # label maps of a set, evenly spaced
ALWAYS = 0.9  # the share of them that shows a vehicle at the pixel
VEHICLES = [NAMES.index(name) for name in ("car", "truck", "bus", "train", "motorcycle")]


def find_own_car(labels: list[NDArray[np.uint8]]) -> NDArray[np.bool_] | None:
    """Train ids (H, W) of images of one recording -> where its own car is, bool (H, W); None where none is seen.

    It is what is a vehicle in nearly all of them and touches the bottom edge, with a rim of 1 % of the height. A few
    images, or such of different sizes, tell nothing.
    """
    if len(labels) < 5 or len({label.shape for label in labels}) > 1:
        return None
    share = np.mean([np.isin(label, VEHICLES) for label in labels], axis=0)
    _, pieces = cv2.connectedComponents((share >= ALWAYS).astype(np.uint8))
    own = np.isin(pieces, np.setdiff1d(pieces[-1], 0))
    if not own.any():
        return None
    rim = 2 * max(round(0.01 * len(own)), 1) + 1
    grown: NDArray[np.bool_] = cv2.dilate(own.astype(np.uint8), np.ones((rim, rim), np.uint8)).astype(np.bool_)
    return grown


def without(label: NDArray[np.uint8], own: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """The label (H, W) with 255 where the own car is; as it is where that has another size."""
    if own is None or own.shape != label.shape:
        return label
    return np.where(own, np.uint8(IGNORE), label)
