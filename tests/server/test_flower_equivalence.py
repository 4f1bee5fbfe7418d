"""Ours beside Flower's classes as they are: all sites' replies at once, no blocks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedTrimmedAvg,
    FedYogi,
    MultiKrum,
)
from flwr.serverapp.strategy.multikrum import select_multikrum
from hypothesis import given, settings
from hypothesis import strategies as st
from references.flower_task import be_a_flower_task
from references.strategy_updates import aggregate, update_of

from acfnet_core.federation import blocks
from acfnet_core.federation.parameters import NamedArrays

COUNTS = (3, 5, 4, 6, 2)
PAIRS: dict[str, tuple[Any, dict[str, Any]]] = {
    "fedavg": (FedAvg(), {}),
    "fedavgm": (
        FedAvgM(server_learning_rate=0.5, server_momentum=0.8),
        {"server_learning_rate": 0.5, "server_momentum": 0.8},
    ),
    "fedadam": (
        FedAdam(eta=0.05, beta_1=0.8, beta_2=0.95, tau=0.01),
        {"server_learning_rate": 0.05, "beta_1": 0.8, "beta_2": 0.95, "tau": 0.01},
    ),
    "fedyogi": (FedYogi(eta=0.05), {"server_learning_rate": 0.05}),
    "fedadagrad": (FedAdagrad(eta=0.05), {"server_learning_rate": 0.05}),
    "median": (FedMedian(), {}),
    "trimmed_mean": (FedTrimmedAvg(beta=0.2), {"trimmed_share": 0.2}),
    "multi_krum": (
        MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3),
        {"num_malicious": 1, "num_kept": 3},
    ),
}


def replies_of(vectors: Sequence[np.ndarray]) -> list[Message]:
    """Return the sites' replies, as wide as two arrays."""
    replies = []
    for vector, count in zip(vectors, COUNTS, strict=True):
        content = RecordDict(
            {"arrays": record_of(vector), "m": MetricRecord({"num-examples": count})}
        )
        replies.append(Message(content, dst_node_id=1, message_type="train"))
    return replies


def record_of(vector: np.ndarray) -> ArrayRecord:
    wide = vector.astype(np.float64)
    return ArrayRecord({"a": Array(wide[:3]), "b": Array(wide[3:])})


def flowers_rounds(rule: Any, rounds: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Let Flower's strategy remember by itself from round to round."""
    values = base.astype(np.float64)
    for number, vectors in enumerate(rounds, start=1):
        rule.current_arrays = (
            record_of(values)
            if isinstance(rule, FedAvgM)
            else {key: array.numpy() for key, array in record_of(values).items()}
        )
        arrays, _ = rule.aggregate_train(number, replies_of(list(vectors)))
        values = np.concatenate([arrays["a"].numpy(), arrays["b"].numpy()])
    return values


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_ours_goes_flowers_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    be_a_flower_task(monkeypatch)
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 8)
    rng = np.random.default_rng(11)
    base = rng.normal(size=9).astype(np.float32)
    rounds = rng.normal(size=(4, len(COUNTS), 9)).astype(np.float32)
    rule, own = PAIRS[name]
    weighted = name not in ("median", "trimmed_mean")
    values = base
    state: NamedArrays = {}
    for number, vectors in enumerate(rounds, start=1):
        updates = [
            update_of(f"site-{i}", vector, num_examples=COUNTS[i])
            for i, vector in enumerate(vectors)
        ]
        cap = {"max_share": 1.0} if weighted else {}
        values, state = aggregate(
            name, updates, values, state=state, round_number=number, **own, **cap
        )
    expected = flowers_rounds(rule, rounds, base)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    num_malicious=st.integers(0, 2),
    num_kept=st.integers(1, 5),
)
def test_krum_chooses_as_flower_does(
    seed: int, num_malicious: int, num_kept: int
) -> None:
    vectors = np.random.default_rng(seed).normal(size=(7, 6)).astype(np.float32)
    updates = [update_of(f"site-{i}", vector) for i, vector in enumerate(vectors)]
    values, _ = aggregate(
        "multi_krum",
        updates,
        np.zeros(6, np.float32),
        num_malicious=num_malicious,
        num_kept=num_kept,
    )
    chosen = flowers_choice(vectors, num_malicious, num_kept)
    np.testing.assert_allclose(values, vectors[chosen].mean(axis=0), atol=1e-6)


def flowers_choice(vectors: np.ndarray, num_malicious: int, num_kept: int) -> list[int]:
    """Return the places of the vectors that Flower's Multi-Krum would average."""
    contents = [RecordDict({"arrays": record_of(vector)}) for vector in vectors]
    chosen = select_multikrum(contents, num_malicious, num_kept)
    return [next(i for i, c in enumerate(contents) if c is one) for one in chosen]
