"""What a site sends in a run with a landmark, whatever its files hold after it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from references.serial_scans import GRID, make_serial_cohort, write_scan
from references.site_rounds import ask_to_train, small_model

from acfnet_core.cohort.landmark import view_at_landmark
from acfnet_core.cohort.prepared.store import PreparedCohort, PreparedPatient
from acfnet_core.errors import DataError
from acfnet_core.identity.envelope import UpdateClaim
from acfnet_core.training.site_round import SiteAnswer, answer_round

LANDMARK = 12.0
CPU = torch.device("cpu")
TRAINING = {"local_steps": 2, "batch_size": 6}
Change = Callable[[Path, PreparedPatient], PreparedPatient]


def _no_signature(claim: UpdateClaim) -> str:
    return "AAAA"


def answer(
    cohort: PreparedCohort, landmark: float | None, *, trains: bool = True
) -> SiteAnswer:
    request, base = ask_to_train(
        small_model(),
        cohort,
        landmark_months=landmark,
        training=TRAINING,
        trains=trains,
    )
    return answer_round(
        request, base, cohort, site="hospital-a", device=CPU, sign=_no_signature
    )


def told(one: SiteAnswer) -> dict[str, object]:
    return one.reply.model_dump(exclude={"seconds"})


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> PreparedCohort:
    return make_serial_cohort(tmp_path_factory.mktemp("store"), 40)


@pytest.fixture(scope="module")
def expected(cohort: PreparedCohort) -> SiteAnswer:
    return answer(cohort, LANDMARK)


def delete_later_scans(folder: Path, patient: PreparedPatient) -> PreparedPatient:
    kept = tuple(scan for scan in patient.scans if scan.time_months <= LANDMARK)
    for scan in set(patient.scans) - set(kept):
        (folder / scan.file).unlink()
    return replace(patient, scans=kept)


def destroy_later_files(folder: Path, patient: PreparedPatient) -> PreparedPatient:
    for scan in patient.scans:
        if scan.time_months > LANDMARK:
            (folder / scan.file).write_bytes(b"nothing of a scan")
    return patient


def change_later_scans(folder: Path, patient: PreparedPatient) -> PreparedPatient:
    kept = tuple(scan for scan in patient.scans if scan.time_months <= LANDMARK)
    more = [
        write_scan(folder, f"f{number}", months=LANDMARK + number, seed=99 + number)
        for number in (1, 2)
    ]
    return replace(patient, scans=(*kept, *more))


@pytest.mark.parametrize(
    "change", [delete_later_scans, destroy_later_files, change_later_scans]
)
def test_nothing_after_the_landmark_changes_a_bit_of_the_training(
    expected: SiteAnswer, tmp_path: Path, change: Change
) -> None:
    cohort = make_serial_cohort(tmp_path, 40)
    assert any(s.time_months > LANDMARK for p in cohort.patients for s in p.scans)
    patients = tuple(change(tmp_path, patient) for patient in cohort.patients)
    found = answer(replace(cohort, patients=patients), LANDMARK)
    assert told(found) == told(expected)


def test_a_change_before_the_landmark_changes_the_training(
    cohort: PreparedCohort, expected: SiteAnswer
) -> None:
    patients = tuple(replace(p, scans=p.scans[1:]) for p in cohort.patients)
    found = answer(replace(cohort, patients=patients), LANDMARK)
    assert found.reply.parameters_sha256 != expected.reply.parameters_sha256


def test_all_that_is_told_is_of_the_patients_free_at_the_landmark(
    cohort: PreparedCohort, expected: SiteAnswer
) -> None:
    view = view_at_landmark(cohort, LANDMARK)
    assert 10 < len(view.patients) < len(cohort.patients)
    assert expected.reply.num_examples == len(view.patients)
    assert expected.reply.counts.num_patients == len(view.patients)
    assert expected.reply.metrics.num_patients == len(view.patients)


def test_a_landmark_equals_a_cohort_cut_beforehand(
    cohort: PreparedCohort, expected: SiteAnswer
) -> None:
    assert told(answer(view_at_landmark(cohort, LANDMARK), None)) == told(expected)


def test_without_a_landmark_every_patient_and_scan_takes_part(
    cohort: PreparedCohort,
) -> None:
    patients = tuple(replace(p, scans=p.scans[:3]) for p in cohort.patients)
    whole = answer(cohort, None).reply
    assert whole.num_examples == whole.counts.num_patients == 40
    fewer = answer(replace(cohort, patients=patients), None).reply
    assert fewer.parameters_sha256 != whole.parameters_sha256


def test_too_few_patients_at_the_landmark_are_refused(cohort: PreparedCohort) -> None:
    with pytest.raises(DataError) as caught:
        answer(cohort, 80.0)
    assert caught.value.code == "data.too_few_patients"


def test_the_cohort_is_on_the_grid_of_its_contract(cohort: PreparedCohort) -> None:
    assert cohort.grid_shape == GRID
