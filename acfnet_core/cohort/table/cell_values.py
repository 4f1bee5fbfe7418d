"""From a cell of the table to a value, as the contract's column says.

Nothing is guessed: what is written otherwise than the contract and the site's dialect
say is a fault. Numbers are read as decimals, so that 35 mm are 3.5 cm to the last bit.
"""

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from acfnet_core.cohort.contract import ClinicalColumn
from acfnet_core.cohort.table.mapping import TableDialect
from acfnet_core.cohort.table.table_file import Cell, cell_text

Value = float | str | datetime.date | None
"""A number; the position of a code in its column's codes, as a number; text; a day."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_PERCENT = Decimal("0.01")


@dataclass(frozen=True, kw_only=True)
class ColumnWriting:
    """How a site writes one column.

    Attributes:
        missing_codes: In any case; numbers are compared as numbers.
        codes: The site's code -> the contract's; empty where the contract's are used.
        unit_factor: What a number is multiplied by.
        is_percent: Whether every value is written with a percent sign.
    """

    missing_codes: tuple[str, ...] = ()
    decimal_mark: str = "."
    date_format: str = "%Y-%m-%d"
    codes: Mapping[str, str] = field(default_factory=dict)
    unit_factor: Decimal = Decimal(1)
    is_percent: bool = False


def writing_of(
    name: str,
    column: ClinicalColumn,
    dialect: TableDialect,
    missing_codes: Sequence[str] = (),
) -> ColumnWriting:
    """Return how a site writes a column of the contract.

    Args:
        name: The contract's name of the column.
        column: What the contract says of it.
        dialect: What the site says.
        missing_codes: The contract's, for all columns.
    """
    return ColumnWriting(
        missing_codes=(*missing_codes, *column.missing_codes, *dialect.missing_codes),
        decimal_mark=dialect.decimal_mark,
        date_format=dialect.date_formats.get(name, column.date_format),
        codes=dialect.codes.get(name, {}),
        unit_factor=Decimal(repr(dialect.unit_factors.get(name, 1.0))),
        is_percent=name in dialect.percent,
    )


def convert_column(
    column: ClinicalColumn, cells: Sequence[Cell], writing: ColumnWriting
) -> tuple[list[Value], list[tuple[int, str]]]:
    """Convert the cells of one column.

    Returns:
        The values, None where a cell is missing or faulty; and for each faulty cell its
        index with the rule that it breaks.
    """
    missing = _missing_texts(writing.missing_codes)
    values: list[Value] = []
    broken: list[tuple[int, str]] = []
    for index, cell in enumerate(cells):
        text = cell_text(cell)
        value: Value = None
        if not _is_missing(cell, text, missing, writing.decimal_mark):
            value, rule = _convert_cell(column, cell, text, writing)
            if rule:
                broken.append((index, rule))
        values.append(value)
    return values, broken


def _missing_texts(codes: tuple[str, ...]) -> frozenset[str | Decimal]:
    numbers = [_to_number(code) for code in codes]
    return frozenset(
        [code.casefold() for code in codes] + [n for n in numbers if n is not None]
    )


def _is_missing(
    cell: Cell, text: str, missing: frozenset[str | Decimal], decimal_mark: str
) -> bool:
    if not text or text.casefold() in missing:
        return True
    return _to_number(_with_point(cell, text, decimal_mark)) in missing


def _to_number(text: str | None) -> Decimal | None:
    """Read a number written with a point; `1_000`, `nan` or `inf` is none."""
    if text is None or not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _with_point(cell: Cell, text: str, decimal_mark: str) -> str | None:
    """Return a number's text with a decimal point; None if it has the wrong mark."""
    if decimal_mark == "." or not isinstance(cell, str):
        return text
    return None if "." in text else text.replace(",", ".")


def _convert_cell(
    column: ClinicalColumn, cell: Cell, text: str, writing: ColumnWriting
) -> tuple[Value, str | None]:
    """Return the value, or None and the rule that the cell breaks."""
    match column.type:
        case "number":
            return _convert_number(column, cell, text, writing)
        case "binary" | "category":
            return _convert_code(column, text, writing.codes)
        case "date":
            return _convert_date(cell, text, writing.date_format)
        case _:
            return text, None


def _convert_code(
    column: ClinicalColumn, text: str, of_site: Mapping[str, str]
) -> tuple[Value, str | None]:
    meant = of_site or {code: code for code in column.codes}
    number = _to_number(text)
    for written, code in meant.items():
        if text == written or (number is not None and number == _to_number(written)):
            return float(column.codes.index(code)), None
    return None, "unknown_code"


def _convert_number(
    column: ClinicalColumn, cell: Cell, text: str, writing: ColumnWriting
) -> tuple[Value, str | None]:
    if isinstance(cell, (bool, datetime.date)):
        return None, "not_a_number"
    has_sign = text.endswith("%")
    if has_sign != writing.is_percent:
        return None, "percent_sign" if has_sign else "no_percent_sign"
    digits = text.removesuffix("%").strip()
    number = _to_number(_with_point(cell, digits, writing.decimal_mark))
    if number is None:
        return None, _wrong_mark(digits, writing.decimal_mark)
    value = float(number * (_PERCENT if writing.is_percent else writing.unit_factor))
    if not math.isfinite(value):
        return None, "not_a_number"
    if column.minimum is not None and value < column.minimum:
        return None, "below_minimum"
    if column.maximum is not None and value > column.maximum:
        return None, "above_maximum"
    return value, None


def _wrong_mark(text: str, decimal_mark: str) -> str:
    """Say why a text is no number: its decimal mark, or more than that."""
    if decimal_mark == "." and _to_number(text.replace(",", ".", 1)) is not None:
        return "decimal_comma"
    if decimal_mark == "," and _to_number(text) is not None:
        return "decimal_point"
    return "not_a_number"


def _convert_date(cell: Cell, text: str, date_format: str) -> tuple[Value, str | None]:
    if isinstance(cell, datetime.datetime):
        return cell.date(), None
    if isinstance(cell, datetime.date):
        return cell, None
    try:
        parsed = datetime.datetime.strptime(text, date_format)
    except ValueError:
        return None, "not_a_date"
    # A day without a clock: no time zone is meant.
    return parsed.date(), None
