"""Which scans of a patient are used, decided from headers and dates alone.

One study gives at most one scan: of its accepted series with a segmentation, one whose
voxels were not mended before one whose were, of those the one with the thinnest slices,
and among equals the lowest series UID. A scan's time is counted from the resection.
Where the table does not have that day, the patient's last scan is taken to be at the
resection, the others keep their distance to it, and the scans are marked as assumed.
"""

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.images.dicom_gate import GatedSeries
from acfnet_core.cohort.images.refusals import NOTES, ScanRefusedError
from acfnet_core.cohort.images.repairs import VOXEL_REPAIRS
from acfnet_core.cohort.masks.segmentation import (
    SegmentationFile,
    choose_segmentation,
)
from acfnet_core.cohort.table.clinical_table import TableRow
from acfnet_core.time_units import DAYS_PER_MONTH


@dataclass(frozen=True, kw_only=True)
class PlannedScan:
    """A scan that is to be prepared."""

    series: GatedSeries = field(repr=False)
    segmentation: SegmentationFile = field(repr=False)
    time_months: float
    time_assumed: bool


@dataclass(frozen=True, kw_only=True)
class PatientPlan:
    """What is to be done for one patient.

    Attributes:
        scans: Earliest first.
        refused: For each study that is not used, its codes.
    """

    row: TableRow
    scans: tuple[PlannedScan, ...]
    refused: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class _Study:
    date: datetime.date
    series: GatedSeries
    segmentation: SegmentationFile


def count_codes(plans: Iterable[PatientPlan]) -> dict[str, int]:
    """Return for each code how many studies were refused with it."""
    counts = Counter(code for plan in plans for codes in plan.refused for code in codes)
    return dict(sorted(counts.items()))


def plan_patient(
    row: TableRow,
    series: Iterable[GatedSeries],
    segmentations: Sequence[SegmentationFile],
    imaging: ImagingExpectations,
) -> PatientPlan:
    """Decide which scans of one patient are used.

    Args:
        row: The patient's.
        series: Every CT series that has a slice of the patient.
        segmentations: Those that may belong to the patient.
        imaging: What the contract asks of images.
    """
    by_study: dict[str, list[GatedSeries]] = defaultdict(list)
    for one in series:
        by_study[one.headers[0].study_uid].append(one)
    studies: list[_Study] = []
    refused: list[tuple[str, ...]] = []
    for uid in sorted(by_study):
        chosen = _choose_in_study(by_study[uid], segmentations, imaging)
        if isinstance(chosen, _Study):
            studies.append(chosen)
        else:
            refused.append(chosen)
    scans, out_of_window = _place_in_time(row, studies, imaging)
    return PatientPlan(row=row, scans=scans, refused=(*refused, *out_of_window))


def _choose_in_study(
    series: Sequence[GatedSeries],
    segmentations: Sequence[SegmentationFile],
    imaging: ImagingExpectations,
) -> _Study | tuple[str, ...]:
    """Return the study's scan, or the codes that leave it without one."""
    usable: list[tuple[tuple[bool, float, str], GatedSeries, SegmentationFile]] = []
    codes: set[str] = set()
    for one in series:
        if one.spacing_mm is None:
            codes.update(set(one.codes) - NOTES)
            continue
        try:
            segmentation = choose_segmentation(one, segmentations, imaging)
        except ScanRefusedError as error:
            codes.add(error.reason_code)
            continue
        # A study that was used without a repair is not changed by allowing it.
        is_mended = not VOXEL_REPAIRS.isdisjoint(one.repaired)
        rank = (is_mended, one.spacing_mm[0], one.headers[0].series_uid)
        usable.append((rank, one, segmentation))
    if not usable:
        return tuple(sorted(codes))
    _, best, segmentation = min(usable, key=lambda candidate: candidate[0])
    date = _parse_date(best.headers[0].study_date)
    if date is None:
        return ("NO_STUDY_DATE",)
    return _Study(date=date, series=best, segmentation=segmentation)


def _parse_date(text: str) -> datetime.date | None:
    try:
        return datetime.datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None


def _place_in_time(
    row: TableRow, studies: list[_Study], imaging: ImagingExpectations
) -> tuple[tuple[PlannedScan, ...], list[tuple[str, ...]]]:
    """Date the scans from the resection and keep those that the contract uses."""
    if not studies:
        return (), []
    ordered = sorted(studies, key=lambda study: study.date)
    resection = row.resection_date or ordered[-1].date
    scans: list[PlannedScan] = []
    refused: list[tuple[str, ...]] = []
    for study in ordered:
        time_months = (study.date - resection).days / DAYS_PER_MONTH
        if time_months > imaging.latest_months:
            refused.append(("SCAN_AFTER_RESECTION",))
        elif time_months < imaging.earliest_months:
            refused.append(("SCAN_TOO_EARLY",))
        else:
            scans.append(
                PlannedScan(
                    series=study.series,
                    segmentation=study.segmentation,
                    time_months=time_months,
                    time_assumed=row.resection_date is None,
                )
            )
    num_surplus = max(0, len(scans) - imaging.max_scans)
    refused += [("SCAN_SURPLUS",)] * num_surplus
    return tuple(scans[num_surplus:]), refused
