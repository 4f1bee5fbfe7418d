import pytest
from references.run_folder import (
    make_differences,
    make_risk_groups,
    make_rounds,
)

from acf_server.plots import (
    plot_calibration,
    plot_differences,
    plot_risk_groups,
    plot_rounds_loss,
)
from acf_server.report_numbers import (
    count,
    decimal,
    duration,
    estimate_and_range,
    probability,
    size,
)
from acf_server.report_numbers import settings as setting_rows
from acfnet_core.evaluation.verdict import Interval


def test_round_without_a_loss_is_no_figure() -> None:
    records = [
        record.model_copy(update={"mean_loss": None}) for record in make_rounds(1)
    ]
    assert plot_rounds_loss(records) is None


def test_calibration_of_a_year_nobody_reached_is_no_figure() -> None:
    assert plot_calibration([], 5) is None


def test_metric_that_was_not_compared_is_no_figure() -> None:
    others = [row for row in make_differences() if row.metric != "uno_c"]
    assert plot_differences(others, "uno_c") is None


def test_figure_has_words_for_who_cannot_see_it() -> None:
    svg = plot_risk_groups(make_risk_groups(), 10, "survival")
    assert svg is not None
    assert 'role="img" aria-label="Kaplan-Meier curves: low risk' in svg


def test_at_risk_below_the_minimum_is_not_written() -> None:
    groups = [
        group.model_copy(update={"at_risk": [14, 7, 7, 7, 7, 0]})
        for group in make_risk_groups()
    ]
    svg = plot_risk_groups(groups, 10, "survival")
    assert svg is not None
    assert svg.count("&lt;10") == 12


@pytest.mark.parametrize(
    ("number", "text"), [(None, "<10"), (9, "<10"), (1, "<10"), (10, "10"), (0, "0")]
)
def test_count_respects_the_minimum_cell(number: int | None, text: str) -> None:
    assert count(number, 10) == text


def test_negative_number_has_a_minus_sign() -> None:
    assert decimal(-0.1234) == "\N{MINUS SIGN}0.123"


def test_zero_has_no_sign() -> None:
    assert decimal(-0.0001, signed=True) == "0.000"


def test_undetermined_interval_says_so() -> None:
    assert estimate_and_range(None) == "not determined"


def test_estimate_stands_before_its_interval() -> None:
    interval = Interval(estimate=0.6, low=0.5, high=0.7)
    assert estimate_and_range(interval, 2) == "0.60 (0.50 to 0.70)"


def test_small_p_is_not_written_as_zero() -> None:
    assert "0.001" in probability(1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.31, "2.3 s"), (95, "1 min 35 s"), (7300, "2 h 1 min")]
)
def test_duration_is_written_in_fitting_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_size_is_written_in_the_largest_fitting_unit() -> None:
    assert [size(number) for number in (12, 1_500_000)] == ["12 bytes", "1.5 MB"]


def test_nested_settings_become_dotted_rows() -> None:
    rows = setting_rows({"loss": {"survival": 1.0, "on": True}, "layers": [1, 2]})
    assert rows == [("loss.survival", "1"), ("loss.on", "yes"), ("layers", "1, 2")]
