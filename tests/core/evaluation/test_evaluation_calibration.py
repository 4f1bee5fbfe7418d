import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from references.survival_cohorts import make_outcomes

from acfnet_core.evaluation.calibration import (
    calibration_bins,
    observed_expected_statistic,
    observed_probability,
)

COHORT = make_outcomes(41, 120)
PREDICTED = 1.0 / (1.0 + np.exp(-COHORT.risk))


def test_the_groups_hold_every_patient_once() -> None:
    bins = calibration_bins(
        COHORT.time_months, COHORT.event, PREDICTED, year=1, minimum_cell=10
    )
    assert sum(one.num_patients for one in bins) == 120


def test_the_groups_rise_in_predicted_risk() -> None:
    bins = calibration_bins(
        COHORT.time_months, COHORT.event, PREDICTED, year=1, minimum_cell=10
    )
    predicted = [one.predicted for one in bins]
    assert predicted == sorted(predicted)
    assert len(bins) == 5


def test_no_group_is_below_the_minimum_cell() -> None:
    few = slice(0, 37)
    bins = calibration_bins(
        COHORT.time_months[few],
        COHORT.event[few],
        PREDICTED[few],
        year=1,
        minimum_cell=10,
    )
    assert min(one.num_patients for one in bins) >= 10


def test_too_few_patients_give_no_group() -> None:
    few = slice(0, 9)
    bins = calibration_bins(
        COHORT.time_months[few],
        COHORT.event[few],
        PREDICTED[few],
        year=1,
        minimum_cell=10,
    )
    assert bins == []


def test_equal_predictions_are_one_group() -> None:
    flat = np.full(120, 0.3)
    bins = calibration_bins(
        COHORT.time_months, COHORT.event, flat, year=1, minimum_cell=10
    )
    assert [one.num_patients for one in bins] == [120]


def test_observed_probability_equals_lifelines() -> None:
    fitter = KaplanMeierFitter().fit(COHORT.time_months, COHORT.event)
    found = observed_probability(COHORT.time_months, COHORT.event, 12.0)
    assert found is not None
    expected = 1.0 - fitter.survival_function_at_times(12.0).iloc[0]
    assert found.estimate == pytest.approx(expected, abs=1e-9)


def test_nothing_is_observed_where_nobody_is_at_risk() -> None:
    time, event = np.array([3.0, 50.0]), np.array([True, True])
    assert observed_probability(time, event, 60.0) is None


def test_no_event_is_observed_as_zero_without_an_interval() -> None:
    found = observed_probability(np.array([30.0, 50.0]), np.array([False, True]), 12.0)
    assert found is not None
    assert (found.estimate, found.low, found.high) == (0.0, None, None)


def test_predicting_the_observed_share_gives_a_ratio_of_one() -> None:
    found = observed_probability(COHORT.time_months, COHORT.event, 12.0)
    assert found is not None
    flat = np.full(120, found.estimate)
    ratio = observed_expected_statistic(COHORT.time_months, COHORT.event, flat, 12.0)
    assert ratio(np.ones((1, 120))) == pytest.approx([1.0])


def test_expecting_nothing_gives_no_ratio() -> None:
    none = np.zeros(120)
    ratio = observed_expected_statistic(COHORT.time_months, COHORT.event, none, 12.0)
    assert np.isnan(ratio(np.ones((1, 120)))).all()
