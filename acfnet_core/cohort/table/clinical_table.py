"""One site's clinical table, read and checked against the contract.

Every fault of the table is found in one pass and told by rule, column, count and row:
never by value. Only the columns that the contract uses are read at all. Cells are taken
as they are and converted column by column, because a reader that guesses types turns
`-999` into a number, `00123` into 123 and 03/04/2019 into the wrong day.
"""

import datetime
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32

from acfnet_core.cohort.contract import ClinicalColumn, DataContract
from acfnet_core.cohort.contract_imaging import HeaderCheck
from acfnet_core.cohort.table.cell_values import Value
from acfnet_core.cohort.table.faults import (
    TableFault,
    row_number,
    summarise_findings,
)
from acfnet_core.cohort.table.mapping import AS_AGREED, TableMapping
from acfnet_core.cohort.table.table_columns import read_columns
from acfnet_core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """What the table says of one patient, converted; an outcome it cannot hold.

    Attributes:
        row_number: As a spreadsheet counts.
        patient_id: The site's own identifier: it must not leave this process.
        clinical: Standardised by the contract; 0 where missing.
        stated_sex: For comparison with the images' headers; None where not known, as
            `stated_age_years`.
    """

    row_number: int
    patient_id: str = field(repr=False)
    clinical: Float32[np.ndarray, " feature"]
    clinical_mask: Bool[np.ndarray, " feature"]
    resection_date: datetime.date | None
    stated_sex: Literal["M", "F"] | None = field(default=None, repr=False)
    stated_age_years: float | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class RowWithOutcome(TableRow):
    """One patient of the table whose time and event are both known."""

    time_months: float
    event: int
    fong_score: float | None


@dataclass(frozen=True, kw_only=True)
class ClinicalTable:
    """A table and what is wrong with it.

    Attributes:
        rows: Patients with a usable outcome, in the table's order; where there are
            faults, a faulty value counts as missing.
        without_outcome: Patients whose time or event is missing, in the table's order.
        faults: What keeps the table from being prepared.
        warnings: What looks wrong and is used all the same.
        num_rows: Rows in the file, the header not counted.
        num_missing: Feature -> rows without a value.
        num_unused_columns: Columns of the file that the contract does not use.
    """

    rows: tuple[RowWithOutcome, ...]
    without_outcome: tuple[TableRow, ...]
    faults: tuple[TableFault, ...]
    warnings: tuple[TableFault, ...]
    num_rows: int
    num_missing: dict[str, int]
    num_unused_columns: int


def read_clinical_table(
    path: Path, contract: DataContract, mapping: TableMapping = AS_AGREED
) -> ClinicalTable:
    """Read a csv or xlsx table that must be without fault.

    Args:
        path: The table; of a workbook the first sheet, or the one that `mapping` names.
        contract: What the columns mean.
        mapping: How the site's table differs from the contract.

    Raises:
        DataError: The table cannot be read, is empty, lacks a column or has faults.
        ConfigError: `mapping` does not fit the contract.
    """
    table = examine_clinical_table(path, contract, mapping)
    if table.faults:
        lines = "\n".join(f"{path.name}: {fault.describe()}" for fault in table.faults)
        raise DataError(
            "data.table_invalid",
            lines,
            remedy="Correct these cells, or empty those whose value is not known.",
        )
    return table


def examine_clinical_table(
    path: Path, contract: DataContract, mapping: TableMapping = AS_AGREED
) -> ClinicalTable:
    """Read a table and report faulty values instead of raising them.

    Raises:
        DataError: The table cannot be read, is empty or lacks a column.
        ConfigError: `mapping` does not fit the contract.
    """
    table = read_columns(path, contract, mapping)
    columns = table.values
    converted = [
        _convert_row(contract, columns, index)
        for index, patient_id in enumerate(columns[contract.patient_id_column])
        if patient_id is not None
    ]
    return ClinicalTable(
        rows=tuple(row for row in converted if isinstance(row, RowWithOutcome)),
        without_outcome=tuple(
            row for row in converted if not isinstance(row, RowWithOutcome)
        ),
        faults=summarise_findings(table.findings, "fault"),
        warnings=summarise_findings(table.findings, "warning"),
        num_rows=table.num_rows,
        num_missing={n: columns[n].count(None) for n in contract.features},
        num_unused_columns=table.num_unused,
    )


def _convert_row(
    contract: DataContract, columns: dict[str, list[Value]], index: int
) -> TableRow:
    inputs: list[float] = []
    mask: list[bool] = []
    for name in contract.features:
        column = contract.columns[name]
        value = columns[name][index]
        inputs.extend(_to_inputs(column, value))
        mask.extend([value is not None] * column.num_inputs)

    def value_of(name: str | None) -> Value:
        return columns[name][index] if name in columns else None

    imaging = contract.imaging
    resection = value_of(imaging.resection_date_column) if imaging else None
    header = imaging.header_check if imaging else HeaderCheck()
    age = value_of(header.age_column)
    row = TableRow(
        row_number=row_number(index),
        patient_id=str(value_of(contract.patient_id_column)),
        clinical=np.array(inputs, np.float32),
        clinical_mask=np.array(mask, np.bool_),
        resection_date=resection if isinstance(resection, datetime.date) else None,
        stated_sex=_sex(contract, header, value_of(header.sex_column)),
        stated_age_years=age if isinstance(age, float) else None,
    )
    time_months = value_of(contract.endpoint.time_column)
    event = value_of(contract.endpoint.event_column)
    if not (isinstance(time_months, float) and isinstance(event, float)):
        return row
    score = value_of(contract.baseline_score_column)
    return RowWithOutcome(
        **vars(row),
        time_months=time_months,
        event=int(event),
        fong_score=score if isinstance(score, float) else None,
    )


def _sex(
    contract: DataContract, header: HeaderCheck, value: Value
) -> Literal["M", "F"] | None:
    """Return the table's sex in the headers' words."""
    if header.sex_column is None or not isinstance(value, float):
        return None
    code = contract.columns[header.sex_column].codes[int(value)]
    words: dict[str, Literal["M", "F"]] = {
        header.male_code: "M",
        header.female_code: "F",
    }
    return words.get(code)


def _to_inputs(column: ClinicalColumn, value: Value) -> list[float]:
    """Return the model inputs of a value: standardised, or one of each category."""
    if not isinstance(value, float):
        return [0.0] * column.num_inputs
    if column.type == "category":
        return [float(position == value) for position in range(column.num_inputs)]
    constants = column.standardise
    number = math.log1p(value) if constants.transform == "log1p" else value
    return [(number - constants.mean) / constants.standard_deviation]
