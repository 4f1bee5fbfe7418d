import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.survival_cohorts import Outcomes, make_outcomes
from references.survival_metrics import slow_censoring, slow_concordance
from sksurv.metrics import (
    concordance_index_censored,
    concordance_index_ipcw,
)
from sksurv.metrics import (
    cumulative_dynamic_auc as reference_auc,
)

from acfnet_core.evaluation.discrimination import (
    cumulative_dynamic_auc,
    harrell_c,
    harrell_pairs,
    uno_c,
    uno_pairs,
)

COHORTS = [
    make_outcomes(1, 60),
    make_outcomes(2, 150, censored_after=40.0),
    make_outcomes(3, 150, whole=False),
]

patients = st.lists(
    st.tuples(st.integers(0, 8), st.booleans(), st.integers(0, 4)),
    min_size=1,
    max_size=14,
)


def as_arrays(
    drawn: list[tuple[int, bool, int]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    time, event, risk = zip(*drawn, strict=True)
    return (
        np.array(time, dtype=np.float64),
        np.array(event, dtype=np.bool_),
        np.array(risk, dtype=np.float64),
    )


def shared_uno(test: Outcomes, train: Outcomes, tau_months: float) -> float | None:
    return uno_c(
        test.time_months,
        test.event,
        test.risk,
        train_time_months=train.time_months,
        train_event=train.event,
        tau_months=tau_months,
    )


@pytest.mark.parametrize("cohort", COHORTS)
def test_harrell_c_equals_scikit_survival(cohort: Outcomes) -> None:
    expected = concordance_index_censored(cohort.event, cohort.time_months, cohort.risk)
    ours = harrell_c(cohort.time_months, cohort.event, cohort.risk)
    assert ours == pytest.approx(expected[0], abs=1e-9)


@pytest.mark.parametrize("cohort", COHORTS)
@pytest.mark.parametrize("tau_months", [12.0, 30.0])
def test_uno_c_equals_scikit_survival(cohort: Outcomes, tau_months: float) -> None:
    train = make_outcomes(9, 200)
    expected = concordance_index_ipcw(
        train.structured(), cohort.structured(), cohort.risk, tau=tau_months
    )
    ours = shared_uno(cohort, train, tau_months)
    assert ours == pytest.approx(expected[0], abs=1e-9)


@pytest.mark.parametrize("cohort", COHORTS)
@pytest.mark.parametrize("at_months", [6.0, 12.0, 24.0])
def test_auc_equals_scikit_survival(cohort: Outcomes, at_months: float) -> None:
    expected, _ = reference_auc(
        cohort.structured(), cohort.structured(), cohort.risk, [at_months]
    )
    ours = cumulative_dynamic_auc(
        cohort.time_months,
        cohort.event,
        cohort.risk,
        train_time_months=cohort.time_months,
        train_event=cohort.event,
        at_months=at_months,
    )
    assert ours == pytest.approx(expected[0], abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(patients)
def test_harrell_c_equals_the_slow_reference(
    drawn: list[tuple[int, bool, int]],
) -> None:
    time, event, risk = as_arrays(drawn)
    assert harrell_c(time, event, risk) == pytest.approx(
        slow_concordance(time, event, risk, np.ones_like(time))
    )


@settings(deadline=None, max_examples=60)
@given(patients)
def test_uno_c_equals_the_slow_reference(drawn: list[tuple[int, bool, int]]) -> None:
    time, event, risk = as_arrays(drawn)
    # One training patient outlasts everybody, so that G never reaches 0.
    train = (np.append(time, 99.0), np.append(event, True))
    weight = np.array(
        [
            slow_censoring(*train, t) ** -2 if e and t < 6 else 0.0
            for t, e in zip(time, event, strict=True)
        ]
    )
    ours = uno_c(
        time,
        event,
        risk,
        train_time_months=train[0],
        train_event=train[1],
        tau_months=6.0,
    )
    assert ours == pytest.approx(slow_concordance(time, event, risk, weight))


@settings(deadline=None, max_examples=40)
@given(patients)
def test_reversed_risk_mirrors_harrell_c(drawn: list[tuple[int, bool, int]]) -> None:
    time, event, risk = as_arrays(drawn)
    ours, mirrored = harrell_c(time, event, risk), harrell_c(time, event, -risk)
    assert (ours is None and mirrored is None) or ours == pytest.approx(
        1.0 - (mirrored or 0.0)
    )


@settings(deadline=None, max_examples=40)
@given(patients, st.integers(0, 99))
def test_counts_give_the_value_of_the_resampled_patients(
    drawn: list[tuple[int, bool, int]], seed: int
) -> None:
    time, event, risk = as_arrays(drawn)
    rows = np.random.default_rng(seed).integers(0, len(drawn), len(drawn))
    counts = np.bincount(rows, minlength=len(drawn)).astype(np.float64)[None, :]
    expected = harrell_c(time[rows], event[rows], risk[rows])
    ours = harrell_pairs(time, event, risk)(counts)[0]
    assert ours == pytest.approx(np.nan if expected is None else expected, nan_ok=True)


def test_without_censoring_uno_c_is_harrell_c() -> None:
    cohort = make_outcomes(4, 50)
    event = np.ones_like(cohort.event)
    uno = uno_c(
        cohort.time_months,
        event,
        cohort.risk,
        train_time_months=cohort.time_months,
        train_event=event,
        tau_months=1000.0,
    )
    assert uno == pytest.approx(harrell_c(cohort.time_months, event, cohort.risk))


def test_equal_risks_score_one_half() -> None:
    cohort = make_outcomes(5, 30)
    flat = np.zeros_like(cohort.risk)
    assert harrell_c(cohort.time_months, cohort.event, flat) == 0.5


def test_no_event_gives_no_figure() -> None:
    time = np.array([3.0, 5.0])
    assert harrell_c(time, np.zeros(2, dtype=np.bool_), np.array([1.0, 0.0])) is None


def test_one_patient_gives_no_figure() -> None:
    assert harrell_c(np.array([3.0]), np.array([True]), np.array([1.0])) is None


def test_nobody_beyond_the_horizon_gives_no_auc() -> None:
    time, event = np.array([3.0, 5.0]), np.array([True, True])
    ours = cumulative_dynamic_auc(
        time,
        event,
        np.array([1.0, 0.0]),
        train_time_months=time,
        train_event=event,
        at_months=12.0,
    )
    assert ours is None


def test_an_event_after_all_training_censoring_is_refused() -> None:
    train = make_outcomes(6, 20)
    everyone_censored = np.zeros(20, dtype=np.bool_)
    censoring = Outcomes(
        time_months=np.full(20, 10.0),
        event=everyone_censored,
        covariate=train.covariate,
        risk=train.risk,
    ).censoring()
    with pytest.raises(ValueError, match="1 events are at times when all training"):
        uno_pairs(
            np.array([20.0, 30.0]),
            np.array([True, False]),
            np.array([1.0, 0.0]),
            censoring=censoring,
            tau_months=96.0,
        )


def test_a_risk_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match=r"risk has shape \(2,\); expected \(2,\)"):
        harrell_c(np.array([1.0, 2.0]), np.array([True, True]), np.array([np.nan, 1.0]))
