from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from references.weighted_mean import slow_shares, slow_weighted_mean

from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.aggregation import Weighing, aggregation_weights
from acfnet_core.federation.parameters import FlatParameters
from acfnet_core.federation.strategies.averaging import Averaging

NUM_VALUES = 6
COUNTS = st.lists(st.integers(1, 5000), min_size=1, max_size=6)
CAPS = st.sampled_from([0.05, 0.25, 1 / 3, 0.4, 0.5, 0.75, 1.0])
VALUES = arrays(np.float32, NUM_VALUES, elements=st.floats(-1e6, 1e6, width=32))


def _update(site: str, num_examples: int, parameters: np.ndarray) -> AdmittedUpdate:
    return AdmittedUpdate(
        site=site, num_examples=num_examples, parameters=parameters, update_norm=0.0
    )


@st.composite
def updates(draw: st.DrawFn) -> list[AdmittedUpdate]:
    counts = draw(COUNTS)
    return [_update(f"site-{i}", count, draw(VALUES)) for i, count in enumerate(counts)]


@settings(deadline=None, max_examples=60)
@given(counts=COUNTS, cap=CAPS)
def test_shares_equal_the_slow_reference(counts: list[int], cap: float) -> None:
    expected = [float(s) for s in slow_shares(counts, Fraction(cap))]
    assert aggregation_weights(counts, cap=cap) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(counts=COUNTS, cap=CAPS)
def test_shares_sum_to_one(counts: list[int], cap: float) -> None:
    assert sum(aggregation_weights(counts, cap=cap)) == pytest.approx(1.0, abs=1e-14)


@settings(deadline=None, max_examples=60)
@given(counts=COUNTS, cap=CAPS)
def test_no_share_is_above_the_cap_or_the_equal_share(
    counts: list[int], cap: float
) -> None:
    limit = max(cap, 1 / len(counts))
    assert max(aggregation_weights(counts, cap=cap)) <= limit * (1 + 1e-12)


@settings(deadline=None, max_examples=60)
@given(counts=COUNTS, cap=CAPS)
def test_more_patients_never_weigh_less(counts: list[int], cap: float) -> None:
    shares = aggregation_weights(sorted(counts), cap=cap)
    assert np.all(np.diff(shares) >= -1e-12)


def test_without_a_cap_shares_are_those_of_the_patients() -> None:
    assert aggregation_weights([10, 30, 60], cap=1.0) == [0.1, 0.3, 0.6]


def weighted_mean(updates: Sequence[AdmittedUpdate], *, cap: float) -> FlatParameters:
    """FedAvg by patients."""
    rule = Averaging(weighing=Weighing(cap=cap))
    base = np.zeros_like(updates[0].parameters)
    return rule.aggregate(updates, base=base, state={}, round_number=1)[0]


@settings(deadline=None, max_examples=60)
@given(updates=updates(), cap=CAPS)
def test_the_mean_equals_the_slow_reference(
    updates: list[AdmittedUpdate], cap: float
) -> None:
    shares = slow_shares([u.num_examples for u in updates], Fraction(cap))
    expected = slow_weighted_mean([u.parameters.tolist() for u in updates], shares)
    np.testing.assert_allclose(
        weighted_mean(updates, cap=cap), expected, rtol=1e-6, atol=1e-8
    )


def test_values_that_cancel_do_so_in_every_order() -> None:
    # In another order of the sum the 1 would vanish beside the large values.
    values = {"a": 1e20, "b": -1e20, "c": 1.0}
    named = [_update(s, 1, np.array([v], np.float32)) for s, v in values.items()]
    means = {weighted_mean(order, cap=1.0).tobytes() for order in permutations(named)}
    assert means == {np.array([1 / 3], np.float32).tobytes()}


@settings(deadline=None, max_examples=60)
@given(updates=updates(), cap=CAPS, data=st.data())
def test_the_order_of_the_answers_does_not_matter_to_the_last_bit(
    updates: list[AdmittedUpdate], cap: float, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(updates))
    one, other = weighted_mean(updates, cap=cap), weighted_mean(shuffled, cap=cap)
    assert one.tobytes() == other.tobytes()


@settings(deadline=None, max_examples=60)
@given(
    parameters=arrays(
        np.float32,
        NUM_VALUES,
        elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
    ),
    num_examples=st.integers(1, 10**6),
    cap=CAPS,
)
def test_one_site_alone_is_its_own_mean_to_the_last_bit(
    parameters: np.ndarray, num_examples: int, cap: float
) -> None:
    mean = weighted_mean([_update("site-a", num_examples, parameters)], cap=cap)
    assert mean.tobytes() == parameters.tobytes()


def test_one_site_alone_keeps_a_minus_zero() -> None:
    parameters = np.array([-0.0, 0.0], np.float32)
    mean = weighted_mean([_update("site-a", 3, parameters)], cap=0.5)
    assert np.signbit(mean).tolist() == [True, False]


@settings(deadline=None, max_examples=60)
@given(parameters=VALUES, counts=COUNTS, cap=CAPS)
def test_identical_updates_stay_to_one_unit_in_the_last_place(
    parameters: np.ndarray, counts: list[int], cap: float
) -> None:
    same = [_update(f"site-{i}", n, parameters) for i, n in enumerate(counts)]
    np.testing.assert_array_max_ulp(weighted_mean(same, cap=cap), parameters, maxulp=1)


def test_the_updates_themselves_are_not_changed() -> None:
    first, second = np.ones(3, np.float32), np.zeros(3, np.float32)
    weighted_mean([_update("a", 1, first), _update("b", 1, second)], cap=0.5)
    assert first.tolist() == [1.0, 1.0, 1.0]
    assert second.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("counts", [[], [0, 4], [-9]])
def test_a_count_below_one_is_a_mistake(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="expected counts of 1 or more"):
        aggregation_weights(counts, cap=0.5)


@pytest.mark.parametrize("cap", [0.0, -0.5, 1.5, float("nan")])
def test_a_cap_outside_its_range_is_a_mistake(cap: float) -> None:
    with pytest.raises(ValueError, match="expected more than 0 and at most 1"):
        aggregation_weights([1, 2], cap=cap)
