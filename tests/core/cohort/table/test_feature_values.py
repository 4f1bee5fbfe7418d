import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.contract import (
    ClinicalColumn,
    DataContract,
    Standardisation,
    shipped_contract,
)
from acfnet_core.cohort.table.clinical_table import TableRow, examine_clinical_table
from acfnet_core.cohort.table.feature_values import feature_values

CRLM = shipped_contract("crlm")


def contract_of(column: ClinicalColumn) -> DataContract:
    columns = {**CRLM.columns, "age": column}
    return CRLM.model_copy(update={"columns": columns, "features": ("age", "sex")})


def row_of(*clinical: float, known: bool = True) -> TableRow:
    return TableRow(
        row_number=2,
        patient_id="CANARY",
        clinical=np.array(clinical, np.float32),
        clinical_mask=np.full(len(clinical), known),
        resection_date=None,
    )


def number(transform: str, mean: float, standard_deviation: float) -> ClinicalColumn:
    constants = Standardisation.model_validate(
        {
            "transform": transform,
            "mean": mean,
            "standard_deviation": standard_deviation,
        }
    )
    return ClinicalColumn(
        type="number", known="before_surgery", meaning="x", standardise=constants
    )


@given(
    st.floats(0, 1e5, width=32),
    st.sampled_from(["identity", "log1p"]),
    st.floats(-50, 50),
    st.floats(0.1, 50),
)
@settings(deadline=None, max_examples=50)
def test_a_number_comes_back_in_its_own_unit(
    value: float, transform: str, mean: float, standard_deviation: float
) -> None:
    plain = np.log1p(value) if transform == "log1p" else value
    inputs = (plain - mean) / standard_deviation
    contract = contract_of(number(transform, mean, standard_deviation))
    (found,) = feature_values([row_of(inputs, 0.0)], contract)["age"]
    assert found == pytest.approx(value, rel=1e-4, abs=2e-4)


def test_a_category_comes_back_as_the_position_of_its_code() -> None:
    column = ClinicalColumn(
        type="category",
        known="before_surgery",
        meaning="x",
        categories={"a": "first", "b": "second", "c": "third"},
    )
    rows = [row_of(0, 0, 1, 0.0), row_of(1, 0, 0, 0.0)]
    assert feature_values(rows, contract_of(column))["age"].tolist() == [2.0, 0.0]


def test_what_is_missing_is_no_number() -> None:
    rows = [row_of(0.5, 0.5, known=False)]
    values = feature_values(rows, contract_of(number("identity", 0, 1)))
    assert np.isnan([values["age"][0], values["sex"][0]]).all()


def test_no_rows_give_no_values() -> None:
    assert [v.size for v in feature_values([], CRLM).values()] == [0] * 13


@pytest.mark.skipif(
    not (SHARED_DATA / "crlm/clinical.csv").exists(), reason="no public table here"
)
@pytest.mark.parametrize("name", ["age", "sex", "carcinoembryonic_antigen"])
def test_values_of_the_public_table_are_those_in_the_file(name: str) -> None:
    path: Path = SHARED_DATA / "crlm/clinical.csv"
    table = examine_clinical_table(path, CRLM)
    found = feature_values([*table.rows, *table.without_outcome], CRLM)[name]
    with path.open(newline="") as file:
        written = [row[name] for row in csv.DictReader(file)]
    numbers = [float(cell) for cell in written if cell]
    known = sorted(number for number in numbers if number != -999)
    if name == "sex":
        known = [code - 1 for code in known]
    assert np.sort(found[np.isfinite(found)]) == pytest.approx(known, rel=1e-4)
