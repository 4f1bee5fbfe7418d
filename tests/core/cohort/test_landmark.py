from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.cohorts import make_cohort, without_outcome
from references.serial_scans import make_serial_cohort

from acfnet_core.cohort.landmark import view_at_landmark
from acfnet_core.cohort.prepared.store import PreparedCohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> PreparedCohort:
    return make_serial_cohort(tmp_path_factory.mktemp("store"), 20)


def test_without_a_landmark_the_cohort_is_itself(cohort: PreparedCohort) -> None:
    assert view_at_landmark(cohort, None) is cohort


def test_a_landmark_at_the_resection_still_drops_what_comes_after(
    cohort: PreparedCohort,
) -> None:
    view = view_at_landmark(cohort, 0.0)
    assert len(view.patients) == len(cohort.patients)
    assert {s.time_months for p in view.patients for s in p.scans} == {-1.5}


@pytest.mark.parametrize("landmark", [-6.0, 0.0, 4.9, 5.0, 12.0, 30.0])
def test_no_scan_after_the_landmark_is_seen(
    cohort: PreparedCohort, landmark: float
) -> None:
    view = view_at_landmark(cohort, landmark)
    assert all(s.time_months <= 0 for p in view.patients for s in p.scans)


def test_every_scan_up_to_the_landmark_is_kept(cohort: PreparedCohort) -> None:
    view = view_at_landmark(cohort, 12.0)
    before = {p.pseudonym: p for p in cohort.patients}
    for patient in view.patients:
        expected = [
            (scan.file, scan.time_months - 12.0)
            for scan in before[patient.pseudonym].scans
            if scan.time_months <= 12.0
        ]
        assert [(s.file, s.time_months) for s in patient.scans] == expected


@given(landmark=st.floats(-24, 96))
@settings(deadline=None, max_examples=40)
def test_only_patients_followed_beyond_the_landmark_are_left(landmark: float) -> None:
    cohort = make_cohort(40, seed=2)
    view = view_at_landmark(cohort, landmark)
    expected = [p.pseudonym for p in cohort.patients if p.time_months > landmark]
    assert [p.pseudonym for p in view.patients] == expected


def test_who_ends_at_the_landmark_is_left_out() -> None:
    cohort = make_cohort(2, seed=2)
    times = (12.0, 12.5)
    patients = zip(cohort.patients, times, strict=True)
    cohort = replace(
        cohort, patients=tuple(replace(p, time_months=t) for p, t in patients)
    )
    assert [p.time_months for p in view_at_landmark(cohort, 12.0).patients] == [0.5]


def test_times_count_from_the_landmark_and_the_rest_stays() -> None:
    cohort = make_cohort(30, seed=4)
    before = {p.pseudonym: p for p in cohort.patients}
    for patient in view_at_landmark(cohort, 18.0).patients:
        was = before[patient.pseudonym]
        assert patient.time_months == was.time_months - 18.0
        assert replace(patient, time_months=was.time_months).event == was.event
        assert patient.clinical is was.clinical
        assert patient.fong_score == was.fong_score


@pytest.mark.parametrize("landmark", [0.0, 12.0, 96.0])
def test_who_has_no_outcome_is_seen_with_the_scans_up_to_the_landmark(
    cohort: PreparedCohort, landmark: float
) -> None:
    others = tuple(without_outcome(patient) for patient in cohort.patients)
    view = view_at_landmark(replace(cohort, without_outcome=others), landmark)
    seen = [[scan.time_months for scan in p.scans] for p in view.without_outcome]
    assert seen == [
        [s.time_months - landmark for s in p.scans if s.time_months <= landmark]
        for p in cohort.patients
    ]


def test_the_cohort_itself_is_left_as_it_was(tmp_path: Path) -> None:
    cohort = make_serial_cohort(tmp_path, 5)
    before = [(p.time_months, p.scans) for p in cohort.patients]
    view_at_landmark(cohort, 12.0)
    assert [(p.time_months, p.scans) for p in cohort.patients] == before


def test_a_scan_of_the_view_is_loaded_with_its_shifted_time(
    cohort: PreparedCohort,
) -> None:
    view = view_at_landmark(cohort, 12.0)
    patient = max(view.patients, key=lambda p: len(p.scans))
    scans, times, _ = view.load_scans(patient)
    assert times.tolist() == [-13.5, -7.0, 0.0]
    assert len(scans) == 3
