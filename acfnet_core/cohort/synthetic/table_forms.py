"""How made-up hospitals write their clinical tables, and what they say of it.

A form's mapping is what the hospital must put into its site.toml for the table to be
read. Cells are written by turning that mapping round.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from acfnet_core.cohort.synthetic.headings import FRENCH, GERMAN
from acfnet_core.cohort.synthetic.table import (
    COLUMNS,
    MISSING,
    RESECTION_DATE_COLUMN,
    Cell,
)
from acfnet_core.cohort.table.mapping import AS_AGREED, TableDialect, TableMapping

TableFormName = Literal["public", "german", "percent", "french"]

PUBLIC_SHEET = "clinical"

_FLAGS = (
    "major_comorbidity",
    "node_positive_primary",
    "synchronous_crlm",
    "multiple_metastases",
    "clinrisk_stratified",
    "bilobar_disease",
    "extrahep_disease",
    "chemo_before_liver_resection",
    "preoperative_pve",
    "steatosis_yesno",
    "presence_sinusoidal_dilata",
    "NASH_yesno",
    "NASH_greater_4",
    "fibrosis_greater_40_percent",
    "vital_status",
    "progression_or_recurrence",
    "vital_status_DFS",
    "progression_or_recurrence_liveronly",
    "vital_status_liver_DFS",
)
_SHARES = (
    "total_response_percent",
    "necrosis_percent",
    "fibrosis_percent",
    "mucin_percent",
)


@dataclass(frozen=True, kw_only=True)
class TableForm:
    """How one hospital writes its table.

    Args:
        file_name: Ends in .csv or .xlsx.
        mapping: What its site.toml says.
        dictionary_first: Whether the workbook's first sheet is the data dictionary.
        is_text: Whether all cells are text, as an export from a database has them.
    """

    file_name: str
    mapping: TableMapping
    dictionary_first: bool = False
    is_text: bool = True

    @property
    def headings(self) -> dict[str, str]:
        """The public cohort's name of each column -> the table's heading."""
        own = {name: heading for heading, name in self.mapping.column_names.items()}
        return {name: own.get(name, name) for name in COLUMNS}

    def write_row(self, row: Mapping[str, Cell]) -> dict[str, Cell]:
        """Return a row of the public table as this hospital writes it."""
        return {name: self.write_cell(name, value) for name, value in row.items()}

    def write_cell(self, name: str, value: Cell) -> Cell:
        """Return a value of the public table as this hospital writes it."""
        dialect = self.mapping.dialect
        if value == MISSING and not isinstance(value, bool):
            return dialect.missing_codes[0] if dialect.missing_codes else value
        if isinstance(value, datetime.date):
            pattern = dialect.date_formats.get(name)
            return value if pattern is None else value.strftime(pattern)
        for written, code in dialect.codes.get(name, {}).items():
            if code == str(value):
                return written
        if isinstance(value, str) or not self.is_text:
            return value
        return self._write_number(name, value)

    def _write_number(self, name: str, value: int | float) -> str:
        dialect = self.mapping.dialect
        number, sign = Decimal(repr(value)), ""
        if name in dialect.percent:
            number, sign = number * 100, "%"
        if name in dialect.unit_factors:
            number /= Decimal(repr(dialect.unit_factors[name]))
        # `normalize` drops zeros at the end, and "f" the exponent that it may leave.
        text = f"{number.normalize():f}"
        return text.replace(".", dialect.decimal_mark) + sign


def _flags(no: str, yes: str) -> dict[str, dict[str, str]]:
    return {name: {no: "0", yes: "1"} for name in _FLAGS}


_FORMS = {
    "public": TableForm(file_name="clinical.xlsx", mapping=AS_AGREED, is_text=False),
    "german": TableForm(
        file_name="patienten.csv",
        mapping=TableMapping(
            column_names=GERMAN,
            dialect=TableDialect(
                decimal_mark=",",
                delimiter=";",
                missing_codes=("k.A.",),
                date_formats={RESECTION_DATE_COLUMN: "%d.%m.%Y"},
                codes={"sex": {"m": "1", "w": "2"}, **_flags("nein", "ja")},
                unit_factors={"max_tumor_size": 0.1},
            ),
        ),
    ),
    "percent": TableForm(
        file_name="registry.xlsx",
        mapping=TableMapping(
            dialect=TableDialect(
                sheet="patients",
                missing_codes=("not known",),
                percent=_SHARES,
                date_formats={RESECTION_DATE_COLUMN: "%d/%m/%Y"},
                codes={"sex": {"M": "1", "F": "2"}},
            ),
        ),
        dictionary_first=True,
    ),
    "french": TableForm(
        file_name="cohorte.csv",
        mapping=TableMapping(
            column_names=FRENCH,
            dialect=TableDialect(
                decimal_mark=",",
                delimiter=";",
                encoding="cp1252",
                missing_codes=("ND",),
                date_formats={RESECTION_DATE_COLUMN: "%d/%m/%Y"},
                codes={"sex": {"H": "1", "F": "2"}, **_flags("non", "oui")},
                unit_factors={"max_tumor_size": 0.1},
            ),
        ),
    ),
}


def table_form(name: TableFormName) -> TableForm:
    """Return a form by its name.

    `public` is the public cohort's workbook; `german` and `french` are csv files with
    decimal commas, own headings, codes and millimetres; `percent` is a workbook of text
    cells behind a sheet with the data dictionary.
    """
    return _FORMS[name]
