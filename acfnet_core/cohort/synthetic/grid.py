"""The voxels of a made-up scan as places in the patient, and simple solids in them.

Axis legend: slice row column = z y x, ascending along DICOM patient directions (head,
back, left); points are (x, y, z) in millimetres from the middle of the liver.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from acfnet_core.cohort.synthetic.anatomy import Capsule, Point

GRID_SIZE = 96
"""Rows and columns of every slice."""

FIELD_OF_VIEW_MM = 156.0
"""Length of a scan from foot to head; the liver and a little more."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """How a site's scanner sees: its sampling, its noise and its calibration.

    Args:
        slice_spacing_mm: Distance of neighbouring slices.
        pixel_spacing_mm: Distance of neighbouring rows and columns.
        noise_hu: Standard deviation of the white noise.
        hu_shift: Constant error of the calibration in HU.
    """

    slice_spacing_mm: float
    pixel_spacing_mm: float
    noise_hu: float
    hu_shift: float


class VoxelGrid:
    """Coordinates of the voxels of one scan, in millimetres around the liver.

    Args:
        scanner: Gives the spacing.
        shift_mm: How the patient lies off the middle of the field of view.
    """

    def __init__(self, scanner: Scanner, shift_mm: Point) -> None:
        num_slices = math.floor(FIELD_OF_VIEW_MM / scanner.slice_spacing_mm)
        self.shape = (num_slices, GRID_SIZE, GRID_SIZE)
        self.spacing_mm: Point = (
            scanner.slice_spacing_mm,
            scanner.pixel_spacing_mm,
            scanner.pixel_spacing_mm,
        )
        axes = [
            (np.arange(count) - (count - 1) / 2) * step - shift
            for count, step, shift in zip(
                self.shape, self.spacing_mm, shift_mm[::-1], strict=True
            )
        ]
        z, y, x = (axis.astype(np.float32) for axis in axes)
        self.z, self.y, self.x = z[:, None, None], y[:, None], x

    def box(self, low: Point, high: Point) -> Box:
        """Return the voxels between two corners given as (x, y, z)."""
        z, y, x = (
            slice(
                int(np.searchsorted(axis.ravel(), start)),
                int(np.searchsorted(axis.ravel(), stop, side="right")),
            )
            for axis, start, stop in zip(
                (self.z, self.y, self.x), low[::-1], high[::-1], strict=True
            )
        )
        return z, y, x

    def ellipsoid(
        self, centre: Point, half_axes: Point
    ) -> tuple[Box, Float[np.ndarray, "z y x"]]:
        """Return the box around an ellipsoid and the squared relative radius in it."""
        low, high = _corners([centre], half_axes)
        box = self.box(low, high)
        x = (self.x[box[2]] - centre[0]) / half_axes[0]
        y = (self.y[box[1]] - centre[1]) / half_axes[1]
        z = (self.z[box[0]] - centre[2]) / half_axes[2]
        radius: Float[np.ndarray, "z y x"] = x**2 + y**2 + z**2
        return box, radius

    def capsule(
        self, capsule: Capsule, scale: float
    ) -> tuple[Box, Bool[np.ndarray, "z y x"]]:
        """Return the box around a tube and which of its voxels lie in the tube."""
        start, end = (np.array(p) * scale for p in (capsule.start, capsule.end))
        low, high = _corners([tuple(start), tuple(end)], (capsule.radius_mm,) * 3)
        box = self.box(low, high)
        offsets = [
            axis[part] - np.float32(origin)
            for axis, part, origin in zip(
                (self.x, self.y, self.z), box[::-1], start, strict=True
            )
        ]
        direction = (end - start).astype(np.float32)
        along = sum(o * d for o, d in zip(offsets, direction, strict=True))
        share = np.clip(along / np.float32(direction @ direction), 0, 1)
        distance = sum(
            (o - share * d) ** 2 for o, d in zip(offsets, direction, strict=True)
        )
        return box, np.asarray(distance < capsule.radius_mm**2)


def smooth_noise(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    length_mm: float,
    spacing_mm: Point,
) -> Float[np.ndarray, "slice row column"]:
    """Return noise of unit variance that is correlated over `length_mm`."""
    white = rng.standard_normal(shape, dtype=np.float32)
    sigma = [length_mm / 2 / step for step in spacing_mm]
    smooth = ndimage.gaussian_filter(white, sigma, truncate=3.0)
    scaled: Float[np.ndarray, "slice row column"] = smooth / smooth.std()
    return scaled


def _corners(points: list[Point], margin: Point) -> tuple[Point, Point]:
    """Return the corners of the box around points, widened by a margin."""
    low = np.min(points, axis=0) - margin
    high = np.max(points, axis=0) + margin
    return (
        (float(low[0]), float(low[1]), float(low[2])),
        (float(high[0]), float(high[1]), float(high[2])),
    )
