import datetime
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.table import table_file
from acfnet_core.cohort.table.cell_values import ColumnWriting, convert_column
from acfnet_core.cohort.table.clinical_table import (
    examine_clinical_table,
    read_clinical_table,
)
from acfnet_core.cohort.table.mapping import TableMapping
from acfnet_core.errors import ConfigError, DataError

CRLM = shipped_contract("crlm")
ROW: dict[str, object] = {
    "Patient-ID": "007",
    "age": 60,
    "sex": 2,
    "major_comorbidity": 0,
    "body_mass_index": 24.5,
    "node_positive_primary": 1,
    "synchronous_crlm": 0,
    "multiple_metastases": 1,
    "carcinoembryonic_antigen": 9.0,
    "max_tumor_size": 3.5,
    "bilobar_disease": 0,
    "extrahep_disease": 0,
    "chemo_before_liver_resection": 1,
    "preoperative_pve": 0,
    "clinrisk_score": 2,
    "necrosis_percent": "n/a in our files",
    "months_to_DFS_progression": 12.5,
    "vital_status_DFS": 1,
    "date_of_liver_resection": "1992-06-20",
}


def _write_csv(path: Path, rows: list[dict[str, object]], delimiter: str = ",") -> Path:
    lines = [delimiter.join(rows[0])]
    lines += [delimiter.join(str(value) for value in row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _write_xlsx(path: Path, rows: list[dict[str, object]]) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))
    book.create_sheet("dictionary").append(["not", "the", "table"])
    book.save(path)
    return path


def _code_of(path: Path, column_names: dict[str, str] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_clinical_table(path, CRLM, TableMapping(column_names=column_names or {}))
    return caught.value.code


def test_csv_and_xlsx_give_the_same_row(tmp_path: Path) -> None:
    in_text = _write_csv(tmp_path / "a.csv", [ROW])
    in_book = _write_xlsx(
        tmp_path / "a.xlsx",
        [ROW | {"date_of_liver_resection": datetime.datetime(1992, 6, 20)}],
    )
    (one,) = read_clinical_table(in_text, CRLM).rows
    (two,) = read_clinical_table(in_book, CRLM).rows
    np.testing.assert_array_equal(one.clinical, two.clinical)
    assert one.resection_date == two.resection_date == datetime.date(1992, 6, 20)
    assert one.patient_id == two.patient_id == "007"


def test_a_semicolon_separates_too(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW], delimiter=";")
    assert len(read_clinical_table(path, CRLM).rows) == 1


def test_values_are_standardised_by_the_contract(tmp_path: Path) -> None:
    (row,) = read_clinical_table(_write_csv(tmp_path / "a.csv", [ROW]), CRLM).rows
    inputs = dict(zip(CRLM.features, row.clinical.tolist(), strict=True))
    assert inputs["age"] == pytest.approx((60 - 59.6548) / 12.2819, abs=1e-5)
    assert inputs["sex"] == pytest.approx((1 - 0.4061) / 0.4911, abs=1e-5)
    assert inputs["carcinoembryonic_antigen"] == pytest.approx(
        (np.log(10) - 2.3557) / 1.2141, abs=1e-4
    )


@pytest.mark.parametrize("missing", ["-999", "-999.0", "", " "])
def test_a_missing_code_is_masked_and_zero(missing: str, tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW | {"max_tumor_size": missing}])
    (row,) = read_clinical_table(path, CRLM).rows
    position = CRLM.features.index("max_tumor_size")
    assert (row.clinical[position], row.clinical_mask[position]) == (0, False)


@pytest.mark.parametrize(
    "missing",
    [
        {"vital_status_DFS": -999},
        {"months_to_DFS_progression": ""},
        {"vital_status_DFS": "", "months_to_DFS_progression": -999},
    ],
)
def test_a_patient_without_time_or_event_stands_apart(
    missing: dict[str, object], tmp_path: Path
) -> None:
    rows = [ROW, ROW | {"Patient-ID": "8"} | missing]
    table = read_clinical_table(_write_csv(tmp_path / "a.csv", rows), CRLM)
    assert [row.patient_id for row in table.rows] == ["007"]
    (other,) = table.without_outcome
    assert (other.patient_id, other.row_number) == ("8", 3)
    assert other.resection_date == datetime.date(1992, 6, 20)
    np.testing.assert_array_equal(other.clinical, table.rows[0].clinical)


def test_a_row_without_outcome_has_no_outcome_to_misread(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW | {"vital_status_DFS": -999}])
    (row,) = read_clinical_table(path, CRLM).without_outcome
    assert {"time_months", "event", "fong_score"}.isdisjoint(vars(row))


def test_a_faulty_row_without_outcome_is_told_like_any_other(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"vital_status_DFS": -999, "age": "sixty"}]
    table = examine_clinical_table(_write_csv(tmp_path / "a.csv", rows), CRLM)
    told = {(fault.rule, fault.first_rows) for fault in table.faults}
    assert told == {("not_a_number", (3,)), ("duplicate_identifier", (3,))}


FAULTS: dict[str, tuple[str, str, object]] = {
    "not_a_number": ("body_mass_index", "CANARY", "about 24"),
    "decimal_comma": ("body_mass_index", "CANARY", "24,5"),
    "percent_sign": ("body_mass_index", "CANARY", "24%"),
    "below_minimum": ("age", "CANARY", 7),
    "above_maximum": ("age", "CANARY", 777),
    "unknown_code": ("sex", "CANARY", 3),
    "not_a_date": ("date_of_liver_resection", "CANARY", "20.06.1992"),
    "missing_identifier": ("Patient-ID", "CANARY", ""),
    "duplicate_identifier": ("Patient-ID", "CANARY", "007"),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_faulty_cell_is_told_by_rule_column_and_row(
    rule: str, tmp_path: Path
) -> None:
    column, _, value = FAULTS[rule]
    rows = [ROW, ROW | {"Patient-ID": "8"} | {column: value}]
    path = _write_xlsx(tmp_path / "a.xlsx", rows)
    (fault,) = examine_clinical_table(path, CRLM).faults
    assert (fault.rule, fault.column) == (rule, column)
    assert (fault.count, fault.first_rows) == (1, (3,))


def test_all_faults_are_raised_at_once_and_without_values(tmp_path: Path) -> None:
    rows = [
        ROW | {"age": "CANARY", "sex": "CANARY", "Patient-ID": f"CANARY{number}"}
        for number in range(8)
    ]
    with pytest.raises(DataError) as caught:
        read_clinical_table(_write_csv(tmp_path / "a.csv", rows), CRLM)
    assert caught.value.code == "data.table_invalid"
    assert len(str(caught.value).splitlines()) == 2
    assert "column age: 8 x a value that is not a number" in str(caught.value)
    assert "(rows 2, 3, 4, 5, 6, ...)" in str(caught.value)
    assert "CANARY" not in f"{caught.value}{caught.value.__context__}"


def test_columns_that_are_not_used_are_not_read(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW | {"steatosis_yesno": "???"}])
    table = examine_clinical_table(path, CRLM)
    assert not any("steatosis_yesno" in one.columns for one in table.warnings)
    assert table.faults == ()


def test_a_cell_of_a_column_for_rules_alone_is_a_warning(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW])
    table = examine_clinical_table(path, CRLM)
    (warning,) = table.warnings
    assert (warning.rule, warning.columns) == ("not_a_number", ("necrosis_percent",))
    assert table.faults == ()


def test_a_rule_of_severity_fault_keeps_the_table_back(tmp_path: Path) -> None:
    rules = tuple(one.model_copy(update={"severity": "fault"}) for one in CRLM.checks)
    strict = CRLM.model_copy(update={"checks": rules})
    row = ROW | {"overall_survival_months": "3", "Patient-ID": "CANARY"}
    path = _write_csv(tmp_path / "a.csv", [row])
    with pytest.raises(DataError, match="recurrence_not_after_last_contact") as caught:
        read_clinical_table(path, strict)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"overall_survival_months": 3}, "recurrence_not_after_last_contact"),
        ({"months_to_DFS_progression": 0}, "event_takes_time"),
        ({"progression_or_recurrence": 0, "vital_status": 0}, None),
        ({"clinrisk_stratified": 1}, "risk_group_is_score_of_three"),
    ],
)
def test_a_row_that_contradicts_itself_is_warned_of(
    changed: dict[str, object], rule: str | None, tmp_path: Path
) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW | {"necrosis_percent": 0} | changed])
    table = examine_clinical_table(path, CRLM)
    told = [one.rule for one in table.warnings]
    assert told == [rule or "event_is_recurrence_or_death"]
    assert len(table.rows) == 1


def test_a_time_below_zero_is_a_fault(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW | {"months_to_DFS_progression": -1}])
    (fault,) = examine_clinical_table(path, CRLM).faults
    assert fault.rule == "below_minimum"


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    rows = [{k: v for k, v in ROW.items() if k not in ("age", "sex")}]
    with pytest.raises(DataError, match="lacks 2 of the contract's columns: age, sex"):
        read_clinical_table(_write_csv(tmp_path / "a.csv", rows), CRLM)


def test_a_table_without_header_shows_no_patient(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("CANARY,60,1\nCANARY2,61,1\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_clinical_table(path, CRLM)
    assert caught.value.code == "data.missing_column"
    assert "CANARY" not in str(caught.value)


def test_the_sites_own_names_are_mapped(tmp_path: Path) -> None:
    row = {{"age": "Alter"}.get(name, name): value for name, value in ROW.items()}
    path = _write_csv(tmp_path / "a.csv", [row])
    assert (
        read_clinical_table(
            path, CRLM, TableMapping(column_names={"Alter": "age"})
        ).faults
        == ()
    )


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW | {"Alter": 60}])
    assert _code_of(path, {"Alter": "age"}) == "data.table_unreadable"


def test_a_mapping_to_no_column_is_named(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW])
    with pytest.raises(ConfigError, match="the contract has no column height"):
        read_clinical_table(path, CRLM, TableMapping(column_names={"Alter": "height"}))


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert _code_of(tmp_path / "absent.csv") == "data.path_not_found"


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_an_empty_table(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    assert _code_of(path) == "data.table_empty"


def test_a_header_alone_is_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(ROW) + "\n")
    assert _code_of(path) == "data.table_empty"


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx", "a.xls"])
def test_garbage_is_unreadable(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xd0\xcf\x11\xe0 CANARY")
    assert _code_of(path) == "data.table_unreadable"


def test_a_row_of_another_width_is_refused(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW])
    path.write_text(path.read_text() + "8,60,1" + ",1" * 40 + "\n")
    assert _code_of(path) == "data.table_unreadable"


def test_a_workbook_that_unpacks_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write_xlsx(tmp_path / "a.xlsx", [ROW])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.bin", bytes(2_000_000))
    monkeypatch.setattr(table_file, "_MAX_BYTES", 1_000_000)
    assert _code_of(path) == "data.table_unreadable"


def test_an_identifier_stays_out_of_a_rows_repr(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW | {"Patient-ID": "CANARY"}])
    assert "CANARY" not in repr(read_clinical_table(path, CRLM))


def test_the_sex_and_age_of_the_table_are_kept_for_comparison(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "a.csv", [ROW])
    (row,) = read_clinical_table(path, CRLM).rows
    assert (row.stated_sex, row.stated_age_years) == ("F", 60.0)
    assert "stated" not in repr(row)


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=12))
def test_a_number_column_takes_a_number_or_names_a_rule(text: str) -> None:
    column = CRLM.columns["age"]
    writing = ColumnWriting(missing_codes=("-999",))
    values, broken = convert_column(column, [text], writing)
    value = values[0]
    assert value is None or (isinstance(value, float) and 18 <= value <= 110)
    assert not (broken and value is not None)


def test_the_public_table_passes() -> None:
    path = SHARED_DATA / "crlm" / "clinical.csv"
    if not path.is_file():
        pytest.skip("the public table is not beside this checkout")
    table = read_clinical_table(path, CRLM)
    assert (len(table.rows), sum(row.event for row in table.rows)) == (197, 138)
    assert sum(row.fong_score is None for row in table.rows) == 29
