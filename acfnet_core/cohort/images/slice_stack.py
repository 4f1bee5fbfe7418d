"""The stack that a series' slices make: evenly spaced, straight, whole, or how not.

A stack is mended where a site allows it and nothing has to be guessed: an even tilt
keeps its slices where they lie, so that the voxels' axes are sheared; a single lost
slice leaves its slot empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.spatial import get_volume_positions
from jaxtyping import Float, Int

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.images.dicom_index import (
    READ_ERRORS,
    InstanceHeader,
    quiet_dicom,
)
from acfnet_core.cohort.images.repairs import Repairs

TOLERANCE_MM = 0.1
_SAME_PLACE_MM = 0.01
_FEWEST_SLICES = 2
_HIGHDICOM_TOLERANCE = 0.01
_FEWEST_TILTED = 3
"""Of two slices every shift sideways is even."""
_MAX_TILT = 0.7
"""Sideways for each millimetre of height, 35 degrees: no gantry tilts further, and what
seems to has a wrong orientation or position."""


@dataclass(frozen=True, kw_only=True)
class SliceStack:
    """The verdict on a stack.

    Attributes:
        codes: Faults that are not mended; with any of them the rest says nothing.
        repaired: Faults that are mended.
        spacing_mm: Between the planes of the slices, rows and columns.
        slots: Of each slice, its place in the stack, from 0.
        step_mm: From one slice's first voxel to the next one's, (x, y, z).
    """

    codes: tuple[str, ...]
    repaired: tuple[str, ...] = ()
    spacing_mm: tuple[float, float, float] | None = None
    slots: tuple[int, ...] = ()
    step_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


def judge_stack(
    headers: Sequence[InstanceHeader],
    imaging: ImagingExpectations | None,
    repairs: Repairs,
) -> SliceStack:
    """Judge slices that are sorted along their common normal.

    Args:
        headers: With one orientation, and a position each.
        imaging: The contract's bounds; without it two slices at any distance are
            enough.
        repairs: Which faults are mended.
    """
    if len(headers) < (imaging.min_slices if imaging else _FEWEST_SLICES):
        return SliceStack(codes=("TOO_FEW_SLICES",))
    positions = np.array([header.position for header in headers])
    normal = normal_of(headers[0])
    heights = (positions - positions[0]) @ normal
    gaps = np.diff(heights)
    if gaps.min() < _SAME_PLACE_MM:
        return SliceStack(codes=("DUPLICATE_POSITIONS",))
    sideways = positions - positions[0] - np.outer(heights, normal)
    slots, gap_code = _slots_of(gaps)
    found = [gap_code] if gap_code else []
    is_tilted = bool(np.linalg.norm(sideways, axis=1).max() > TOLERANCE_MM)
    if is_tilted:
        found.append("GANTRY_TILT")
    spacing = float(heights[-1] / slots[-1]) if slots[-1] else 0.0
    if not found and not _highdicom_agrees(headers, spacing):
        found.append("NON_UNIFORM_SPACING")
    mended = _mendable(slots, heights, sideways, repairs)
    codes = [code for code in found if code not in mended]
    if not codes and imaging and _are_thick(headers, spacing, imaging):
        codes.append("THICK_SLICES")
    pixel_spacing = headers[0].pixel_spacing
    if codes or pixel_spacing is None:
        return SliceStack(codes=tuple(codes))
    drift = _drift(heights, sideways) if is_tilted else np.zeros(3)
    step = spacing * (normal + drift)
    if _farthest_corner_mm(headers, slots, step) > TOLERANCE_MM:
        return SliceStack(codes=("NON_UNIFORM_SPACING",))
    x, y, z = (float(part) for part in step)
    return SliceStack(
        codes=(),
        repaired=tuple(sorted(found)),
        spacing_mm=(spacing, pixel_spacing[0], pixel_spacing[1]),
        slots=tuple(int(slot) for slot in slots),
        step_mm=(x, y, z),
    )


def _are_thick(
    headers: Sequence[InstanceHeader], spacing_mm: float, imaging: ImagingExpectations
) -> bool:
    """Tell whether slices are thicker, or further apart, than the contract allows."""
    if spacing_mm > imaging.max_slice_spacing_mm:
        return True
    limit_mm = imaging.max_slice_thickness_mm
    if limit_mm is None:
        return False
    known = [h.slice_thickness_mm for h in headers if h.slice_thickness_mm is not None]
    # A header is written to a digit or two.
    return any(thickness_mm > limit_mm + TOLERANCE_MM for thickness_mm in known)


def normal_of(header: InstanceHeader) -> Float[np.ndarray, "3"]:
    """Return the direction in which slices are stacked, row axis x column axis.

    Its length is 1, also where rounded cosines are not quite at right angles.
    """
    if header.orientation is None:
        raise ValueError("the header has no orientation")
    normal = np.cross(header.orientation[:3], header.orientation[3:])
    return normal / np.linalg.norm(normal)


def _slots_of(
    gaps: Float[np.ndarray, " gap"],
) -> tuple[Int[np.ndarray, " slice"], str | None]:
    """Return each slice's slot in the stack, and the code of uneven gaps."""
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    even = np.arange(heights.size)
    if np.abs(heights - even * gaps.mean()).max() <= TOLERANCE_MM:
        return even, None
    steps = np.rint(gaps / gaps.min()).astype(np.int64)
    slots = np.concatenate([[0], np.cumsum(steps)])
    step_mm = heights[-1] / slots[-1]
    are_multiples = np.abs(heights - slots * step_mm).max() <= TOLERANCE_MM
    num_wide = np.count_nonzero(steps > 1)
    # A few doubled gaps are lost slices; many are a change of protocol.
    if are_multiples and num_wide * 4 <= gaps.size:
        return slots, "MISSING_SLICES"
    return slots, "NON_UNIFORM_SPACING"


def _mendable(
    slots: Int[np.ndarray, " slice"],
    heights: Float[np.ndarray, " slice"],
    sideways: Float[np.ndarray, "slice 3"],
    repairs: Repairs,
) -> set[str]:
    """Return the codes that may be mended in this stack."""
    codes = set()
    # Between two neighbours that are there one slice can be interpolated, not two.
    if repairs.missing_slices and np.diff(slots).max() <= 2:
        codes.add("MISSING_SLICES")
    if repairs.gantry_tilt and _is_even_tilt(heights, sideways):
        codes.add("GANTRY_TILT")
    return codes


def _is_even_tilt(
    heights: Float[np.ndarray, " slice"], sideways: Float[np.ndarray, "slice 3"]
) -> bool:
    """Tell a tilted gantry from slices that were moved for some other reason."""
    drift = _drift(heights, sideways)
    rest = sideways - np.outer(heights, drift)
    is_even = np.linalg.norm(rest, axis=1).max() <= TOLERANCE_MM
    is_possible = np.linalg.norm(drift) <= _MAX_TILT
    return bool(heights.size >= _FEWEST_TILTED and is_even and is_possible)


def _drift(
    heights: Float[np.ndarray, " slice"], sideways: Float[np.ndarray, "slice 3"]
) -> Float[np.ndarray, "3"]:
    """Return how far a slice lies sideways for each millimetre of height."""
    return heights @ sideways / (heights @ heights)


def _farthest_corner_mm(
    headers: Sequence[InstanceHeader],
    slots: Int[np.ndarray, " slice"],
    step_mm: Float[np.ndarray, "3"],
) -> float:
    """Return how far a corner of any slice lies from where the stack puts it.

    Each check before has its own tolerance; here they count together.
    """
    size = (headers[0].num_rows, headers[0].num_columns)
    corners = np.array([_corners_of(header, size) for header in headers])
    placed = corners[0] + (slots[:, None] * step_mm)[:, None, :]
    return float(np.linalg.norm(corners - placed, axis=-1).max())


def _corners_of(
    header: InstanceHeader, size: tuple[int, int]
) -> Float[np.ndarray, "corner 3"]:
    """Return where the first, the last of the first row and of the first column lie.

    Source: DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
    """
    first = np.array(header.position)
    row, column = np.array(header.orientation).reshape(2, 3)
    between_rows, between_columns = header.pixel_spacing or (0.0, 0.0)
    across = row * between_columns * (size[1] - 1)
    down = column * between_rows * (size[0] - 1)
    return np.array([first, first + across, first + down])


def _highdicom_agrees(headers: Sequence[InstanceHeader], spacing: float) -> bool:
    with quiet_dicom():
        try:
            theirs, _ = get_volume_positions(
                image_positions=[header.position for header in headers],
                image_orientation=headers[0].orientation,
            )
        except READ_ERRORS:
            return False
    return theirs is not None and bool(
        abs(theirs - spacing) <= _HIGHDICOM_TOLERANCE * spacing
    )
