import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.cohort.splits import split_patients


@settings(deadline=None, max_examples=50)
@given(
    events=st.lists(st.booleans(), max_size=60),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_patient_is_in_exactly_one_part(
    events: list[bool], fraction: float, seed: int
) -> None:
    first, second = split_patients(
        np.array(events, np.bool_), fraction=fraction, seed=seed
    )
    both = sorted([*first.tolist(), *second.tolist()])
    assert both == list(range(len(events)))


@settings(deadline=None, max_examples=50)
@given(
    num_events=st.integers(0, 40), num_censored=st.integers(0, 40), seed=st.integers(0)
)
def test_each_stratum_is_split_by_the_fraction(
    num_events: int, num_censored: int, seed: int
) -> None:
    events = np.array([True] * num_events + [False] * num_censored, np.bool_)
    first, _ = split_patients(events, fraction=0.2, seed=seed)
    assert np.count_nonzero(events[first]) == round(0.2 * num_events)
    assert np.count_nonzero(~events[first]) == round(0.2 * num_censored)


def test_the_same_seed_gives_the_same_split() -> None:
    events = np.arange(50) % 3 == 0
    one, _ = split_patients(events, fraction=0.3, seed=4)
    two, _ = split_patients(events, fraction=0.3, seed=4)
    np.testing.assert_array_equal(one, two)


def test_another_seed_gives_another_split() -> None:
    events = np.arange(50) % 3 == 0
    one, _ = split_patients(events, fraction=0.3, seed=4)
    two, _ = split_patients(events, fraction=0.3, seed=5)
    assert one.tolist() != two.tolist()


def test_a_fraction_beyond_one_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="fraction must be from 0 to 1"):
        split_patients(np.zeros(3, np.bool_), fraction=1.5, seed=0)
