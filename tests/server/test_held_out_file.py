"""The coordinator's held-out cohort, described by a file and read as a site's is."""

import shutil
from pathlib import Path

import pytest
from pydicom import dcmread
from references.admitted_sites import admit_site
from references.command_line import Program, refused
from references.synthetic_hospitals import (
    Hospital,
    quick_sites,
    write_clean_hospital,
)

from acf_client.data import data_sources, prepare_site
from acf_client.site import Site, open_site
from acf_server.cli import main
from acf_server.coordinator import Coordinator, initialise
from acf_server.evaluation import cohort_folder, prepare_at_coordinator
from acf_server.evaluation_sources import held_out_sources, reference_sources
from acf_server.run_files import CONTRACT_FILE
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.cohort.prepared.manifest import read_manifest
from acfnet_core.cohort.sources import CohortSources, read_cohort_file
from acfnet_core.cohort.synthetic.site_settings import settings_of
from acfnet_core.cohort.table.mapping import refuse_unfit
from acfnet_core.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
CONTRACT = shipped_contract("crlm")
REPAIRS = "\n[data.repairs]\npatient_from_folder = true\n"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """A French table, NIfTI masks, and a scan whose patient the folder alone names."""
    made_up = next(one for one in quick_sites(3) if one.form.masks == "NIfTI")
    folder = tmp_path_factory.mktemp("hospital")
    hospital = write_clean_hospital(made_up, folder, seed=1)
    for path in next(hospital.studies()).slices:
        dataset = dcmread(path)
        dataset.PatientID = ""
        dataset.save_as(path)
    return hospital


@pytest.fixture(scope="module")
def site(hospital: Hospital) -> Site:
    """The site that prepared these files."""
    # The table's name there is not that of other hospitals.
    table = hospital.sources.clinical_table
    shutil.copy(table, hospital.folder / "clinical.xlsx")
    site = admit_site(hospital.folder, CONTRACT)
    settings = settings_of(hospital.plan.site) + REPAIRS
    (site.folder / "site.toml").write_text(settings)
    site = open_site(site.folder)
    list(prepare_site(site, 1))
    return site


@pytest.fixture(scope="module")
def cohort_file(site: Site) -> Path:
    """The same words, in a file of the coordinator."""
    folder = site.folder.parent / "coordinator-files"
    folder.mkdir()
    path = folder / "held-out.toml"
    path.write_text((site.folder / "site.toml").read_text())
    return path


@pytest.fixture
def coordinator(tmp_path: Path, site: Site) -> Coordinator:
    """With the site's key, so that pseudonyms are the same."""
    made = initialise(
        tmp_path / "coordinator",
        consortium="crlm",
        address="fl.example.org:8443",
        contract_text=contract_to_toml(CONTRACT),
        root_passphrase=b"x",
    )
    cohorts = made.folder / "cohorts"
    cohorts.mkdir(mode=0o700)
    (cohorts / "pseudonym.key").write_bytes(site.load_pseudonym_key())
    folder = made.runs_folder / "first"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    (folder / CONTRACT_FILE).write_text(contract_to_toml(CONTRACT))
    return made


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program("acf-server", main, monkeypatch, capsys)


def prepare(coordinator: Coordinator, sources: CohortSources) -> Path:
    run = coordinator.runs_folder / "first"
    list(prepare_at_coordinator(coordinator, run, sources, name="held-out"))
    return cohort_folder(coordinator, "held-out")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def described(cohort: Path) -> CohortSources:
    return held_out_sources(clinical=None, images=None, cohort=cohort)


def test_the_files_of_a_site_are_prepared_to_the_same_bits(
    coordinator: Coordinator, site: Site, cohort_file: Path
) -> None:
    store = prepare(coordinator, described(cohort_file))
    manifest = read_manifest(store)
    assert manifest is not None
    scans = [scan for patient in manifest.patients for scan in patient.scans]
    assert any("NO_PATIENT_ID" in scan.repairs for scan in scans)
    assert all(any(scan.channel_mask[1:]) for scan in scans)
    assert files_of(store) == files_of(site.prepared_folder)


def test_a_table_alone_is_read_to_the_same_numbers(
    coordinator: Coordinator, site: Site, cohort_file: Path
) -> None:
    lines = cohort_file.read_text().replace('images = "../images"\n', "")
    alone = cohort_file.with_name("alone.toml")
    alone.write_text(lines)
    manifest = read_manifest(prepare(coordinator, described(alone)))
    of_site = read_manifest(site.prepared_folder)
    assert manifest is not None
    assert of_site is not None
    without_scans = [one.model_copy(update={"scans": ()}) for one in of_site.patients]
    assert list(manifest.patients) == without_scans


def test_a_description_has_the_hash_of_a_site_that_says_the_same(
    site: Site, cohort_file: Path
) -> None:
    expected = data_sources(site).reading_sha256()
    assert described(cohort_file).reading_sha256() == expected


def test_without_the_description_the_table_is_refused(
    coordinator: Coordinator, hospital: Hospital
) -> None:
    sources = held_out_sources(
        clinical=hospital.sources.clinical_table, images=None, cohort=None
    )
    with pytest.raises(DataError) as caught:
        prepare(coordinator, sources)
    assert caught.value.code == "data.table_unreadable"
    assert "set encoding in [data.table]" in caught.value.message


def test_a_table_and_images_are_taken_as_agreed(tmp_path: Path) -> None:
    table = tmp_path / "held-out.csv"
    table.touch()
    sources = held_out_sources(clinical=table, images=tmp_path, cohort=None)
    assert sources == CohortSources(clinical_table=table, images_folder=tmp_path)


@pytest.mark.parametrize("other", ["--clinical", "--images"])
def test_a_file_and_an_option_at_once_are_refused(
    server: Program, coordinator: Coordinator, cohort_file: Path, other: str
) -> None:
    options = ("--cohort", cohort_file, other, cohort_file, "--folder")
    ended = server.run("evaluate", "first", *options, coordinator.folder)
    refused(ended, "config.invalid", f"--cohort and {other} are both given")


@pytest.mark.parametrize("options", [(), ("--images", "held-out")])
def test_neither_a_file_nor_a_table_is_refused(
    server: Program, coordinator: Coordinator, options: tuple[str, ...]
) -> None:
    words = ("evaluate", "first", *options, "--folder", coordinator.folder)
    refused(server.run(*words), "config.invalid", "neither --clinical nor --cohort")


def test_the_faults_of_the_file_end_the_command(
    server: Program, coordinator: Coordinator, tmp_path: Path
) -> None:
    path = tmp_path / "held-out.toml"
    path.write_text("[data]\ncolour = 1\n[data.repairs]\nmotion = true\n")
    words = ("evaluate", "first", "--cohort", path, "--folder", coordinator.folder)
    ended = server.run(*words)
    refused(ended, "config.invalid", "data.colour")
    refused(ended, "config.invalid", "data.repairs.motion")
    refused(ended, "config.invalid", "data.clinical_table")


def test_paths_that_lead_nowhere_are_named_together(tmp_path: Path) -> None:
    path = tmp_path / "held-out.toml"
    path.write_text('[data]\nclinical_table = "a.csv"\nimages = "b"\n')
    with pytest.raises(DataError) as caught:
        described(path)
    assert caught.value.code == "data.path_not_found"
    assert str(tmp_path / "a.csv") in caught.value.message
    assert str(tmp_path / "b") in caught.value.message


def test_a_reference_may_be_a_file_too(cohort_file: Path) -> None:
    assert reference_sources(cohort_file) == described(cohort_file)


def test_a_reference_is_a_table_otherwise(hospital: Hospital) -> None:
    table = hospital.sources.clinical_table
    assert reference_sources(table) == CohortSources(clinical_table=table)


def test_the_settings_of_a_site_with_a_device_are_no_description(
    tmp_path: Path,
) -> None:
    path = tmp_path / "site.toml"
    path.write_text('[data]\nclinical_table = "a.csv"\n[compute]\ndevice = "cpu"\n')
    with pytest.raises(ConfigError, match="compute"):
        described(path)


def test_the_example_fits_the_contract_it_names_columns_of() -> None:
    sources = read_cohort_file(ROOT / "docs" / "held-out.toml")
    refuse_unfit(sources.mapping, CONTRACT)
    assert sources.nifti_labels == {1: ("Liver",), 2: ("Liver", "Tumor")}
    assert sources.repairs.gantry_tilt
