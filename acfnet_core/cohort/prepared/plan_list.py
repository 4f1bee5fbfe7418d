"""The plans of a site's patients, each made when it is asked for.

A plan holds headers of all of a patient's scans. The plan of one patient is in memory
at a time, and of all of them a number each.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.images.gated_list import GatedList
from acfnet_core.cohort.lazy_sequence import LazySequence
from acfnet_core.cohort.masks.segmentation import SegmentationFile
from acfnet_core.cohort.prepared.scan_plan import (
    PatientPlan,
    PlannedScan,
    plan_patient,
)
from acfnet_core.cohort.spool import SpooledList
from acfnet_core.cohort.table.clinical_table import TableRow


class PlanList(LazySequence[PatientPlan]):
    """One plan a row, in the order of the rows.

    Args:
        rows: Of the table.
        series: Every series of the images.
        segmentations: All of them, to be found by their patients.
        imaging: What the contract asks of images.
    """

    def __init__(
        self,
        rows: Sequence[TableRow],
        series: GatedList,
        segmentations: SpooledList[SegmentationFile],
        imaging: ImagingExpectations,
    ) -> None:
        self._rows, self._series = rows, series
        self._segmentations, self._imaging = segmentations, imaging
        self._last: tuple[int, PatientPlan] | None = None

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._rows)

    def item_at(self, index: int) -> PatientPlan:
        """Return the plan of a row; that of one patient is often asked for again."""
        if self._last is None or self._last[0] != index:
            self._last = (index, self._plan(self._rows[index]))
        return self._last[1]

    def _plan(self, row: TableRow) -> PatientPlan:
        return plan_patient(
            row,
            self._series.of_patient(row.patient_id),
            list(self._segmentations.find(row.patient_id)),
            self._imaging,
        )


@runtime_checkable
class HasScans(Protocol):
    """Whatever has the scans of one patient."""

    @property
    def scans(self) -> tuple[PlannedScan, ...]:
        """Earliest first."""


class EachScan(LazySequence[tuple[int, int, PlannedScan]]):
    """Every scan of all patients, one after the other.

    An item is the place of the patient, the number of the scan among the patient's,
    both from 0, and the scan.
    """

    def __init__(self, patients: Sequence[HasScans]) -> None:
        self._patients = patients
        self._starts = array("Q")
        self._length = 0
        for patient in patients:
            self._starts.append(self._length)
            self._length += len(patient.scans)

    def __len__(self) -> int:
        """Return how many scans there are."""
        return self._length

    def item_at(self, index: int) -> tuple[int, int, PlannedScan]:
        """Return a scan with its place."""
        # Patients without a scan begin where the next one does.
        patient = bisect_right(self._starts, index) - 1
        number = index - self._starts[patient]
        return patient, number, self._patients[patient].scans[number]
