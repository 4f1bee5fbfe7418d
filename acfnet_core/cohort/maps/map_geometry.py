"""A risk map, laid from the contract's grid on the voxels of a CT series.

The map is stated as a density, image logit per millilitre, so that it means the same on
every lattice: its integral over space is the year's logit. Between the centres of the
grid's voxels the density is linear; in the outer half voxel it stays at the value of
the outermost centre, and beyond that it is zero. A linear interpolation that ended at
the outermost centres would lose the border's share of the logit.

A voxel of the series gets the mean of the density over it, taken from evenly placed
points that lie no further apart than a quarter of the grid's spacing: thick slices
would otherwise step over parts of the map. At the grid's border a point counts by the
share of its surroundings that lies in the grid.
"""

from itertools import product
from typing import Any

import numpy as np
import SimpleITK
from jaxtyping import Float, Float32

from acfnet_core.cohort.images.volume import SeriesVolume

_POINTS_PER_GRID_VOXEL = 4
_CROSSED = 0.1
"""The least cosine at which an axis of the series counts as crossing one of the grid:
less steep, it would be sampled for a spacing that it hardly meets."""
_MM3_PER_ML = 1000.0

_Region = tuple[slice, slice, slice]


def lay_on_series(
    values: Float32[np.ndarray, "year depth height width"],
    *,
    origin_mm: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
    series: SeriesVolume,
) -> Float32[np.ndarray, "year slice row column"]:
    """Return a map's density, in logit per millilitre, on a series' voxels.

    Where the series covers the grid, the sum of density times voxel volume is the sum
    of `values`, within one percent of the sum of their absolute values. Where it does
    not, what the map has outside of the series is lost, and the sum is that of the
    part inside.

    Args:
        values: A map on the grid; each year's voxels sum to its image logit. A year
            takes four bytes a voxel of the series: give one at a time where memory is
            short.
        origin_mm: Patient-space centre (x, y, z) of the grid's first voxel.
        spacing_mm: The grid's, along (depth, height, width).
        series: The scan on which the grid was laid.

    Raises:
        ValueError: A spacing is not positive.
    """
    if min(spacing_mm) <= 0:
        raise ValueError(f"spacing_mm must be positive, got {spacing_mm}")
    density = np.zeros((len(values), *series.hu.shape), np.float32)
    box_mm = _box_of(values.shape[1:], origin_mm, spacing_mm)
    region = _region_under(box_mm, series)
    if any(part.start >= part.stop for part in region):
        return density
    grids = [_to_image(one, origin_mm, spacing_mm) for one in values]
    points = _points_in_voxel(spacing_mm, series)
    width_mm = [
        own / len(axis) for own, axis in zip(series.spacing_mm, points, strict=True)
    ]
    offsets = list(product(*points))
    for offset in offsets:
        first = np.array([part.start for part in region]) + offset
        share = _share_inside(box_mm, series, region, first, np.array(width_mm))
        share /= len(offsets)
        for year, grid in enumerate(grids):
            sampled = _sample(grid, series, region, first)
            density[(year, *region)] += sampled * share
    return density


def _to_image(
    values: Float32[np.ndarray, "depth height width"],
    origin_mm: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
) -> Any:
    """Return the density on the grid, with its border repeated once all around."""
    volume_ml = float(np.prod(spacing_mm)) / _MM3_PER_ML
    image = SimpleITK.GetImageFromArray(np.pad(values, 1, mode="edge") / volume_ml)
    image.SetSpacing(spacing_mm[::-1])
    image.SetOrigin((np.array(origin_mm) - spacing_mm[::-1]).tolist())
    return image


def _sample(
    grid: Any, series: SeriesVolume, region: _Region, first: Float[np.ndarray, "3"]
) -> Float32[np.ndarray, "slice row column"]:
    """Interpolate at one point of each voxel; `first` is the index of the first."""
    directions = series.affine[:3, :3] / np.array(series.spacing_mm)
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetInterpolator(SimpleITK.sitkLinear)
    resampler.SetOutputPixelType(SimpleITK.sitkFloat32)
    resampler.SetDefaultPixelValue(0.0)
    # SimpleITK counts (column, row, slice): everything is in that order.
    resampler.SetSize([part.stop - part.start for part in reversed(region)])
    resampler.SetOutputSpacing(series.spacing_mm[::-1])
    resampler.SetOutputDirection(directions[:, ::-1].ravel().tolist())
    resampler.SetOutputOrigin((series.affine @ np.array([*first, 1.0]))[:3].tolist())
    return SimpleITK.GetArrayFromImage(resampler.Execute(grid))


def _share_inside(
    box_mm: Float[np.ndarray, "2 3"],
    series: SeriesVolume,
    region: _Region,
    first: Float[np.ndarray, "3"],
    width_mm: Float[np.ndarray, "3"],
) -> Float32[np.ndarray, "slice row column"]:
    """Return how much of each point's surroundings lies in the grid's field, 0 to 1.

    Exact where the series' axes are the grid's; elsewhere the surroundings count as
    the box around them.
    """
    size = tuple(part.stop - part.start for part in region)
    share = np.ones(size, np.float32)
    directions = series.affine[:3, :3] / np.array(series.spacing_mm)
    start = (series.affine @ np.array([*first, 1.0]))[:3]
    for axis in range(3):
        steps = [
            (np.arange(count) * series.affine[axis, index]).astype(np.float32)
            for index, count in enumerate(size)
        ]
        low, high = (box_mm[:, axis] - start[axis]).astype(np.float32)
        place = steps[0][:, None, None] + steps[1][:, None] + steps[2]
        width = np.float32(np.abs(directions[axis]) @ width_mm)
        from_border = np.minimum(place - low, high - place)
        share *= np.clip(from_border / width + np.float32(0.5), 0, 1)
    return share


def _points_in_voxel(
    spacing_mm: tuple[float, float, float], series: SeriesVolume
) -> list[Float[np.ndarray, " point"]]:
    """Return where a voxel is sampled along each axis, in voxels from its centre."""
    directions = np.abs(series.affine[:3, :3] / np.array(series.spacing_mm))
    points = []
    for axis, own in enumerate(series.spacing_mm):
        crossed = directions[:, axis] > _CROSSED
        step = np.array(spacing_mm[::-1])[crossed].min() / _POINTS_PER_GRID_VOXEL
        # An exact multiple must not become one point more by rounding.
        num_points = int(np.ceil(own / step - 1e-6))
        points.append((np.arange(num_points) + 0.5) / num_points - 0.5)
    return points


def _box_of(
    grid_shape: tuple[int, ...],
    origin_mm: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
) -> Float[np.ndarray, "2 3"]:
    """Return the lowest and the highest place (x, y, z) of the grid's field."""
    spacing = np.array(spacing_mm[::-1])
    low = np.array(origin_mm) - spacing / 2
    return np.stack([low, low + np.array(grid_shape[::-1]) * spacing])


def _region_under(box_mm: Float[np.ndarray, "2 3"], series: SeriesVolume) -> _Region:
    """Return the voxels of the series that the grid's field touches."""
    corners = np.array(list(product(*box_mm.T)))
    inverse = np.linalg.inv(series.affine)
    indices = corners @ inverse[:3, :3].T + inverse[:3, 3]
    first = np.clip(np.floor(indices.min(axis=0)), 0, None).astype(int)
    last = np.minimum(np.ceil(indices.max(axis=0)).astype(int) + 1, series.hu.shape)
    parts = [slice(int(a), int(b)) for a, b in zip(first, last, strict=True)]
    return parts[0], parts[1], parts[2]
