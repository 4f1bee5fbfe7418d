"""The Brier score of predicted survival under censoring, and its integral over time.

Every score is a mean over patients of a number that each patient has alone once the
censoring distribution is given. A bootstrap resample is then a weighted mean.

Axes: `patient`; `query` times, ascending.
"""

import numpy as np
from jaxtyping import Bool, Float

from acfnet_core.evaluation.bootstrap import Statistic
from acfnet_core.evaluation.discrimination import inverse_censoring_weight
from acfnet_core.evaluation.kaplan_meier import KaplanMeierCurve
from acfnet_core.evaluation.outcomes import check_outcomes

WINDOW_MONTHS = (6.0, 96.0)
STEP_MONTHS = 1.0


def brier_window(limit_months: float) -> Float[np.ndarray, " query"]:
    """Return the monthly grid of the integral, as far as the follow-up allows.

    Args:
        limit_months: The grid stays below this time.

    Returns:
        6, 7, ... 96 months, cut below the limit; empty when fewer than two remain.
    """
    grid = np.arange(WINDOW_MONTHS[0], WINDOW_MONTHS[1] + STEP_MONTHS, STEP_MONTHS)
    grid = grid[grid < limit_months]
    return grid if grid.size >= 2 else grid[:0]


def patient_brier(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    survival: Float[np.ndarray, "patient query"],
    months: Float[np.ndarray, " query"],
    *,
    censoring: KaplanMeierCurve,
) -> Float[np.ndarray, "patient query"]:
    """Compute each patient's weighted squared error at each time.

    (0 - S(t))^2 / G(time) after an event, (1 - S(t))^2 / G(t) before any, and 0 once
    censored; the mean over patients is the Brier score.

    Source: Graf et al. 1999, Stat Med 18:2529, section 4. As in scikit-survival, G is
    taken at the event and not just before it.

    Raises:
        ValueError: The outcomes are not usable, or G is 0 where it divides.
    """
    check_outcomes(time_months, event)
    uncensored = censoring.at(months)
    if np.any(uncensored <= 0):
        raise ValueError(
            "All training patients were censored before the last of the times; "
            "choose an earlier window."
        )
    failed = event[:, None] & (time_months[:, None] <= months[None, :])
    waiting = time_months[:, None] > months[None, :]
    ever_failed = event & (time_months <= months.max())
    weight = inverse_censoring_weight(time_months, ever_failed, censoring)
    after = failed * weight[:, None] * survival**2
    return after + waiting / uncensored[None, :] * (1.0 - survival) ** 2


def patient_integrated_brier(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    survival: Float[np.ndarray, "patient query"],
    months: Float[np.ndarray, " query"],
    *,
    censoring: KaplanMeierCurve,
) -> Float[np.ndarray, " patient"]:
    """Average each patient's weighted squared error over the window (trapezoids).

    The mean over patients is the integrated Brier score.

    Raises:
        ValueError: As for `patient_brier`, or there are fewer than two times.
    """
    if months.size < 2:
        raise ValueError(f"months has {months.size} times; an integral needs two.")
    scores = patient_brier(time_months, event, survival, months, censoring=censoring)
    return np.trapezoid(scores, months, axis=1) / (months[-1] - months[0])


def mean_statistic(values: Float[np.ndarray, " patient"]) -> Statistic:
    """Make the mean of a number per patient a figure that can be bootstrapped."""

    def mean(counts: Float[np.ndarray, "resample patient"]) -> np.ndarray:
        return (counts @ values) / counts.sum(axis=1)

    return mean


def scaled_statistic(
    values: Float[np.ndarray, " patient"], reference: Float[np.ndarray, " patient"]
) -> Statistic:
    """Make 1 - mean / mean of the reference a figure that can be bootstrapped.

    With integrated Brier scores it is the index of prediction accuracy.

    Source: Kattan & Gerds 2018, Diagn Progn Res 2:7, eq. 1.
    """

    def scale(counts: Float[np.ndarray, "resample patient"]) -> np.ndarray:
        total = counts @ reference
        share = (counts @ values) / np.where(total > 0, total, 1.0)
        return np.where(total > 0, 1.0 - share, np.nan)

    return scale
