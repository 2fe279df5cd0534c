"""The two kinds of arrays that go through everything."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # an image: (H, W, 3) RGB, or (N, H, W, 3)
Labels = NDArray[np.uint8]  # a label map: (H, W) class indices, 255 where there is none
