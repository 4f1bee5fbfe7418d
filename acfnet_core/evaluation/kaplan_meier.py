"""The Kaplan-Meier estimator, its intervals, and the distribution of censoring.

Axes: `step` distinct observed times, ascending; `query` times asked for; `resample`
bootstrap resamples, given as how often each patient was drawn.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtri

from acfnet_core.evaluation.outcomes import check_outcomes

_NORMAL_QUANTILE = float(ndtri(0.975))


@dataclass(frozen=True, kw_only=True)
class KaplanMeierCurve:
    """A right-continuous step function that is 1 before its first step."""

    time_months: Float[np.ndarray, " step"]
    survival: Float[np.ndarray, " step"]
    low: Float[np.ndarray, " step"]
    """Lower 95 % bound, log-log; NaN where the survival is exactly 1 or 0."""
    high: Float[np.ndarray, " step"]
    num_events: Int[np.ndarray, " step"]
    at_risk: Int[np.ndarray, " step"]
    """Patients not yet seen to fail or be censored just before the step."""

    def at(self, months: Float[np.ndarray, " query"]) -> Float[np.ndarray, " query"]:
        """Evaluate the curve; it stays flat behind its last step."""
        return self._lookup(self.survival, months)

    def interval_at(
        self, months: Float[np.ndarray, " query"]
    ) -> tuple[Float[np.ndarray, " query"], Float[np.ndarray, " query"]]:
        """Evaluate the lower and upper 95 % bounds; NaN where undetermined."""
        before = np.where(months <= 0, 1.0, np.nan)
        low, high = (
            np.where(months < self.time_months[0], before, self._lookup(bound, months))
            for bound in (self.low, self.high)
        )
        return low, high

    def num_at_risk(
        self, months: Float[np.ndarray, " query"]
    ) -> Int[np.ndarray, " query"]:
        """Count the patients whose observed time is `months` or later."""
        step = np.searchsorted(self.time_months, months, side="left")
        return np.append(self.at_risk, 0)[step]

    def median_months(self) -> float | None:
        """Return the first time at which the curve is at or below 0.5, if there is one.

        As in Kalbfleisch & Prentice; where the curve is 0.5 over a stretch, the start
        of the stretch.
        """
        # The tolerance keeps products such as 0.75 * 2/3 at 0.5.
        below = np.flatnonzero(self.survival <= 0.5 + 1e-12)
        return float(self.time_months[below[0]]) if below.size else None

    def _lookup(
        self, values: Float[np.ndarray, " step"], months: Float[np.ndarray, " query"]
    ) -> Float[np.ndarray, " query"]:
        step = np.searchsorted(self.time_months, months, side="right")
        return np.concatenate([[1.0], values])[step]


def estimate_kaplan_meier(
    time_months: Float[np.ndarray, " patient"], event: Bool[np.ndarray, " patient"]
) -> KaplanMeierCurve:
    """Estimate the probability of no event by each time.

    S(t) = prod over t_i <= t of (1 - d_i / n_i), with Greenwood's variance and
    intervals on the log(-log S) scale, so that they stay within 0 and 1.

    Source: Kaplan & Meier 1958, J Am Stat Assoc 53:457; Kalbfleisch & Prentice 2002,
    The Statistical Analysis of Failure Time Data, eq. 1.13-1.14.

    Raises:
        ValueError: The outcomes are not usable.
    """
    check_outcomes(time_months, event)
    steps, at_risk, num_events = _count(time_months, event)
    return _curve(steps, at_risk, num_events, at_risk)


def estimate_censoring(
    time_months: Float[np.ndarray, " patient"], event: Bool[np.ndarray, " patient"]
) -> KaplanMeierCurve:
    """Estimate G(t), the probability of not being censored by t.

    At a time with both, events are taken to precede censorings: a patient with an event
    at t is no longer at risk of being censored at t.

    Source: Kaplan & Meier 1958, J Am Stat Assoc 53:457, with events and censorings in
    each other's place; ties are treated as in scikit-survival.

    Raises:
        ValueError: The outcomes are not usable.
    """
    check_outcomes(time_months, event)
    steps, at_risk, num_events = _count(time_months, event)
    _, _, num_censored = _count(time_months, ~event)
    return _curve(steps, at_risk - num_events, num_censored, at_risk)


def resampled_survival(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    counts: Float[np.ndarray, "resample patient"],
    at_months: float,
) -> Float[np.ndarray, " resample"]:
    """Estimate S(at_months) in every resample at once.

    Args:
        time_months: Time to event or censoring.
        event: True where the event was observed.
        counts: How often each patient is in each resample.
        at_months: The time asked for.

    Returns:
        The survival; NaN where no patient of the resample is followed to `at_months`.
    """
    order = np.argsort(time_months, kind="stable")
    starts = np.unique(time_months[order], return_index=True)[1]
    sorted_counts = counts[:, order]
    total = np.add.reduceat(sorted_counts, starts, axis=1)
    failed = np.add.reduceat(sorted_counts * event[order], starts, axis=1)
    at_risk = np.cumsum(total[:, ::-1], axis=1)[:, ::-1]
    past = time_months[order][starts] <= at_months
    factor = 1.0 - failed[:, past] / np.maximum(at_risk[:, past], 1.0)
    followed = counts[:, time_months >= at_months].sum(axis=1) > 0
    return np.where(followed, np.prod(factor, axis=1), np.nan)


def _count(
    time_months: Float[np.ndarray, " patient"], event: Bool[np.ndarray, " patient"]
) -> tuple[
    Float[np.ndarray, " step"], Int[np.ndarray, " step"], Int[np.ndarray, " step"]
]:
    """Return the distinct times, and how many are at risk and fail at each."""
    steps, place, total = np.unique(
        time_months.astype(np.float64), return_inverse=True, return_counts=True
    )
    num_events = np.bincount(place, weights=event, minlength=steps.size)
    at_risk = np.cumsum(total[::-1])[::-1]
    return steps, at_risk.astype(np.int64), num_events.astype(np.int64)


def _curve(
    steps: Float[np.ndarray, " step"],
    exposed: Int[np.ndarray, " step"],
    failed: Int[np.ndarray, " step"],
    at_risk: Int[np.ndarray, " step"],
) -> KaplanMeierCurve:
    """Multiply the factors up and put the log-log interval around them."""
    safe = np.maximum(exposed, 1)
    survival = np.cumprod(1.0 - failed / safe)
    open_interval = (survival > 0) & (survival < 1)
    remaining = np.where(exposed > failed, exposed - failed, 1)
    greenwood = np.cumsum(failed / (safe * remaining))
    log_survival = np.log(np.where(open_interval, survival, 0.5))
    spread = _NORMAL_QUANTILE * np.sqrt(greenwood) / log_survival
    low, high = (
        np.where(open_interval, np.exp(log_survival * np.exp(sign * spread)), np.nan)
        for sign in (-1.0, 1.0)
    )
    return KaplanMeierCurve(
        time_months=steps,
        survival=survival,
        low=low,
        high=high,
        num_events=failed,
        at_risk=at_risk,
    )
