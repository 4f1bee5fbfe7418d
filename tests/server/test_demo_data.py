import csv
from pathlib import Path

import pytest

import acf_server.demo_data as demo_data_module
from acf_server.demo_data import (
    DemoCohort,
    make_synthetic_cohort,
    split_public_table,
)
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.sources import read_cohort_file
from acfnet_core.cohort.synthetic.hospital import HospitalPlan
from acfnet_core.cohort.synthetic.sites import SyntheticSite
from acfnet_core.errors import AcfnetError, ConfigError, DataError

CONTRACT = shipped_contract("crlm").without_imaging()
NUM_ROWS = 60


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of the public cohort's form, with its list of series beside it."""
    folder = tmp_path / "public"
    folder.mkdir()
    path = folder / "clinical.csv"
    columns = [name for name in CONTRACT.columns if name != CONTRACT.patient_id_column]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([CONTRACT.patient_id_column, *columns])
        for number in range(NUM_ROWS):
            values = {CONTRACT.endpoint.event_column: number % 2}
            row = [values.get(name, 1) for name in columns]
            writer.writerow([f"P-{number:03d}", *row])
    with (folder / "ct_series.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Subject ID", "Number of Images"])
        for number in range(NUM_ROWS):
            writer.writerow([f"P-{number:03d}", 60 + 80 * (number % 3 > 0)])
    return path


def split(
    table: Path,
    *,
    num_sites: int = 2,
    num_patients: int | None = None,
    features: tuple[str, ...] = (),
    notes: list[str] | None = None,
) -> DemoCohort:
    said: list[str] = [] if notes is None else notes
    return split_public_table(
        table.parents[1] / "demo",
        clinical_table=table,
        series_table=None,
        num_sites=num_sites,
        num_patients=num_patients,
        seed=1,
        features=features,
        note=said.append,
    )


def synthesise(
    folder: Path,
    *,
    num_sites: int = 3,
    num_patients: int | None = None,
    features: tuple[str, ...] = (),
) -> DemoCohort:
    return make_synthetic_cohort(
        folder,
        num_sites=num_sites,
        num_patients=num_patients,
        seed=1,
        features=features,
        watch=lambda name, total, events: None,
    )


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[SyntheticSite]:
    """The sites that would be made up, without their images."""
    sites: list[SyntheticSite] = []

    def write(plan: HospitalPlan, folder: Path) -> list[object]:
        sites.append(plan.site)
        return []

    monkeypatch.setattr(demo_data_module, "synthesize_hospital", write)
    return sites


def rows_of(path: Path) -> set[str]:
    with path.open(newline="") as file:
        return {row[CONTRACT.patient_id_column] for row in csv.DictReader(file)}


def test_every_patient_is_at_one_site_or_held_out(table: Path) -> None:
    cohort = split(table)
    parts = [rows_of(h.clinical_table) for h in (*cohort.hospitals, cohort.held_out)]
    assert sum(len(part) for part in parts) == NUM_ROWS
    assert len(set.union(*parts)) == NUM_ROWS


def test_a_fifth_is_held_out(table: Path) -> None:
    assert len(rows_of(split(table).held_out.clinical_table)) == NUM_ROWS // 5


def test_the_pseudo_sites_are_told_apart_by_their_slices(table: Path) -> None:
    cohort = split(table)
    assert cohort.site_names == ("thin-slices", "thick-slices")
    thick = rows_of(cohort.hospital("thick-slices").clinical_table)
    assert all(int(patient[2:]) % 3 == 0 for patient in thick)


def test_pseudo_sites_declare_images_missing_and_the_data_public(table: Path) -> None:
    cohort = split(table)
    assert cohort.contract.imaging is None
    assert {h.images for h in (*cohort.hospitals, cohort.held_out)} == {None}
    assert cohort.origin == "public"


def test_another_number_of_sites_is_answered_with_a_note(table: Path) -> None:
    notes: list[str] = []
    assert len(split(table, num_sites=3, notes=notes).hospitals) == 2
    assert any("2 pseudo-sites" in note for note in notes)


def test_patients_and_a_real_table_do_not_go_together(table: Path) -> None:
    with pytest.raises(ConfigError, match="--patients") as caught:
        split(table, num_patients=50)
    assert caught.value.code == "config.invalid"


@pytest.mark.parametrize("name", ["months_to_DFS_progression", "NASH_score"])
def test_a_feature_that_is_not_known_before_surgery_is_refused_by_name(
    table: Path, written: list[SyntheticSite], name: str
) -> None:
    with pytest.raises(AcfnetError, match=name) as of_table:
        split(table, features=("age", name))
    with pytest.raises(AcfnetError, match=name) as of_made_up:
        synthesise(table.parent, features=("age", name))
    codes = {of_table.value.code, of_made_up.value.code}
    assert codes == {"config.forbidden_feature"}
    assert not written
    assert not (table.parents[1] / "demo").exists()


def test_the_features_asked_for_are_those_of_the_contract(table: Path) -> None:
    assert split(table, features=("age", "sex")).contract.features == ("age", "sex")


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv") as caught:
        split(tmp_path / "public" / "none.csv")
    assert caught.value.code == "data.path_not_found"


def test_a_table_without_its_list_of_series_is_refused(table: Path) -> None:
    (table.parent / "ct_series.csv").unlink()
    with pytest.raises(DataError, match=r"ct_series\.csv"):
        split(table)


def test_made_up_hospitals_share_the_patients_out(
    tmp_path: Path, written: list[SyntheticSite]
) -> None:
    cohort = synthesise(tmp_path, num_patients=90)
    assert sum(site.num_patients for site in written[:-1]) == 90
    assert [site.name for site in written] == [*cohort.site_names, "held-out"]


@pytest.mark.usefixtures("written")
def test_made_up_hospitals_have_images_and_are_called_synthetic(tmp_path: Path) -> None:
    cohort = synthesise(tmp_path)
    assert all(h.images is not None for h in (*cohort.hospitals, cohort.held_out))
    assert cohort.contract.imaging is not None
    assert cohort.origin == "synthetic"


@pytest.mark.usefixtures("written")
def test_made_up_hospitals_write_in_their_own_ways(tmp_path: Path) -> None:
    cohort = synthesise(tmp_path)
    names = [hospital.clinical_table.name for hospital in cohort.hospitals]
    assert names == ["clinical.xlsx", "patienten.csv", "registry.xlsx"]
    assert "decimal commas, masks RTSTRUCT" in cohort.hospital("hospital-b").habits
    assert "pixels JPEG 2000" in cohort.hospital("hospital-c").habits
    assert cohort.held_out.clinical_table.name == "clinical.xlsx"


@pytest.mark.usefixtures("written")
def test_settings_of_made_up_hospitals_say_how_their_files_are_read(
    tmp_path: Path,
) -> None:
    cohort = synthesise(tmp_path, num_sites=4)
    for hospital in cohort.hospitals:
        path = tmp_path / f"{hospital.name}.toml"
        path.write_text(str(hospital.settings))
        assert read_cohort_file(path) == hospital.sources


def test_pseudo_sites_need_no_settings_of_their_own(table: Path) -> None:
    assert {h.settings for h in split(table).hospitals} == {None}


def test_at_least_twenty_patients_are_held_out(
    tmp_path: Path, written: list[SyntheticSite]
) -> None:
    synthesise(tmp_path, num_sites=1, num_patients=12)
    assert written[-1].num_patients == 20


@pytest.mark.parametrize("num_patients", [-1, 0, 1, 2, 3, 30])
def test_too_few_patients_for_the_minimum_cell_are_refused(
    tmp_path: Path, written: list[SyntheticSite], num_patients: int
) -> None:
    with pytest.raises(ConfigError, match="minimum is 10") as caught:
        synthesise(tmp_path, num_patients=num_patients)
    assert caught.value.code == "config.invalid"
    assert not written
