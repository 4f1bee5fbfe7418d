"""Masks from RTSTRUCT: closed contours in millimetres, laid on the voxels of their CT.

A voxel belongs to a structure when its centre lies inside. Contours of one structure on
one slice are joined by exclusive or, so that a contour within another is a hole; where
they cross, or one is there twice, that reading is doubtful and the file is refused.
Each contour must lie on a slice of the CT, every point within 0.25 mm of its plane.
Points of a contour are taken as they stand: the lines between them are straight.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from pydicom import dcmread

from acfnet_core.cohort.images.dicom_index import (
    READ_ERRORS,
    InstanceHeader,
    quiet_dicom,
)
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.volume import SeriesGeometry

_OFF_SLICE_MM = 0.25
_BEYOND_VOXELS = 1.0
_CROSSING_SHARE = 0.1
"""Of the smaller contour's voxels; fewer are the roundness of drawn lines."""
_SKIPPED_SLICES = 4
"""On as many slices with equal gaps between them, gaps are the way of drawing."""

_Polygons = dict[int, list[Float[np.ndarray, "point 2"]]]


def read_structures(
    header: InstanceHeader,
    series: SeriesGeometry,
    is_wanted: Callable[[str], bool],
) -> Iterator[tuple[str, Bool[np.ndarray, "slice row column"]]]:
    """Yield name and mask of each wanted structure, one at a time.

    A structure without contours has an empty mask.

    Raises:
        ScanRefusedError: The file cannot be read, or a wanted structure does not lie
            on the CT's slices as this module's head says.
    """
    try:
        with quiet_dicom():
            dataset = dcmread(header.path)
            names = {
                int(roi.ROINumber): str(roi.ROIName)
                for roi in dataset.StructureSetROISequence
            }
            contours = {
                int(roi.ReferencedROINumber): roi.get("ContourSequence", None) or ()
                for roi in dataset.get("ROIContourSequence", None) or ()
            }
    except READ_ERRORS:
        # The error's text may hold values of the header: it must not be chained.
        raise ScanRefusedError("SEG_UNREADABLE") from None
    for number, name in names.items():
        if is_wanted(name):
            polygons = _place(contours.get(number, ()), series)
            _refuse_skipped(polygons)
            yield name, _fill(polygons, series)


def inside_polygon(
    points: Float[np.ndarray, "point 2"], shape: tuple[int, int]
) -> Bool[np.ndarray, "row column"]:
    """Return which voxel centres lie inside a closed polygon, by the even-odd rule.

    Centres have whole coordinates. Of those on the line itself, the ones on an upper
    or left side count, so that polygons that share a line share no voxel.

    Args:
        points: Corners as (row, column); the last is joined to the first.
        shape: Rows and columns.

    Example:
        >>> square = np.array([[0.5, 0.5], [0.5, 2.5], [2.5, 2.5], [2.5, 0.5]])
        >>> inside_polygon(square, (4, 4)).astype(int).tolist()
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    num_rows, num_columns = shape
    ends = np.roll(points, -1, axis=0)
    goes_down = points[:, :1] <= ends[:, :1]
    upper, lower = np.where(goes_down, points, ends), np.where(goes_down, ends, points)
    # An edge meets the rows upper <= row < lower: a corner is met once, not twice.
    first = np.clip(np.ceil(upper[:, 0]), 0, num_rows).astype(np.intp)
    last = np.clip(np.ceil(lower[:, 0]), 0, num_rows).astype(np.intp)
    counts = last - first
    edge = np.repeat(np.arange(len(points)), counts)
    row = np.arange(counts.sum()) - np.repeat(
        np.cumsum(counts) - counts - first, counts
    )
    share = (row - upper[edge, 0]) / (lower[edge, 0] - upper[edge, 0])
    crossing = upper[edge, 1] + share * (lower[edge, 1] - upper[edge, 1])
    column = np.clip(np.ceil(crossing), 0, num_columns).astype(np.intp)
    # Behind every crossing, inside and outside change places.
    flips = np.bincount(
        row * (num_columns + 1) + column, minlength=num_rows * (num_columns + 1)
    ).reshape(num_rows, num_columns + 1)
    return np.cumsum(flips[:, :num_columns], axis=1) % 2 == 1


def _place(contours: Any, series: SeriesGeometry) -> _Polygons:
    """Return slice -> polygons as (row, column) in voxels."""
    to_index = np.linalg.inv(series.affine)
    polygons: _Polygons = defaultdict(list)
    for contour in contours:
        points = _read_points(contour)
        indices = points @ to_index[:3, :3].T + to_index[:3, 3]
        number = int(np.rint(indices[:, 0].mean()))
        off_mm = np.abs(indices[:, 0] - number).max() * series.spacing_mm[0]
        if off_mm > _OFF_SLICE_MM or not 0 <= number < series.shape[0]:
            raise ScanRefusedError("RT_OFF_SLICE")
        edges = np.array(series.shape[1:]) - 0.5 + _BEYOND_VOXELS
        if (indices[:, 1:] < -0.5 - _BEYOND_VOXELS).any() or (
            indices[:, 1:] > edges
        ).any():
            raise ScanRefusedError("RT_BEYOND_CT")
        polygons[number].append(indices[:, 1:])
    return polygons


def _read_points(contour: Any) -> Float[np.ndarray, "point 3"]:
    """Return a contour's points (x, y, z) in mm."""
    try:
        kind = str(contour.get("ContourGeometricType", ""))
        element = contour.get_item("ContourData")
        # Taken as bytes: pydicom makes an object of each number, which is slow.
        if element is not None and isinstance(element.value, bytes):
            numbers = [float(part) for part in element.value.split(b"\\")]
        else:
            numbers = [float(part) for part in contour.ContourData]
        points = np.array(numbers).reshape(-1, 3)
        expected = int(contour.get("NumberOfContourPoints", None) or len(points))
    except READ_ERRORS:
        # The error's text may hold values of the header: it must not be chained.
        raise ScanRefusedError("SEG_UNREADABLE") from None
    if len(points) != expected or not np.isfinite(points).all():
        raise ScanRefusedError("SEG_UNREADABLE")
    if kind != "CLOSED_PLANAR":
        raise ScanRefusedError("RT_NOT_CLOSED_PLANAR")
    return points


def _refuse_skipped(polygons: _Polygons) -> None:
    """Refuse a structure that was drawn on every second or third slice."""
    steps = np.diff(sorted(polygons))
    if steps.size + 1 >= _SKIPPED_SLICES and steps[0] > 1 and np.ptp(steps) == 0:
        raise ScanRefusedError("RT_SLICES_SKIPPED")


def _fill(
    polygons: _Polygons, series: SeriesGeometry
) -> Bool[np.ndarray, "slice row column"]:
    mask = np.zeros(series.shape, np.bool_)
    _, rows, columns = series.shape
    for number, outlines in polygons.items():
        filled = [inside_polygon(points, (rows, columns)) for points in outlines]
        for index, one in enumerate(filled):
            for other in filled[:index]:
                _refuse_crossing(one, other)
            mask[number] ^= one
    return mask


def _refuse_crossing(
    one: Bool[np.ndarray, "row column"], other: Bool[np.ndarray, "row column"]
) -> None:
    """Refuse two contours that neither lie apart nor one within the other."""
    common = np.count_nonzero(one & other)
    sizes = sorted((np.count_nonzero(one), np.count_nonzero(other)))
    is_twice = 0 < common == sizes[0] == sizes[1]
    if is_twice or min(common, sizes[0] - common) > _CROSSING_SHARE * sizes[0]:
        raise ScanRefusedError("RT_CONTOURS_CROSS")
