"""Patient-level bootstrap intervals of any figure, and paired differences.

A resample is given as how often each patient was drawn. A figure is a function of such
counts that answers for all resamples at once, so 500 resamples of a concordance cost
two matrix products. With all counts 1 it is the estimate itself.

Axes: `resample`, `patient`.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from acfnet_core.evaluation.verdict import Interval

Statistic = Callable[[Float[np.ndarray, "resample patient"]], np.ndarray]
"""From counts [resample, patient] to figures [resample]; NaN where undefined."""

LEVEL = 0.95
_MIN_SHARE_DEFINED = 0.5


def draw_resamples(
    num_patients: int, num_resamples: int, seed: int
) -> Float[np.ndarray, "resample patient"]:
    """Draw `num_patients` patients with replacement, `num_resamples` times.

    Returns:
        How often each patient is in each resample; every row sums to `num_patients`.

    Raises:
        ValueError: There is no patient, or the number of resamples is negative.
    """
    if num_patients < 1 or num_resamples < 0:
        raise ValueError(
            f"num_patients is {num_patients} and num_resamples {num_resamples}; "
            "expected at least 1 and 0."
        )
    generator = np.random.default_rng(seed)
    equal = np.full(num_patients, 1.0 / num_patients)
    counts = generator.multinomial(num_patients, equal, size=num_resamples)
    return counts.astype(np.float64)


def estimate_interval(
    statistic: Statistic, counts: Float[np.ndarray, "resample patient"]
) -> Interval | None:
    """Estimate a figure on all patients, with its 95 % percentile interval.

    Resamples in which the figure is undefined are left out and counted. If that is more
    than half of them, or there are none, or there is one patient (whose resamples are
    all alike), the interval is undetermined and only the estimate is given.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13.

    Returns:
        None when the figure is undefined on the patients themselves.
    """
    estimate = float(statistic(np.ones((1, counts.shape[1])))[0])
    if not np.isfinite(estimate):
        return None
    values = statistic(counts)
    defined = values[np.isfinite(values)]
    num_skipped = int(values.size - defined.size)
    is_too_small = counts.shape[1] < 2 or defined.size == 0
    if is_too_small or defined.size < _MIN_SHARE_DEFINED * values.size:
        return Interval(estimate=estimate, num_skipped=num_skipped)
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return Interval(
        estimate=estimate, low=float(low), high=float(high), num_skipped=num_skipped
    )


def difference(first: Statistic, second: Statistic) -> Statistic:
    """Subtract two figures resample by resample: the paired difference."""

    def subtract(counts: Float[np.ndarray, "resample patient"]) -> np.ndarray:
        return first(counts) - second(counts)

    return subtract


def on_subset(statistic: Statistic, keep: Bool[np.ndarray, " patient"]) -> Statistic:
    """Let a figure of the patients in `keep` take the counts of all patients."""

    def restrict(counts: Float[np.ndarray, "resample patient"]) -> np.ndarray:
        return statistic(counts[:, keep])

    return restrict
