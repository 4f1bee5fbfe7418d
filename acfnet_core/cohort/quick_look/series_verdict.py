"""What one CT series is, told without a contract: shape, spacing, verdict and codes.

The codes are the gate's. `repairable` says that every fault is one that can be mended
in principle (`REPAIRS`); nothing is mended here.
"""

from collections.abc import Sequence

import numpy as np
from pydicom.uid import UID

from acfnet_core.cohort.images.dicom_gate import GatedSeries, gate_series, normal_of
from acfnet_core.cohort.images.dicom_index import InstanceHeader
from acfnet_core.cohort.images.refusals import NOTES
from acfnet_core.cohort.quick_look.folder_findings import (
    REPAIRS,
    SeriesFinding,
    Verdict,
)

_NO_ONE_SPACING = frozenset(
    {
        "DUPLICATE_POSITIONS",
        "MIXED_ORIENTATION",
        "MIXED_PIXELSPACING",
        "MULTI_FRAME",
        "NON_UNIFORM_SPACING",
        "NO_IPP",
        "ONLY_LOCALIZER",
        "TOO_FEW_SLICES",
    }
)
_TOLERANCE_MM = 0.1


def find_series(
    headers: Sequence[InstanceHeader],
    *,
    label: str,
    patient: str | None,
    folder: str,
    num_segmentations: int,
    broken_folders: frozenset[object],
) -> SeriesFinding:
    """Judge the files of one CT series by themselves.

    Args:
        headers: At least one.
        label: The series' label.
        patient: The patient's label.
        folder: As it is to be shown.
        num_segmentations: How many name this series.
        broken_folders: Folders with a DICOM file whose header cannot be read.
    """
    gated = gate_series(headers, None, broken_folders=broken_folders)
    spacing_mm = gated.spacing_mm or _measured_spacing(gated)
    return SeriesFinding(
        series=label,
        patient=patient,
        folder=folder,
        modality=headers[0].modality,
        files=len(headers),
        shape=_shape_of(gated),
        spacing_mm=spacing_mm and _rounded(spacing_mm),
        transfer_syntax=tuple(sorted({_syntax_of(header) for header in headers})),
        segmentations=num_segmentations,
        verdict=_verdict_on(gated),
        codes=gated.codes,
    )


def _verdict_on(gated: GatedSeries) -> Verdict:
    if gated.is_accepted:
        return "accepted"
    refusing = set(gated.codes) - NOTES
    is_mendable = refusing <= REPAIRS.keys() and (
        "GANTRY_TILT" not in refusing or _is_even_tilt(gated)
    )
    return "repairable" if is_mendable else "refused"


def _is_even_tilt(gated: GatedSeries) -> bool:
    """Tell a tilted gantry from slices that were moved for some other reason."""
    along, sideways = _places(gated)
    slope = along @ sideways / (along @ along)
    rest = sideways - np.outer(along, slope)
    return bool(np.linalg.norm(rest, axis=1).max() <= _TOLERANCE_MM)


def _measured_spacing(gated: GatedSeries) -> tuple[float, float, float] | None:
    """Return the spacing of a series that is not accepted, where it has one."""
    pixel_spacing = gated.headers[0].pixel_spacing
    if pixel_spacing is None or _NO_ONE_SPACING & set(gated.codes):
        return None
    along, _ = _places(gated)
    gap_mm = float(np.median(np.diff(along)))
    return (gap_mm, pixel_spacing[0], pixel_spacing[1])


def _places(gated: GatedSeries) -> tuple[np.ndarray, np.ndarray]:
    """Return, from the first slice on, the way along the normal and the rest (mm)."""
    positions = np.array([header.position for header in gated.headers])
    offsets = positions - positions[0]
    normal = normal_of(gated.headers[0])
    along = offsets @ normal
    return along, offsets - np.outer(along, normal)


def _shape_of(gated: GatedSeries) -> tuple[int, int, int] | None:
    sizes = {(header.num_rows, header.num_columns) for header in gated.headers}
    if len(sizes) != 1:
        return None
    ((num_rows, num_columns),) = sizes
    return (sum(h.num_frames for h in gated.headers), num_rows, num_columns)


def _rounded(spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = (round(value, 6) for value in spacing_mm)
    return (first, second, third)


def _syntax_of(header: InstanceHeader) -> str:
    uid = UID(header.transfer_syntax)
    return "unknown" if uid.is_private else str(uid.name)
