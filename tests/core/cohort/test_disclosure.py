import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.cohort.disclosure import (
    round_figure,
    tell_moments,
    tell_nested,
    tell_parts,
    tell_quantile,
)

MINIMUM = 10
parts = st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(
    lambda counts: sum(counts) >= MINIMUM
)


@given(parts)
@settings(deadline=None, max_examples=200)
def test_no_part_nor_the_rest_of_the_whole_is_of_few(counts: list[int]) -> None:
    named = {str(index): count for index, count in enumerate(counts)}
    told = [n for n in tell_parts(named, minimum=MINIMUM).values() if n is not None]
    for count in (*told, sum(counts) - sum(told)):
        assert count == 0 or count >= MINIMUM


def test_a_single_small_part_takes_the_next_larger_one_with_it() -> None:
    told = tell_parts({"a": 40, "b": 12, "c": 3}, minimum=MINIMUM)
    assert told == {"a": 40, "b": None, "c": None}


def test_small_parts_that_are_many_together_take_no_other() -> None:
    told = tell_parts({"a": 40, "b": 7, "c": 4}, minimum=MINIMUM)
    assert told == {"a": 40, "b": None, "c": None}


def test_a_part_of_nobody_is_told() -> None:
    assert tell_parts({"a": 40, "b": 0}, minimum=MINIMUM) == {"a": 40, "b": 0}


@given(st.lists(st.integers(0, 80), min_size=1, max_size=4))
@settings(deadline=None, max_examples=200)
def test_no_two_nested_counts_are_apart_by_few(counts: list[int]) -> None:
    whole, *rest = sorted(counts, reverse=True)
    told = tell_nested(whole, rest, minimum=MINIMUM)
    shown = [whole, *(count for count in told if count is not None)]
    gaps = [a - b for i, a in enumerate(shown) for b in shown[i + 1 :]]
    assert all(gap == 0 or gap >= MINIMUM for gap in gaps)


def test_moments_are_those_of_the_values_to_three_digits() -> None:
    values = np.random.default_rng(0).normal(60, 12, size=50)
    told = tell_moments(values, minimum=MINIMUM)
    expected = (values.mean(), values.std(ddof=1))
    assert told == tuple(float(f"{figure:.3g}") for figure in expected)


def test_moments_of_few_are_withheld() -> None:
    assert tell_moments(np.arange(9.0), minimum=MINIMUM) is None


@pytest.mark.parametrize("num_ones", [0, 1, 9, 41, 49])
def test_a_mean_that_counts_few_is_withheld(num_ones: int) -> None:
    values = (np.arange(50) < num_ones).astype(np.float64)
    assert tell_moments(values, minimum=MINIMUM) is None


def test_moments_that_one_patient_makes_are_withheld() -> None:
    values = np.append(np.arange(30.0), 10_000.0)
    assert tell_moments(values, minimum=MINIMUM) is None


@pytest.mark.parametrize(
    ("size", "share", "is_told"),
    [(19, 0.5, False), (20, 0.5, True), (39, 0.25, False), (40, 0.75, True)],
)
def test_a_quantile_needs_the_minimum_on_either_side(
    size: int, share: float, is_told: bool
) -> None:
    told = tell_quantile(np.arange(float(size)), share, minimum=MINIMUM)
    assert (told is not None) == is_told


def test_figures_keep_three_digits() -> None:
    assert round_figure(1234.5) == 1230.0
