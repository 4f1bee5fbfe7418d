"""The cells of a csv or xlsx file, with no guess at what they mean.

The file is read by a process of its own, with limits: a workbook of a few kilobytes can
ask for more memory than any machine has.
"""

import csv
import datetime
import io
import math
import re
import zipfile
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from python_calamine import CalamineError, CalamineWorkbook

from acfnet_core.cohort.guarded.limits import TABLE_LIMITS
from acfnet_core.cohort.guarded.reader import ReaderFailure, read_one
from acfnet_core.cohort.table.mapping import PLAIN, TableDialect
from acfnet_core.errors import DataError

Cell = (
    str | int | float | bool | datetime.date | datetime.time | datetime.timedelta | None
)

_QUOTED = re.compile(r'"[^"]*("|$)')
_MAX_BYTES = 256 * 1024**2
"""A table of 100,000 patients has about 20 MB; a workbook is measured unpacked."""

_PLACE = "I"
"""A number of four bytes, as `array` has it."""

_MAX_COLUMNS = 16_384
"""As many as a workbook can have."""

_FAILURES = {
    "READER_DIED": "reading it crashed the program; it is damaged or made to do so",
    "READER_LIMIT": "reading it takes more memory or time than a table needs",
}


@dataclass(frozen=True, kw_only=True)
class _Order:
    path: Path
    dialect: TableDialect
    max_bytes: int


def read_cells(
    path: Path, dialect: TableDialect = PLAIN
) -> tuple[list[str], list[list[Cell]]]:
    """Read a table: its header and its rows, all of the header's width.

    Rows without any content are left out at the end and refused in between, so that row
    numbers stay those of the file.

    Args:
        path: A .csv or .xlsx file.
        dialect: Its delimiter, encoding or sheet, where the site names them.

    Raises:
        DataError: `data.path_not_found`, `data.table_unreadable` or `data.table_empty`.
    """
    if not path.is_file():
        raise DataError(
            "data.path_not_found",
            f"{path}: there is no such file; a clinical table (.csv or .xlsx) is "
            "expected here.",
            remedy="Correct the path of the clinical table.",
        )
    if path.suffix.lower() not in _READERS:
        raise _unreadable(path, "its name ends neither in .csv nor in .xlsx")
    order = _Order(path=path, dialect=dialect, max_bytes=_MAX_BYTES)
    table = read_one(_read_table, order, limits=TABLE_LIMITS)
    if isinstance(table, ReaderFailure):
        raise _unreadable(path, _FAILURES[table.code])
    return table.header, table.rows()


@dataclass(frozen=True, kw_only=True)
class _PackedTable:
    """A table whose equal cells are one: as it comes from a reader.

    Attributes:
        cells: Every different cell, in the order in which they are met.
        places: Of each cell, row by row, its place among them.
    """

    header: list[str]
    cells: list[Cell] = field(repr=False)
    places: bytes = field(repr=False)

    def rows(self) -> list[list[Cell]]:
        """Return the rows; equal cells are one object, so that they take little."""
        places = array(_PLACE)
        places.frombytes(self.places)
        width = len(self.header)
        return [
            [self.cells[place] for place in places[start : start + width]]
            for start in range(0, len(places), width)
        ]


def _read_table(order: _Order) -> _PackedTable:
    header, rows = _read_whole(order)
    place_of: dict[tuple[type, Cell], int] = {}
    cells: list[Cell] = []
    places = array(_PLACE)
    for row in rows:
        for cell in row:
            # Numbers of two types are equal, and zeros of two signs.
            key = (type(cell), cell or str(cell))
            place = place_of.setdefault(key, len(cells))
            if place == len(cells):
                cells.append(cell)
            places.append(place)
    return _PackedTable(header=header, cells=cells, places=places.tobytes())


def _read_whole(order: _Order) -> tuple[list[str], list[list[Cell]]]:
    path = order.path
    rows = _READERS[path.suffix.lower()](order)
    while rows and not any(cell_text(cell) for cell in rows[-1]):
        rows.pop()
    if not rows:
        raise DataError(
            "data.table_empty",
            f"{path}: is empty; a header and one row for each patient are expected.",
            remedy="Export the table again, with its header and patients.",
        )
    return _with_equal_widths(path, rows)


def cell_text(cell: Cell) -> str:
    """Return a cell as text, stripped: whole numbers without `.0`, nothing as ''."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        if math.isnan(cell):
            return ""
        return str(int(cell)) if cell.is_integer() else repr(cell)
    return str(cell).strip()


def _with_equal_widths(
    path: Path, rows: list[list[Cell]]
) -> tuple[list[str], list[list[Cell]]]:
    header = [cell_text(cell) for cell in rows[0]]
    while header and not header[-1]:
        header.pop()
    width = len(header)
    if width > _MAX_COLUMNS:
        raise _unreadable(path, f"it has {width} columns")
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell_text(cell) for cell in row):
            raise _unreadable(path, f"row {number} is empty, with rows after it")
        if any(cell_text(cell) for cell in row[width:]):
            raise _unreadable(
                path, f"row {number} has {len(row)} cells, the header has {width}"
            )
        row[:] = [*row[:width], *[None] * (width - len(row))]
    return header, rows[1:]


def _read_csv(order: _Order) -> list[list[Cell]]:
    path, dialect = order.path, order.dialect
    _refuse_above(order, path.stat().st_size)
    encoding = "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding
    try:
        text = path.read_bytes().decode(encoding)
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be opened") from error
    except UnicodeDecodeError:
        # The decoding error holds the file's content: it must not be chained.
        raise _unreadable(
            path,
            f"it is not {dialect.encoding} text; set encoding in [data.table] of "
            "site.toml",
        ) from None
    delimiter = dialect.delimiter or _delimiter_of(path, text)
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, strict=True
        )
        return [list(row) for row in reader]
    except csv.Error:
        raise _unreadable(path, "its quotes or its rows are broken") from None


def _delimiter_of(path: Path, text: str) -> str:
    """Return the one delimiter that the header has outside of quotes."""
    header = _QUOTED.sub("", text.partition("\n")[0])
    found = [delimiter for delimiter in ",;\t" if delimiter in header]
    if len(found) > 1:
        raise _unreadable(
            path,
            "its header has more than one of comma, semicolon and tab; set delimiter "
            "in [data.table] of site.toml",
        )
    return found[0] if found else ","


def _read_xlsx(order: _Order) -> list[list[Cell]]:
    path, dialect = order.path, order.dialect
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_above(order, sum(part.file_size for part in archive.infolist()))
        with CalamineWorkbook.from_path(path) as workbook:
            sheet = workbook.get_sheet_by_name(_sheet_name(path, workbook, dialect))
            return [list(row) for row in sheet.to_python(skip_empty_area=False)]
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be opened") from error
    except (zipfile.BadZipFile, CalamineError, ValueError, IndexError):
        raise _unreadable(path, "it is not an intact workbook") from None


def _sheet_name(path: Path, workbook: CalamineWorkbook, dialect: TableDialect) -> str:
    names = workbook.sheet_names
    asked = dialect.sheet
    if isinstance(asked, str) and asked in names:
        return asked
    if isinstance(asked, int) and asked <= len(names):
        return names[asked - 1]
    raise _unreadable(
        path,
        f"it has {len(names)} sheets and none is {asked!r}; correct sheet in "
        "[data.table] of site.toml",
    )


def _refuse_above(order: _Order, size_bytes: int) -> None:
    if size_bytes > order.max_bytes:
        raise _unreadable(
            order.path,
            f"it unpacks to {size_bytes // 1024**2} MiB, more than the "
            f"{order.max_bytes // 1024**2} MiB allowed",
        )


_READERS = {".csv": _read_csv, ".xlsx": _read_xlsx}


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(
        "data.table_unreadable",
        f"{path}: cannot be read as a clinical table: {reason}.",
        remedy="Save the table as UTF-8 .csv or as .xlsx, one header row, one row for "
        "each patient.",
    )
