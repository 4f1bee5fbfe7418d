"""The clinical table of a copy: the contract's columns, written as the contract says.

Cells are not copied: what was converted is written anew, so that a text which is no
value of the contract cannot come along. Identifiers and free text stay at the site, the
pseudonym is in the identifier's place, days are moved, and rows stand in the order of
the pseudonyms, which says nothing of the order at the site.
"""

import csv
import datetime
import io
from dataclasses import dataclass, field

from acfnet_core.cohort.contract import ClinicalColumn, DataContract
from acfnet_core.cohort.deidentified.keyed_names import KeyedNames, PatientNames
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.cell_values import Value
from acfnet_core.cohort.table.table_columns import read_columns

OLDEST_YEARS = 90.0
"""Who is older is written as this old, as in the images' headers."""


@dataclass(frozen=True, kw_only=True)
class ClinicalCopy:
    """A de-identified table.

    Attributes:
        content: CSV, UTF-8, with a comma between the cells.
        columns: The contract's names, in its order.
        num_patients: Rows.
        num_ages_capped: Patients who were older than `OLDEST_YEARS`.
    """

    content: bytes = field(repr=False)
    columns: tuple[str, ...]
    num_patients: int
    num_ages_capped: int


def copy_table(
    contract: DataContract,
    sources: CohortSources,
    names: KeyedNames,
    patient_ids: frozenset[str],
) -> ClinicalCopy:
    """Return the table of some patients, de-identified.

    Args:
        contract: What the columns mean; its own codes and formats are written.
        sources: The table, which must be without fault, and how the site writes it.
        names: What stands for identifiers and days.
        patient_ids: Whose rows are copied.

    Raises:
        DataError: The table cannot be read.
        ConfigError: The site's mapping does not fit the contract.
    """
    values = read_columns(sources.clinical_table, contract, sources.mapping).values
    identifier = contract.patient_id_column
    columns = [name for name in contract.columns if name in values]
    age_column = contract.imaging.header_check.age_column if contract.imaging else None
    rows: list[list[str]] = []
    num_capped = 0
    for index, patient_id in enumerate(values[identifier]):
        if not isinstance(patient_id, str) or patient_id not in patient_ids:
            continue
        row = {name: values[name][index] for name in columns}
        num_capped += _cap_age(row, age_column)
        patient = names.patient(patient_id)
        rows.append(
            [
                patient.pseudonym
                if name == identifier
                else _write_cell(contract.columns[name], row[name], patient)
                for name in columns
            ]
        )
    rows.sort(key=lambda row: row[columns.index(identifier)])
    return ClinicalCopy(
        content=_write_csv([columns, *rows]),
        columns=tuple(columns),
        num_patients=len(rows),
        num_ages_capped=num_capped,
    )


def _cap_age(row: dict[str, Value], age_column: str | None) -> bool:
    age = row.get(age_column) if age_column else None
    if age_column is None or not isinstance(age, float) or age < OLDEST_YEARS:
        return False
    row[age_column] = OLDEST_YEARS
    return age > OLDEST_YEARS


def _write_cell(column: ClinicalColumn, value: Value, patient: PatientNames) -> str:
    """Write a value; a column that may name somebody is there with empty cells."""
    may_identify = column.known == "identifier"
    match column.type, value:
        case ("number", float(number)) if not may_identify:
            return str(int(number)) if number.is_integer() else repr(number)
        case ("binary" | "category", float(position)) if not may_identify:
            return column.codes[int(position)]
        case ("date", datetime.date() as day) if not may_identify:
            moved = patient.shift(day)
            return "" if moved is None else moved.strftime(column.date_format)
    return ""


def _write_csv(rows: list[list[str]]) -> bytes:
    content = io.StringIO(newline="")
    csv.writer(content, lineterminator="\n").writerows(rows)
    return content.getvalue().encode("utf-8")
