import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.objective.time_bins import discretise_times


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
