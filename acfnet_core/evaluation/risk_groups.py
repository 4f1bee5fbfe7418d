"""Groups of patients by predicted risk, their curves, and the log-rank test.

Axes: `patient`; `step` distinct event times; `group`.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import chi2

from acfnet_core.evaluation.kaplan_meier import estimate_kaplan_meier
from acfnet_core.evaluation.outcomes import check_outcomes
from acfnet_core.evaluation.verdict import GroupCurve
from acfnet_core.time_units import MONTHS_PER_YEAR
from acfnet_core.withholding import withhold

THIRDS = ("lowest third of risk", "middle third of risk", "highest third of risk")
_DECIMALS = 9


def group_by_risk(
    risk: Float[np.ndarray, " patient"], num_groups: int
) -> Int[np.ndarray, " patient"]:
    """Cut patients at the quantiles of their risk; equal risks stay together.

    Args:
        risk: Predicted risk; compared to nine decimals.
        num_groups: How many groups to aim at. Ties can leave fewer, or uneven ones.

    Returns:
        0 for the lowest risk, then upwards, without gaps.
    """
    rounded = np.round(risk, _DECIMALS)
    shares = np.arange(1, num_groups) / num_groups
    # "higher" puts a cut on a patient, so that rounding cannot fall beside it.
    cuts = np.quantile(rounded, shares, method="higher")
    label = np.searchsorted(cuts, rounded, side="right")
    return np.unique(label, return_inverse=True)[1].astype(np.int64)


def group_with_minimum(
    risk: Float[np.ndarray, " patient"], num_groups: int, minimum_cell: int
) -> Int[np.ndarray, " patient"] | None:
    """Cut into as many groups, up to `num_groups`, as keep the minimum size.

    Returns:
        Labels as of `group_by_risk`, or None when all patients are too few.
    """
    for number in range(num_groups, 0, -1):
        label = group_by_risk(risk, number)
        if np.bincount(label).min() >= minimum_cell:
            return label
    return None


def log_rank_p(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    label: Int[np.ndarray, " patient"],
) -> float | None:
    """Test whether the groups have one and the same survival curve.

    Source: Kalbfleisch & Prentice 2002, The Statistical Analysis of Failure Time Data,
    section 1.4: observed minus expected events, with the hypergeometric covariance.

    Returns:
        The p-value, or None with fewer than two groups or without an event that could
        tell them apart.

    Raises:
        ValueError: The outcomes are not usable.
    """
    check_outcomes(time_months, event)
    groups = np.unique(label)
    steps = np.unique(time_months[event])
    if groups.size < 2 or steps.size == 0:
        return None
    member = (label[:, None] == groups[None, :]).astype(np.float64)
    at_risk = (time_months[None, :] >= steps[:, None]) @ member
    failed = ((time_months[None, :] == steps[:, None]) & event[None, :]) @ member
    all_at_risk = at_risk.sum(axis=1)
    all_failed = failed.sum(axis=1)
    share = at_risk / all_at_risk[:, None]
    excess = np.sum(failed - all_failed[:, None] * share, axis=0)
    spread = all_failed * (all_at_risk - all_failed) / np.maximum(all_at_risk - 1, 1)
    covariance = np.diag(spread @ share) - (share * spread[:, None]).T @ share
    if np.trace(covariance) <= 0:
        return None
    # The groups' excesses sum to 0: drop one. A group that nobody at risk is ever in
    # leaves the rest singular, hence the pseudo-inverse.
    excess, covariance = excess[:-1], covariance[:-1, :-1]
    statistic = float(excess @ np.linalg.pinv(covariance, hermitian=True) @ excess)
    return float(chi2.sf(statistic, groups.size - 1))


def draw_group_curves(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    label: Int[np.ndarray, " patient"],
    minimum_cell: int,
) -> list[GroupCurve]:
    """Estimate the curve of each third that has at least `minimum_cell` patients.

    Args:
        time_months: Time to event or censoring.
        event: True where the event was observed.
        label: 0, 1, 2 for the thirds, as of `group_by_risk`.
        minimum_cell: Smaller groups are left out.
    """
    return [
        _draw_curve(time_months[inside], event[inside], THIRDS[group], minimum_cell)
        for group in np.unique(label)
        if np.sum(inside := label == group) >= minimum_cell
    ]


def _draw_curve(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    name: str,
    minimum_cell: int,
) -> GroupCurve:
    """Evaluate one curve at whole months, so that no patient's own time shows."""
    curve = estimate_kaplan_meier(time_months, event)
    months = np.arange(0.0, np.floor(time_months.max()) + 1.0)
    low, high = curve.interval_at(months)
    times_at_risk = months[months % MONTHS_PER_YEAR == 0]
    counts = curve.num_at_risk(times_at_risk)
    return GroupCurve(
        label=name,
        num_patients=int(time_months.size),
        num_events=int(event.sum()),
        time_months=months.tolist(),
        survival=curve.at(months).tolist(),
        low=[None if np.isnan(bound) else float(bound) for bound in low],
        high=[None if np.isnan(bound) else float(bound) for bound in high],
        times_at_risk=times_at_risk.tolist(),
        at_risk=[withhold(int(n), minimum=minimum_cell) for n in counts],
    )
