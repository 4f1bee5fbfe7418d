import re
from collections.abc import Callable

import numpy as np
import pytest

from acfnet_core.pictures.data_plots import (
    FollowUp,
    plot_codes,
    plot_follow_up,
    plot_numbers,
)
from acfnet_core.pictures.style import BLUE, VERMILLION


def make_follow_up() -> FollowUp:
    return FollowUp(
        time_months=np.array([3.0, 9.0, 20.0]),
        survival=np.array([0.9, 0.6, 0.6]),
        low=np.array([0.7, 0.4, np.nan]),
        high=np.array([0.97, 0.8, np.nan]),
        at_months=np.array([0.0, 12.0]),
        num_at_risk=np.array([41, 17]),
    )


def bars_in(svg: str) -> int:
    return len(re.findall(rf'style="fill: {BLUE.lower()}', svg))


def words_in(svg: str) -> str:
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))


def test_a_few_different_numbers_get_a_bar_each() -> None:
    svg = plot_numbers(np.array([1.0, 2.5, 2.5, 5.0]), "n", "Spacing, mm")
    assert bars_in(svg) == 3
    assert "2.5" in words_in(svg)


def test_many_different_numbers_are_put_into_bins() -> None:
    values = np.random.default_rng(3).normal(size=400)
    assert bars_in(plot_numbers(values, "n", "x")) == 24


def test_few_numbers_far_apart_are_put_into_bins() -> None:
    values = np.array([1.0, 1.001, 90.0, 100.0])
    assert bars_in(plot_numbers(values, "n", "x")) == 6


def test_a_bound_in_view_is_drawn_and_one_out_of_view_is_not() -> None:
    values = np.linspace(0, 100, 50)
    drawn = [
        plot_numbers(values, "n", "x", bounds=bounds).lower().count(VERMILLION.lower())
        for bounds in ((None, None), (20.0, None), (20.0, 500.0))
    ]
    assert drawn[0] == 0
    assert drawn[1] == drawn[2] > 0


def test_a_log_axis_has_plain_numbers() -> None:
    svg = plot_numbers(np.array([0.0, 5.0, 50.0, 5000.0]), "n", "CEA", is_log=True)
    assert {"0", "10", "1,000"} <= set(words_in(svg).split())


def test_a_figure_says_in_words_how_many_and_from_where_to_where() -> None:
    svg = plot_numbers(np.array([1.0, 2.0, 9.0]), "n", "Age, years")
    assert "Age, years: 3 values, median 2, from 1 to 9." in svg


def test_each_code_stands_with_its_count_even_if_nobody_has_it() -> None:
    svg = plot_codes([("no", 7), ("yes", 0)], "c", "Chemotherapy")
    assert words_in(svg).split() == ["no", "yes", "7", "0"]
    assert "Chemotherapy: no 7, yes 0." in svg


def test_words_of_a_code_cannot_become_markup() -> None:
    svg = plot_codes([("<b>", 1)], "c", '"><b>')
    assert "<b>" not in svg


def test_the_numbers_at_risk_stand_below_the_curve() -> None:
    words = words_in(plot_follow_up(make_follow_up(), "f", "Free"))
    assert "41 17 Number at risk" in words


def test_the_curve_is_described_by_its_end() -> None:
    assert "Free: 0.60 at month 20." in plot_follow_up(make_follow_up(), "f", "Free")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot_numbers(np.array([1.0, 2.0]), "n", "x"),
        lambda: plot_codes([("no", 1)], "c", "x"),
        lambda: plot_follow_up(make_follow_up(), "f", "x"),
    ],
)
def test_the_same_values_give_the_same_bytes(draw: Callable[[], str]) -> None:
    assert draw() == draw()


def test_nothing_to_draw_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no value"):
        plot_numbers(np.array([]), "n", "x")
    with pytest.raises(ValueError, match="no code"):
        plot_codes([], "c", "x")
