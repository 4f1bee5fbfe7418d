"""The patient space, stated once, and a CT series laid on the contract's grid.

Patient space is DICOM's: x grows to the patient's left, y to the back, z to the head,
in millimetres. Arrays are indexed (slice, row, column) in a series and (depth, height,
width) on the grid. The grid's axes are those of patient space: depth along +z, height
along +y, width along +x, whatever the series' own direction was. A 4x4 affine takes an
array index, as a column (i, j, k, 1), to the centre of that voxel.

How a scan is laid on the grid: the CT is cut to the grid's field, clipped to [-1024,
3071] HU, smoothed along each axis with a Gaussian whose full width at half maximum is
sqrt(new spacing^2 - old spacing^2) where the grid is coarser, and interpolated
linearly; outside the series it is air. Masks take the nearest voxel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from jaxtyping import Bool, Float, Float32, Int16, Shaped, UInt8

from acfnet_core.cohort.contract import CHANNELS, ImagingExpectations
from acfnet_core.cohort.images.smooth_resampling import resample_smoothly, to_image

LABEL_BITS: dict[str, int] = {
    channel: 1 << bit for bit, channel in enumerate(CHANNELS[1:])
}
"""Channel -> its bit in the label array; masks may overlap."""

_AIR_HU = -1024
_MAX_HU = 3071
_MARGIN_MM = 15.0


@dataclass(frozen=True, kw_only=True)
class SeriesVolume:
    """A CT series in Hounsfield units with its place in patient space.

    Attributes:
        hu: Axes (slice, row, column); int16 where no value needs a fraction.
        affine: From (slice, row, column) to patient space in mm; sheared where a tilted
            gantry was mended.
        spacing_mm: Between the planes of the slices, and between voxel centres along
            (row, column).
        study_date: As DICOM has it, YYYYMMDD.
        lost_slices: Slices that are no reading but the mean of their neighbours.
    """

    hu: Shaped[np.ndarray, "slice row column"]
    affine: Float[np.ndarray, "4 4"]
    spacing_mm: tuple[float, float, float]
    frame_of_reference_uid: str
    study_date: str
    lost_slices: tuple[int, ...] = ()

    @property
    def is_sheared(self) -> bool:
        """Whether slices are shifted sideways against each other."""
        step = self.affine[:3, 0]
        in_plane = self.affine[:3, 1:3] / np.array(self.spacing_mm[1:])
        return bool(np.abs(step @ in_plane).max() * (self.hu.shape[0] - 1) > 1e-3)


@dataclass(frozen=True, kw_only=True)
class GridVolume:
    """A scan on the contract's grid.

    Attributes:
        ct_hu: Hounsfield units before windowing.
        labels: One bit a channel, `LABEL_BITS`.
        origin_mm: Patient-space centre (x, y, z) of the voxel at index (0, 0, 0).
        liver_share_inside: Share of the liver's volume that lies in the grid's field.
    """

    ct_hu: Int16[np.ndarray, "depth height width"]
    labels: UInt8[np.ndarray, "depth height width"]
    origin_mm: tuple[float, float, float]
    liver_share_inside: float


def lay_on_grid(
    series: SeriesVolume,
    masks: dict[str, Bool[np.ndarray, "slice row column"]],
    imaging: ImagingExpectations,
) -> GridVolume:
    """Crop a series around its liver and resample it to the contract's grid.

    Args:
        series: The scan.
        masks: Channel -> mask on the series' own voxels; `liver` must not be empty.
        imaging: Grid shape and spacing.

    Raises:
        ValueError: There is no liver to centre the grid on.
    """
    if not masks["liver"].any():
        raise ValueError("the liver mask is empty")
    grid = _grid_around(_centre_of(masks["liver"], series.affine), imaging)
    region = _region_of(grid, series)
    start = (region[0].start, region[1].start, region[2].start)
    ct_hu = np.clip(series.hu[region], _AIR_HU, _MAX_HU)
    bits = np.zeros(series.hu[region].shape, np.uint8)
    for channel, mask in masks.items():
        bits |= mask[region].view(np.uint8) * np.uint8(LABEL_BITS[channel])
    labels = to_image(bits, series.affine, series.spacing_mm, start)
    on_grid = SimpleITK.Resample(
        labels, grid, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0
    )
    labels_on_grid = SimpleITK.GetArrayFromImage(on_grid)
    return GridVolume(
        ct_hu=np.rint(
            resample_smoothly(
                ct_hu,
                series.affine,
                series.spacing_mm,
                start,
                grid,
                outside=float(_AIR_HU),
            )
        ).astype(np.int16),
        labels=labels_on_grid,
        origin_mm=grid.GetOrigin(),
        liver_share_inside=_share_inside(
            masks["liver"], series.spacing_mm, labels_on_grid, imaging.grid_spacing_mm
        ),
    )


def to_channels(
    ct_hu: Int16[np.ndarray, "depth height width"],
    labels: UInt8[np.ndarray, "depth height width"],
    imaging: ImagingExpectations,
) -> Float32[np.ndarray, "channel depth height width"]:
    """Window the CT and unpack the masks, in the order of `CHANNELS`."""
    channels = np.empty((len(CHANNELS), *ct_hu.shape), np.float32)
    windowed = (ct_hu.astype(np.float32) - imaging.window_centre_hu) / (
        imaging.window_width_hu
    )
    channels[0] = np.clip(windowed, -imaging.window_clip, imaging.window_clip)
    for index, channel in enumerate(CHANNELS[1:], start=1):
        channels[index] = (labels & LABEL_BITS[channel]) != 0
    return channels


def _centre_of(
    mask: Bool[np.ndarray, "slice row column"], affine: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "3"]:
    """Return the centre of the mask's bounding box along the axes of patient space."""
    bounds = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        bounds.append((used[0] - 0.5, used[-1] + 0.5))
    corners = _corners(bounds) @ affine[:3, :3].T + affine[:3, 3]
    return (corners.min(axis=0) + corners.max(axis=0)) / 2


def _corners(bounds: list[tuple[float, float]]) -> Float[np.ndarray, "8 3"]:
    return np.stack(np.meshgrid(*bounds, indexing="ij"), axis=-1).reshape(8, 3)


def _grid_around(
    centre_mm: Float[np.ndarray, "3"], imaging: ImagingExpectations
) -> Any:
    """Return an empty SimpleITK image that is the contract's grid."""
    size = tuple(reversed(imaging.grid_shape))
    spacing = tuple(reversed(imaging.grid_spacing_mm))
    half = (np.array(size) - 1) / 2 * np.array(spacing)
    grid = SimpleITK.Image(size, SimpleITK.sitkUInt8)
    grid.SetSpacing(spacing)
    grid.SetOrigin((centre_mm - half).tolist())
    return grid


def _region_of(grid: Any, series: SeriesVolume) -> tuple[slice, slice, slice]:
    """Return the voxels of the series that the grid can reach, with a margin."""
    size, spacing = np.array(grid.GetSize()), np.array(grid.GetSpacing())
    low = np.array(grid.GetOrigin()) - spacing / 2 - _MARGIN_MM
    high = low + size * spacing + 2 * _MARGIN_MM
    inverse = np.linalg.inv(series.affine)
    corners = _corners(list(zip(low, high, strict=True)))
    indices = corners @ inverse[:3, :3].T + inverse[:3, 3]
    first = np.clip(np.floor(indices.min(axis=0)), 0, None).astype(int)
    last = np.ceil(indices.max(axis=0)).astype(int) + 1
    parts = [slice(int(a), int(b)) for a, b in zip(first, last, strict=True)]
    return parts[0], parts[1], parts[2]


def _share_inside(
    liver: Bool[np.ndarray, "slice row column"],
    spacing_mm: tuple[float, float, float],
    labels: UInt8[np.ndarray, "depth height width"],
    grid_spacing_mm: tuple[float, float, float],
) -> float:
    whole = np.count_nonzero(liver) * float(np.prod(spacing_mm))
    inside = np.count_nonzero(labels & LABEL_BITS["liver"])
    return min(1.0, inside * float(np.prod(grid_spacing_mm)) / whole)
