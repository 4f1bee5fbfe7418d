import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from references.slow_strategies import as_lists, slow_krum_scores

from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.aggregation import Weighing
from acfnet_core.federation.strategies.multi_krum import (
    MultiKrum,
    krum_scores,
    squared_distances,
)

VECTORS = st.integers(3, 7).flatmap(
    lambda num_sites: arrays(
        np.float32, (num_sites, 5), elements=st.floats(-50, 50, width=32)
    )
)
BASE = np.zeros(5, np.float32)


def _updates(vectors: np.ndarray) -> list[AdmittedUpdate]:
    return [
        AdmittedUpdate(
            site=f"site-{i}", num_examples=i + 1, parameters=vector, update_norm=0.0
        )
        for i, vector in enumerate(vectors.astype(np.float32))
    ]


def _aggregate(
    vectors: np.ndarray, *, num_malicious: int, num_kept: int, cap: float = 1.0
) -> np.ndarray:
    strategy = MultiKrum(
        weighing=Weighing(cap=cap), num_malicious=num_malicious, num_kept=num_kept
    )
    values, state = strategy.aggregate(
        _updates(vectors), base=BASE, state={}, round_number=1
    )
    assert dict(state) == {}
    return values


@settings(deadline=None, max_examples=50)
@given(vectors=VECTORS, data=st.data())
def test_scores_equal_the_slow_reference(
    vectors: np.ndarray, data: st.DataObject
) -> None:
    num_malicious = data.draw(st.integers(0, len(vectors) - 3))
    scores = krum_scores(squared_distances(list(vectors)), num_malicious=num_malicious)
    expected = slow_krum_scores(as_lists(vectors), num_malicious)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-9)


def test_near_updates_keep_their_distance() -> None:
    # As inner products, 1e8 + 1e8 - 2e8, the distance would be lost.
    far = np.full(5, 1e4, np.float32)
    near = np.nextafter(far, np.float32(np.inf))
    gap = float(near[0]) - float(far[0])
    distance = squared_distances([far, near])[0, 1]
    assert distance == pytest.approx(5 * gap**2, rel=1e-12)


def test_the_site_that_lies_apart_is_left_out() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(6, 5)).astype(np.float32)
    vectors[3] += 100.0
    values = _aggregate(vectors, num_malicious=1, num_kept=5)
    weights = np.array([1, 2, 3, 5, 6]) / 17
    np.testing.assert_allclose(
        values, weights @ np.delete(vectors, 3, axis=0), rtol=1e-5, atol=1e-6
    )


def test_krum_is_one_sites_update_to_the_last_bit() -> None:
    vectors = np.random.default_rng(3).normal(size=(5, 5)).astype(np.float32)
    values = _aggregate(vectors, num_malicious=1, num_kept=1)
    assert values.tobytes() in {vector.tobytes() for vector in vectors}


def test_of_equal_scores_the_first_by_name_is_kept() -> None:
    vectors = np.array([[1.0] * 5, [-1.0] * 5, [0.0] * 5]).repeat(2, axis=0)
    values = _aggregate(vectors, num_malicious=0, num_kept=1)
    assert values.tolist() == [0.0] * 5


def test_permuted_coordinates_give_the_permuted_model() -> None:
    vectors = np.random.default_rng(4).normal(size=(6, 5)).astype(np.float32)
    order = [3, 1, 4, 0, 2]
    values = _aggregate(vectors, num_malicious=1, num_kept=3)
    permuted = _aggregate(vectors[:, order], num_malicious=1, num_kept=3)
    np.testing.assert_array_equal(permuted, values[order])


def test_those_kept_are_capped() -> None:
    vectors = np.zeros((3, 5), np.float32)
    vectors[:, 0] = [0.0, 0.1, 1.0]
    values = _aggregate(vectors, num_malicious=0, num_kept=3, cap=1 / 3)
    assert values[0] == pytest.approx(1.1 / 3)


def test_too_few_updates_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="4 updates; num_malicious 1 and num_kept 2"):
        _aggregate(np.zeros((4, 5)), num_malicious=1, num_kept=2)


def test_scores_of_too_few_sites_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="3 sites; num_malicious is 1"):
        krum_scores(np.zeros((3, 3)), num_malicious=1)
