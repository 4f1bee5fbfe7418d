import itertools
from pathlib import Path

import pytest

from acfnet_core.cohort.synthetic.sites import (
    PatientWritten,
    SyntheticSite,
    default_sites,
    held_out_site,
    synthesize_site,
)
from acfnet_core.errors import MachineError


def make_site(name: str = "hospital-a", num_patients: int = 2) -> SyntheticSite:
    return SyntheticSite(
        name=name,
        num_patients=num_patients,
        slice_spacing_mm=7.5,
        pixel_spacing_mm=3.3,
        noise_hu=8.0,
        hu_shift=3.0,
        scans_missing_probability=0.2,
    )


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    list(synthesize_site(make_site(), folder, seed=5, num_workers=1))
    return folder


def test_same_seed_gives_same_bytes_with_any_number_of_workers(
    written: Path, tmp_path: Path
) -> None:
    list(synthesize_site(make_site(), tmp_path, seed=5, num_workers=2))
    first, second = read_tree(written), read_tree(tmp_path)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_a_patient_does_not_depend_on_how_many_follow(
    written: Path, tmp_path: Path
) -> None:
    site = make_site(num_patients=1)
    list(synthesize_site(site, tmp_path, seed=5, num_workers=1))
    alone = read_tree(tmp_path / "images")
    among_others = read_tree(written / "images")
    assert alone.items() <= among_others.items()


def test_another_seed_shares_no_file(written: Path, tmp_path: Path) -> None:
    list(synthesize_site(make_site(), tmp_path, seed=6, num_workers=1))
    first, second = read_tree(written), read_tree(tmp_path)
    assert set(first.values()).isdisjoint(second.values())


def test_another_site_shares_no_patient(written: Path, tmp_path: Path) -> None:
    site = make_site(name="hospital-b", num_patients=1)
    list(synthesize_site(site, tmp_path, seed=5, num_workers=1))
    patients = {path.name for path in (written / "images").iterdir()}
    others = {path.name for path in (tmp_path / "images").iterdir()}
    assert patients.isdisjoint(others)


def test_images_lie_as_the_public_archive_lays_them_out(written: Path) -> None:
    for study in (written / "images").glob("*/*"):
        assert study.parent.name.startswith("CRLM-SYN-A")
        assert "-NA-CT ANGIO ABD WITH PEL-" in study.name
        ct, seg = sorted(path.name for path in study.iterdir())
        assert ct.startswith("100.000000-NA-")
        assert seg.startswith("300.000000-Segmentation-")
        assert (study / ct / "1-001.dcm").is_file()
        assert [path.name for path in (study / seg).iterdir()] == ["1-1.dcm"]


def test_events_count_the_patients_in_order(tmp_path: Path) -> None:
    events = list(synthesize_site(make_site(), tmp_path, seed=1, num_workers=1))
    assert events == [
        PatientWritten(index=1, total=2),
        PatientWritten(index=2, total=2),
    ]


def test_table_appears_only_after_the_last_patient(tmp_path: Path) -> None:
    events = synthesize_site(make_site(), tmp_path, seed=1, num_workers=1)
    list(itertools.islice(events, 2))
    assert not (tmp_path / "clinical.xlsx").exists()
    assert list(events) == []
    assert (tmp_path / "clinical.xlsx").exists()


def test_folder_with_a_cohort_is_refused_before_the_first_event(written: Path) -> None:
    with pytest.raises(MachineError, match="exists already") as caught:
        synthesize_site(make_site(), written, seed=5)
    assert caught.value.code == "machine.folder_not_empty"


def test_write_failure_in_a_worker_reaches_the_operator(tmp_path: Path) -> None:
    events = synthesize_site(make_site(), tmp_path, seed=5, num_workers=2)
    (tmp_path / "images").rmdir()
    (tmp_path / "images").touch()
    with pytest.raises(MachineError) as caught:
        list(events)
    assert caught.value.code == "machine.folder_unwritable"


@pytest.mark.parametrize(("num_sites", "num_patients"), [(1, 1), (3, 60), (5, 7)])
def test_default_sites_share_out_every_patient(
    num_sites: int, num_patients: int
) -> None:
    sites = default_sites(num_sites, num_patients)
    assert len(sites) == num_sites
    assert sum(site.num_patients for site in sites) == num_patients


def test_default_sites_differ_in_size_spacing_and_noise() -> None:
    sites = default_sites(3, 90)
    assert [site.name for site in sites] == ["hospital-a", "hospital-b", "hospital-c"]
    assert len({site.num_patients for site in sites}) == 3
    assert len({site.slice_spacing_mm for site in sites}) == 3
    assert len({site.noise_hu for site in sites}) == 3


def test_held_out_site_is_named_so() -> None:
    assert held_out_site(12).name == "held-out"
    assert held_out_site(12).num_patients == 12


@pytest.mark.parametrize("name", ["", "Hospital", "a/b", "..", "a--b", "-a", "a\n"])
def test_site_name_that_is_unfit_for_a_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        make_site(name=name)


def test_site_without_patients_is_refused() -> None:
    with pytest.raises(ValueError, match="num_patients must be from 1 to 9999, got 0"):
        make_site(num_patients=0)


def test_fewer_patients_than_sites_are_refused() -> None:
    with pytest.raises(ValueError, match="at least num_sites=3, got 2"):
        default_sites(3, 2)


@pytest.mark.parametrize("num_sites", [0, 27])
def test_number_of_sites_beyond_the_alphabet_is_refused(num_sites: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 26"):
        default_sites(num_sites, 100)


def test_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        synthesize_site(make_site(), tmp_path, seed=-1)


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_workers must be 1 or more, got 0"):
        synthesize_site(make_site(), tmp_path, seed=1, num_workers=0)
