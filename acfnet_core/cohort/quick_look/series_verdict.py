"""What one CT series is, told without a contract: shape, spacing, verdict and codes.

The codes are the gate's. A series is `repairable` if the gate accepts it with every
repair switched on.
"""

from collections.abc import Sequence

import numpy as np
from pydicom.uid import UID

from acfnet_core.cohort.images.dicom_gate import GatedSeries, gate_series
from acfnet_core.cohort.images.dicom_index import InstanceHeader
from acfnet_core.cohort.images.repairs import ALL_REPAIRS
from acfnet_core.cohort.images.slice_stack import normal_of
from acfnet_core.cohort.quick_look.folder_findings import (
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


def find_series(
    headers: Sequence[InstanceHeader],
    *,
    label: str,
    patient: str | None,
    folder: str,
    num_segmentations: int,
    broken_folders: frozenset[object],
    mended: Sequence[InstanceHeader],
    is_repaired: bool = False,
) -> SeriesFinding:
    """Judge the files of one CT series by themselves.

    Args:
        headers: At least one.
        label: The series' label.
        patient: The patient's label.
        folder: As it is to be shown.
        num_segmentations: How many name this series.
        broken_folders: Folders with a DICOM file whose header cannot be read.
        mended: The headers with all made up that they lack.
        is_repaired: Whether to show what every repair would give.
    """
    as_it_is = gate_series(headers, None, broken_folders=broken_folders)
    in_repair = gate_series(
        mended, None, broken_folders=broken_folders, repairs=ALL_REPAIRS
    )
    gated = in_repair if is_repaired else as_it_is
    verdict: Verdict = "repairable" if in_repair.is_accepted else "refused"
    spacing_mm = gated.spacing_mm or _measured_spacing(gated)
    return SeriesFinding(
        series=label,
        patient=patient,
        folder=folder,
        modality=headers[0].modality,
        files=len({header.path for header in headers}),
        shape=_shape_of(gated),
        spacing_mm=spacing_mm and _rounded(spacing_mm),
        transfer_syntax=tuple(sorted({_syntax_of(header) for header in headers})),
        segmentations=num_segmentations,
        verdict="accepted" if gated.is_accepted else verdict,
        codes=gated.codes,
        repaired=gated.repaired,
    )


def _measured_spacing(gated: GatedSeries) -> tuple[float, float, float] | None:
    """Return the spacing of a series that is not accepted, where it has one."""
    pixel_spacing = gated.headers[0].pixel_spacing
    if pixel_spacing is None or _NO_ONE_SPACING & set(gated.codes):
        return None
    positions = np.array([header.position for header in gated.headers])
    gap_mm = float(np.median(np.diff(positions @ normal_of(gated.headers[0]))))
    return (gap_mm, pixel_spacing[0], pixel_spacing[1])


def _shape_of(gated: GatedSeries) -> tuple[int, int, int] | None:
    sizes = {(header.num_rows, header.num_columns) for header in gated.headers}
    if len(sizes) != 1:
        return None
    ((num_rows, num_columns),) = sizes
    if gated.slots:
        return (gated.slots[-1] + 1, num_rows, num_columns)
    return (sum(h.num_frames for h in gated.headers), num_rows, num_columns)


def _rounded(spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = (round(value, 6) for value in spacing_mm)
    return (first, second, third)


def _syntax_of(header: InstanceHeader) -> str:
    uid = UID(header.transfer_syntax)
    return "unknown" if uid.is_private else str(uid.name)
