from importlib import resources
from pathlib import Path

import pytest
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.contract import load_contract, shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.cohort.table.clinical_table import (
    ClinicalTable,
    examine_clinical_table,
)

FOLDER = resources.files("acfnet_core.cohort.contracts")
NAMES = sorted(
    entry.name.removesuffix(".toml")
    for entry in FOLDER.iterdir()
    if entry.name.endswith(".toml")
)
PUBLIC_TABLE = SHARED_DATA / "crlm" / "clinical.csv"
ONLY_IN_THE_SECOND_WORKBOOK = {
    "body_mass_index",
    "node_positive_primary",
    "synchronous_crlm",
    "multiple_metastases",
    "carcinoembryonic_antigen",
    "max_tumor_size",
    "bilobar_disease",
    "preoperative_pve",
}
KNOWN_INCONSISTENCIES = [("response_is_its_parts", 3, 194, (106, 141, 188))]


@pytest.fixture(scope="module")
def public_table() -> Path:
    if not PUBLIC_TABLE.is_file():
        pytest.skip("the public table is not beside this checkout")
    return PUBLIC_TABLE


def _inconsistencies(
    table: ClinicalTable,
) -> list[tuple[str, int, int, tuple[int, ...]]]:
    return [(w.rule, w.count, w.num_judged, w.first_rows) for w in table.warnings]


def test_three_contracts_are_shipped() -> None:
    assert NAMES == ["crlm", "crlm-2022", "generic"]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_contract_is_called_like_its_file(name: str) -> None:
    assert shipped_contract(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_contract_written_as_toml_reads_back_equal(
    name: str, tmp_path: Path
) -> None:
    contract = shipped_contract(name)
    path = tmp_path / "contract.toml"
    path.write_text(contract_to_toml(contract), encoding="utf-8")
    assert load_contract(path) == contract
    assert load_contract(path).sha256() == contract.sha256()


@pytest.mark.parametrize("name", NAMES)
def test_every_column_has_one_role_and_features_are_known_before_surgery(
    name: str,
) -> None:
    contract = shipped_contract(name)
    roles = {column: contract.role_of(column) for column in contract.columns}
    assert [c for c, role in roles.items() if role == "feature"] == sorted(
        contract.features, key=list(contract.columns).index
    )
    assert sum(role == "outcome" for role in roles.values()) == 2


def test_the_first_workbook_lacks_eight_columns() -> None:
    second, first = shipped_contract("crlm"), shipped_contract("crlm-2022")
    assert set(second.columns) - set(first.columns) == ONLY_IN_THE_SECOND_WORKBOOK
    assert set(second.features) - set(first.features) == ONLY_IN_THE_SECOND_WORKBOOK
    assert all(first.columns[name] == second.columns[name] for name in first.columns)


def test_the_public_table_has_exactly_the_known_inconsistencies(
    public_table: Path,
) -> None:
    table = examine_clinical_table(public_table, shipped_contract("crlm"))
    assert (table.num_rows, len(table.rows), table.faults) == (197, 197, ())
    assert _inconsistencies(table) == KNOWN_INCONSISTENCIES


def test_the_first_workbook_passes_its_own_contract(
    public_table: Path, tmp_path: Path
) -> None:
    rows = [line.split(",") for line in public_table.read_text("utf-8").splitlines()]
    kept = [i for i, n in enumerate(rows[0]) if n not in ONLY_IN_THE_SECOND_WORKBOOK]
    assert len(kept) == 28
    path = tmp_path / "clinical.csv"
    lines = [",".join(row[i] for i in kept if i < len(row)) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = examine_clinical_table(path, shipped_contract("crlm-2022"))
    assert (len(table.rows), table.faults) == (197, ())
    assert _inconsistencies(table) == KNOWN_INCONSISTENCIES
