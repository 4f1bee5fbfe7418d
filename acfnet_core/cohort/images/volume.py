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

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import SimpleITK
from jaxtyping import Bool, Float, Float32, Int, Int16, Shaped, UInt8

from acfnet_core.cohort.contract import CHANNELS, ImagingExpectations
from acfnet_core.cohort.images.smooth_resampling import resample_smoothly, to_image

LABEL_BITS: dict[str, int] = {
    channel: 1 << bit for bit, channel in enumerate(CHANNELS[1:])
}
"""Channel -> its bit in the label array; masks may overlap."""

_AIR_HU = -1024.0
_MAX_HU = 3071.0
_MARGIN_MM = 15.0


@dataclass(frozen=True, kw_only=True)
class SeriesGeometry:
    """The place of a CT series in patient space: all but its voxels' values.

    Attributes:
        shape: Number of slices, rows and columns.
        affine: From (slice, row, column) to patient space in mm; sheared where a tilted
            gantry was mended.
        spacing_mm: Between the planes of the slices, and between voxel centres along
            (row, column).
        study_date: As DICOM has it, YYYYMMDD.
        lost_slices: Slices that are no reading but the mean of their neighbours.
    """

    shape: tuple[int, int, int]
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
        return bool(np.abs(step @ in_plane).max() * (self.shape[0] - 1) > 1e-3)


@dataclass(frozen=True, kw_only=True)
class SeriesVolume(SeriesGeometry):
    """A CT series in Hounsfield units with its place in patient space.

    Attributes:
        hu: Axes (slice, row, column); int16 where no value needs a fraction.
    """

    hu: Shaped[np.ndarray, "slice row column"]
    shape: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        """Take the shape from the voxels."""
        object.__setattr__(self, "shape", self.hu.shape)


@dataclass(frozen=True, kw_only=True)
class GridPlace:
    """Where the contract's grid lies over a series.

    Attributes:
        origin_mm: Patient-space centre (x, y, z) of the grid's first voxel.
        part: The slices, rows and columns of the series that the grid can reach.
    """

    origin_mm: tuple[float, float, float]
    part: tuple[slice, slice, slice]


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
    place = place_grid(series, masks["liver"], imaging)
    return lay_part_on_grid(series, series.hu[place.part], masks, imaging, place)


def place_grid(
    series: SeriesGeometry,
    liver: Bool[np.ndarray, "slice row column"],
    imaging: ImagingExpectations,
) -> GridPlace:
    """Place the contract's grid around the liver.

    Raises:
        ValueError: There is no liver to centre the grid on.
    """
    centre_mm = _centre_of(liver, series.affine)
    size = np.array(imaging.grid_shape[::-1])
    spacing = np.array(imaging.grid_spacing_mm[::-1])
    x, y, z = (centre_mm - (size - 1) / 2 * spacing).tolist()
    return GridPlace(
        origin_mm=(x, y, z), part=_part_of(np.array([x, y, z]), size, spacing, series)
    )


def lay_part_on_grid(
    series: SeriesGeometry,
    hu: Shaped[np.ndarray, "part_slice part_row part_column"],
    masks: dict[str, Bool[np.ndarray, "slice row column"]],
    imaging: ImagingExpectations,
    place: GridPlace,
) -> GridVolume:
    """Resample the part of a series that the grid can reach.

    Args:
        series: The scan.
        hu: Its Hounsfield units, of the part alone.
        masks: As for `lay_on_grid`.
        imaging: Grid shape and spacing.
        place: From `place_grid`.
    """
    grid = _empty_grid(place.origin_mm, imaging)
    start = (place.part[0].start, place.part[1].start, place.part[2].start)
    bits = np.zeros(hu.shape, np.uint8)
    for channel, mask in masks.items():
        bits |= mask[place.part].view(np.uint8) * np.uint8(LABEL_BITS[channel])
    labels = to_image(bits, series.affine, series.spacing_mm, start)
    on_grid = SimpleITK.Resample(
        labels, grid, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0
    )
    labels_on_grid = SimpleITK.GetArrayFromImage(on_grid)
    ct_on_grid = resample_smoothly(
        hu,
        series.affine,
        series.spacing_mm,
        start,
        grid,
        outside=_AIR_HU,
        limits=(_AIR_HU, _MAX_HU),
    )
    return GridVolume(
        ct_hu=np.rint(ct_on_grid).astype(np.int16),
        labels=labels_on_grid,
        origin_mm=place.origin_mm,
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
    is_on_slice = np.array([one.any() for one in mask])
    if not is_on_slice.any():
        raise ValueError("the liver mask is empty")
    outline = np.logical_or.reduce(mask[is_on_slice], axis=0)
    bounds = []
    for is_used in (is_on_slice, outline.any(axis=1), outline.any(axis=0)):
        used = np.flatnonzero(is_used)
        bounds.append((used[0] - 0.5, used[-1] + 0.5))
    corners = _corners(bounds) @ affine[:3, :3].T + affine[:3, 3]
    return (corners.min(axis=0) + corners.max(axis=0)) / 2


def _corners(bounds: list[tuple[float, float]]) -> Float[np.ndarray, "8 3"]:
    return np.stack(np.meshgrid(*bounds, indexing="ij"), axis=-1).reshape(8, 3)


def _empty_grid(
    origin_mm: tuple[float, float, float], imaging: ImagingExpectations
) -> Any:
    """Return an empty SimpleITK image that is the contract's grid."""
    grid = SimpleITK.Image(tuple(reversed(imaging.grid_shape)), SimpleITK.sitkUInt8)
    grid.SetSpacing(tuple(reversed(imaging.grid_spacing_mm)))
    grid.SetOrigin(origin_mm)
    return grid


def _part_of(
    origin_mm: Float[np.ndarray, "3"],
    size: Int[np.ndarray, "3"],
    grid_spacing_mm: Float[np.ndarray, "3"],
    series: SeriesGeometry,
) -> tuple[slice, slice, slice]:
    """Return the voxels of the series that the grid can reach, with a margin."""
    low = origin_mm - grid_spacing_mm / 2 - _MARGIN_MM
    high = low + size * grid_spacing_mm + 2 * _MARGIN_MM
    inverse = np.linalg.inv(series.affine)
    corners = _corners(list(zip(low, high, strict=True)))
    indices = corners @ inverse[:3, :3].T + inverse[:3, 3]
    first = np.clip(np.floor(indices.min(axis=0)), 0, None).astype(int)
    last = np.minimum(np.ceil(indices.max(axis=0)).astype(int) + 1, series.shape)
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
