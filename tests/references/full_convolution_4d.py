"""A 3x3x3x3 convolution as nested loops over places and taps."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def convolve_4d(volumes: Array, kernel: Array) -> Array:
    """Convolve `[in_channel, time, d, h, w]` with `[out, in, 3, 3, 3, 3]`, zero edges.

    Kernel axes after the channels: time, depth, height, width.
    """
    num_times, depth, height, width = volumes.shape[1:]
    result = np.zeros((kernel.shape[0], num_times, depth, height, width))
    places = product(range(num_times), range(depth), range(height), range(width))
    for t, d, h, w in places:
        for dt, dd, dh, dw in product((-1, 0, 1), repeat=4):
            if not 0 <= t + dt < num_times or not 0 <= d + dd < depth:
                continue
            if not 0 <= h + dh < height or not 0 <= w + dw < width:
                continue
            weight = kernel[:, :, dt + 1, dd + 1, dh + 1, dw + 1]
            result[:, t, d, h, w] += weight @ volumes[:, t + dt, d + dd, h + dh, w + dw]
    return result
