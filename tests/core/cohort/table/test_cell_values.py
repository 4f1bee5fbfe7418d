import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.cohort.contract import ClinicalColumn, shipped_contract
from acfnet_core.cohort.table.cell_values import (
    ColumnWriting,
    Value,
    convert_column,
    writing_of,
)
from acfnet_core.cohort.table.mapping import TableDialect
from acfnet_core.cohort.table.table_file import Cell

CRLM = shipped_contract("crlm")
SIZE = ClinicalColumn(
    type="number", known="before_surgery", meaning="cm", minimum=0.0, maximum=40.0
)
SHARE = ClinicalColumn(
    type="number", known="before_surgery", meaning="share", minimum=0.0, maximum=1.0
)
DAY = ClinicalColumn(type="date", known="before_surgery", meaning="a day")


def _one(
    column: ClinicalColumn, cell: Cell, **settings_: Any
) -> tuple[Value, str | None]:
    writing = writing_of("x", column, TableDialect(**settings_), ("-999",))
    (value,), broken = convert_column(column, [cell], writing)
    return value, broken[0][1] if broken else None


@pytest.mark.parametrize(
    ("cell", "mark", "expected"),
    [
        ("12.5", ".", (12.5, None)),
        ("12,5", ",", (12.5, None)),
        (12.5, ",", (12.5, None)),
        ("12", ",", (12.0, None)),
        ("12,5", ".", (None, "decimal_comma")),
        ("12.5", ",", (None, "decimal_point")),
        ("1.234,5", ",", (None, "not_a_number")),
        ("1,234.5", ".", (None, "not_a_number")),
        ("-999,0", ",", (None, None)),
        ("-999.0", ".", (None, None)),
        ("1_0", ".", (None, "not_a_number")),
        ("1e999", ".", (None, "not_a_number")),
        ("nan", ".", (None, "not_a_number")),
    ],
)
def test_a_number_has_the_decimal_mark_that_the_site_names(
    cell: Cell, mark: str, expected: tuple[Value, str | None]
) -> None:
    assert _one(SIZE, cell, decimal_mark=mark) == expected


@pytest.mark.parametrize(
    ("cell", "percent", "expected"),
    [
        ("70%", ("x",), (0.7, None)),
        ("70 %", ("x",), (0.7, None)),
        ("110%", ("x",), (None, "above_maximum")),
        ("0.7", ("x",), (None, "no_percent_sign")),
        (0.7, ("x",), (None, "no_percent_sign")),
        ("70%", (), (None, "percent_sign")),
        ("%", ("x",), (None, "not_a_number")),
    ],
)
def test_a_percent_sign_is_there_exactly_where_the_site_says(
    cell: Cell, percent: tuple[str, ...], expected: tuple[Value, str | None]
) -> None:
    assert _one(SHARE, cell, percent=percent) == expected


def test_a_percent_may_have_a_decimal_comma() -> None:
    share = _one(SHARE, "12,5%", percent=("x",), decimal_mark=",")
    assert share == (0.125, None)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 400))
def test_millimetres_give_the_very_float_of_centimetres(tenths: int) -> None:
    in_mm, _ = _one(SIZE, tenths, unit_factors={"x": 0.1})
    in_cm, _ = _one(SIZE, f"{tenths // 10}.{tenths % 10}")
    assert in_mm == in_cm


def test_bounds_hold_for_the_value_in_the_contracts_unit() -> None:
    assert _one(SIZE, 350, unit_factors={"x": 0.1}) == (35.0, None)
    assert _one(SIZE, 450, unit_factors={"x": 0.1}) == (None, "above_maximum")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("m", (0.0, None)),
        ("w", (1.0, None)),
        (" m ", (0.0, None)),
        ("1", (None, "unknown_code")),
        ("M", (None, "unknown_code")),
    ],
)
def test_of_a_column_with_the_sites_codes_no_other_is_taken(
    cell: Cell, expected: tuple[Value, str | None]
) -> None:
    codes = {"x": {"m": "1", "w": "2"}}
    assert _one(CRLM.columns["sex"], cell, codes=codes) == expected


def test_codes_may_be_swapped() -> None:
    swapped = {"x": {"1": "2", "2": "1"}}
    assert _one(CRLM.columns["sex"], 1, codes=swapped) == (1.0, None)
    assert _one(CRLM.columns["sex"], "2.0", codes=swapped) == (0.0, None)


@pytest.mark.parametrize(
    ("cell", "formats", "expected"),
    [
        ("03.04.2019", {"x": "%d.%m.%Y"}, (datetime.date(2019, 4, 3), None)),
        ("03/04/2019", {}, (None, "not_a_date")),
        ("2019-13-01", {}, (None, "not_a_date")),
        (43558, {}, (None, "not_a_date")),
        (
            datetime.date(2019, 4, 3),
            {"x": "%d.%m.%Y"},
            (datetime.date(2019, 4, 3), None),
        ),
    ],
)
def test_a_day_is_read_in_the_format_that_the_site_names(
    cell: Cell, formats: dict[str, str], expected: tuple[Value, str | None]
) -> None:
    assert _one(DAY, cell, date_formats=formats) == expected


@pytest.mark.parametrize("cell", ["k.A.", "K.a.", "-999", -999, "", None])
def test_the_sites_missing_codes_count_beside_the_contracts(cell: Cell) -> None:
    assert _one(SIZE, cell, missing_codes=("k.A.",)) == (None, None)


@settings(deadline=None, max_examples=80)
@given(text=st.text(max_size=12), mark=st.sampled_from((".", ",")))
def test_any_text_is_a_value_in_bounds_or_breaks_a_rule(text: str, mark: str) -> None:
    writing = ColumnWriting(missing_codes=("-999",), decimal_mark=mark)
    (value,), broken = convert_column(SIZE, [text], writing)
    assert value is None or (isinstance(value, float) and 0 <= value <= 40)
    assert not (broken and value is not None)
