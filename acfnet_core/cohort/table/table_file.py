"""The cells of a csv or xlsx file, with no guess at what they mean."""

import csv
import datetime
import io
import math
import zipfile
from pathlib import Path

from python_calamine import CalamineError, CalamineWorkbook

from acfnet_core.errors import DataError

Cell = (
    str | int | float | bool | datetime.date | datetime.time | datetime.timedelta | None
)

_MAX_BYTES = 256 * 1024**2
"""A table of 100,000 patients has about 20 MB; a workbook is measured unpacked."""


def read_cells(path: Path) -> tuple[list[str], list[list[Cell]]]:
    """Read a table: its header and its rows, all of the header's width.

    Rows without any content are left out at the end and refused in between, so that row
    numbers stay those of the file.

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
    readers = {".csv": _read_csv, ".xlsx": _read_xlsx}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise _unreadable(path, "its name ends neither in .csv nor in .xlsx")
    rows = reader(path)
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
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell_text(cell) for cell in row):
            raise _unreadable(path, f"row {number} is empty, with rows after it")
        if any(cell_text(cell) for cell in row[width:]):
            raise _unreadable(
                path, f"row {number} has {len(row)} cells, the header has {width}"
            )
        row[:] = [*row[:width], *[None] * (width - len(row))]
    return header, rows[1:]


def _read_csv(path: Path) -> list[list[Cell]]:
    _refuse_above(path, path.stat().st_size)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be opened") from error
    except UnicodeDecodeError:
        # The decoding error holds the file's content: it must not be chained.
        raise _unreadable(path, "it is not UTF-8 text") from None
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, strict=True
        )
        return [list(row) for row in reader]
    except csv.Error:
        raise _unreadable(path, "its quotes or its rows are broken") from None


def _read_xlsx(path: Path) -> list[list[Cell]]:
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_above(path, sum(part.file_size for part in archive.infolist()))
        with CalamineWorkbook.from_path(path) as workbook:
            sheet = workbook.get_sheet_by_index(0)
            return [list(row) for row in sheet.to_python(skip_empty_area=False)]
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be opened") from error
    except (zipfile.BadZipFile, CalamineError, ValueError, IndexError):
        raise _unreadable(path, "it is not an intact workbook") from None


def _refuse_above(path: Path, size_bytes: int) -> None:
    if size_bytes > _MAX_BYTES:
        raise _unreadable(
            path,
            f"it unpacks to {size_bytes // 1024**2} MiB, more than the "
            f"{_MAX_BYTES // 1024**2} MiB allowed",
        )


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(
        "data.table_unreadable",
        f"{path}: cannot be read as a clinical table: {reason}.",
        remedy="Save the table as UTF-8 .csv or as .xlsx, one header row, one row for "
        "each patient.",
    )
