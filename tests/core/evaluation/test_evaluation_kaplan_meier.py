import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from references.survival_cohorts import Outcomes, make_outcomes
from references.survival_metrics import slow_censoring, slow_kaplan_meier
from sksurv.nonparametric import CensoringDistributionEstimator

from acfnet_core.evaluation.kaplan_meier import (
    estimate_censoring,
    estimate_kaplan_meier,
    resampled_survival,
)
from acfnet_core.evaluation.outcomes import check_outcomes

COHORTS = [make_outcomes(11, 80), make_outcomes(12, 120, censored_after=30.0)]

outcomes = st.lists(
    st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=15
)


def as_arrays(drawn: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    time, event = zip(*drawn, strict=True)
    return np.array(time, dtype=np.float64), np.array(event, dtype=np.bool_)


@pytest.mark.parametrize("cohort", COHORTS)
def test_survival_equals_lifelines(cohort: Outcomes) -> None:
    fitter = KaplanMeierFitter().fit(cohort.time_months, cohort.event)
    months = np.arange(0.0, 30.0, 0.5)
    ours = estimate_kaplan_meier(cohort.time_months, cohort.event).at(months)
    expected = fitter.survival_function_at_times(months).to_numpy()
    assert ours == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("cohort", COHORTS)
def test_intervals_equal_lifelines(cohort: Outcomes) -> None:
    fitter = KaplanMeierFitter().fit(cohort.time_months, cohort.event)
    curve = estimate_kaplan_meier(cohort.time_months, cohort.event)
    inside = (curve.survival > 0) & (curve.survival < 1)
    expected = fitter.confidence_interval_.loc[curve.time_months].to_numpy()
    ours = np.stack([curve.low, curve.high], axis=1)
    assert ours[inside] == pytest.approx(expected[inside], abs=1e-6)


@pytest.mark.parametrize("cohort", COHORTS)
def test_at_risk_equals_lifelines(cohort: Outcomes) -> None:
    fitter = KaplanMeierFitter().fit(cohort.time_months, cohort.event)
    curve = estimate_kaplan_meier(cohort.time_months, cohort.event)
    table = fitter.event_table.loc[curve.time_months]
    assert curve.at_risk.tolist() == table["at_risk"].tolist()


@pytest.mark.parametrize("cohort", COHORTS)
def test_censoring_equals_scikit_survival(cohort: Outcomes) -> None:
    reference = CensoringDistributionEstimator().fit(cohort.structured())
    months = np.arange(0.0, cohort.time_months.max())
    expected = reference.predict_proba(months)
    assert cohort.censoring().at(months) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(outcomes, st.integers(0, 10))
def test_survival_equals_the_slow_reference(
    drawn: list[tuple[int, bool]], at_months: int
) -> None:
    time, event = as_arrays(drawn)
    ours = estimate_kaplan_meier(time, event).at(np.array([float(at_months)]))[0]
    assert ours == pytest.approx(slow_kaplan_meier(time, event, at_months))


@settings(deadline=None, max_examples=50)
@given(outcomes, st.integers(0, 10))
def test_censoring_equals_the_slow_reference(
    drawn: list[tuple[int, bool]], at_months: int
) -> None:
    time, event = as_arrays(drawn)
    ours = estimate_censoring(time, event).at(np.array([float(at_months)]))[0]
    assert ours == pytest.approx(slow_censoring(time, event, at_months))


@settings(deadline=None, max_examples=50)
@given(outcomes, st.integers(0, 99), st.integers(0, 10))
def test_resampled_survival_is_the_curve_of_the_resample(
    drawn: list[tuple[int, bool]], seed: int, at_months: int
) -> None:
    time, event = as_arrays(drawn)
    rows = np.random.default_rng(seed).integers(0, len(time), len(time))
    counts = np.bincount(rows, minlength=len(time)).astype(np.float64)[None, :]
    ours = resampled_survival(time, event, counts, float(at_months))[0]
    followed = bool(np.any(time[rows] >= at_months))
    expected = slow_kaplan_meier(time[rows], event[rows], at_months)
    assert ours == pytest.approx(expected if followed else np.nan, nan_ok=True)


@settings(deadline=None, max_examples=50)
@given(outcomes)
def test_the_curve_never_rises_and_stays_in_its_interval(
    drawn: list[tuple[int, bool]],
) -> None:
    curve = estimate_kaplan_meier(*as_arrays(drawn))
    known = ~np.isnan(curve.low)
    assert np.all(np.diff(curve.survival, prepend=1.0) <= 0)
    assert np.all((curve.low <= curve.survival)[known])
    assert np.all((curve.survival <= curve.high)[known])


@pytest.mark.parametrize("cohort", COHORTS)
def test_median_equals_lifelines(cohort: Outcomes) -> None:
    fitter = KaplanMeierFitter().fit(cohort.time_months, cohort.event)
    curve = estimate_kaplan_meier(cohort.time_months, cohort.event)
    assert curve.median_months() == fitter.median_survival_time_


def test_a_median_that_is_not_reached_is_none() -> None:
    curve = estimate_kaplan_meier(np.array([4.0, 9.0]), np.zeros(2, dtype=np.bool_))
    assert curve.median_months() is None


def test_nobody_is_at_risk_behind_the_last_time() -> None:
    curve = estimate_kaplan_meier(np.array([4.0, 9.0]), np.array([True, False]))
    counts = curve.num_at_risk(np.array([0.0, 4.0, 4.5, 9.0, 10.0]))
    assert counts.tolist() == [2, 2, 1, 1, 0]


def test_no_interval_is_made_up_before_the_first_event() -> None:
    curve = estimate_kaplan_meier(np.array([4.0, 9.0]), np.array([False, True]))
    low, high = curve.interval_at(np.array([2.0, 5.0]))
    assert np.isnan(low).all()
    assert np.isnan(high).all()


@pytest.mark.parametrize(
    ("time", "event", "message"),
    [
        ([], [], "There is no patient"),
        ([1.0, -2.0], [True, True], "1 of 2 times are negative or not finite"),
        ([np.nan, 2.0], [True, True], "1 of 2 times are negative or not finite"),
        ([1.0, 2.0], [True], r"time_months has shape \(2,\) and event \(1,\)"),
    ],
)
def test_unusable_outcomes_are_refused_by_count(
    time: list[float], event: list[bool], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_outcomes(np.array(time, dtype=np.float64), np.array(event, dtype=bool))


def test_events_that_are_no_bool_are_refused() -> None:
    with pytest.raises(ValueError, match="event has type int64; expected bool"):
        check_outcomes(np.array([1.0]), np.array([1]))
