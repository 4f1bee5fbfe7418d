import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.objective.time_bins import (
    discretise_times,
    num_at_risk,
    supported_bins,
)


def _bins(time: float, event: int, num_bins: int = 4) -> tuple[int, int]:
    time_bin, kind = discretise_times(
        torch.tensor([time]),
        torch.tensor([event]),
        num_bins=num_bins,
        bin_width_months=6.0,
    )
    return int(time_bin), int(kind)


@pytest.mark.parametrize(
    ("time", "event", "expected"),
    [
        (0.0, 1, (0, 1)),
        (6.0, 1, (0, 1)),
        (6.1, 1, (1, 1)),
        (6.1, 2, (1, 2)),
        (24.0, 1, (3, 1)),
        (0.0, 0, (0, 0)),
        (5.9, 0, (0, 0)),
        (6.0, 0, (1, 0)),
        (24.0, 0, (4, 0)),
        (24.1, 1, (4, 0)),
        (90.0, 0, (4, 0)),
    ],
)
def test_bins_are_open_left_and_closed_right(
    time: float, event: int, expected: tuple[int, int]
) -> None:
    assert _bins(time, event) == expected


@given(time=st.floats(0, 24), event=st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=50)
def test_an_event_lies_in_its_bin(time: float, event: int) -> None:
    exact = torch.tensor([time], dtype=torch.float64)
    time_bin, kind = discretise_times(
        exact, torch.tensor([event]), num_bins=4, bin_width_months=6.0
    )
    assert int(kind) == event
    assert time <= 6.0 * (int(time_bin) + 1)
    assert time > 6.0 * int(time_bin) or time == 0


@pytest.mark.parametrize("time", [-1.0, float("nan"), float("inf")])
def test_impossible_times_are_refused(time: float) -> None:
    with pytest.raises(ValueError, match="finite and 0 or more"):
        _bins(time, 1)


def test_unknown_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="event must be 0"):
        _bins(3.0, 3)


def _at_risk(times: list[float], num_bins: int = 4) -> list[int]:
    counts = num_at_risk(
        torch.tensor(times, dtype=torch.float64),
        num_bins=num_bins,
        bin_width_months=6.0,
    )
    return [int(count) for count in counts]


@given(times=st.lists(st.floats(0, 40) | st.sampled_from([6.0, 12.0, 24.0])))
@settings(deadline=None, max_examples=50)
def test_the_numbers_at_risk_equal_a_count_by_hand(times: list[float]) -> None:
    expected = [sum(t > 6.0 * k or k == 0 for t in times) for k in range(4)]
    assert _at_risk(times) == expected


@given(
    patients=st.lists(
        st.tuples(st.floats(0, 30), st.sampled_from([0, 1])), min_size=1, max_size=8
    )
)
@settings(deadline=None, max_examples=50)
def test_a_bin_without_anybody_at_risk_has_no_part_in_the_likelihood(
    patients: list[tuple[float, int]],
) -> None:
    told = [_bins(time, event) for time, event in patients]
    speaks = [any(k < b or (k == b and kind) for b, kind in told) for k in range(4)]
    at_risk = _at_risk([float(torch.tensor(time)) for time, _ in patients])
    assert not any(s for s, n in zip(speaks, at_risk, strict=True) if n == 0)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([40, 12, 10, 9], 3), ([9, 9, 0, 0], 0), ([10, 10, 10, 10], 4)],
)
def test_bins_are_supported_while_enough_are_at_risk(
    counts: list[int], expected: int
) -> None:
    assert supported_bins(torch.tensor(counts), minimum=10) == expected


def test_support_by_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        supported_bins(torch.tensor([3]), minimum=0)
