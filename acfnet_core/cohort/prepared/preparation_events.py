"""What happens while a cohort is prepared; light, so that a terminal may import it.

No event holds an identifier or a value of a patient: a row's number stands for one.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SourcesRead:
    """The table and the headers of the images have been read.

    Attributes:
        num_patients: With an outcome.
        num_scans_planned: Of all patients, with an outcome or without.
    """

    num_patients: int
    num_without_outcome: int
    num_series: int
    num_scans_planned: int


@dataclass(frozen=True, kw_only=True)
class StudyRefused:
    """A study of the patient in this row of the table is not used."""

    row_number: int
    codes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PatientPrepared:
    """Patient number `index` (from 1) of `total` is done."""

    index: int
    total: int
    row_number: int
    num_scans: int
    num_reused: int


@dataclass(frozen=True, kw_only=True)
class CohortFinished:
    """The manifest has been written; the store can be opened.

    Attributes:
        num_patients: With an outcome; events and scans are theirs.
        num_without_outcome: Patients who are there to be predicted, never trained on.
        num_scans_without_outcome: Their scans.
        num_scans_assumed: Scans of all whose time is assumed, for want of a resection
            date.
        refused: Reason code -> number of studies of all.
        repaired: Code of what was mended -> scans of all.
    """

    manifest: Path
    num_patients: int
    num_events: int
    num_with_scans: int
    num_scans: int
    num_without_outcome: int
    num_scans_without_outcome: int
    num_scans_assumed: int
    refused: dict[str, int]
    repaired: dict[str, int]


PreparationEvent = SourcesRead | StudyRefused | PatientPrepared | CohortFinished
