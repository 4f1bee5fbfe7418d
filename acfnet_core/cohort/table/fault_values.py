"""The faulty values themselves, in one private file for whoever mends the table.

Nothing else shows a value: this file is for the site's own eyes and stays there.
"""

import csv
import io
from pathlib import Path

from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.table.faults import row_number
from acfnet_core.cohort.table.mapping import AS_AGREED, TableMapping
from acfnet_core.cohort.table.table_columns import TableColumns, read_columns
from acfnet_core.cohort.table.table_file import cell_text
from acfnet_core.files import PRIVATE_MODE, write_atomically

HEADER = ("row", "column", "rule", "severity", "value")


def write_fault_values(
    target: Path,
    table: Path,
    contract: DataContract,
    mapping: TableMapping = AS_AGREED,
) -> int:
    """Write a csv line for every cell of every fault and warning, for the owner.

    Args:
        target: The file to write; an older one is replaced.
        table: The site's table.
        contract: What the columns mean.
        mapping: How the site's table differs from the contract.

    Returns:
        How many lines there are below the header.

    Raises:
        DataError: The table cannot be read, is empty or lacks a column.
        ConfigError: `mapping` does not fit the contract.
        MachineError: The file cannot be written.
    """
    lines = _lines(read_columns(table, contract, mapping, keeps_cells=True))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(HEADER)
    writer.writerows(lines)
    write_atomically(target, text.getvalue().encode("utf-8"), mode=PRIVATE_MODE)
    return len(lines)


def _lines(columns: TableColumns) -> list[tuple[int, str, str, str, str]]:
    return sorted(
        (
            row_number(index),
            name,
            finding.rule,
            finding.severity,
            cell_text(columns.cells[name][index]),
        )
        for finding in columns.findings
        for index in finding.indices
        for name in finding.columns
    )
