"""The gate: which CT series may be read, decided from headers, with a code for each no.

A series passes when its voxels lie on a straight, even grid that every slice agrees
on, and nothing hints that pixels were changed. It is never repaired here. Two opinions
are asked about its geometry: ours, slice by slice in millimetres, and highdicom's; one
no is enough.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.spatial import get_volume_positions
from jaxtyping import Float
from pydicom.uid import UID

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.images.dicom_index import (
    READ_ERRORS,
    DicomIndex,
    InstanceHeader,
    quiet_dicom,
)
from acfnet_core.cohort.images.refusals import NOTES

_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED_CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2.1"
_TOLERANCE_MM = 0.1
_SAME_PLACE_MM = 0.01
_ORIENTATION_TOLERANCE = 1e-4
_FEWEST_SLICES = 2
_MAX_SIDE = 4096
_MAX_VOXELS = 2**30
_UNCOMPRESSED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
)


_ALWAYS_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_PERHAPS_LOSSY = (
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.203",
)


@dataclass(frozen=True, kw_only=True)
class GatedSeries:
    """A series with its verdict.

    Attributes:
        headers: One for each slice, from the feet to the head (along the normal of the
            slices) where the geometry is known; each instance once.
        codes: What was found; see `refusals.GATE_CODES`.
        spacing_mm: Between slices, rows and columns; None if refused.
    """

    headers: tuple[InstanceHeader, ...]
    codes: tuple[str, ...]
    spacing_mm: tuple[float, float, float] | None

    @property
    def is_accepted(self) -> bool:
        """Whether no code refuses the series."""
        return NOTES.issuperset(self.codes)


def gate_index(
    index: DicomIndex, imaging: ImagingExpectations
) -> tuple[GatedSeries, ...]:
    """Judge every CT series of an index."""
    return tuple(
        gate_series(series, imaging, broken_folders=index.broken_folders)
        for series in index.ct_series
    )


def gate_series(
    headers: Sequence[InstanceHeader],
    imaging: ImagingExpectations | None,
    *,
    broken_folders: frozenset[object] = frozenset(),
) -> GatedSeries:
    """Judge one CT series from its headers.

    Args:
        headers: Of one series, in any order.
        imaging: The contract's bounds; None judges the series by itself, and two slices
            at any distance are then enough.
        broken_folders: See `DicomIndex`.
    """
    unique, codes = _without_copies(headers)
    if any(header.path.parent in broken_folders for header in unique):
        codes.append("BROKEN_NEIGHBOUR")
    codes += [code for code, found in _findings(unique) if found]
    geometry_codes: list[str] = []
    spacing_mm = None
    if _can_place(unique, codes):
        unique = sorted(unique, key=_height_of)
        geometry_codes, spacing_mm = _judge_geometry(unique, imaging)
    codes += geometry_codes
    refused = not NOTES.issuperset(codes)
    return GatedSeries(
        headers=tuple(unique),
        codes=tuple(codes),
        spacing_mm=None if refused else spacing_mm,
    )


def normal_of(header: InstanceHeader) -> Float[np.ndarray, "3"]:
    """Return the direction in which slices are stacked: row axis x column axis."""
    if header.orientation is None:
        raise ValueError("the header has no orientation")
    return np.cross(header.orientation[:3], header.orientation[3:])


def _without_copies(
    headers: Sequence[InstanceHeader],
) -> tuple[list[InstanceHeader], list[str]]:
    kept: dict[str, InstanceHeader] = {}
    codes: list[str] = []
    for header in headers:
        # A file without a UID is nobody's copy.
        key = header.sop_instance_uid or f"at {header.path}"
        first = kept.setdefault(key, header)
        if first is not header:
            is_copy = _digest(first) == _digest(header)
            codes.append("SAME_INSTANCE_TWICE" if is_copy else "INSTANCE_CONFLICT")
    return list(kept.values()), sorted(set(codes))


def _digest(header: InstanceHeader) -> bytes:
    with header.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _findings(headers: list[InstanceHeader]) -> list[tuple[str, bool]]:
    """Return each code that single headers decide, and whether it applies."""
    localizers = [_is_localizer(header) for header in headers]
    sizes = {(header.num_rows, header.num_columns) for header in headers}
    num_voxels = sum(header.num_rows * header.num_columns for header in headers)
    is_multi_frame = any(_is_multi_frame(header) for header in headers)
    return [
        ("MIXED_PATIENT", len({header.patient_id for header in headers}) > 1),
        ("NO_PATIENT_ID", not all(header.patient_id for header in headers)),
        ("ONLY_LOCALIZER", all(localizers)),
        ("MULTI_FRAME", is_multi_frame),
        (
            "NOT_ORIGINAL_PRIMARY",
            not all(localizers)
            and not is_multi_frame
            and not all(_is_plain_ct(header) for header in headers),
        ),
        (
            "NO_IPP",
            not is_multi_frame and not all(_has_place(header) for header in headers),
        ),
        ("MIXED_SIZE", len(sizes) > 1),
        ("MIXED_ORIENTATION", _differ(headers, "orientation", _ORIENTATION_TOLERANCE)),
        ("MIXED_PIXELSPACING", _differ(headers, "pixel_spacing", 1e-3)),
        ("NO_RESCALE", not is_multi_frame and not all(h.has_rescale for h in headers)),
        ("TRUNCATED", any(_is_truncated(header) for header in headers)),
        ("LOSSY", any(_is_lossy(header) for header in headers)),
        (
            "MIXED_FRAME_OF_REFERENCE",
            len({header.frame_of_reference_uid for header in headers}) > 1,
        ),
        ("EMPTY_UID", not all(_has_uids(header) for header in headers)),
        ("BURNED_IN", any(header.is_burned_in for header in headers)),
        (
            "TOO_LARGE",
            num_voxels > _MAX_VOXELS or any(max(size) > _MAX_SIDE for size in sizes),
        ),
    ]


def _is_localizer(header: InstanceHeader) -> bool:
    return "LOCALIZER" in header.image_type


def _is_multi_frame(header: InstanceHeader) -> bool:
    return header.sop_class_uid == _ENHANCED_CT_STORAGE or header.num_frames > 1


def _is_plain_ct(header: InstanceHeader) -> bool:
    return (
        header.image_type[:2] == ("ORIGINAL", "PRIMARY")
        and not _is_localizer(header)
        and header.sop_class_uid
        in (_CT_IMAGE_STORAGE, "")  # "" is EMPTY_UID's business
        and header.photometric == "MONOCHROME2"
        and header.num_samples == 1
        and header.bits_allocated == 16
        and min(header.num_rows, header.num_columns) > 0
    )


def _has_place(header: InstanceHeader) -> bool:
    spacing = header.pixel_spacing
    return (
        header.position is not None
        and header.orientation is not None
        and spacing is not None
        and min(spacing) > 0
        and bool(np.isfinite([*header.position, *header.orientation, *spacing]).all())
    )


def _has_uids(header: InstanceHeader) -> bool:
    return all(
        (
            header.sop_class_uid,
            header.sop_instance_uid,
            header.series_uid,
            header.study_uid,
            header.frame_of_reference_uid,
        )
    )


def _is_truncated(header: InstanceHeader) -> bool:
    expected = header.num_rows * header.num_columns * header.bits_allocated // 8
    return (
        header.transfer_syntax in _UNCOMPRESSED
        and header.pixel_bytes < expected * header.num_samples
    )


def _is_lossy(header: InstanceHeader) -> bool:
    return header.is_lossy is True or _is_lossy_syntax(
        header.transfer_syntax, declared_lossless=header.is_lossy is False
    )


def _is_lossy_syntax(syntax: str, *, declared_lossless: bool) -> bool:
    """Tell whether pixels under a transfer syntax may have lost precision."""
    uid = UID(syntax)
    return uid in _ALWAYS_LOSSY or (uid in _PERHAPS_LOSSY and not declared_lossless)


def _differ(headers: list[InstanceHeader], name: str, tolerance: float) -> bool:
    values = [getattr(header, name) for header in headers]
    known = np.array([value for value in values if value is not None])
    return bool(known.size) and bool((np.ptp(known, axis=0) > tolerance).any())


def _can_place(headers: list[InstanceHeader], codes: list[str]) -> bool:
    if {"MIXED_ORIENTATION", "NO_IPP", "ONLY_LOCALIZER", "MULTI_FRAME"} & set(codes):
        return False
    rows, columns = np.array(headers[0].orientation).reshape(2, 3)
    lengths = (rows @ rows, columns @ columns, 1 + rows @ columns)
    if not np.allclose(lengths, 1.0, atol=1e-3):
        codes.append("NO_IPP")
        return False
    return True


def _height_of(header: InstanceHeader) -> float:
    if header.position is None:
        raise ValueError("the header has no position")
    return float(normal_of(header) @ np.array(header.position))


def _judge_geometry(
    headers: list[InstanceHeader], imaging: ImagingExpectations | None
) -> tuple[list[str], tuple[float, float, float] | None]:
    """Judge slices that are sorted along their common normal."""
    if len(headers) < (imaging.min_slices if imaging else _FEWEST_SLICES):
        return ["TOO_FEW_SLICES"], None
    positions = np.array([header.position for header in headers])
    normal = normal_of(headers[0])
    heights = positions @ normal
    gaps = np.diff(heights)
    if gaps.min() < _SAME_PLACE_MM:
        return ["DUPLICATE_POSITIONS"], None
    codes = _judge_gaps(gaps)
    sideways = positions - positions[0] - np.outer(heights - heights[0], normal)
    if np.linalg.norm(sideways, axis=1).max() > _TOLERANCE_MM:
        codes.append("GANTRY_TILT")
    spacing = float(gaps.mean())
    if not codes and not _highdicom_agrees(headers, spacing):
        codes.append("NON_UNIFORM_SPACING")
    if not codes and imaging and spacing > imaging.max_slice_spacing_mm:
        codes.append("THICK_SLICES")
    pixel_spacing = headers[0].pixel_spacing
    if codes or pixel_spacing is None:
        return codes, None
    return [], (spacing, pixel_spacing[0], pixel_spacing[1])


def _judge_gaps(gaps: Float[np.ndarray, " gap"]) -> list[str]:
    even = np.arange(gaps.size + 1) * gaps.mean()
    actual = np.concatenate([[0.0], np.cumsum(gaps)])
    if np.abs(actual - even).max() <= _TOLERANCE_MM:
        return []
    steps = gaps / gaps.min()
    are_multiples = np.abs(gaps - np.rint(steps) * gaps.min()).max() <= _TOLERANCE_MM
    num_wide = np.count_nonzero(np.rint(steps) > 1)
    # A few doubled gaps are lost slices; many are a change of protocol.
    if are_multiples and num_wide * 4 <= gaps.size:
        return ["MISSING_SLICES"]
    return ["NON_UNIFORM_SPACING"]


def _highdicom_agrees(headers: list[InstanceHeader], spacing: float) -> bool:
    with quiet_dicom():
        try:
            theirs, _ = get_volume_positions(
                image_positions=[header.position for header in headers],
                image_orientation=headers[0].orientation,
            )
        except READ_ERRORS:
            return False
    return theirs is not None and bool(abs(theirs - spacing) <= 0.01 * spacing)
