import pytest
from pydantic import ValidationError

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.table.mapping import (
    AS_AGREED,
    TableDialect,
    TableMapping,
    refuse_unfit,
)
from acfnet_core.errors import ConfigError

CRLM = shipped_contract("crlm")


@pytest.mark.parametrize("text", ["%d.%m.%Y", "%Y-%m-%d", "%d/%m/%Y", "%d %b %Y"])
def test_a_date_format_with_day_month_and_year_is_taken(text: str) -> None:
    assert TableDialect(date_formats={"a": text}).date_formats == {"a": text}


@pytest.mark.parametrize("text", ["%d.%m.%y", "%m/%Y", "dd.mm.yyyy", "", "%Y-%j-%Q"])
def test_a_date_format_that_loses_the_day_or_century_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="four digits"):
        TableDialect(date_formats={"a": text})


@pytest.mark.parametrize("factor", [0.0, -0.1, float("inf"), float("nan")])
def test_a_unit_factor_is_positive_and_finite(factor: float) -> None:
    with pytest.raises(ValidationError, match="unit_factors"):
        TableDialect(unit_factors={"a": factor})


def test_a_column_has_a_percent_sign_or_a_unit_factor() -> None:
    with pytest.raises(ValidationError, match="both name a"):
        TableDialect(percent=("a",), unit_factors={"a": 0.01})


def test_everything_that_does_not_fit_is_told_at_once() -> None:
    dialect = TableDialect(
        date_formats={"age": "%d.%m.%Y"},
        codes={"sex": {"m": "1", "w": "f"}},
        percent=("height",),
        unit_factors={"sex": 2.0},
    )
    mapping = TableMapping(column_names={"Größe": "size"}, dialect=dialect)
    with pytest.raises(ConfigError) as caught:
        refuse_unfit(mapping, CRLM)
    assert str(caught.value).splitlines() == [
        "data.columns: the contract has no column size",
        "data.table.date_formats: age is of type number; expected date",
        "data.table.percent: the contract has no column height",
        "data.table.unit_factors: sex is of type binary; expected number",
        "data.table.codes.sex: the contract has no code f; it has 1, 2",
    ]


def test_a_mapping_that_fits_passes() -> None:
    refuse_unfit(AS_AGREED, CRLM)
