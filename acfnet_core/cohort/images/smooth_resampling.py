"""From a series' voxels to a coarser grid: smoothed against aliasing, then linearly.

Each axis is smoothed with a Gaussian whose full width at half maximum is
sqrt(new spacing^2 - old spacing^2) where the grid is coarser, and interpolated
linearly. SimpleITK does both. Where the series' axes are the grid's, the two are the
same small matrix for every line of voxels: SimpleITK makes it once for an axis, from
unit impulses, and a matrix product applies it, at a tenth of the cost.
"""

from typing import Any

import numpy as np
import SimpleITK
from jaxtyping import Float, Float32, Shaped

_FWHM_PER_SIGMA = 2.3548
_FEWEST_VOXELS = 4
_ALIGNED = 1e-6


def resample_smoothly(
    values: Shaped[np.ndarray, "slice row column"],
    affine: Float[np.ndarray, "4 4"],
    spacing_mm: tuple[float, float, float],
    start: tuple[int, int, int],
    grid: Any,
    *,
    outside: float,
    limits: tuple[float, float] | None = None,
) -> Float32[np.ndarray, "depth height width"]:
    """Smooth a part of a series and interpolate it on a grid.

    Args:
        values: The part.
        affine: Of the whole series, from (slice, row, column) to mm (x, y, z).
        spacing_mm: Of the series, along (slice, row, column).
        start: Index of the part's first voxel in the series.
        grid: A SimpleITK image whose axes are those of patient space.
        outside: The value beyond the part.
        limits: The least and the greatest value; those beyond are taken for these.
    """
    directions = affine[:3, :3] / np.array(spacing_mm)
    axes = np.abs(directions).argmax(axis=0)
    # A sheared axis has a component of 1 as well: the others must be 0.
    is_aligned = sorted(axes) == [0, 1, 2] and np.allclose(
        np.abs(directions), np.eye(3)[:, axes], rtol=0, atol=_ALIGNED
    )
    if not is_aligned:
        image = to_image(_clip(values, limits), affine, spacing_mm, start)
        return _resample_oblique(image, directions, grid, outside)
    first_mm = (affine @ np.array([*start, 1.0]))[:3]
    new_spacing_mm = np.array(grid.GetSpacing())[axes]
    order = np.argsort(np.array(spacing_mm) / new_spacing_mm)
    above = _above_outside(np.moveaxis(values, order[0], -1), outside, limits)
    result = np.moveaxis(above, -1, order[0])
    for axis in order:
        place = int(axes[axis])
        line = _line_operator(
            values.shape[axis],
            spacing_mm[axis],
            count=grid.GetSize()[place],
            step_mm=grid.GetSpacing()[place],
            first_mm=grid.GetOrigin()[place] - float(first_mm[place]),
            runs_backwards=bool(directions[place, axis] < 0),
        )
        result = np.moveaxis(np.tensordot(result, line, (axis, 0)), -1, axis)
    # Patient space is (x, y, z), the grid (depth, height, width).
    in_order = result.transpose([int(np.flatnonzero(axes == p)[0]) for p in (2, 1, 0)])
    return np.ascontiguousarray(in_order) + np.float32(outside)


def _above_outside(
    values: Shaped[np.ndarray, "plane line voxel"],
    outside: float,
    limits: tuple[float, float] | None,
) -> Float32[np.ndarray, "plane line voxel"]:
    """Return how far values lie above the outside, whose own is 0 in the products.

    The axes are laid as a product of matrices needs them: plane by plane, since a plane
    stays in the processor's cache.
    """
    above = np.empty(values.shape, np.float32)
    for plane, target in zip(values, above, strict=True):
        np.subtract(
            _clip(plane, limits), np.float32(outside), out=target, dtype=np.float32
        )
    return above


def _clip(
    values: Shaped[np.ndarray, "..."], limits: tuple[float, float] | None
) -> Shaped[np.ndarray, "..."]:
    """Clip values without a change of their type."""
    if limits is None:
        return values
    least, greatest = np.array(limits, values.dtype)
    return np.clip(values, least, greatest)


def to_image(
    values: Shaped[np.ndarray, "slice row column"],
    affine: Float[np.ndarray, "4 4"],
    spacing_mm: tuple[float, float, float],
    start: tuple[int, int, int],
) -> Any:
    """Wrap the part of a series that begins at index `start` as a SimpleITK image."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values))
    directions = affine[:3, :3] / np.array(spacing_mm)
    image.SetSpacing(tuple(reversed(spacing_mm)))
    # SimpleITK counts (column, row, slice): the columns of its matrix in that order.
    image.SetDirection(directions[:, ::-1].ravel().tolist())
    image.SetOrigin((affine @ np.array([*start, 1.0]))[:3].tolist())
    return image


def _line_operator(
    num_voxels: int,
    spacing_mm: float,
    *,
    count: int,
    step_mm: float,
    first_mm: float,
    runs_backwards: bool,
) -> Float32[np.ndarray, "voxel place"]:
    """Return what each voxel of a line gives to each place along it.

    Args:
        num_voxels: Of the line.
        spacing_mm: Between them.
        count: Number of places.
        step_mm: Between them.
        first_mm: From the first voxel to the first place, along patient space.
        runs_backwards: Whether the line runs against patient space.
    """
    impulses = SimpleITK.GetImageFromArray(np.eye(num_voxels, dtype=np.float32))
    impulses.SetSpacing((spacing_mm, 1.0))
    smooth = _smooth_along(impulses, 0, step_mm)
    last_mm = first_mm + (count - 1) * step_mm
    lowest_mm = -last_mm if runs_backwards else first_mm
    placed = SimpleITK.Resample(
        smooth,
        (count, num_voxels),
        SimpleITK.Transform(2, SimpleITK.sitkIdentity),
        SimpleITK.sitkLinear,
        (lowest_mm, 0.0),
        (step_mm, 1.0),
        (1.0, 0.0, 0.0, 1.0),
        0.0,
    )
    operator = SimpleITK.GetArrayFromImage(placed)
    return operator[:, ::-1] if runs_backwards else operator


def _resample_oblique(
    image: Any, directions: Float[np.ndarray, "3 3"], grid: Any, outside: float
) -> Float32[np.ndarray, "depth height width"]:
    smooth = SimpleITK.Cast(image, SimpleITK.sitkFloat32)
    for axis in range(3):
        along = np.abs(directions[:, 2 - axis])
        smooth = _smooth_along(smooth, axis, float(along @ np.array(grid.GetSpacing())))
    on_grid = SimpleITK.Resample(
        smooth, grid, SimpleITK.Transform(), SimpleITK.sitkLinear, float(outside)
    )
    return SimpleITK.GetArrayFromImage(on_grid)


def _smooth_along(image: Any, axis: int, new_spacing_mm: float) -> Any:
    """Smooth one axis for a coarser spacing; a short one stays as it is."""
    square = new_spacing_mm**2 - image.GetSpacing()[axis] ** 2
    if square <= 0 or image.GetSize()[axis] < _FEWEST_VOXELS:
        return image
    return SimpleITK.RecursiveGaussian(
        image,
        float(np.sqrt(square)) / _FWHM_PER_SIGMA,
        False,
        SimpleITK.RecursiveGaussianImageFilter.ZeroOrder,
        axis,
    )
