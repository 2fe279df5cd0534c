"""The car under the camera, as the labels of a recording show it."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.base.arrays import Labels
from clouds.config.label_sets import IGNORE, MOTOR_VEHICLES, LabelSet

LOOKED_AT = 60  # label maps of a set, evenly spaced
ALWAYS = 0.9  # the share of them that shows a vehicle at the pixel


def motor_vehicles(label_set: LabelSet) -> list[int]:
    """The classes of a set that hold a motor vehicle."""
    return [k for k, row in enumerate(label_set.members) if {*MOTOR_VEHICLES} & {*row}]


def find_own_car(labels: list[Labels], vehicles: NDArray[np.integer[Any]]) -> NDArray[np.bool_] | None:
    """Label maps (H, W) of one recording -> where its own car is, bool (H, W); None where none is seen.

    vehicles: the indices of motor vehicles. It is what is a vehicle in nearly all of them and touches the bottom edge,
    with a rim of 1 % of the height. A few images, or such of different sizes, tell nothing.
    """
    if len(labels) < 5 or len({label.shape for label in labels}) > 1:
        return None
    share = np.mean([np.isin(label, vehicles) for label in labels], axis=0)
    _, pieces = cv2.connectedComponents((share >= ALWAYS).astype(np.uint8))
    own = np.isin(pieces, np.setdiff1d(pieces[-1], 0))
    if not own.any():
        return None
    rim = 2 * max(round(0.01 * len(own)), 1) + 1
    grown: NDArray[np.bool_] = cv2.dilate(own.astype(np.uint8), np.ones((rim, rim), np.uint8)).astype(np.bool_)
    return grown


def without(label: Labels, own: NDArray[np.bool_] | None) -> Labels:
    """The label (H, W) with 255 where the own car is; as it is where that has another size."""
    if own is None or own.shape != label.shape:
        return label
    return np.where(own, np.uint8(IGNORE), label)
