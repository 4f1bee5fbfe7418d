import numpy as np
import pytest

from acfnet_core.evaluation.temporal_adjacency import (
    temporal_adjacency_accuracy,
    year_of,
)

EDGES = np.arange(1, 17) * 6.0


def curve_with_median(months: float) -> np.ndarray:
    return np.exp(-np.log(2.0) / months * EDGES)


def test_years_close_at_their_end() -> None:
    months = np.array([0.0, 0.1, 12.0, 12.1, 24.0])
    assert year_of(months).tolist() == [1, 1, 1, 2, 2]


def test_only_events_count_and_one_year_off_is_adjacent() -> None:
    time = np.array([10.0, 30.0, 70.0, 5.0])
    event = np.array([True, True, True, False])
    survival = np.stack([curve_with_median(m) for m in (20.0, 30.0, 30.0, 90.0)])
    found = temporal_adjacency_accuracy(time, event, survival, EDGES)
    assert found is not None
    assert found.num_patients == 3
    assert found.value == pytest.approx(2 / 3)


def test_the_best_constant_year_stands_beside_it() -> None:
    time = np.array([6.0, 18.0, 30.0, 80.0])
    survival = np.stack([curve_with_median(20.0)] * 4)
    found = temporal_adjacency_accuracy(time, np.ones(4, dtype=bool), survival, EDGES)
    assert found is not None
    assert (found.best_constant_year, found.best_constant) == (2, 0.75)


def test_predicting_the_best_constant_scores_the_best_constant() -> None:
    time = np.random.default_rng(3).exponential(25.0, 60)
    survival = np.stack([curve_with_median(18.0)] * 60)
    found = temporal_adjacency_accuracy(time, np.ones(60, dtype=bool), survival, EDGES)
    assert found is not None
    assert found.best_constant_year == 2
    assert found.value == found.best_constant


def test_a_median_beyond_the_last_year_is_a_miss() -> None:
    survival = np.full((1, 16), 0.9)
    found = temporal_adjacency_accuracy(
        np.array([95.0]), np.array([True]), survival, EDGES
    )
    assert found is not None
    assert found.value == 0.0


def test_without_events_there_is_no_figure() -> None:
    survival = np.full((1, 16), 0.9)
    nobody = np.array([False])
    found = temporal_adjacency_accuracy(np.array([95.0]), nobody, survival, EDGES)
    assert found is None
