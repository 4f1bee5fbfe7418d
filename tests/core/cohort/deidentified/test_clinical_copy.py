import csv
import io
from pathlib import Path

import pytest

from acfnet_core.cohort.contract import DataContract, shipped_contract
from acfnet_core.cohort.deidentified.clinical_copy import copy_table
from acfnet_core.cohort.deidentified.keyed_names import KeyedNames
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.mapping import TableMapping

CRLM = shipped_contract("crlm")
NAMES = KeyedNames(b"k" * 32)


def _copy(
    folder: Path,
    *,
    contract: DataContract = CRLM,
    mapping: TableMapping | None = None,
    patient_id: str = "0042",
    **cells: str,
) -> list[dict[str, str]]:
    row = {"Patient-ID": patient_id, **dict.fromkeys(CRLM.features, "1")}
    row |= {"age": "50", "body_mass_index": "25.5", "vital_status_DFS": "1"}
    row |= {"months_to_DFS_progression": "10", "date_of_liver_resection": "1992-06-20"}
    row |= {"relevant_notes": "Smith", **cells}
    path = folder / "t.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([row.keys(), row.values()])
    sources = CohortSources(clinical_table=path, mapping=mapping or TableMapping())
    copy = copy_table(contract, sources, NAMES, frozenset({"0042", "0043"}))
    return list(csv.DictReader(io.StringIO(copy.content.decode())))


def test_the_pseudonym_is_in_the_identifiers_place(tmp_path: Path) -> None:
    (row,) = _copy(tmp_path)
    assert row["Patient-ID"] == NAMES.patient("0042").pseudonym


def test_a_day_is_moved_as_the_scans_are(tmp_path: Path) -> None:
    (row,) = _copy(tmp_path)
    day = row["date_of_liver_resection"].replace("-", "")
    assert day == NAMES.patient("0042").shift_dicom("19920620")


@pytest.mark.parametrize("cell", ["25.5", "25.50", "  25.5 ", "2.55e1"])
def test_a_number_is_written_anew(tmp_path: Path, cell: str) -> None:
    (row,) = _copy(tmp_path, body_mass_index=cell)
    assert row["body_mass_index"] == "25.5"


@pytest.mark.parametrize("cell", ["-999", "", "-999.0"])
def test_a_missing_value_is_an_empty_cell(tmp_path: Path, cell: str) -> None:
    (row,) = _copy(tmp_path, clinrisk_score=cell)
    assert row["clinrisk_score"] == ""


def test_other_columns_stay_at_the_site(tmp_path: Path) -> None:
    (row,) = _copy(tmp_path, ours="Smith")
    assert "Smith" not in str(row)
    assert not {"ours", "relevant_notes"} & set(row)


def test_a_text_that_the_contract_demands_is_an_empty_column(tmp_path: Path) -> None:
    notes = CRLM.columns["relevant_notes"].model_copy(update={"required": True})
    columns = {**CRLM.columns, "relevant_notes": notes}
    contract = CRLM.model_copy(update={"columns": columns})
    (row,) = _copy(tmp_path, contract=contract)
    assert row["relevant_notes"] == ""


def test_a_value_of_a_column_that_may_identify_is_left_out(tmp_path: Path) -> None:
    update = {"required": True, "known": "identifier", "type": "number"}
    notes = CRLM.columns["relevant_notes"].model_copy(update=update)
    columns = {**CRLM.columns, "relevant_notes": notes}
    contract = CRLM.model_copy(update={"columns": columns})
    (row,) = _copy(tmp_path, contract=contract, relevant_notes="8675309")
    assert row["relevant_notes"] == ""


def test_headings_are_the_contracts(tmp_path: Path) -> None:
    mapping = TableMapping(column_names={"Risiko": "clinrisk_score"})
    (row,) = _copy(tmp_path, mapping=mapping, Risiko="3")
    assert row["clinrisk_score"] == "3"


def test_only_the_patients_asked_for_are_copied(tmp_path: Path) -> None:
    assert _copy(tmp_path, patient_id="0044") == []
