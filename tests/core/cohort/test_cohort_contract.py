import csv
import tomllib
from pathlib import Path

import numpy as np
import pytest
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.contract import load_contract, shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.errors import ConfigError

CRLM = shipped_contract("crlm")


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_contract_has_thirteen_inputs() -> None:
    assert CRLM.num_clinical_features == len(CRLM.features) == 13


def test_the_fong_score_is_no_feature() -> None:
    assert CRLM.baseline_score_column not in CRLM.features


def test_the_grid_is_that_of_the_model() -> None:
    assert CRLM.imaging is not None
    assert CRLM.imaging.grid_shape == (24, 48, 48)
    assert CRLM.imaging.grid_spacing_mm == (6.0, 5.0, 5.0)


def test_a_contract_written_as_toml_reads_back_equal(tmp_path: Path) -> None:
    for contract in (CRLM, CRLM.without_imaging()):
        path = _write(tmp_path / "contract.toml", contract_to_toml(contract))
        assert load_contract(path) == contract
        assert load_contract(path).sha256() == contract.sha256()


def test_the_hash_changes_with_a_constant(tmp_path: Path) -> None:
    text = contract_to_toml(CRLM).replace("59.6548", "59.6549")
    other = load_contract(_write(tmp_path / "contract.toml", text))
    assert other.sha256() != CRLM.sha256()


def test_the_hash_changes_with_the_order_of_categories(tmp_path: Path) -> None:
    text = contract_to_toml(CRLM).replace(
        '1 = "male"\n2 = "female"', '2 = "female"\n1 = "male"'
    )
    other = load_contract(_write(tmp_path / "contract.toml", text))
    assert other.sha256() != CRLM.sha256()


def test_without_imaging_is_another_contract() -> None:
    assert CRLM.without_imaging().imaging is None
    assert CRLM.without_imaging().sha256() != CRLM.sha256()


def test_every_forbidden_feature_is_named_with_its_reason() -> None:
    names = ["age", "necrosis_percent", "vital_status", "Patient-ID"]
    with pytest.raises(ConfigError) as caught:
        CRLM.with_features(names)
    assert caught.value.code == "config.forbidden_feature"
    assert "necrosis_percent: known only from the resected specimen" in str(
        caught.value
    )
    assert "vital_status: part of the outcome" in str(caught.value)
    assert "Patient-ID: may identify the patient" in str(caught.value)
    assert "age" not in str(caught.value).replace("Patient", "")


def test_a_date_is_no_feature() -> None:
    with pytest.raises(ConfigError, match="a date is not a model input"):
        CRLM.with_features(["date_of_liver_resection"])


def test_a_feature_that_is_no_column_is_named() -> None:
    with pytest.raises(ConfigError, match="no such column in columns: height"):
        CRLM.with_features(["height"])


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = contract_to_toml(CRLM)
    text = text.replace("minimum_cell = 10", "minimum_cell = 0")
    text = text.replace("minimum = 18.0", 'minimum = "eighteen"')
    with pytest.raises(ConfigError) as caught:
        load_contract(_write(tmp_path / "contract.toml", text))
    assert caught.value.code == "config.contract_invalid"
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["contract.toml", "minimum_cell"],
        ["contract.toml", "columns.age.minimum"],
    ]
    assert "(got 'eighteen')" in lines[1]


def test_an_unknown_key_is_a_fault(tmp_path: Path) -> None:
    path = _write(tmp_path / "contract.toml", "sites = 3\n" + contract_to_toml(CRLM))
    with pytest.raises(ConfigError, match="sites"):
        load_contract(path)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_contract(_write(tmp_path / "contract.toml", "name = \n"))


def test_a_contract_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_contract(tmp_path / "absent.toml")
    assert caught.value.code == "config.not_found"


def test_an_unknown_shipped_contract_tells_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="there are: crlm"):
        shipped_contract("../crlm")


def test_a_category_gives_one_input_for_each_code(tmp_path: Path) -> None:
    parsed = contract_to_toml(CRLM).replace(
        '[columns.sex]\ntype = "binary"', '[columns.sex]\ntype = "category"'
    )
    assert tomllib.loads(parsed)["columns"]["sex"]["type"] == "category"
    contract = load_contract(_write(tmp_path / "contract.toml", parsed))
    assert contract.num_clinical_features == 14


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Patient-ID", "identifier"),
        ("relevant_notes", "identifier"),
        ("age", "feature"),
        ("vital_status_DFS", "outcome"),
        ("vital_status", "forbidden"),
        ("NASH_score", "forbidden"),
        ("clinrisk_score", "baseline"),
        ("clinrisk_stratified", "available"),
        ("date_of_liver_resection", "date"),
    ],
)
def test_the_role_of_a_column_follows_from_the_contract(name: str, role: str) -> None:
    assert CRLM.role_of(name) == role


def test_an_available_column_that_becomes_a_feature_changes_its_role() -> None:
    contract = CRLM.with_features(["clinrisk_stratified"])
    assert contract.role_of("clinrisk_stratified") == "feature"
    assert contract.role_of("age") == "available"


def test_a_column_may_have_a_public_code() -> None:
    concept = CRLM.columns["carcinoembryonic_antigen"].concept
    assert concept is not None
    assert (concept.system, concept.code) == ("LOINC", "2039-6")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            'resection_date_column = "date_of_liver_resection"',
            'resection_date_column = "age"',
            "resection_date_column must be of type date",
        ),
        ('sex_column = "sex"', 'sex_column = "height"', "no such column"),
        ('male_code = "1"', 'male_code = "m"', "two codes of sex"),
        ('male_code = "1"', 'male_code = "2"', "two codes of sex"),
        ('age_column = "age"', 'age_column = "sex"', "age_column must be of type"),
        ("min_scans = 0", "min_scans = 4", "min_scans is above max_scans"),
        ("[0.5, 7.5]", "[7.5, 0.5]", "least is above its greatest"),
        ('"CT"', '"MR"', "modality"),
    ],
)
def test_expectations_that_cannot_be_met_are_refused(
    old: str, new: str, told: str, tmp_path: Path
) -> None:
    text = contract_to_toml(CRLM)
    assert old in text
    path = _write(tmp_path / "contract.toml", text.replace(old, new))
    with pytest.raises(ConfigError, match=told):
        load_contract(path)


def test_the_endpoints_time_cannot_be_negative() -> None:
    columns = dict(CRLM.columns)
    name = CRLM.endpoint.time_column
    columns[name] = columns[name].model_copy(update={"minimum": -1.0})
    unbounded = CRLM.model_copy(update={"columns": columns})
    with pytest.raises(ConfigError, match="needs a minimum of 0 or more"):
        unbounded.with_features(CRLM.features)


def test_a_site_needs_the_minimum_cell_at_least() -> None:
    assert CRLM.fewest_patients == CRLM.minimum_cell == 10
    larger = CRLM.model_copy(update={"minimum_patients": 25})
    assert larger.fewest_patients == 25


def test_the_constants_are_those_of_the_public_cohort() -> None:
    table = SHARED_DATA / "crlm" / "clinical.csv"
    if not table.is_file():
        pytest.skip("the public table is not beside this checkout")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in CRLM.features:
        column = CRLM.columns[name]
        values = np.array([float(r[name]) for r in rows if float(r[name]) != -999])
        if column.standardise.transform == "log1p":
            values = np.log1p(values)
        if column.categories:
            values = (values == float(column.codes[1])).astype(float)
        assert column.standardise.mean == pytest.approx(values.mean(), abs=1e-4)
        assert column.standardise.standard_deviation == pytest.approx(
            values.std(), abs=1e-4
        )
