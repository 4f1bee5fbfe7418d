"""One site's clinical table, read and checked against the contract.

Every fault of the table is found in one pass and told by rule, column, count and row:
never by value. Only the columns that the contract uses are read at all. Cells are taken
as they are and converted column by column, because a reader that guesses types turns
`-999` into a number, `00123` into 123 and 03/04/2019 into the wrong day.
"""

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from acfnet_core.cohort.contract import ClinicalColumn, DataContract
from acfnet_core.cohort.table.cell_values import Value, convert_column
from acfnet_core.cohort.table.mapping import AS_AGREED, TableMapping
from acfnet_core.cohort.table.table_file import Cell, read_cells
from acfnet_core.errors import ConfigError, DataError

_NUM_ROWS_NAMED = 5
_RULE_TEXTS = {
    "missing_identifier": "have no identifier",
    "duplicate_identifier": "repeat an identifier of an earlier row",
    "not_a_number": "are not a number written as 12.5",
    "below_minimum": "are below the contract's minimum",
    "above_maximum": "are above the contract's maximum",
    "unknown_code": "are none of the contract's codes",
    "not_a_date": "are not a date in the contract's format",
}


@dataclass(frozen=True, kw_only=True)
class TableFault:
    """One kind of fault in one column; it holds no value of any patient.

    Attributes:
        rule: Which rule was broken.
        column: The contract's name of the column.
        count: In how many rows.
        first_rows: The first of them, counted as a spreadsheet does: the header is 1.
    """

    rule: str
    column: str
    count: int
    first_rows: tuple[int, ...]

    def describe(self) -> str:
        """Return the fault as a line for people."""
        rows = ", ".join(map(str, self.first_rows))
        more = ", ..." if self.count > len(self.first_rows) else ""
        return (
            f"column {self.column}: {self.count} values {_RULE_TEXTS[self.rule]} "
            f"(rows {rows}{more})"
        )


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """What the table says of one patient, converted; an outcome it cannot hold.

    Attributes:
        row_number: As a spreadsheet counts.
        patient_id: The site's own identifier: it must not leave this process.
        clinical: Standardised by the contract; 0 where missing.
    """

    row_number: int
    patient_id: str = field(repr=False)
    clinical: Float32[np.ndarray, " feature"]
    clinical_mask: Bool[np.ndarray, " feature"]
    resection_date: datetime.date | None


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
        num_rows: Rows in the file, the header not counted.
        num_missing: Feature -> rows without a value.
        num_unused_columns: Columns of the file that the contract does not use.
    """

    rows: tuple[RowWithOutcome, ...]
    without_outcome: tuple[TableRow, ...]
    faults: tuple[TableFault, ...]
    num_rows: int
    num_missing: dict[str, int]
    num_unused_columns: int


def read_clinical_table(
    path: Path, contract: DataContract, mapping: TableMapping = AS_AGREED
) -> ClinicalTable:
    """Read a csv or xlsx table that must be without fault.

    Args:
        path: The table; of a workbook the first sheet.
        contract: What the columns mean.
        mapping: How the site's table differs from the contract.

    Raises:
        DataError: The table cannot be read, is empty, lacks a column or has faults.
        ConfigError: `mapping` names a column that the contract does not have.
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
        ConfigError: `mapping` names a column that the contract does not have.
    """
    header, rows = read_cells(path)
    positions = _find_columns(path, contract, mapping.column_names, header)
    if not rows:
        raise DataError(
            "data.table_empty",
            f"{path}: has a header but no rows; at least one patient is expected.",
            remedy="Export the table again, with its patients.",
        )
    faults = _FaultLog()
    columns = {
        name: _convert_logged(name, contract, [row[position] for row in rows], faults)
        for name, position in positions.items()
    }
    _check_identifiers(contract.patient_id_column, columns, faults)
    found = faults.summary()
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
        faults=found,
        num_rows=len(rows),
        num_missing={n: columns[n].count(None) for n in contract.features},
        num_unused_columns=len(header) - len(positions),
    )


class _FaultLog:
    """The rows in which each rule was broken, in the order first met."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], list[int]] = {}

    def add(self, rule: str, column: str, index: int) -> None:
        self._rows.setdefault((rule, column), []).append(index + 2)

    def summary(self) -> tuple[TableFault, ...]:
        return tuple(
            TableFault(
                rule=rule,
                column=column,
                count=len(rows),
                first_rows=tuple(rows[:_NUM_ROWS_NAMED]),
            )
            for (rule, column), rows in self._rows.items()
        )


def _find_columns(
    path: Path,
    contract: DataContract,
    column_names: Mapping[str, str],
    header: list[str],
) -> dict[str, int]:
    """Return the contract's name -> position in the file, for the columns in use."""
    unknown = sorted(set(column_names.values()) - set(contract.columns))
    if unknown:
        raise ConfigError(
            "config.invalid",
            f"column names: the contract has no column {', '.join(unknown)}.",
            remedy="Correct the right-hand sides of the column names in site.toml.",
        )
    names = [column_names.get(name, name) for name in header]
    repeated = sorted(
        {n for n in names if n in contract.columns and names.count(n) > 1}
    )
    if repeated:
        raise DataError(
            "data.table_unreadable",
            f"{path}: more than one column is called {', '.join(repeated)}.",
            remedy="Keep one column of each name, or correct the column names.",
        )
    absent = [name for name in contract.required_columns if name not in names]
    if absent:
        raise DataError(
            "data.missing_column",
            f"{path}: lacks {len(absent)} of the contract's columns: "
            f"{', '.join(absent)}; it has {len(header)} columns.",
            remedy="Add the columns, or map the site's own names in site.toml.",
        )
    return {
        name: names.index(name) for name in _used_columns(contract) if name in names
    }


def _used_columns(contract: DataContract) -> list[str]:
    optional = (contract.baseline_score_column, _resection_column(contract))
    used = {*contract.required_columns, *filter(None, optional)}
    return [name for name in contract.columns if name in used]


def _convert_logged(
    name: str, contract: DataContract, cells: list[Cell], faults: _FaultLog
) -> list[Value]:
    """Convert a column's cells; None where missing, or faulty and logged."""
    column = contract.columns[name]
    codes = (*contract.missing_codes, *column.missing_codes)
    values, broken = convert_column(column, cells, missing_codes=codes)
    for index, rule in broken:
        faults.add(rule, name, index)
    return values


def _check_identifiers(
    name: str, columns: dict[str, list[Value]], faults: _FaultLog
) -> None:
    seen: set[Value] = set()
    for index, patient_id in enumerate(columns[name]):
        if patient_id is None:
            faults.add("missing_identifier", name, index)
        elif patient_id in seen:
            faults.add("duplicate_identifier", name, index)
        seen.add(patient_id)


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

    resection = value_of(_resection_column(contract))
    row = TableRow(
        row_number=index + 2,
        patient_id=str(value_of(contract.patient_id_column)),
        clinical=np.array(inputs, np.float32),
        clinical_mask=np.array(mask, np.bool_),
        resection_date=resection if isinstance(resection, datetime.date) else None,
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


def _resection_column(contract: DataContract) -> str | None:
    return contract.imaging.resection_date_column if contract.imaging else None


def _to_inputs(column: ClinicalColumn, value: Value) -> list[float]:
    """Return the model inputs of a value: standardised, or one of each category."""
    if not isinstance(value, float):
        return [0.0] * column.num_inputs
    if column.type == "category":
        return [float(position == value) for position in range(column.num_inputs)]
    constants = column.standardise
    number = math.log1p(value) if constants.transform == "log1p" else value
    return [(number - constants.mean) / constants.standard_deviation]
