from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from references.summary_cohorts import (
    CONTRACT,
    draw_cohort,
    imaging_contract,
    with_clinical,
    with_patients,
    write_scan,
)

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.cohort.summary import (
    median_follow_up_months,
    spans_of,
    summarise_site,
)
from acfnet_core.errors import DataError
from acfnet_core.federation.site_summary import ScanSummary, SiteSummary

MINIMUM = 10


def summarise(cohort: PreparedCohort) -> SiteSummary:
    return summarise_site(cohort, consortium="crlm", site="hospital-a")


def cells_of(summary: SiteSummary) -> list[int]:
    blocks = [summary.outcome, summary.scans, *summary.features.values()]
    return [
        count
        for block in blocks
        if block is not None
        for count in block.cells(summary.num_patients).values()
    ]


def scan_cohort(folder: Path, numbers: list[int]) -> PreparedCohort:
    """Patients with so many scans each; livers of 90 HU and more, a step a patient."""
    cohort = draw_cohort(len(numbers), seed=1, contract=imaging_contract())
    patients = []
    for index, (patient, number) in enumerate(
        zip(cohort.patients, numbers, strict=True)
    ):
        scan = write_scan(
            folder,
            f"{'abcdefghij'[index // 10]}{'abcdefghij'[index % 10]}",
            liver_hu=90 + index,
            slice_spacing_mm=5.0 if index % 2 else 1.5,
        )
        patients.append(replace(patient, scans=(scan,) * number))
    return replace(cohort, folder=folder, patients=tuple(patients))


def scans_of(summary: SiteSummary) -> ScanSummary:
    assert summary.scans is not None
    return summary.scans


@given(
    size=st.integers(MINIMUM, 90),
    seed=st.integers(0, 10_000),
    share_missing=st.sampled_from([0.0, 0.05, 0.3, 0.9]),
    event_share=st.sampled_from([0.0, 0.1, 0.5, 0.95]),
)
@settings(deadline=None, max_examples=60)
def test_no_released_count_nor_difference_of_nested_ones_is_of_few(
    size: int, seed: int, share_missing: float, event_share: float
) -> None:
    cohort = draw_cohort(
        size, seed=seed, share_missing=share_missing, event_share=event_share
    )
    cells = cells_of(summarise(cohort))
    assert [n for n in cells if 0 < n < MINIMUM or n < 0] == []


def test_fewer_patients_than_the_minimum_cell_are_told_of_not_at_all() -> None:
    with pytest.raises(DataError) as caught:
        summarise(draw_cohort(MINIMUM - 1, seed=0))
    assert caught.value.code == "data.too_few_patients"


def test_how_many_too_few_there_are_is_not_said() -> None:
    with pytest.raises(DataError) as caught:
        summarise(draw_cohort(7, seed=0))
    assert "7" not in caught.value.message


def test_a_number_is_told_on_the_scale_of_the_contract() -> None:
    cohort = draw_cohort(60, seed=2, share_missing=0.0)
    age = CONTRACT.columns["age"].standardise
    values = [patient.clinical[0] for patient in cohort.patients]
    mean = float(np.mean(values)) * age.standard_deviation + age.mean
    moments = summarise(cohort).features["age"]
    assert moments is not None
    assert moments.moments is not None
    assert moments.moments.mean == pytest.approx(mean, rel=0.005)


def test_a_binary_column_is_counted_by_the_contracts_codes() -> None:
    cohort = draw_cohort(60, seed=2, share_missing=0.0)
    sex = CONTRACT.columns["sex"].standardise
    position = CONTRACT.features.index("sex")
    values = [(index >= 45) - sex.mean for index in range(60)]
    patients = [
        with_clinical(patient, position, value / sex.standard_deviation)
        for patient, value in zip(cohort.patients, values, strict=True)
    ]
    feature = summarise(with_patients(cohort, patients)).features["sex"]
    assert feature is not None
    assert feature.codes == {"1": 45, "2": 15}


def test_a_category_column_is_counted_by_its_codes() -> None:
    columns = dict(CONTRACT.columns)
    columns["sex"] = columns["sex"].model_copy(
        update={"type": "category", "categories": {"a": "A", "b": "B", "c": "C"}}
    )
    contract = CONTRACT.model_copy(update={"columns": columns})
    cohort = draw_cohort(90, seed=3, share_missing=0.0, contract=contract)
    feature = summarise(cohort).features["sex"]
    assert feature is not None
    assert feature.codes is not None
    assert list(feature.codes) == ["a", "b", "c"]
    assert sum(n or 0 for n in feature.codes.values()) == 90


def test_a_column_that_nobody_has_is_told_as_of_nobody() -> None:
    features = summarise(draw_cohort(30, seed=4, share_missing=1.1)).features
    assert all(f is not None and f.num_known == 0 for f in features.values())


def test_refusals_of_few_studies_are_withheld() -> None:
    cohort = replace(
        draw_cohort(30, seed=5), refused={"GANTRY_TILT": 9, "MISSING_SLICES": 10}
    )
    refused = summarise(cohort).refused
    assert refused == {"GANTRY_TILT": None, "MISSING_SLICES": 10}


def test_nothing_of_a_patient_is_in_the_summary() -> None:
    cohort = draw_cohort(30, seed=6)
    text = summarise(cohort).model_dump_json()
    assert "patient-" not in text


def test_median_follow_up_is_the_reversed_kaplan_meier_estimate() -> None:
    generator = np.random.default_rng(7)
    times = np.ceil(generator.uniform(1, 40, size=80))
    is_event = generator.random(80) < 0.4
    # The reference puts deaths before censorings; here the two change places.
    shifted = np.where(is_event, times - 1e-3, times)
    fitted = KaplanMeierFitter().fit(shifted, ~is_event)
    assert median_follow_up_months(times, is_event) == fitted.median_survival_time_


def test_median_follow_up_of_events_alone_is_not_reached() -> None:
    times = np.arange(1.0, 30.0)
    assert median_follow_up_months(times, np.ones(29, np.bool_)) is None


def test_follow_up_is_told_to_half_a_year() -> None:
    outcome = summarise(draw_cohort(80, seed=8)).outcome
    assert outcome is not None
    assert outcome.median_follow_up_years is not None
    assert (2 * outcome.median_follow_up_years).is_integer()


def test_follow_up_of_few_censored_patients_is_withheld() -> None:
    outcome = summarise(draw_cohort(80, seed=8, event_share=0.9)).outcome
    assert outcome is not None
    assert outcome.median_follow_up_years is None


def test_scans_are_counted_and_measured(tmp_path: Path) -> None:
    scans = scans_of(summarise(scan_cohort(tmp_path, [0] * 10 + [1] * 20 + [2] * 20)))
    assert scans.patients_by_scans == {"0": 10, "1": 20, "2": 20}
    assert (scans.num_with_scans, scans.num_scans) == (40, 60)
    assert scans.liver_hu is not None
    assert scans.liver_hu.mean == pytest.approx(90 + 29.5, abs=0.6)
    assert scans.slice_spacing_mm is not None
    assert (scans.slice_spacing_mm.lower, scans.slice_spacing_mm.upper) == (1.5, 5.0)


def test_with_few_patients_of_two_scans_the_number_of_scans_is_withheld(
    tmp_path: Path,
) -> None:
    scans = scans_of(summarise(scan_cohort(tmp_path, [1] * 30 + [2] * 3)))
    assert scans.num_with_scans == 33
    assert scans.num_scans is None
    assert scans.patients_by_scans is None


def test_quartiles_of_spacing_need_four_times_the_minimum(tmp_path: Path) -> None:
    scans = scans_of(summarise(scan_cohort(tmp_path, [1] * 30)))
    assert scans.slice_spacing_mm is not None
    assert scans.slice_spacing_mm.lower is None


def test_a_damaged_scan_is_named(tmp_path: Path) -> None:
    cohort = scan_cohort(tmp_path, [1] * 12)
    (tmp_path / cohort.patients[3].scans[0].file).write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        summarise(cohort)
    assert caught.value.code == "data.store_damaged"


def test_a_contract_without_images_has_no_scans_to_tell_of() -> None:
    assert summarise(draw_cohort(30, seed=9)).scans is None


def test_a_span_is_on_the_scale_of_the_mean() -> None:
    spans = spans_of(CONTRACT)
    assert spans["age"] == 92
    assert spans["carcinoembryonic_antigen"] == pytest.approx(np.log1p(100_000))
    assert "sex" not in spans
