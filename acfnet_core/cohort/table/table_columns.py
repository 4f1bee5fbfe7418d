"""A table's columns under the contract's names, converted, with all that is wrong.

Only columns that the contract uses are read at all. Those that serve a rule or a
comparison alone need not be there, and a cell of theirs that cannot be read is a
warning.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.contract_checks import Severity, columns_of
from acfnet_core.cohort.table.cell_values import Value, convert_column, writing_of
from acfnet_core.cohort.table.cross_checks import judge_rows
from acfnet_core.cohort.table.faults import Finding
from acfnet_core.cohort.table.mapping import TableMapping, refuse_unfit
from acfnet_core.cohort.table.table_file import Cell, cell_text, read_cells
from acfnet_core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TableColumns:
    """The columns of a table that the contract uses; values stay out of its repr.

    Attributes:
        cells: The contract's name -> the cells as they are in the file; empty unless
            they were asked for.
        values: The contract's name -> converted cells; None where missing or faulty.
        findings: What is wrong, in the order in which it was met.
        num_rows: Rows in the file, the header not counted.
        num_unused: Columns of the file that the contract does not use.
    """

    cells: dict[str, list[Cell]] = field(repr=False)
    values: dict[str, list[Value]] = field(repr=False)
    findings: tuple[Finding, ...]
    num_rows: int
    num_unused: int


def read_columns(
    path: Path,
    contract: DataContract,
    mapping: TableMapping,
    *,
    keeps_cells: bool = False,
) -> TableColumns:
    """Read a table, convert the columns in use and judge them.

    Args:
        path: The table.
        contract: What the columns mean.
        mapping: How the site's table differs from the contract.
        keeps_cells: Whether the cells are wanted beside the values.

    Raises:
        DataError: The table cannot be read, is empty or lacks a column.
        ConfigError: `mapping` does not fit the contract.
    """
    refuse_unfit(mapping, contract)
    header, rows = read_cells(path, mapping.dialect)
    positions = _find_columns(path, contract, mapping.column_names, header)
    if not rows:
        raise DataError(
            "data.table_empty",
            f"{path}: has a header but no rows; at least one patient is expected.",
            remedy="Export the table again, with its patients.",
        )
    cells = {name: [row[at] for row in rows] for name, at in positions.items()}
    num_rows = len(rows)
    rows.clear()
    findings: list[Finding] = []
    values = {
        name: _share(_convert(name, contract, mapping, column, findings))
        for name, column in cells.items()
    }
    identifiers = contract.patient_id_column
    findings += _judge_identifiers(identifiers, values[identifiers])
    findings += judge_rows(contract.checks, values, num_rows)
    return TableColumns(
        cells=cells if keeps_cells else {},
        values=values,
        findings=tuple(findings),
        num_rows=num_rows,
        num_unused=len(header) - len(positions),
    )


def _find_columns(
    path: Path,
    contract: DataContract,
    column_names: Mapping[str, str],
    header: list[str],
) -> dict[str, int]:
    """Return the contract's name -> position in the file, for the columns in use."""
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
            remedy="Add the columns, or map the site's own names in [data.columns] of "
            "site.toml.",
        )
    used = {*_needed(contract), *_looked_at(contract)}
    in_order = [name for name in contract.columns if name in used]
    return {name: names.index(name) for name in in_order if name in names}


def _needed(contract: DataContract) -> set[str]:
    """Return the columns from which something is made: their faults are faults."""
    imaging = contract.imaging
    resection = imaging.resection_date_column if imaging else None
    optional = filter(None, (contract.baseline_score_column, resection))
    return {*contract.required_columns, *optional}


def _looked_at(contract: DataContract) -> set[str]:
    """Return the columns that a rule or the headers are compared with."""
    compared = {name for check in contract.checks for name in columns_of(check)}
    if contract.imaging is not None:
        compared.update(contract.imaging.header_check.columns)
    return compared


def _convert(
    name: str,
    contract: DataContract,
    mapping: TableMapping,
    cells: list[Cell],
    findings: list[Finding],
) -> list[Value]:
    """Convert a column's cells; a faulty one is None, and its rule is noted."""
    column = contract.columns[name]
    writing = writing_of(name, column, mapping.dialect, contract.missing_codes)
    values, broken = convert_column(column, cells, writing)
    severity: Severity = "fault" if name in _needed(contract) else "warning"
    by_rule: dict[str, list[int]] = {}
    for index, rule in broken:
        by_rule.setdefault(rule, []).append(index)
    num_filled = sum(bool(cell_text(cell)) for cell in cells)
    findings += [
        Finding(
            rule=rule,
            columns=(name,),
            severity=severity,
            num_judged=num_filled,
            indices=indices,
        )
        for rule, indices in by_rule.items()
    ]
    return values


def _share(values: list[Value]) -> list[Value]:
    """Return the same values; equal numbers are one object, as many are in a column."""
    known: dict[object, Value] = {}
    # A text may be written like a number, and zeros of two signs are equal.
    return [
        known.setdefault((type(value), value or repr(value)), value) for value in values
    ]


def _judge_identifiers(name: str, identifiers: list[Value]) -> list[Finding]:
    missing, repeated = [], []
    seen: set[Value] = set()
    for index, patient_id in enumerate(identifiers):
        if patient_id is None:
            missing.append(index)
        elif patient_id in seen:
            repeated.append(index)
        seen.add(patient_id)
    found = {"missing_identifier": missing, "duplicate_identifier": repeated}
    return [
        Finding(
            rule=rule,
            columns=(name,),
            severity="fault",
            num_judged=len(identifiers),
            indices=indices,
        )
        for rule, indices in found.items()
        if indices
    ]
