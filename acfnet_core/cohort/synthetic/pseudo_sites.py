"""Splitting the public single-hospital cohort into sites for a trial of the federation.

The only honest division that the public data has is by slice thickness: one scanner
protocol with 100 slices or more, one with fewer. A fifth of the patients, stratified by
event, is set apart first and is seen by no site.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from acfnet_core.cohort.splits import split_patients
from acfnet_core.cohort.table.table_file import Cell, cell_text, read_cells
from acfnet_core.errors import DataError
from acfnet_core.files import PRIVATE_MODE, make_folder, write_atomically

THIN_SLICES = "thin-slices"
THICK_SLICES = "thick-slices"
HELD_OUT = "held-out"
SITE_TABLE = "clinical.csv"

MIN_THIN_NUM_SLICES = 100
HELD_OUT_FRACTION = 0.2

PATIENT_COLUMN = "Patient-ID"
EVENT_COLUMN = "vital_status_DFS"
SERIES_PATIENT_COLUMN = "Subject ID"
NUM_SLICES_COLUMN = "Number of Images"


def write_public_cohort_sites(
    clinical_csv: Path, series_csv: Path, folder: Path, *, seed: int
) -> tuple[str, ...]:
    """Write the table of each pseudo-site and of the held-out fifth.

    Every row and column is copied as it is, in its order, to `<site>/clinical.csv`,
    replacing earlier ones. Of several series of a patient the one with the most slices
    counts. A faulty event is none here and is found when the site's table is checked.

    Args:
        clinical_csv: The cohort's clinical table, with the public columns.
        series_csv: The cohort's list of CT series.
        folder: Where the sites' folders are made.
        seed: Decides who is held out.

    Returns:
        The names thin-slices, thick-slices and held-out, in this order.

    Raises:
        DataError: A table is missing, unreadable, empty, lacks a column, does not say
            how many slices a patient has, or leaves a site without patients.
        MachineError: The folder cannot be written.
    """
    header, rows = _read_table(clinical_csv, (PATIENT_COLUMN, EVENT_COLUMN))
    num_slices = _match_slices(clinical_csv, header, rows, series_csv)
    event_at = header.index(EVENT_COLUMN)
    has_event = np.array([cell_text(row[event_at]) in {"1", "1.0"} for row in rows])
    held_out, rest = split_patients(has_event, fraction=HELD_OUT_FRACTION, seed=seed)
    is_thin = np.array(num_slices) >= MIN_THIN_NUM_SLICES
    members = {
        THIN_SLICES: rest[is_thin[rest]],
        THICK_SLICES: rest[~is_thin[rest]],
        HELD_OUT: held_out,
    }
    _require_patients(clinical_csv, {name: len(who) for name, who in members.items()})
    for name, indices in members.items():
        content = _format_csv(header, [rows[index] for index in indices])
        path = make_folder(folder / name, private=True) / SITE_TABLE
        write_atomically(path, content, mode=PRIVATE_MODE)
    return tuple(members)


def _read_table(
    path: Path, needed: tuple[str, ...]
) -> tuple[list[str], list[list[Cell]]]:
    """Read a table that must have rows and the needed columns."""
    header, rows = read_cells(path)
    missing = [name for name in needed if name not in header]
    if missing:
        raise DataError(
            "data.missing_column",
            f"{path}: lacks {_listed(missing)}; the public cohort's table has it.",
            remedy="Use the files of the public cohort with their own column names.",
        )
    if not rows:
        raise DataError(
            "data.table_empty",
            f"{path}: has a header but no rows; one row for each patient is expected.",
            remedy="Download or export the table again.",
        )
    return header, rows


def _match_slices(
    clinical_csv: Path,
    header: list[str],
    rows: list[list[Cell]],
    series_csv: Path,
) -> list[int]:
    """Return the number of slices of each row's patient."""
    slices_of = _read_num_slices(series_csv)
    patient_at = header.index(PATIENT_COLUMN)
    patients = [cell_text(row[patient_at]) for row in rows]
    num_unmatched = sum(patient not in slices_of for patient in patients)
    if num_unmatched:
        raise DataError(
            "data.table_invalid",
            f"{clinical_csv}: {num_unmatched} of {len(rows)} patients have no series "
            f"in {series_csv}; each {PATIENT_COLUMN} must occur there as "
            f"{SERIES_PATIENT_COLUMN}.",
            remedy="Use the clinical table and the list of series of the same release.",
        )
    return [slices_of[patient] for patient in patients]


def _read_num_slices(series_csv: Path) -> dict[str, int]:
    """Return the most slices that a series of each patient has."""
    header, rows = _read_table(series_csv, (SERIES_PATIENT_COLUMN, NUM_SLICES_COLUMN))
    patient_at = header.index(SERIES_PATIENT_COLUMN)
    slices_at = header.index(NUM_SLICES_COLUMN)
    most: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        text = cell_text(row[slices_at])
        if not (text.isascii() and text.isdigit()):
            raise DataError(
                "data.table_invalid",
                f"{series_csv} row {number}: {NUM_SLICES_COLUMN!r} must be a whole "
                "number and is not.",
                remedy="Download or export the list of series again.",
            )
        patient = cell_text(row[patient_at])
        most[patient] = max(int(text), most.get(patient, 0))
    return most


def _require_patients(clinical_csv: Path, sizes: dict[str, int]) -> None:
    """Refuse a split that leaves a site without patients."""
    empty = [name for name, size in sizes.items() if size == 0]
    if empty:
        raise DataError(
            "data.too_few_patients",
            f"{clinical_csv}: its {sum(sizes.values())} patients leave nobody for "
            f"{_listed(empty)}; each site and the held-out part need at least one.",
            remedy="Use the whole public cohort.",
        )


def _listed(names: Sequence[str]) -> str:
    """Return names as a readable list."""
    return ", ".join(repr(name) for name in names)


def _format_csv(header: list[str], rows: list[list[Cell]]) -> bytes:
    """Return a table as UTF-8 csv; text cells stay as they are."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(
            cell if isinstance(cell, str) else cell_text(cell) for cell in row
        )
    return text.getvalue().encode()
