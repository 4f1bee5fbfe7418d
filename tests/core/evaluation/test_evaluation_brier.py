import numpy as np
import pytest
from references.survival_cohorts import (
    Outcomes,
    exponential_survival,
    make_outcomes,
)
from references.survival_metrics import slow_brier
from sksurv.metrics import brier_score, integrated_brier_score

from acfnet_core.evaluation.brier import (
    brier_window,
    mean_statistic,
    patient_brier,
    patient_integrated_brier,
    scaled_statistic,
)

MONTHS = np.arange(3.0, 25.0)
COHORTS = [make_outcomes(21, 70), make_outcomes(22, 120, censored_after=40.0)]


def predicted(cohort: Outcomes, months: np.ndarray) -> np.ndarray:
    return exponential_survival(0.03 * np.exp(0.3 * cohort.risk), months)


@pytest.mark.parametrize("cohort", COHORTS)
def test_brier_equals_scikit_survival(cohort: Outcomes) -> None:
    train = make_outcomes(29, 150)
    survival = predicted(cohort, MONTHS)
    _, expected = brier_score(train.structured(), cohort.structured(), survival, MONTHS)
    ours = patient_brier(
        cohort.time_months,
        cohort.event,
        survival,
        MONTHS,
        censoring=train.censoring(),
    ).mean(axis=0)
    assert ours == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("cohort", COHORTS)
def test_integrated_brier_equals_scikit_survival(cohort: Outcomes) -> None:
    survival = predicted(cohort, MONTHS)
    expected = integrated_brier_score(
        cohort.structured(), cohort.structured(), survival, MONTHS
    )
    ours = patient_integrated_brier(
        cohort.time_months,
        cohort.event,
        survival,
        MONTHS,
        censoring=cohort.censoring(),
    ).mean()
    assert ours == pytest.approx(expected, abs=1e-9)


def test_brier_equals_the_slow_reference() -> None:
    cohort = make_outcomes(23, 25)
    survival = predicted(cohort, np.array([10.0]))
    ours = patient_brier(
        cohort.time_months,
        cohort.event,
        survival,
        np.array([10.0]),
        censoring=cohort.censoring(),
    ).mean()
    train = (cohort.time_months, cohort.event)
    assert ours == pytest.approx(slow_brier(*train, survival[:, 0], 10.0, train))


def test_a_perfect_prediction_scores_zero() -> None:
    time, event = np.array([5.0, 15.0]), np.array([True, True])
    cohort = Outcomes(time_months=time, event=event, covariate=time, risk=time)
    months = np.array([4.0, 10.0])
    perfect = (time[:, None] > months[None, :]).astype(np.float64)
    scores = patient_brier(time, event, perfect, months, censoring=cohort.censoring())
    assert scores.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_one_half_for_everybody_scores_a_quarter_without_censoring() -> None:
    cohort = make_outcomes(24, 40)
    everybody = np.ones_like(cohort.event)
    complete = Outcomes(
        time_months=cohort.time_months,
        event=everybody,
        covariate=cohort.covariate,
        risk=cohort.risk,
    )
    scores = patient_integrated_brier(
        cohort.time_months,
        everybody,
        np.full((40, MONTHS.size), 0.5),
        MONTHS,
        censoring=complete.censoring(),
    )
    assert scores == pytest.approx(np.full(40, 0.25))


def test_the_window_ends_below_the_follow_up() -> None:
    assert brier_window(30.0)[[0, -1]].tolist() == [6.0, 29.0]


def test_the_whole_window_is_6_to_96_months() -> None:
    assert brier_window(130.0)[[0, -1]].tolist() == [6.0, 96.0]


def test_a_short_follow_up_leaves_no_window() -> None:
    assert brier_window(7.0).size == 0


def test_the_reference_has_a_scaled_score_of_zero() -> None:
    values = np.array([0.1, 0.3, 0.2])
    counts = np.array([[1.0, 1.0, 1.0], [3.0, 0.0, 0.0]])
    assert scaled_statistic(values, values)(counts).tolist() == [0.0, 0.0]


def test_counts_weigh_the_mean() -> None:
    counts = np.array([[2.0, 0.0, 1.0]])
    figure = mean_statistic(np.array([0.1, 0.3, 0.4]))(counts)
    assert figure == pytest.approx([0.2])


def test_a_window_past_all_training_censoring_is_refused() -> None:
    cohort = make_outcomes(25, 10)
    short = Outcomes(
        time_months=np.full(10, 5.0),
        event=np.zeros(10, dtype=np.bool_),
        covariate=cohort.covariate,
        risk=cohort.risk,
    )
    with pytest.raises(ValueError, match="choose an earlier window"):
        patient_brier(
            cohort.time_months,
            cohort.event,
            predicted(cohort, MONTHS),
            MONTHS,
            censoring=short.censoring(),
        )


def test_an_integral_over_one_time_is_refused() -> None:
    cohort = make_outcomes(26, 10)
    with pytest.raises(ValueError, match="an integral needs two"):
        patient_integrated_brier(
            cohort.time_months,
            cohort.event,
            predicted(cohort, MONTHS[:1]),
            MONTHS[:1],
            censoring=cohort.censoring(),
        )
