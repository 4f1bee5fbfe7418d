import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.survival_metrics import slow_restricted_mean

from acfnet_core.evaluation.survival_curve import (
    check_survival,
    has_prediction,
    interpolate_survival,
    median_months,
    restricted_mean_months,
)

EDGES = np.array([6.0, 12.0, 24.0])

hazards = st.lists(st.floats(0.0, 0.9), min_size=3, max_size=3)


def curve_of(drawn: list[float]) -> np.ndarray:
    return np.cumprod(1.0 - np.array(drawn))[None, :]


def test_an_exponential_curve_is_interpolated_exactly() -> None:
    months = np.array([0.0, 1.0, 6.0, 7.5, 20.0, 24.0])
    ours = interpolate_survival(np.exp(-0.05 * EDGES)[None, :], EDGES, months)
    assert ours[0] == pytest.approx(np.exp(-0.05 * months))


@settings(deadline=None, max_examples=40)
@given(hazards)
def test_the_edges_are_met(drawn: list[float]) -> None:
    curve = curve_of(drawn)
    assert interpolate_survival(curve, EDGES, EDGES) == pytest.approx(curve)


@settings(deadline=None, max_examples=40)
@given(hazards)
def test_the_interpolated_curve_never_rises(drawn: list[float]) -> None:
    ours = interpolate_survival(curve_of(drawn), EDGES, np.linspace(0.0, 30.0, 61))
    assert np.all(np.diff(ours) <= 1e-12)


def test_the_curve_is_flat_behind_the_last_edge() -> None:
    curve = np.array([[0.9, 0.7, 0.6]])
    assert interpolate_survival(curve, EDGES, np.array([100.0]))[0, 0] == 0.6


@settings(deadline=None, max_examples=20)
@given(hazards, st.floats(1.0, 40.0))
def test_restricted_mean_equals_the_midpoint_sum(
    drawn: list[float], tau_months: float
) -> None:
    curve = curve_of(drawn)
    ours = restricted_mean_months(curve, EDGES, tau_months)[0]
    assert ours == pytest.approx(
        slow_restricted_mean(curve[0], EDGES, tau_months), rel=1e-5
    )


def test_a_curve_that_falls_to_zero_has_a_restricted_mean() -> None:
    curve = np.array([[1.0, 0.5, 0.0]])
    expected = 6.0 + 6.0 * 0.5 / np.log(2.0)
    assert restricted_mean_months(curve, EDGES, 24.0)[0] == pytest.approx(expected)


def test_the_median_of_an_exponential_is_exact() -> None:
    curve = np.exp(-0.05 * EDGES)[None, :]
    assert median_months(curve, EDGES)[0] == pytest.approx(np.log(2.0) / 0.05)


def test_a_median_that_is_not_reached_is_infinite() -> None:
    assert median_months(np.array([[0.9, 0.8, 0.7]]), EDGES)[0] == np.inf


def test_a_curve_that_falls_to_zero_has_a_median() -> None:
    assert median_months(np.array([[0.9, 0.0, 0.0]]), EDGES)[0] == 6.0


def test_a_row_of_nan_is_no_prediction() -> None:
    rows = np.array([[0.9, 0.8, 0.7], [np.nan, np.nan, np.nan]])
    assert has_prediction(rows).tolist() == [True, False]


@pytest.mark.parametrize(
    "curve", [[1.2, 0.8, 0.7], [0.9, 0.8, -0.1], [0.5, 0.6, 0.4], [np.nan, 0.5, 0.4]]
)
def test_what_is_no_survival_curve_is_refused(curve: list[float]) -> None:
    with pytest.raises(ValueError, match="1 of 1 survival curves leave 0 to 1 or rise"):
        check_survival(np.array([curve]), EDGES)


def test_edges_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="strictly ascending"):
        check_survival(np.array([[0.9, 0.8]]), np.array([6.0, 6.0]))


def test_a_missing_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="survival has 2 bins, but there are 3"):
        check_survival(np.array([[0.9, 0.8]]), EDGES)
