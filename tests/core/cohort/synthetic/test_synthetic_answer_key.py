import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from references.synthetic_hospitals import (
    Hospital,
    quick_sites,
    write_hospital,
)

from acfnet_core.cohort.synthetic.answer_key import (
    ANSWER_KEY_NAME,
    AnswerKey,
    differences_from_check,
)
from acfnet_core.cohort.synthetic.defects import DEFECTS
from acfnet_core.cohort.synthetic.hospital import (
    plan_clean_hospital,
    plan_hospital,
    possible_defects,
)
from acfnet_core.cohort.synthetic.hospital_truth import answer_key_of
from acfnet_core.cohort.synthetic.row_conflicts import ROW_CONFLICTS
from acfnet_core.cohort.synthetic.sites import draw_site
from acfnet_core.cohort.synthetic.table_defects import TABLE_DEFECTS

SITES = {site.table: site for site in quick_sites(5)}


def key_in(folder: Path) -> AnswerKey:
    return AnswerKey.model_validate_json((folder / ANSWER_KEY_NAME).read_text())


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Hospital]:
    folder = tmp_path_factory.mktemp("hospitals")
    return {
        table: write_hospital(plan_hospital(site, seed=seed), folder / table)
        for seed, (table, site) in enumerate(SITES.items(), start=21)
    }


@pytest.mark.parametrize("table", SITES)
def test_each_answer_key_is_found_exactly(
    hospitals: dict[str, Hospital], table: str
) -> None:
    hospital = hospitals[table]
    assert not differences_from_check(key_in(hospital.folder), hospital.check())


def test_the_preparation_refuses_exactly_the_studies_of_the_key(
    tmp_path: Path,
) -> None:
    site = SITES["public"]
    plan = plan_hospital(
        site,
        seed=5,
        kinds=("segmentation_off_grid", "gantry_tilt", "segmentation_without_liver"),
        has_table_defects=False,
    )
    hospital = write_hospital(plan, tmp_path / "hospital")
    finished, refused = hospital.prepare(tmp_path / "store")
    key = key_in(hospital.folder)
    assert finished.refused == key.study_codes(["check", "prepare"])
    assert sorted((one.row_number, one.codes) for one in refused) == sorted(
        (one.row, one.study_codes) for one in key.image_defects
    )


def test_a_key_tells_what_was_not_found(hospitals: dict[str, Hospital]) -> None:
    hospital = hospitals["public"]
    key = key_in(hospital.folder).model_copy(update={"image_defects": ()})
    report = hospital.check()
    found = " ".join(differences_from_check(key, report))
    assert ("codes: found" in found) == bool(hospital.plan.image_defects)


def test_headers_of_other_people_are_warned_of_as_the_key_says(tmp_path: Path) -> None:
    site = replace(SITES["percent"], num_patients=16)
    plan = plan_hospital(site, seed=4)
    hospital = write_hospital(plan, tmp_path / "hospital")
    key = key_in(hospital.folder)
    assert [one.is_warned_of for one in key.linkage.values()] == [True, True]
    assert key.linkage["sex"].num_agreeing < key.linkage["sex"].num_compared
    assert not differences_from_check(key, hospital.check())


def test_a_key_tells_of_headers_that_agree_more_than_they_should(
    hospitals: dict[str, Hospital],
) -> None:
    hospital = hospitals["german"]
    key = key_in(hospital.folder)
    wrong = key.linkage["sex"].model_copy(update={"num_agreeing": 0})
    changed = key.model_copy(update={"linkage": {**key.linkage, "sex": wrong}})
    (difference,) = differences_from_check(changed, hospital.check())
    assert difference.startswith("headers and table: found")


def test_the_key_names_the_rows_of_the_table_as_it_was_written(
    hospitals: dict[str, Hospital],
) -> None:
    for hospital in hospitals.values():
        rows = hospital.check().table.num_rows
        key = key_in(hospital.folder)
        named = [one.row for one in key.image_defects]
        named += [one.row for one in key.table_defects]
        named += [one.row for one in key.table_conflicts]
        assert all(2 <= row <= rows + 1 for row in named)


def test_nobody_has_two_defects() -> None:
    for site, seed in itertools.product(SITES.values(), range(8)):
        plan = plan_hospital(site, seed=seed)
        apart = [*plan.without_images, *plan.not_in_table]
        touched = [one.index for one in plan.image_defects]
        touched += [one.index for one in plan.table_defects]
        assert len(set(apart + touched)) == len(apart + touched)


def test_one_to_three_image_defects_are_drawn_and_all_kinds_come() -> None:
    site = SITES["public"]
    drawn = [plan_hospital(site, seed=seed).image_defects for seed in range(90)]
    assert {len(defects) for defects in drawn} == {1, 2, 3}
    kinds = {one.kind for defects in drawn for one in defects}
    assert kinds == set(possible_defects(site))


def test_all_faults_and_contradictions_of_tables_come() -> None:
    site = replace(SITES["german"], num_patients=8)
    plans = [plan_hospital(site, seed=seed) for seed in range(40)]
    drawn = {one.kind for plan in plans for one in plan.table_defects}
    assert drawn == {*TABLE_DEFECTS, *ROW_CONFLICTS}


def test_defects_of_frames_befall_patients_with_frames_alone() -> None:
    site = SITES["public"]
    for seed in range(30):
        for one in plan_hospital(site, seed=seed).image_defects:
            ct_formats = DEFECTS[one.kind].ct_formats
            assert site.form_of(one.index).ct in ct_formats


def test_every_defect_is_possible_at_some_site() -> None:
    kinds = {kind for site in SITES.values() for kind in possible_defects(site)}
    assert kinds == set(DEFECTS)


def test_a_plan_follows_from_the_seed() -> None:
    site = SITES["percent"]
    assert plan_hospital(site, seed=4) == plan_hospital(site, seed=4)
    assert plan_hospital(site, seed=4) != plan_hospital(site, seed=5)


def test_a_kind_that_the_site_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match="kinds must be of"):
        plan_hospital(SITES["french"], seed=1, kinds=("segmentation_off_grid",))


def test_a_clean_hospital_has_an_empty_key() -> None:
    key = answer_key_of(plan_clean_hospital(SITES["german"], seed=1))
    assert (key.image_defects, key.table_defects) == ((), ())
    assert key.table_conflicts == ()
    assert key.num_patients_not_in_table == 0


def test_a_small_hospital_is_all_in_the_table_and_in_the_images() -> None:
    site = replace(SITES["public"], num_patients=3)
    plan = plan_hospital(site, seed=2)
    assert not plan.without_images
    assert not plan.not_in_table


def test_rows_skip_those_who_are_not_in_the_table() -> None:
    plan = plan_hospital(SITES["public"], seed=21)
    listed = [
        patient.index
        for patient in draw_site(plan.site, seed=21)
        if patient.index not in plan.not_in_table
    ]
    assert [plan.row_of(index) for index in listed] == list(range(2, 2 + len(listed)))
