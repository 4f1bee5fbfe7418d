"""From a cell of the table to a value, as the contract's column says.

Nothing is guessed: a decimal comma, a percent sign or another date format is a fault.
"""

import datetime
import math
from collections.abc import Sequence

from acfnet_core.cohort.contract import ClinicalColumn
from acfnet_core.cohort.table.table_file import Cell, cell_text

Value = float | str | datetime.date | None
"""A number; the position of a code in its column's codes, as a number; text; a day."""


def convert_column(
    column: ClinicalColumn, cells: Sequence[Cell], *, missing_codes: tuple[str, ...]
) -> tuple[list[Value], list[tuple[int, str]]]:
    """Convert the cells of one column.

    Returns:
        The values, None where a cell is missing or faulty; and for each faulty cell its
        index with the rule that it breaks.
    """
    missing = _missing_texts(missing_codes)
    values: list[Value] = []
    broken: list[tuple[int, str]] = []
    for index, cell in enumerate(cells):
        text = cell_text(cell)
        value: Value = None
        if not _is_missing(text, missing):
            value, rule = _convert_cell(column, cell, text)
            if rule:
                broken.append((index, rule))
        values.append(value)
    return values, broken


def _missing_texts(codes: tuple[str, ...]) -> frozenset[str | float]:
    numbers = [_to_number(code) for code in codes]
    return frozenset(
        [code.casefold() for code in codes] + [n for n in numbers if n is not None]
    )


def _is_missing(text: str, missing: frozenset[str | float]) -> bool:
    return not text or text.casefold() in missing or _to_number(text) in missing


def _to_number(text: str) -> float | None:
    """Read a number; text such as `1_000`, `nan` or `inf` is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _convert_cell(
    column: ClinicalColumn, cell: Cell, text: str
) -> tuple[Value, str | None]:
    """Return the value, or None and the rule that the cell breaks."""
    match column.type:
        case "number":
            return _convert_number(column, cell, text)
        case "binary" | "category":
            number = _to_number(text)
            for position, code in enumerate(column.codes):
                if text == code or (number is not None and number == _to_number(code)):
                    return float(position), None
            return None, "unknown_code"
        case "date":
            return _convert_date(column, cell, text)
        case _:
            return text, None


def _convert_number(
    column: ClinicalColumn, cell: Cell, text: str
) -> tuple[Value, str | None]:
    number = None if isinstance(cell, (bool, datetime.date)) else _to_number(text)
    if number is None:
        return None, "not_a_number"
    if column.minimum is not None and number < column.minimum:
        return None, "below_minimum"
    if column.maximum is not None and number > column.maximum:
        return None, "above_maximum"
    return number, None


def _convert_date(
    column: ClinicalColumn, cell: Cell, text: str
) -> tuple[Value, str | None]:
    if isinstance(cell, datetime.datetime):
        return cell.date(), None
    if isinstance(cell, datetime.date):
        return cell, None
    try:
        parsed = datetime.datetime.strptime(text, column.date_format)
    except ValueError:
        return None, "not_a_date"
    # A day without a clock: no time zone is meant.
    return parsed.date(), None
