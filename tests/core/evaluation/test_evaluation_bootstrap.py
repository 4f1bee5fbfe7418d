import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.survival_cohorts import make_outcomes
from references.survival_resampling import statistic_of_rows

from acfnet_core.evaluation.bootstrap import (
    difference,
    draw_resamples,
    estimate_interval,
    on_subset,
)
from acfnet_core.evaluation.brier import mean_statistic
from acfnet_core.evaluation.discrimination import harrell_c, harrell_pairs


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_every_resample_has_as_many_patients(num_patients: int, seed: int) -> None:
    counts = draw_resamples(num_patients, 5, seed)
    assert counts.sum(axis=1).tolist() == [num_patients] * 5


def test_the_same_seed_gives_the_same_resamples() -> None:
    assert np.array_equal(draw_resamples(20, 7, 3), draw_resamples(20, 7, 3))


def test_the_fast_interval_equals_resampling_patients() -> None:
    cohort = make_outcomes(31, 30)
    arrays = (cohort.time_months, cohort.event, cohort.risk)
    counts = draw_resamples(30, 60, 1)
    slow = statistic_of_rows(lambda rows: harrell_c(*(one[rows] for one in arrays)))
    ours = estimate_interval(harrell_pairs(*arrays), counts)
    expected = estimate_interval(slow, counts)
    assert ours is not None
    assert expected is not None
    assert ours.low == pytest.approx(expected.low)
    assert ours.high == pytest.approx(expected.high)


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(5).normal(size=400)
    found = estimate_interval(mean_statistic(values), draw_resamples(400, 4000, 2))
    assert found is not None
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.01)
    assert found.high == pytest.approx(values.mean() + half, abs=0.01)


def test_degenerate_resamples_are_skipped_and_counted() -> None:
    # One comparable pair only: a resample without either patient is undefined.
    pairs = harrell_pairs(
        np.array([1.0, 2.0]), np.array([True, False]), np.array([1.0, 0.0])
    )
    counts = np.array([[1.0, 1.0], [2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    found = estimate_interval(pairs, counts)
    assert found is not None
    assert (found.num_skipped, found.low, found.high) == (2, 1.0, 1.0)


def test_mostly_degenerate_resamples_leave_no_interval() -> None:
    pairs = harrell_pairs(
        np.array([1.0, 2.0]), np.array([True, False]), np.array([1.0, 0.0])
    )
    found = estimate_interval(pairs, np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
    assert found is not None
    assert (found.estimate, found.low, found.high) == (1.0, None, None)


def test_an_undefined_estimate_is_none() -> None:
    pairs = harrell_pairs(np.array([1.0]), np.array([True]), np.array([1.0]))
    assert estimate_interval(pairs, draw_resamples(1, 10, 0)) is None


def test_no_resamples_leave_the_estimate_alone() -> None:
    found = estimate_interval(mean_statistic(np.ones(3)), draw_resamples(3, 0, 0))
    assert found is not None
    assert (found.estimate, found.low) == (1.0, None)


def test_a_paired_difference_of_a_figure_from_itself_is_zero() -> None:
    figure = mean_statistic(np.arange(9.0))
    found = estimate_interval(difference(figure, figure), draw_resamples(9, 50, 0))
    assert found is not None
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_figure_of_a_subset_takes_its_own_counts() -> None:
    figure = on_subset(
        mean_statistic(np.array([1.0, 3.0])), np.array([True, False, True])
    )
    assert figure(np.array([[1.0, 5.0, 3.0]])).tolist() == [2.5]


def test_one_patient_has_no_interval() -> None:
    found = estimate_interval(mean_statistic(np.ones(1)), draw_resamples(1, 9, 0))
    assert found is not None
    assert (found.low, found.high) == (None, None)


def test_drawing_from_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="num_patients is 0"):
        draw_resamples(0, 5, 0)
