"""The gate: which CT series may be read, decided from headers, with a code for each no.

A series passes when its voxels lie on a straight, even grid that every slice agrees
on, and nothing hints that pixels were changed. A fault that the site lets be mended
(`repairs`) is told and does not refuse. Two opinions are asked about the geometry:
ours, slice by slice in millimetres, and highdicom's; one no is enough.
"""

import filecmp
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.uid import UID

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.images.dicom_index import (
    DicomIndex,
    InstanceHeader,
)
from acfnet_core.cohort.images.enhanced_ct import ENHANCED_CT_STORAGE
from acfnet_core.cohort.images.refusals import NOTES
from acfnet_core.cohort.images.repairs import NO_REPAIRS, Repairs
from acfnet_core.cohort.images.slice_stack import judge_stack, normal_of

_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_ORIENTATION_TOLERANCE = 1e-4
_SPACING_TOLERANCE = 1e-4
_FARTHEST_MM = 1e6
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
        codes: What was found and not mended; see `refusals.GATE_CODES`.
        spacing_mm: Between the planes of the slices, rows and columns; None if refused.
        repaired: Codes of what was found and mended.
        slots: Of each header, its place in the stack, from 0; a number that is left out
            is a slice that was lost. Empty if refused.
        slice_step_mm: From one slice's first voxel to the next one's, (x, y, z).
    """

    headers: Sequence[InstanceHeader]
    codes: tuple[str, ...]
    spacing_mm: tuple[float, float, float] | None
    repaired: tuple[str, ...] = ()
    slots: tuple[int, ...] = ()
    slice_step_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def is_accepted(self) -> bool:
        """Whether no code refuses the series."""
        return NOTES.issuperset(self.codes)


def gate_index(
    index: DicomIndex, imaging: ImagingExpectations, repairs: Repairs = NO_REPAIRS
) -> tuple[GatedSeries, ...]:
    """Judge every CT series of an index, whose headers are mended already.

    All their headers are then in memory; `gated_list.gate_on_disk` leaves them out of
    it.
    """
    return tuple(
        gate_series(
            series, imaging, broken_folders=index.broken_folders, repairs=repairs
        )
        for series in index.ct_series
    )


def gate_series(
    headers: Sequence[InstanceHeader],
    imaging: ImagingExpectations | None,
    *,
    broken_folders: frozenset[object] = frozenset(),
    repairs: Repairs = NO_REPAIRS,
) -> GatedSeries:
    """Judge one CT series from its headers.

    Args:
        headers: Of one series, in any order.
        imaging: The contract's bounds; None judges the series by itself, and two slices
            at any distance are then enough.
        broken_folders: See `DicomIndex`.
        repairs: Which faults of the stack are mended; what headers lack is made up
            before, by `repairs.mend_headers`.
    """
    unique, codes = _without_copies(headers)
    if any(header.path.parent in broken_folders for header in unique):
        codes.append("BROKEN_NEIGHBOUR")
    codes += [code for code, found in _findings(unique) if found]
    repaired = sorted({code for header in unique for code in header.mended})
    stack = None
    if _can_place(unique, codes):
        unique = sorted(unique, key=_height_of)
        stack = judge_stack(unique, imaging, repairs)
        codes += [code for code in stack.codes if not _is_explained(code, codes)]
        repaired += stack.repaired
    if stack is None or not NOTES.issuperset(codes):
        return GatedSeries(headers=tuple(unique), codes=tuple(codes), spacing_mm=None)
    return GatedSeries(
        headers=tuple(unique),
        codes=tuple(codes),
        spacing_mm=stack.spacing_mm,
        repaired=tuple(repaired),
        slots=stack.slots,
        slice_step_mm=stack.step_mm,
    )


def _is_explained(code: str, codes: Sequence[str]) -> bool:
    """Tell whether a fault of the stack is another one seen from the side.

    Pixels of two sizes make an even stack look uneven to highdicom.
    """
    return code == "NON_UNIFORM_SPACING" and "MIXED_PIXELSPACING" in codes


def _without_copies(
    headers: Sequence[InstanceHeader],
) -> tuple[list[InstanceHeader], list[str]]:
    kept: dict[tuple[str, int], InstanceHeader] = {}
    files_of: dict[Path, set[Path]] = defaultdict(set)
    for header in headers:
        # A file without a UID is nobody's copy.
        uid = header.sop_instance_uid or f"at {header.path}"
        first = kept.setdefault((uid, header.frame_number), header)
        if first is not header:
            files_of[first.path].add(header.path)
    codes = {
        "SAME_INSTANCE_TWICE" if _is_copy(one, other) else "INSTANCE_CONFLICT"
        for one, others in files_of.items()
        for other in others
    }
    return list(kept.values()), sorted(codes)


def _is_copy(one: Path, other: Path) -> bool:
    """Tell whether two files are the same; one that is gone is no copy."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _findings(headers: list[InstanceHeader]) -> list[tuple[str, bool]]:
    """Return each code that single headers decide, and whether it applies."""
    localizers = [_is_localizer(header) for header in headers]
    sizes = {(header.num_rows, header.num_columns) for header in headers}
    num_voxels = sum(h.num_rows * h.num_columns * h.num_frames for h in headers)
    is_multi_frame = _is_multi_frame(headers)
    return [
        ("MIXED_PATIENT", len({header.patient_id for header in headers}) > 1),
        ("MIXED_STUDY", len({header.study_uid for header in headers}) > 1),
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
        ("MIXED_PIXELSPACING", _differ(headers, "pixel_spacing", _SPACING_TOLERANCE)),
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


def _is_multi_frame(headers: list[InstanceHeader]) -> bool:
    """Tell whether there are frames that are not the one stack of one file."""
    num_files = len({header.path for header in headers})
    return any(
        header.num_frames > 1
        or (header.frame_number > 0 and num_files > 1)
        or (header.frame_number == 0 and header.sop_class_uid == ENHANCED_CT_STORAGE)
        for header in headers
    )


def _is_plain_ct(header: InstanceHeader) -> bool:
    return (
        header.image_type[:2] == ("ORIGINAL", "PRIMARY")
        and not _is_localizer(header)
        # No class at all is EMPTY_UID's business.
        and header.sop_class_uid in (_CT_IMAGE_STORAGE, ENHANCED_CT_STORAGE, "")
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
        # What is not a number is not below the bound either.
        and all(
            abs(number) < _FARTHEST_MM
            for number in (*header.position, *header.orientation, *spacing)
        )
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
