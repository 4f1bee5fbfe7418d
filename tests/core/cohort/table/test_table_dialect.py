"""A site's table in its own writing gives the very same rows as the agreed one."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.table.clinical_table import (
    examine_clinical_table,
    read_clinical_table,
)
from acfnet_core.cohort.table.mapping import TableDialect, TableMapping
from acfnet_core.cohort.table.table_file import read_cells
from acfnet_core.errors import DataError

CONTRACT = shipped_contract("generic")
AGREED = [
    {
        "patient_id": f"00{number}",
        "resection_date": f"1992-06-{10 + number}",
        "age": 50 + number,
        "sex": "mf"[number % 2],
        "num_metastases": number,
        "max_metastasis_cm": 1.1 * number,
        "carcinoembryonic_antigen": "NA" if number == 3 else 2.5 + number,
        "chemo_before_resection": number % 2,
        "time_months": 10.25 + number,
        "event": (number + 1) % 2,
    }
    for number in range(8)
]
HEADINGS = {
    "Fallnr.": "patient_id",
    "Größe (mm)": "max_metastasis_cm",
    "Geschlecht": "sex",
    "OP-Datum": "resection_date",
}
MAPPING = TableMapping(
    column_names=HEADINGS,
    dialect=TableDialect(
        decimal_mark=",",
        delimiter=";",
        encoding="cp1252",
        missing_codes=("k.A.",),
        date_formats={"resection_date": "%d.%m.%Y"},
        codes={"sex": {"männlich": "m", "weiblich": "f"}},
        unit_factors={"max_metastasis_cm": 0.1},
    ),
)


def _in_dialect(row: Mapping[str, object]) -> list[str]:
    day = str(row["resection_date"]).split("-")
    number = int(str(row["patient_id"]))
    antigen = str(row["carcinoembryonic_antigen"]).replace("NA", "k.A.")
    return [
        str(row["patient_id"]),
        ".".join(reversed(day)),
        str(row["age"]),
        {"m": "männlich", "f": "weiblich"}[str(row["sex"])],
        str(row["num_metastases"]),
        str(11 * number),
        antigen.replace(".", ",") if antigen != "k.A." else antigen,
        str(row["chemo_before_resection"]),
        str(row["time_months"]).replace(".", ","),
        str(row["event"]),
    ]


def _headings() -> list[str]:
    own = {name: heading for heading, name in HEADINGS.items()}
    return [own.get(name, name) for name in AGREED[0]]


@pytest.fixture
def agreed(tmp_path: Path) -> Path:
    path = tmp_path / "agreed.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(AGREED[0]))
        writer.writeheader()
        # 1.1 * 3 is 3.3000000000000003 as a float, and 33 mm are 3.3 cm.
        rounded = [
            row | {"max_metastasis_cm": f"{11 * number // 10}.{11 * number % 10}"}
            for number, row in enumerate(AGREED)
        ]
        writer.writerows(rounded)
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.csv"
    with path.open("w", newline="", encoding="cp1252") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(_headings())
        writer.writerows(_in_dialect(row) for row in AGREED)
    return path


def test_the_sites_own_writing_gives_the_very_same_rows(
    agreed: Path, own: Path
) -> None:
    one = read_clinical_table(agreed, CONTRACT)
    other = read_clinical_table(own, CONTRACT, MAPPING)
    assert len(one.rows) == len(other.rows) == 8
    for mine, theirs in zip(one.rows, other.rows, strict=True):
        np.testing.assert_array_equal(mine.clinical, theirs.clinical)
        np.testing.assert_array_equal(mine.clinical_mask, theirs.clinical_mask)
        assert (mine.patient_id, mine.resection_date, mine.time_months, mine.event) == (
            theirs.patient_id,
            theirs.resection_date,
            theirs.time_months,
            theirs.event,
        )


@pytest.mark.parametrize(
    ("left_out", "rule", "setting"),
    [
        ({"decimal_mark"}, "decimal_comma", "decimal_mark"),
        ({"missing_codes"}, "not_a_number", "12.5"),
        ({"date_formats"}, "not_a_date", "data.table.date_formats"),
        ({"codes"}, "unknown_code", "data.table.codes"),
    ],
)
def test_without_a_setting_its_fault_names_the_setting(
    own: Path, left_out: set[str], rule: str, setting: str
) -> None:
    dialect = TableDialect(**MAPPING.dialect.model_dump(exclude=left_out))
    mapping = TableMapping(column_names=HEADINGS, dialect=dialect)
    faults = examine_clinical_table(own, CONTRACT, mapping).faults
    assert {fault.rule for fault in faults} == {rule}
    assert all(setting in fault.describe() for fault in faults)


def test_another_encoding_is_a_fault_that_names_the_setting(own: Path) -> None:
    dialect = TableDialect(**MAPPING.dialect.model_dump(exclude={"encoding"}))
    with pytest.raises(DataError, match=r"set encoding in \[data.table\]"):
        read_cells(own, dialect)


def test_a_header_with_two_delimiters_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a, in mm;b\n1;2\n")
    with pytest.raises(DataError, match=r"set delimiter in \[data.table\]"):
        read_cells(path)
    assert read_cells(path, TableDialect(delimiter=";"))[0] == ["a, in mm", "b"]


def test_a_delimiter_within_quotes_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"a, in mm";b\n1;2\n')
    assert read_cells(path)[0] == ["a, in mm", "b"]


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    book = openpyxl.Workbook()
    first = book.active
    assert first is not None
    first.append(["legend"])
    book.create_sheet("Patienten").append(["a", "b"])
    path = tmp_path / "a.xlsx"
    book.save(path)
    return path


@pytest.mark.parametrize(
    ("sheet", "header"),
    [(1, ["legend"]), (2, ["a", "b"]), ("Patienten", ["a", "b"])],
)
def test_a_sheet_goes_by_its_number_or_name(
    workbook: Path, sheet: int | str, header: list[str]
) -> None:
    assert read_cells(workbook, TableDialect(sheet=sheet))[0] == header


@pytest.mark.parametrize("sheet", [3, "patienten"])
def test_a_sheet_that_is_not_there_is_a_fault(workbook: Path, sheet: int | str) -> None:
    with pytest.raises(DataError, match="has 2 sheets") as caught:
        read_cells(workbook, TableDialect(sheet=sheet))
    assert caught.value.code == "data.table_unreadable"
