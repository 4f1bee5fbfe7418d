"""Slow, obvious strategies: one coordinate and one site at a time, in Python's floats.

Each takes the sites' values at one coordinate. What a step remembers is a dictionary
of plain numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from statistics import fmean, median
from typing import Any

Remembered = Mapping[str, float]


def slow_mean(values: Sequence[float], shares: Sequence[float]) -> float:
    """Return the sum of share times value."""
    total = 0.0
    for value, share in zip(values, shares, strict=True):
        total += share * value
    return total


def slow_momentum(
    mean: float, before: float, known: Remembered, *, rate: float, momentum: float
) -> tuple[float, Remembered]:
    """Step against the pseudo-gradient; the momentum begins as the first one."""
    gradient = before - mean
    if momentum == 0.0:
        return before - rate * gradient, {}
    velocity = momentum * known["momentum"] + gradient if known else gradient
    return before - rate * velocity, {"momentum": velocity}


def slow_adaptive(
    mean: float,
    before: float,
    known: Remembered,
    *,
    name: str,
    round_number: int,
    rate: float,
    tau: float,
    beta_1: float = 0.9,
    beta_2: float = 0.99,
) -> tuple[float, Remembered]:
    """Take a step of FedAdam, FedYogi or FedAdagrad."""
    update = mean - before
    first, second = known.get("m_t", 0.0), known.get("v_t", 0.0)
    if name == "fedadagrad":
        first, second = update, second + update * update
    elif name == "fedadam":
        first = beta_1 * first + (1 - beta_1) * update
        second = beta_2 * second + (1 - beta_2) * update * update
        times = round_number + 1
        rate = rate * sqrt(1 - beta_2**times) / (1 - beta_1**times)
    else:
        first = beta_1 * first + (1 - beta_1) * update
        side = (second > update * update) - (second < update * update)
        second -= (1 - beta_2) * update * update * side
    after = before + rate * first / (sqrt(second) + tau)
    return after, {"m_t": first, "v_t": second}


def slow_median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two in the middle."""
    return median(values)


def slow_trimmed_mean(values: Sequence[float], num_trimmed: int) -> float:
    """Return the mean without the smallest and the largest."""
    ordered = sorted(values)
    return fmean(ordered[num_trimmed : len(ordered) - num_trimmed])


def slow_krum_scores(
    vectors: Sequence[Sequence[float]], num_malicious: int
) -> list[float]:
    """Return each vector's summed squared distances to its nearest others."""
    scores = []
    for index, one in enumerate(vectors):
        distances = []
        for other_index, other in enumerate(vectors):
            if other_index != index:
                pairs = zip(one, other, strict=True)
                distances.append(sum((a - b) ** 2 for a, b in pairs))
        num_nearest = len(vectors) - num_malicious - 2
        scores.append(sum(sorted(distances)[:num_nearest]))
    return scores


def slow_scaffold(
    site_values: Sequence[float],
    control_changes: Sequence[float],
    before: float,
    control: float,
    *,
    num_sites: int,
    rate: float,
) -> tuple[float, float]:
    """Return the next parameter and the next c."""
    moved = sum(value - before for value in site_values) / len(site_values)
    return before + rate * moved, control + sum(control_changes) / num_sites


def as_lists(vectors: Iterable[Any]) -> list[list[float]]:
    """Return the vectors as plain numbers."""
    return [[float(value) for value in vector] for vector in vectors]
