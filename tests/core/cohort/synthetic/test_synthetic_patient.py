import datetime
import itertools

import numpy as np
import pytest
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.synthetic.anatomy import has_both_sides
from acfnet_core.cohort.synthetic.patient import (
    SyntheticPatient,
    draw_patient,
    log_hazard,
    make_patient_id,
)
from acfnet_core.cohort.synthetic.table import (
    COLUMNS,
    MISSING,
    RESECTION_DATE_COLUMN,
    Cell,
)

PUBLIC = SHARED_DATA / "crlm"
NUM_PATIENTS = 2000


def number(cell: Cell) -> float:
    assert isinstance(cell, int | float)
    return float(cell)


def column(patients: list[SyntheticPatient], name: str) -> np.ndarray:
    return np.array([number(patient.row[name]) for patient in patients])


@pytest.fixture(scope="module")
def patients() -> list[SyntheticPatient]:
    return [
        draw_patient("hospital-a", index, seed=11, scans_missing_probability=0.15)
        for index in range(1, NUM_PATIENTS + 1)
    ]


def concordance(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """Count comparable pairs one row at a time, the obvious way."""
    concordant, comparable = 0.0, 0
    for index in np.flatnonzero(event):
        later = time > time[index]
        comparable += int(later.sum())
        concordant += (risk[later] < risk[index]).sum()
    return concordant / comparable


def test_oracle_ranks_disease_free_survival_as_intended(
    patients: list[SyntheticPatient],
) -> None:
    risk = np.array([log_hazard(patient.latents) for patient in patients])
    oracle = concordance(
        column(patients, "months_to_DFS_progression"),
        column(patients, "vital_status_DFS") == 1,
        risk,
    )
    assert 0.74 < oracle < 0.79


def test_risk_score_alone_ranks_better_than_chance_and_worse_than_the_oracle(
    patients: list[SyntheticPatient],
) -> None:
    scored = [p for p in patients if p.row["clinrisk_score"] != MISSING]
    score = concordance(
        column(scored, "months_to_DFS_progression"),
        column(scored, "vital_status_DFS") == 1,
        column(scored, "clinrisk_score") + np.linspace(0, 1e-6, len(scored)),
    )
    assert 0.55 < score < 0.70


def test_outcome_has_the_public_cohorts_marginals(
    patients: list[SyntheticPatient],
) -> None:
    months = column(patients, "months_to_DFS_progression")
    assert 18 < np.median(months) < 30
    assert 0.60 < column(patients, "progression_or_recurrence").mean() < 0.75
    assert 0.36 < column(patients, "progression_or_recurrence_liveronly").mean() < 0.48


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("node_positive_primary", 0.35),
        ("synchronous_crlm", 0.56),
        ("multiple_metastases", 0.58),
        ("bilobar_disease", 0.44),
        ("extrahep_disease", 0.09),
        ("chemo_before_liver_resection", 0.62),
        ("preoperative_pve", 0.12),
    ],
)
def test_clinical_column_has_the_public_cohorts_share(
    patients: list[SyntheticPatient], name: str, share: float
) -> None:
    assert abs(column(patients, name).mean() - share) < 0.05


def test_row_has_every_column_in_order(patients: list[SyntheticPatient]) -> None:
    assert all(list(patient.row) == list(COLUMNS) for patient in patients)


@pytest.mark.skipif(
    not (PUBLIC / "clinical.csv").is_file(),
    reason="the public cohort's tables are not beside the project",
)
def test_columns_are_those_of_the_public_table_and_the_resection_date() -> None:
    with (PUBLIC / "clinical.csv").open(encoding="utf-8") as file:
        header = file.readline().strip().split(",")
    assert [name for name in COLUMNS if name != RESECTION_DATE_COLUMN] == header


def test_risk_score_follows_from_its_own_columns(
    patients: list[SyntheticPatient],
) -> None:
    for row in (patient.row for patient in patients):
        if row["clinrisk_score"] == MISSING:
            assert row["carcinoembryonic_antigen"] == MISSING
            assert row["clinrisk_stratified"] == MISSING
            continue
        expected = (
            number(row["node_positive_primary"])
            + number(row["synchronous_crlm"])
            + number(row["multiple_metastases"])
            + (number(row["carcinoembryonic_antigen"]) > 200)
            + (number(row["max_tumor_size"]) > 5)
        )
        assert row["clinrisk_score"] == expected
        assert row["clinrisk_stratified"] == (expected >= 3)


def test_some_risk_scores_are_missing(patients: list[SyntheticPatient]) -> None:
    assert 0.08 < (column(patients, "clinrisk_score") == MISSING).mean() < 0.18


def test_tumour_columns_tell_what_the_images_show(
    patients: list[SyntheticPatient],
) -> None:
    for patient in patients:
        assert patient.row["multiple_metastases"] == (len(patient.tumours) > 1)
        assert patient.row["bilobar_disease"] == has_both_sides(patient.tumours)


def test_every_tumour_lies_in_the_liver(patients: list[SyntheticPatient]) -> None:
    for patient in patients[:200]:
        assert all(patient.liver.is_inside(t.centre) for t in patient.tumours)


def test_outcome_columns_agree_with_one_another(
    patients: list[SyntheticPatient],
) -> None:
    survival = column(patients, "overall_survival_months")
    liver = column(patients, "months_to_liver_DFS_progression")
    disease_free = column(patients, "months_to_DFS_progression")
    recurred = column(patients, "progression_or_recurrence")
    died = column(patients, "vital_status")
    assert (disease_free > 0).all()
    assert (disease_free <= liver).all()
    assert (liver <= survival).all()
    assert (column(patients, "progression_or_recurrence_liveronly") <= recurred).all()
    assert (column(patients, "vital_status_DFS") == np.maximum(recurred, died)).all()


def test_specimen_knows_more_of_the_response_than_is_known_before_surgery(
    patients: list[SyntheticPatient],
) -> None:
    known = [p for p in patients if p.row["total_response_percent"] != MISSING]
    response = [patient.latents.response for patient in known]
    found = column(known, "total_response_percent")
    assert np.corrcoef(response, found)[0, 1] > 0.7


def test_one_to_three_scans_before_surgery_and_some_patients_without(
    patients: list[SyntheticPatient],
) -> None:
    counts = np.bincount([len(patient.scans) for patient in patients])
    assert len(counts) == 4
    assert (counts > 0.02 * NUM_PATIENTS).all()


def test_study_dates_rise_and_precede_the_resection(
    patients: list[SyntheticPatient],
) -> None:
    for patient in patients:
        resection = patient.row[RESECTION_DATE_COLUMN]
        assert isinstance(resection, datetime.date)
        dates = [*(scan.study_date for scan in patient.scans), resection]
        assert all(first < second for first, second in itertools.pairwise(dates))


def test_without_missing_scans_everybody_has_the_last_one() -> None:
    drawn = [
        draw_patient("hospital-a", index, seed=3, scans_missing_probability=0.0)
        for index in range(1, 41)
    ]
    assert all(patient.scans[-1].index == 2 for patient in drawn)


def test_good_responders_had_larger_tumours_before_chemotherapy(
    patients: list[SyntheticPatient],
) -> None:
    treated = [
        patient
        for patient in patients
        if patient.row["chemo_before_liver_resection"] == 1
        and patient.scans
        and patient.scans[0].index == 0
    ]
    response = [patient.latents.response for patient in treated]
    factor = [patient.scans[0].diameter_factor for patient in treated]
    assert np.corrcoef(response, factor)[0, 1] > 0.8


def test_identifiers_differ_between_sites() -> None:
    sites = ("hospital-a", "hospital-h", "held-out", "hospital-o")
    assert make_patient_id("hospital-a", 7) == "CRLM-SYN-A0007"
    assert len({make_patient_id(site, 7) for site in sites}) == len(sites)
