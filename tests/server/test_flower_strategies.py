import logging
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from references.slow_strategies import (
    slow_adaptive,
    slow_mean,
    slow_median,
    slow_momentum,
    slow_trimmed_mean,
)
from references.strategy_updates import (
    EVERY_STRATEGY,
    aggregate,
    make_plan,
    update_of,
    with_second_half,
)

from acf_server.flower_strategies import (
    FlowerAdaptive,
    FlowerMedian,
    FlowerMomentum,
    FlowerTrimmedMean,
)
from acf_server.strategies import RunStrategy
from acfnet_core.errors import ProtocolError
from acfnet_core.federation import blocks
from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.aggregation import Weighing
from acfnet_core.federation.parameters import NamedArrays
from acfnet_core.federation.strategies.strategy import Strategy

NUM_VALUES = 7
VALUES = arrays(np.float32, NUM_VALUES, elements=st.floats(-100, 100, width=32))
SEVERAL = st.lists(VALUES, min_size=3, max_size=7)
NAMES = sorted(EVERY_STRATEGY)
AVERAGING = ["fedavg", "fedprox", "median", "trimmed_mean", "multi_krum", "scaffold"]
"""Those whose next model lies between the sites' parameters."""
ADAPTIVE = ["fedadam", "fedyogi", "fedadagrad"]
RATE, TAU, MOMENTUM = 0.05, 1e-2, 0.7
NOTHING: NamedArrays = {}

Slow = Callable[[Sequence[float], float, Mapping[str, float], int], tuple[float, Any]]


def updates_of(vectors: Sequence[Any] | np.ndarray) -> list[AdmittedUpdate]:
    return [
        update_of(f"site-{i}", vector, num_examples=i + 1)
        for i, vector in enumerate(vectors)
    ]


def adaptive(name: Any) -> FlowerAdaptive:
    return FlowerAdaptive(name=name, weighing=Weighing(), learning_rate=RATE, tau=TAU)


def momentum(share: float = MOMENTUM, rate: float = RATE) -> FlowerMomentum:
    return FlowerMomentum(weighing=Weighing(), learning_rate=rate, momentum=share)


def shares_of(num_sites: int) -> list[float]:
    return Weighing().shares(updates_of([np.zeros(1)] * num_sites))


def assert_equals_the_slow(
    strategy: Strategy, slow: Slow, vectors: Sequence[np.ndarray], base: np.ndarray
) -> None:
    """Compare two rounds, of which the second goes on from what the first kept."""
    values, state = base, NOTHING
    known: list[Mapping[str, float]] = [{}] * base.size
    expected = [float(value) for value in base]
    for number in (1, 2):
        values, state = strategy.aggregate(
            updates_of(vectors), base=values, state=state, round_number=number
        )
        for place in range(base.size):
            sites = [float(vector[place]) for vector in vectors]
            expected[place], known[place] = slow(
                sites, expected[place], known[place], number
            )
    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=2e-5)
    for name in state:
        slow_state = np.array([entry[name] for entry in known])
        np.testing.assert_allclose(state[name], slow_state, rtol=2e-4, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(vectors=SEVERAL, base=VALUES, share=st.sampled_from([0.0, MOMENTUM]))
def test_momentum_equals_the_slow_reference(
    vectors: list[np.ndarray], base: np.ndarray, share: float
) -> None:
    def slow(
        sites: Sequence[float], before: float, known: Mapping[str, float], number: int
    ) -> tuple[float, Any]:
        del number
        mean = slow_mean(sites, shares_of(len(sites)))
        return slow_momentum(mean, before, known, rate=RATE, momentum=share)

    assert_equals_the_slow(momentum(share), slow, vectors, base)


@pytest.mark.parametrize("name", ADAPTIVE)
@settings(deadline=None, max_examples=15)
@given(vectors=SEVERAL, base=VALUES)
def test_an_adaptive_step_equals_the_slow_reference(
    name: str, vectors: list[np.ndarray], base: np.ndarray
) -> None:
    def slow(
        sites: Sequence[float], before: float, known: Mapping[str, float], number: int
    ) -> tuple[float, Any]:
        mean = slow_mean(sites, shares_of(len(sites)))
        return slow_adaptive(
            mean, before, known, name=name, round_number=number, rate=RATE, tau=TAU
        )

    assert_equals_the_slow(adaptive(name), slow, vectors, base)


@settings(deadline=None, max_examples=40)
@given(vectors=SEVERAL)
def test_the_median_equals_the_slow_reference(vectors: list[np.ndarray]) -> None:
    values, _ = FlowerMedian().aggregate(
        updates_of(vectors), base=vectors[0], state={}, round_number=1
    )
    expected = [
        slow_median([float(vector[place]) for vector in vectors])
        for place in range(NUM_VALUES)
    ]
    np.testing.assert_array_equal(values, np.array(expected, dtype=np.float32))


@settings(deadline=None, max_examples=40)
@given(vectors=SEVERAL, share=st.sampled_from([0.34, 0.4, 0.49]))
def test_the_trimmed_mean_equals_the_slow_reference(
    vectors: list[np.ndarray], share: float
) -> None:
    values, _ = FlowerTrimmedMean(share).aggregate(
        updates_of(vectors), base=vectors[0], state={}, round_number=1
    )
    num_trimmed = int(share * len(vectors))
    expected = [
        slow_trimmed_mean([float(vector[place]) for vector in vectors], num_trimmed)
        for place in range(NUM_VALUES)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)


# By hand: the mean of 1 and 3 is 2, the update 1.
GOLDEN = {
    # m = 0.1, v = 0.01; the rate 0.05 sqrt(1 - 0.99^2) / (1 - 0.9^2) = 0.0371231062.
    "fedadam": (1.0 + 0.0371231062 * 0.1 / (0.1 + 0.01), {"m_t": 0.1, "v_t": 0.01}),
    "fedyogi": (1.0 + 0.05 * 0.1 / (0.1 + 0.01), {"m_t": 0.1, "v_t": 0.01}),
    "fedadagrad": (1.0 + 0.05 * 1.0 / (1.0 + 0.01), {"m_t": 1.0, "v_t": 1.0}),
    "fedavgm": (1.05, {"momentum": -1.0}),
    "median": (2.0, {}),
}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_first_step_by_hand(name: str) -> None:
    strategies: dict[str, Strategy] = {"fedavgm": momentum(), "median": FlowerMedian()}
    strategy = strategies.get(name) or adaptive(name)
    two = [update_of("a", [1.0]), update_of("b", [3.0])]
    base = np.ones(1, np.float32)
    values, state = strategy.aggregate(two, base=base, state={}, round_number=1)
    expected, kept = GOLDEN[name]
    assert values[0] == pytest.approx(expected, rel=1e-6)
    assert {key: float(state[key][0]) for key in state} == pytest.approx(kept)


def test_an_outlier_moves_neither_median_nor_trimmed_mean() -> None:
    good = [[1.0, 2.0], [1.1, 2.1], [0.9, 1.9], [1.0, 2.0]]
    five = [*good, [1e9, -1e9]]
    for strategy in (FlowerMedian(), FlowerTrimmedMean(0.2)):
        values, _ = strategy.aggregate(
            updates_of([np.array(v) for v in five]),
            base=np.zeros(2, np.float32),
            state={},
            round_number=1,
        )
        np.testing.assert_allclose(values, [1.0, 2.0], atol=0.11)


# Every strategy, as a plan makes it.


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=10)
@given(vectors=SEVERAL, base=VALUES, data=st.data())
def test_the_order_of_updates_does_not_matter_to_the_last_bit(
    name: str, vectors: list[np.ndarray], base: np.ndarray, data: st.DataObject
) -> None:
    updates = updates_of(vectors)
    shuffled = data.draw(st.permutations(updates))
    one, state = aggregate(name, updates, base)
    other, same = aggregate(name, shuffled, base)
    assert one.tobytes() == other.tobytes()
    assert bytes_of(state) == bytes_of(same)


@pytest.mark.parametrize("name", AVERAGING)
@settings(deadline=None, max_examples=10)
@given(vector=VALUES, base=VALUES, num_sites=st.integers(3, 6))
def test_identical_sites_are_that_site(
    name: str, vector: np.ndarray, base: np.ndarray, num_sites: int
) -> None:
    values, _ = aggregate(name, updates_of([vector] * num_sites), base)
    np.testing.assert_array_max_ulp(values, vector, maxulp=1)


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "scaffold"])
@settings(deadline=None, max_examples=10)
@given(vector=VALUES, base=VALUES)
def test_one_site_is_that_site_to_the_last_bit(
    name: str, vector: np.ndarray, base: np.ndarray
) -> None:
    values, _ = aggregate(name, updates_of([vector]), base)
    assert values.tobytes() == vector.tobytes()


def test_the_median_of_one_site_is_that_site_to_the_last_bit() -> None:
    vector = np.array([1.5, -2.0, 3e-39], np.float32)
    values, _ = FlowerMedian().aggregate(
        updates_of([vector]), base=vector, state={}, round_number=1
    )
    assert values.tobytes() == vector.tobytes()


@pytest.mark.parametrize("name", sorted({*NAMES} - {"multi_krum"}))
@settings(deadline=None, max_examples=10)
@given(vectors=SEVERAL, base=VALUES, order=st.permutations(range(NUM_VALUES)))
def test_permuted_coordinates_give_the_permuted_model(
    name: str, vectors: list[np.ndarray], base: np.ndarray, order: list[int]
) -> None:
    values, _ = aggregate(name, updates_of(vectors), base)
    permuted, _ = aggregate(name, updates_of([v[order] for v in vectors]), base[order])
    np.testing.assert_array_equal(permuted, values[order])


@pytest.mark.parametrize("name", NAMES)
def test_updates_that_change_nothing_leave_the_model(name: str) -> None:
    base = np.linspace(-1, 1, NUM_VALUES, dtype=np.float32)
    values, _ = aggregate(name, updates_of([base] * 4), base)
    np.testing.assert_allclose(values, base, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_remembered_is_all_that_the_next_round_needs(name: str) -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(size=NUM_VALUES).astype(np.float32)
    rounds = [updates_of(rng.normal(size=(4, NUM_VALUES))) for _ in range(3)]
    values, state = base, NOTHING
    for number, updates in enumerate(rounds, start=1):
        # As read back from the disk: bytes, and no object of the round before.
        copied = {key: state[key].copy() for key in state}
        again, _ = aggregate(
            name, updates, values.copy(), state=copied, round_number=number
        )
        values, state = aggregate(
            name, updates, values, state=state, round_number=number
        )
        assert again.tobytes() == values.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_size_of_the_blocks_does_not_matter(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    updates, base = updates_of(rng.normal(size=(4, 50))), np.zeros(50, np.float32)
    whole, _ = aggregate(name, updates, base)
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 12)
    cut, _ = aggregate(name, updates, base)
    assert cut.tobytes() == whole.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_neither_the_updates_nor_the_state_are_changed(name: str) -> None:
    rng = np.random.default_rng(5)
    updates, base = updates_of(rng.normal(size=(3, 5))), np.zeros(5, np.float32)
    _, state = aggregate(name, updates, base)
    before = (bytes_of(state), [u.parameters.tobytes() for u in updates], base.copy())
    aggregate(name, updates, base, state=state, round_number=2)
    assert bytes_of(state) == before[0]
    assert [u.parameters.tobytes() for u in updates] == before[1]
    assert base.tobytes() == before[2].tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_and_sent_is_float32(name: str) -> None:
    rng = np.random.default_rng(6)
    values, state = aggregate(
        name, updates_of(rng.normal(size=(3, 5))), np.zeros(5, np.float32)
    )
    assert {values.dtype, *(state[key].dtype for key in state)} == {np.dtype("f4")}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_logged_for_a_block(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    flower = logging.getLogger("flwr")
    before = flower.level
    with caplog.at_level(logging.DEBUG):
        flower.addHandler(caplog.handler)
        aggregate(name, updates_of(np.eye(3)), np.zeros(3, np.float32))
        flower.removeHandler(caplog.handler)
    assert caplog.records == []
    assert flower.level == before


@pytest.mark.parametrize("name", ["fedavgm", *ADAPTIVE, "scaffold"])
def test_a_step_that_overflows_is_refused(name: str) -> None:
    huge = np.full(2, 3e38, np.float32)
    with pytest.raises(ProtocolError, match=f"Round 4: strategy {name}") as caught:
        aggregate(
            name,
            updates_of([huge] * 3),
            -huge,
            server_learning_rate=9.0,
            round_number=4,
        )
    assert caught.value.code == "protocol.run_failed"


def test_a_state_of_another_model_is_a_mistake() -> None:
    state = {"momentum": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match="momentum has 3 values; expected 2"):
        momentum().aggregate(
            updates_of([np.zeros(2)]),
            base=np.zeros(2, np.float32),
            state=state,
            round_number=2,
        )


def test_a_trimmed_mean_that_trims_nobody_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"trimmed_share 0\.2 of 4 sites is nobody"):
        FlowerTrimmedMean(0.2).aggregate(
            updates_of(np.eye(4)),
            base=np.zeros(4, np.float32),
            state={},
            round_number=1,
        )


@pytest.mark.parametrize(
    "name", ["fedavg", "fedadam", "median", "multi_krum", "scaffold"]
)
def test_memory_does_not_grow_with_the_number_of_sites(
    name: str, tmp_path: Path
) -> None:
    num_values = 120_000
    rng = np.random.default_rng(7)
    path = tmp_path / "updates.f32"
    rng.normal(size=2 * num_values + 64).astype(np.float32).tofile(path)
    peaks = {}
    for num_sites in (4, 64):
        length = num_values * (2 if name == "scaffold" else 1)
        updates = [
            AdmittedUpdate(
                site=f"site-{number:02}",
                num_examples=10,
                parameters=np.memmap(
                    path, np.float32, mode="r", offset=4 * number, shape=length
                ),
                update_norm=0.0,
            )
            for number in range(num_sites)
        ]
        base = np.zeros(num_values, np.float32)
        strategy = RunStrategy(make_plan(name, num_sites))
        tracemalloc.start()
        strategy.aggregate(updates, base=base, state={}, round_number=1)
        peaks[num_sites] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # 64 sites have 61 MB in float64, of which a few blocks of 2 MB are held.
    assert max(peaks.values()) < 20e6, peaks


def bytes_of(state: NamedArrays) -> dict[str, bytes]:
    return {key: state[key].tobytes() for key in sorted(state)}


def test_a_second_half_is_given_to_scaffold_alone() -> None:
    update = update_of("a", [2.0, 4.0])
    assert with_second_half("fedavg", update) is update
    both = with_second_half("scaffold", update).parameters
    assert both.tolist() == [2.0, 4.0, 1.0, 2.0]
