import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from references.slow_strategies import slow_scaffold

from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.parameters import NamedArrays
from acfnet_core.federation.strategies.scaffold import (
    CONTROL,
    Scaffold,
    correction_of,
    halves,
    next_control,
    with_control,
)
from acfnet_core.federation.strategies.site_rounds import last_rounds

NUM_VALUES = 4
VALUES = arrays(np.float32, NUM_VALUES, elements=st.floats(-100, 100, width=32))
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=5)


def _update(site: str, own: np.ndarray, change: np.ndarray) -> AdmittedUpdate:
    both = np.concatenate([own, change]).astype(np.float32)
    return AdmittedUpdate(site=site, num_examples=5, parameters=both, update_norm=0.0)


@settings(deadline=None, max_examples=40)
@given(
    pairs=PAIRS,
    base=VALUES,
    control=VALUES,
    absent=st.integers(0, 3),
    rate=st.sampled_from([1.0, 0.3]),
)
def test_the_server_step_equals_the_slow_reference(
    pairs: list[tuple[np.ndarray, np.ndarray]],
    base: np.ndarray,
    control: np.ndarray,
    absent: int,
    rate: float,
) -> None:
    num_sites = len(pairs) + absent
    values, state = Scaffold(num_sites=num_sites, server_learning_rate=rate).aggregate(
        [_update(f"site-{i}", *pair) for i, pair in enumerate(pairs)],
        base=base,
        state={CONTROL: control},
        round_number=2,
    )
    for place in range(NUM_VALUES):
        expected = slow_scaffold(
            [float(own[place]) for own, _ in pairs],
            [float(change[place]) for _, change in pairs],
            float(base[place]),
            float(control[place]),
            num_sites=num_sites,
            rate=rate,
        )
        found = (float(values[place]), float(state[CONTROL][place]))
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_a_step_by_hand() -> None:
    two = [
        _update("a", np.array([2.0]), np.array([1.0])),
        _update("b", np.array([4.0]), np.array([2.0])),
    ]
    base = np.ones(1, np.float32)
    values, state = Scaffold(num_sites=4, server_learning_rate=0.5).aggregate(
        two, base=base, state={}, round_number=1
    )
    # The mean is 3, half of the way to it 2; c moves by (1 + 2) / 4.
    assert (values.tolist(), state[CONTROL].tolist()) == ([2.0], [0.75])


def test_sites_count_the_same_whatever_their_patients() -> None:
    few, many = (
        _update("a", np.zeros(1), np.zeros(1)),
        _update("b", np.ones(1), np.ones(1)),
    )
    weighty = AdmittedUpdate(**{**vars(many), "num_examples": 1000})
    values, _ = Scaffold(num_sites=2).aggregate(
        [few, weighty], base=np.zeros(1, np.float32), state={}, round_number=1
    )
    assert values.tolist() == [0.5]


def test_the_rounds_of_the_sites_are_remembered() -> None:
    strategy, base = Scaffold(num_sites=3), np.zeros(1, np.float32)
    state: dict[str, np.ndarray] = {}
    for number, sites in ((1, "ab"), (2, "b"), (3, "ac")):
        updates = [_update(site, np.zeros(1), np.zeros(1)) for site in sites]
        _, kept = strategy.aggregate(
            updates, base=base, state=state, round_number=number
        )
        state = dict(kept)
    assert last_rounds(state) == {"a": 3, "b": 2, "c": 3}


def test_a_request_carries_a_control_of_zero_at_first() -> None:
    base = np.array([1.0, 2.0], np.float32)
    sent = with_control(base, {})
    assert sent.tolist() == [1.0, 2.0, 0.0, 0.0]
    assert [half.tolist() for half in halves(sent)] == [[1.0, 2.0], [0.0, 0.0]]


def test_an_odd_length_is_no_two_vectors() -> None:
    with pytest.raises(ValueError, match="3 values"):
        halves(np.zeros(3, np.float32))


def test_an_update_of_one_vector_is_a_mistake() -> None:
    one = AdmittedUpdate(
        site="a", num_examples=1, parameters=np.zeros(2, np.float32), update_norm=0.0
    )
    with pytest.raises(ValueError, match="the update has 2 values; expected 4"):
        Scaffold(num_sites=1).aggregate(
            [one], base=np.zeros(2, np.float32), state={}, round_number=1
        )


@settings(deadline=None, max_examples=40)
@given(
    gradients=st.lists(VALUES, min_size=1, max_size=6),
    control=VALUES,
    own=VALUES,
    start=VALUES,
)
def test_the_next_control_is_the_mean_of_the_sites_own_gradients(
    gradients: list[np.ndarray],
    control: np.ndarray,
    own: np.ndarray,
    start: np.ndarray,
) -> None:
    rates = np.linspace(0.5, 1.5, len(gradients))
    end = start.astype(np.float64)
    for rate, gradient in zip(rates, gradients, strict=True):
        end = end - rate * (gradient + correction_of(control, own))
    found = next_control(
        own,
        control,
        start=start,
        end=end.astype(np.float32),
        learning_rates=float(rates.sum()),
    )
    expected = np.average(gradients, axis=0, weights=rates)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_site_that_kept_no_step_keeps_its_control() -> None:
    own, zero = np.array([3.0], np.float32), np.zeros(1, np.float32)
    kept = next_control(own, zero, start=zero, end=zero, learning_rates=0.0)
    assert kept.tolist() == [3.0]


# Two sites, f_i(x) = a_i / 2 (x - b_i)^2: the optimum of their mean is
# sum(a_i b_i) / sum(a_i).
STEEPNESS = np.array([1.0, 8.0])
CENTRES = np.array([4.0, -1.0])
OPTIMUM = float((STEEPNESS * CENTRES).sum() / STEEPNESS.sum())
NUM_STEPS, RATE = 10, 0.05


def _local_steps(x: float, site: int, correction: float) -> float:
    for _ in range(NUM_STEPS):
        x -= RATE * (STEEPNESS[site] * (x - CENTRES[site]) + correction)
    return x


def _train(num_rounds: int, *, with_scaffold: bool) -> float:
    """Train in federation with several local steps on the two losses."""
    strategy = Scaffold(num_sites=2)
    base = np.zeros(1, np.float32)
    state: NamedArrays = {}
    own = [np.zeros(1, np.float32), np.zeros(1, np.float32)]
    for number in range(1, num_rounds + 1):
        _, control = halves(with_control(base, state))
        updates = []
        for site in range(2):
            correction = correction_of(control, own[site]) if with_scaffold else [0.0]
            end = np.array(
                [_local_steps(float(base[0]), site, float(correction[0]))], np.float32
            )
            new = own[site]
            if with_scaffold:
                new = next_control(
                    own[site],
                    control,
                    start=base,
                    end=end,
                    learning_rates=NUM_STEPS * RATE,
                )
            updates.append(_update(f"site-{site}", end, new - own[site]))
            own[site] = new
        base, state = strategy.aggregate(
            updates, base=base, state=state, round_number=number
        )
    return float(base[0])


def test_it_reaches_the_optimum_where_averaging_does_not() -> None:
    assert _train(60, with_scaffold=True) == pytest.approx(OPTIMUM, abs=1e-4)
    assert abs(_train(60, with_scaffold=False) - OPTIMUM) > 0.3


def test_averaging_stands_still_beside_the_optimum() -> None:
    assert _train(60, with_scaffold=False) == pytest.approx(
        _train(120, with_scaffold=False), abs=1e-5
    )
