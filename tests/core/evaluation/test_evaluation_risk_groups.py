import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.statistics import multivariate_logrank_test
from references.survival_cohorts import Outcomes, make_outcomes
from sksurv.compare import compare_survival

from acfnet_core.evaluation.kaplan_meier import estimate_kaplan_meier
from acfnet_core.evaluation.risk_groups import (
    draw_group_curves,
    group_by_risk,
    group_with_minimum,
    log_rank_p,
)

COHORTS = [make_outcomes(51, 90), make_outcomes(52, 120, censored_after=30.0)]


@pytest.mark.parametrize("cohort", COHORTS)
@pytest.mark.parametrize("num_groups", [2, 3])
def test_log_rank_equals_lifelines(cohort: Outcomes, num_groups: int) -> None:
    label = group_by_risk(cohort.risk, num_groups)
    expected = multivariate_logrank_test(cohort.time_months, label, cohort.event)
    ours = log_rank_p(cohort.time_months, cohort.event, label)
    assert ours == pytest.approx(expected.p_value, rel=1e-6)


@pytest.mark.parametrize("cohort", COHORTS)
def test_log_rank_equals_scikit_survival(cohort: Outcomes) -> None:
    label = group_by_risk(cohort.risk, 3)
    _, expected = compare_survival(cohort.structured(), label)
    ours = log_rank_p(cohort.time_months, cohort.event, label)
    assert ours == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 5))
def test_equal_risks_stay_together(drawn: list[int], num_groups: int) -> None:
    risk = np.array(drawn, dtype=np.float64)
    label = group_by_risk(risk, num_groups)
    assert all(np.unique(label[risk == one]).size == 1 for one in risk)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 5))
def test_a_higher_group_has_the_higher_risk(drawn: list[int], num_groups: int) -> None:
    risk = np.array(drawn, dtype=np.float64)
    label = group_by_risk(risk, num_groups)
    order = np.argsort(risk, kind="stable")
    assert np.all(np.diff(label[order]) >= 0)
    assert np.unique(label).tolist() == list(range(label.max() + 1))


@pytest.mark.parametrize("num_patients", [30, 31, 40, 50])
def test_distinct_risks_give_even_thirds(num_patients: int) -> None:
    sizes = np.bincount(group_by_risk(np.arange(float(num_patients)), 3))
    assert sizes.max() - sizes.min() <= 1


def test_groups_are_fewer_when_they_would_be_too_small() -> None:
    label = group_with_minimum(np.arange(25.0), 5, 10)
    assert label is not None
    assert np.bincount(label).min() >= 10


def test_one_group_has_nothing_to_compare() -> None:
    cohort = COHORTS[0]
    label = np.zeros(90, dtype=np.int64)
    assert log_rank_p(cohort.time_months, cohort.event, label) is None


def test_no_event_gives_no_p_value() -> None:
    cohort = COHORTS[0]
    label = group_by_risk(cohort.risk, 3)
    nobody = np.zeros_like(cohort.event)
    assert log_rank_p(cohort.time_months, nobody, label) is None


def test_a_third_below_the_minimum_cell_is_left_out() -> None:
    cohort = COHORTS[0]
    label = np.repeat([0, 1, 2], [40, 41, 9])
    curves = draw_group_curves(cohort.time_months, cohort.event, label, 10)
    assert [one.num_patients for one in curves] == [40, 41]


def test_small_numbers_at_risk_are_not_shown() -> None:
    cohort = COHORTS[0]
    label = group_by_risk(cohort.risk, 3)
    curves = draw_group_curves(cohort.time_months, cohort.event, label, 10)
    shown = [n for one in curves for n in one.at_risk if n is not None]
    assert all(n == 0 or n >= 10 for n in shown)
    assert any(n is None for one in curves for n in one.at_risk)


def test_a_group_curve_is_kaplan_meier_at_whole_months() -> None:
    cohort = COHORTS[0]
    label = group_by_risk(cohort.risk, 3)
    drawn = draw_group_curves(cohort.time_months, cohort.event, label, 10)[0]
    inside = label == 0
    curve = estimate_kaplan_meier(cohort.time_months[inside], cohort.event[inside])
    months = np.arange(float(len(drawn.time_months)))
    assert drawn.time_months == months.tolist()
    assert drawn.survival == pytest.approx(curve.at(months))
