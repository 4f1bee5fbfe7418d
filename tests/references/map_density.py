"""A map's density on a series, point by point: slow, and plain to see through."""

from itertools import product

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def density_at(
    place_mm: Array,
    values: npt.NDArray[np.float32],
    origin_mm: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
) -> float:
    """Interpolate between voxel centres; hold in the outer half voxel; 0 beyond."""
    steps = (place_mm - np.array(origin_mm))[::-1] / np.array(spacing_mm)
    shape = np.array(values.shape)
    if ((steps < -0.5) | (steps > shape - 0.5)).any():
        return 0.0
    held = np.clip(steps, 0, shape - 1)
    total = 0.0
    for corner in product((0, 1), repeat=3):
        index = np.floor(held).astype(int) + corner
        weight = float(np.prod(np.clip(1 - np.abs(held - index), 0, 1)))
        if weight:
            total += weight * float(values[tuple(index)])
    return total / (float(np.prod(spacing_mm)) / 1000)


def mean_density_in_voxel(
    index: tuple[int, int, int],
    affine: Array,
    values: npt.NDArray[np.float32],
    origin_mm: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
    *,
    num_points: int = 8,
) -> float:
    """Return the mean over evenly placed points of one voxel of the series."""
    places = (np.arange(num_points) + 0.5) / num_points - 0.5
    found = [
        density_at(
            (affine @ [*(np.array(index) + offset), 1.0])[:3],
            values,
            origin_mm,
            spacing_mm,
        )
        for offset in product(places, repeat=3)
    ]
    return float(np.mean(found))
