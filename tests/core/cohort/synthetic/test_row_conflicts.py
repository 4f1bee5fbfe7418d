from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.synthetic_hospitals import CRLM, quick_sites, write_hospital

from acfnet_core.cohort.synthetic.hospital import (
    TableDefectPlan,
    plan_clean_hospital,
)
from acfnet_core.cohort.synthetic.row_conflicts import ROW_CONFLICTS
from acfnet_core.cohort.synthetic.sites import draw_site
from acfnet_core.cohort.synthetic.table import Cell
from acfnet_core.cohort.synthetic.table_files import write_table
from acfnet_core.cohort.synthetic.table_forms import TableFormName, table_form
from acfnet_core.cohort.table.clinical_table import (
    ClinicalTable,
    examine_clinical_table,
)

FORMS: tuple[TableFormName, ...] = get_args(TableFormName)
PATIENTS = draw_site(replace(quick_sites(1)[0], num_patients=60), seed=4)


def read(
    rows: list[dict[str, Cell]], name: TableFormName, folder: Path
) -> ClinicalTable:
    """Write a table in a hospital's form, and return what is found in it."""
    form = table_form(name)
    path = folder / form.file_name
    write_table([form.write_row(row) for row in rows], form, path)
    return examine_clinical_table(path, CRLM, form.mapping)


def contradict(row: dict[str, Cell], kind: str) -> dict[str, Cell]:
    return {**row, **ROW_CONFLICTS[kind].changes(row)}


@pytest.mark.parametrize("kind", ROW_CONFLICTS)
def test_each_contradiction_breaks_its_rules_and_no_other(
    tmp_path: Path, kind: str
) -> None:
    conflict = ROW_CONFLICTS[kind]
    fit = [one.row for one in PATIENTS if conflict.fits(one.row)]
    table = read([contradict(row, kind) for row in fit], "german", tmp_path)
    assert table.faults == ()
    found = {one.rule: one.count for one in table.warnings}
    assert found == dict.fromkeys(conflict.rules, len(fit))


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_table_shows_the_contradictions(
    tmp_path: Path, name: TableFormName
) -> None:
    expected: Counter[str] = Counter()
    rows = []
    for (kind, conflict), one in product(ROW_CONFLICTS.items(), PATIENTS[:6]):
        if conflict.fits(one.row):
            expected.update(conflict.rules)
            row = contradict(one.row, kind)
            rows.append({**row, "Patient-ID": f"{kind}-{one.index}"})
    table = read(rows, name, tmp_path)
    assert table.faults == ()
    assert {one.rule: one.count for one in table.warnings} == expected


def test_every_rule_of_the_contract_has_a_contradiction() -> None:
    rules = {rule for one in ROW_CONFLICTS.values() for rule in one.rules}
    assert rules == {check.name for check in CRLM.checks}


@pytest.mark.parametrize("kind", ROW_CONFLICTS)
def test_each_contradiction_fits_some_patients(kind: str) -> None:
    assert sum(ROW_CONFLICTS[kind].fits(one.row) for one in PATIENTS) >= 10


@settings(deadline=None, max_examples=40)
@given(tenths=st.integers(2, 1500))
def test_half_of_a_time_is_less_and_not_nothing(tenths: int) -> None:
    row = {**PATIENTS[0].row, "months_to_DFS_progression": tenths / 10}
    changed = ROW_CONFLICTS["recurrence_after_death"].changes(row)
    survival = float(str(changed["overall_survival_months"]))
    assert 0.1 <= survival < tenths / 10
    assert round(survival, 1) == survival


def test_a_table_that_contradicts_itself_is_prepared(tmp_path: Path) -> None:
    site = replace(quick_sites(2)[1], scans_missing_probability=1.0)
    patient = draw_site(site, seed=4)[0]
    assert ROW_CONFLICTS["turned_event"].fits(patient.row)
    plan = replace(
        plan_clean_hospital(site, seed=4),
        table_defects=(TableDefectPlan(kind="turned_event", index=1),),
    )
    hospital = write_hospital(plan, tmp_path / "hospital")
    assert [one.rule for one in hospital.check().table.warnings] == [
        "event_is_recurrence_or_death"
    ]
    finished, _ = hospital.prepare(tmp_path / "store")
    assert finished.num_patients == 2
