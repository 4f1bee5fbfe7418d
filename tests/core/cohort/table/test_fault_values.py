import csv
import stat
from pathlib import Path

import pytest

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.table.fault_values import write_fault_values

CONTRACT = shipped_contract("generic")
GOOD = {
    "patient_id": "1",
    "age": "60",
    "sex": "m",
    "num_metastases": "2",
    "max_metastasis_cm": "3",
    "carcinoembryonic_antigen": "5",
    "chemo_before_resection": "0",
    "time_months": "12",
    "event": "1",
}


def _table(path: Path, *rows: dict[str, str]) -> Path:
    lines = [",".join(GOOD), *(",".join((GOOD | row).values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def written(tmp_path: Path) -> Path:
    rows = [{}, {"patient_id": "2", "age": "250"}]
    rows += [{"patient_id": str(n), "sex": "x"} for n in range(3, 12)]
    rows += [{"patient_id": "1", "time_months": "0"}]
    target = tmp_path / "values.csv"
    write_fault_values(target, _table(tmp_path / "a.csv", *rows), CONTRACT)
    return target


def test_every_faulty_value_has_its_line(written: Path) -> None:
    with written.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["row", "column", "rule", "severity", "value"]
    assert lines[1] == ["3", "age", "above_maximum", "fault", "250"]
    codes = [line for line in lines if line[2] == "unknown_code"]
    assert [int(line[0]) for line in codes] == list(range(4, 13))


def test_a_rule_between_columns_has_a_line_for_each(written: Path) -> None:
    with written.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.reader(file) if line[2] == "event_takes_time"]
    assert lines == [
        ["13", "event", "event_takes_time", "warning", "1"],
        ["13", "time_months", "event_takes_time", "warning", "0"],
    ]


def test_only_the_owner_may_read_the_values(written: Path) -> None:
    assert stat.S_IMODE(written.stat().st_mode) == 0o600


def test_an_older_file_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    target = tmp_path / "values.csv"
    target.write_text("old")
    target.chmod(0o644)
    table = _table(tmp_path / "a.csv", {})
    assert write_fault_values(target, table, CONTRACT) == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.read_text().splitlines() == ["row,column,rule,severity,value"]
