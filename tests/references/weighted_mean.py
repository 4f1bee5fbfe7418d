"""Slow, obvious aggregation: exact fractions, one value and one site at a time."""

from collections.abc import Sequence
from fractions import Fraction


def slow_shares(num_examples: Sequence[int], cap: Fraction) -> list[Fraction]:
    """Fix the largest share above the limit, share out the rest, and look again."""
    limit = max(cap, Fraction(1, len(num_examples)))
    shares: dict[int, Fraction] = {}
    while len(shares) < len(num_examples):
        free = [i for i in range(len(num_examples)) if i not in shares]
        rest = 1 - sum(shares.values(), Fraction(0))
        patients = sum(num_examples[i] for i in free)
        largest = max(free, key=lambda i: num_examples[i])
        if rest * num_examples[largest] / patients <= limit:
            shares |= {i: rest * num_examples[i] / patients for i in free}
        else:
            shares[largest] = limit
    return [shares[i] for i in range(len(num_examples))]


def slow_weighted_mean(
    parameters: Sequence[Sequence[float]], shares: Sequence[Fraction]
) -> list[float]:
    """Return the exact mean of each value, rounded once to a Python float."""
    return [
        float(sum(s * Fraction(v) for s, v in zip(shares, values, strict=True)))
        for values in zip(*parameters, strict=True)
    ]
