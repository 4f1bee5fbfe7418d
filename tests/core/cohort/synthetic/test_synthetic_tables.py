from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from references.synthetic_hospitals import CRLM, quick_sites

from acfnet_core.cohort.synthetic.patient import SyntheticPatient
from acfnet_core.cohort.synthetic.sites import SyntheticSite, draw_site
from acfnet_core.cohort.synthetic.table import COLUMNS
from acfnet_core.cohort.synthetic.table_files import write_table
from acfnet_core.cohort.synthetic.table_forms import TableFormName, table_form
from acfnet_core.cohort.table.clinical_table import (
    ClinicalTable,
    examine_clinical_table,
    read_clinical_table,
)
from acfnet_core.cohort.table.table_file import read_cells
from acfnet_core.errors import DataError

NUM_PATIENTS = 60
FORMS: tuple[TableFormName, ...] = ("public", "german", "percent", "french")


@pytest.fixture(scope="module")
def patients() -> tuple[SyntheticPatient, ...]:
    (site,) = quick_sites(1)[:1]
    bigger: SyntheticSite = replace(site, num_patients=NUM_PATIENTS)
    return draw_site(bigger, seed=12)


def write(
    patients: tuple[SyntheticPatient, ...], name: TableFormName, folder: Path
) -> Path:
    form = table_form(name)
    path = folder / form.file_name
    write_table([form.write_row(one.row) for one in patients], form, path)
    return path


def read(
    patients: tuple[SyntheticPatient, ...], name: TableFormName, folder: Path
) -> ClinicalTable:
    path = write(patients, name, folder)
    return examine_clinical_table(path, CRLM, table_form(name).mapping)


@pytest.mark.parametrize("name", FORMS)
def test_a_table_has_no_fault_under_its_own_mapping(
    patients: tuple[SyntheticPatient, ...], tmp_path: Path, name: TableFormName
) -> None:
    table = read(patients, name, tmp_path)
    assert (table.faults, table.warnings) == ((), ())


@pytest.mark.parametrize("name", FORMS[1:])
def test_every_form_says_the_same_as_the_public_one(
    patients: tuple[SyntheticPatient, ...], tmp_path: Path, name: TableFormName
) -> None:
    public = read(patients, "public", tmp_path)
    other = read(patients, name, tmp_path)
    assert len(other.rows) == len(public.rows) == NUM_PATIENTS
    assert other.num_missing == public.num_missing
    for one, two in zip(other.rows, public.rows, strict=True):
        assert (one.patient_id, one.resection_date) == (
            two.patient_id,
            two.resection_date,
        )
        assert (one.time_months, one.event) == (two.time_months, two.event)
        np.testing.assert_array_equal(one.clinical, two.clinical)
        np.testing.assert_array_equal(one.clinical_mask, two.clinical_mask)


@pytest.mark.parametrize("name", FORMS[1:])
def test_no_form_but_the_public_one_is_read_without_its_mapping(
    patients: tuple[SyntheticPatient, ...], tmp_path: Path, name: TableFormName
) -> None:
    path = write(patients, name, tmp_path)
    with pytest.raises(DataError):
        read_clinical_table(path, CRLM)


@pytest.mark.parametrize("name", FORMS)
def test_no_two_columns_of_a_form_have_one_heading(name: TableFormName) -> None:
    headings = table_form(name).headings
    assert len(set(headings.values())) == len(COLUMNS)


def test_shares_and_days_are_written_as_the_forms_say(
    patients: tuple[SyntheticPatient, ...], tmp_path: Path
) -> None:
    form = table_form("percent")
    row = form.write_row(patients[0].row)
    assert str(row["necrosis_percent"]).endswith("%")
    day = patients[0].row["date_of_liver_resection"]
    assert row["date_of_liver_resection"] == f"{day:%d/%m/%Y}"
    assert "," in str(
        table_form("german").write_row(patients[0].row)["body_mass_index"]
    )


def test_the_registry_has_its_dictionary_before_its_patients(
    patients: tuple[SyntheticPatient, ...], tmp_path: Path
) -> None:
    header, _ = read_cells(write(patients, "percent", tmp_path))
    assert header == ["column", "meaning"]


@pytest.mark.parametrize("name", FORMS)
def test_a_table_is_written_the_same_way_twice(
    patients: tuple[SyntheticPatient, ...], tmp_path: Path, name: TableFormName
) -> None:
    first = write(patients, name, tmp_path).read_bytes()
    assert write(patients, name, tmp_path).read_bytes() == first
