from pathlib import Path

import pytest
from references.synthetic_hospitals import QUICK_SPACING_MM, quick

from acfnet_core.cohort.synthetic.cohort_mix import (
    HospitalWritten,
    plan_cohort,
    synthesize_cohort,
)
from acfnet_core.cohort.synthetic.hospital import plan_hospital
from acfnet_core.errors import MachineError


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_four_hospitals_differ_in_scanner_table_and_archive() -> None:
    sites = [plan.site for plan in plan_cohort(4, 40, seed=1)]
    assert {site.slice_spacing_mm for site in sites} == {1.5, 2.5, 5.0, 7.5}
    assert len({site.table for site in sites}) == 4
    assert {site.form.masks for site in sites} == {"DICOM SEG", "RTSTRUCT", "NIfTI"}
    assert [site.form.coding for site in sites].count("JPEG 2000") == 1
    assert sum(site.frames_every > 0 for site in sites) == 1
    assert sum(site.has_digits_for_id for site in sites) == 1
    assert sum(site.has_other_demographics for site in sites) == 1


def test_without_dialects_all_are_as_the_public_cohort() -> None:
    sites = [plan.site for plan in plan_cohort(4, 40, seed=1, has_dialects=False)]
    assert {site.table for site in sites} == {"public"}
    assert {site.form.masks for site in sites} == {"DICOM SEG"}


def test_without_defects_nothing_is_wrong() -> None:
    for plan in plan_cohort(4, 40, seed=1, has_defects=False):
        assert not plan.image_defects
        assert not plan.table_defects
        assert not plan.not_in_table


def test_with_defects_something_is_wrong_everywhere() -> None:
    assert all(plan.image_defects for plan in plan_cohort(6, 60, seed=1))


@pytest.mark.parametrize("number", range(4))
def test_same_seed_gives_same_bytes(tmp_path: Path, number: int) -> None:
    site = quick(plan_cohort(4, 4, seed=1)[number].site)
    assert site.slice_spacing_mm == QUICK_SPACING_MM
    plan = plan_hospital(site, seed=9)
    for name in ("first", "second"):
        list(synthesize_cohort((plan,), tmp_path / name, num_workers=1))
    first, second = read_tree(tmp_path / "first"), read_tree(tmp_path / "second")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_a_hospital_is_told_after_its_last_patient(tmp_path: Path) -> None:
    site = quick(plan_cohort(1, 1, seed=1)[0].site)
    events = list(
        synthesize_cohort((plan_hospital(site, seed=1),), tmp_path, num_workers=1)
    )
    assert isinstance(events[-1], HospitalWritten)
    assert events[-1].folder == tmp_path / "hospital-a"
    assert sorted(path.name for path in events[-1].folder.iterdir()) == [
        "answer-key.json",
        "clinical.xlsx",
        "images",
        "site.toml",
    ]


def test_a_hospital_is_written_once(tmp_path: Path) -> None:
    site = quick(plan_cohort(1, 1, seed=1)[0].site)
    plans = (plan_hospital(site, seed=1),)
    list(synthesize_cohort(plans, tmp_path, num_workers=1))
    with pytest.raises(MachineError, match="exists already"):
        list(synthesize_cohort(plans, tmp_path, num_workers=1))


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        plan_cohort(2, 20, seed=-1)
