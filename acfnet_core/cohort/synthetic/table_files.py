"""Writing a made-up clinical table as a workbook or as csv.

Every byte follows from the content: the writing library's clock is replaced.
"""

import csv
import datetime
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl

from acfnet_core.cohort.synthetic.study_header import MANUFACTURER
from acfnet_core.cohort.synthetic.table import COLUMNS, MISSING, Cell
from acfnet_core.cohort.synthetic.table_forms import PUBLIC_SHEET, TableForm

FIXED_TIME = datetime.datetime(1992, 1, 1)
"""Stands wherever a file format asks when the file was made."""

_DICTIONARY_SHEET = "data dictionary"


def write_table(rows: Sequence[dict[str, Cell]], form: TableForm, path: Path) -> None:
    """Write a table.

    Args:
        rows: Cells as the hospital writes them, by the public cohort's names.
        form: How the hospital's table looks.
        path: Where; its ending is that of the form.

    Raises:
        OSError: The file cannot be written.
    """
    table: list[list[Cell]] = [
        [form.headings[name] for name in COLUMNS],
        *([row[name] for name in COLUMNS] for row in rows),
    ]
    if path.suffix == ".csv":
        path.write_bytes(_to_csv(table, form))
    else:
        path.write_bytes(_to_workbook(table, form))


def _to_csv(table: Sequence[Sequence[Cell]], form: TableForm) -> bytes:
    dialect = form.mapping.dialect
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=dialect.delimiter or ",", lineterminator="\r\n")
    writer.writerows(table)
    return text.getvalue().encode(dialect.encoding)


def _to_workbook(table: Sequence[Sequence[Cell]], form: TableForm) -> bytes:
    workbook = openpyxl.Workbook()
    workbook.properties.creator = MANUFACTURER
    workbook.properties.created = FIXED_TIME
    asked = form.mapping.dialect.sheet
    sheet = workbook.active
    sheet.title = asked if isinstance(asked, str) else PUBLIC_SHEET
    for row in table:
        sheet.append(list(row))
    _format_days(sheet)
    place = 0 if form.dictionary_first else None
    _fill_dictionary(workbook.create_sheet(_DICTIONARY_SHEET, place), form)
    content = io.BytesIO()
    workbook.save(content)
    return _without_clock(content.getvalue())


def _format_days(sheet: Any) -> None:
    for row in sheet.iter_rows(min_row=2):
        for cell in row:
            if isinstance(cell.value, datetime.date):
                cell.number_format = "yyyy-mm-dd"


def _fill_dictionary(sheet: Any, form: TableForm) -> None:
    sheet.append(["column", "meaning"])
    for name, meaning in COLUMNS.items():
        sheet.append([form.headings[name], meaning])
    code = str(form.write_cell("age", MISSING))
    sheet.append([code, "Stands for a missing value in every column"])


def _without_clock(workbook: bytes) -> bytes:
    """Return a workbook whose archive and properties bear a constant time."""
    stamp = f"{FIXED_TIME:%Y-%m-%dT%H:%M:%SZ}".encode()
    rewritten = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(workbook)) as source,
        zipfile.ZipFile(rewritten, "w") as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                # openpyxl 3.1 sets the time of the change itself when it saves.
                content = re.sub(
                    rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp, content
                )
            entry = zipfile.ZipInfo(name, date_time=FIXED_TIME.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, content)
    return rewritten.getvalue()
