"""Calibration: do as many patients fail as were predicted to?

Axes: `patient`; `resample` bootstrap resamples as counts.
"""

import numpy as np
from jaxtyping import Bool, Float

from acfnet_core.evaluation.bootstrap import Statistic
from acfnet_core.evaluation.kaplan_meier import (
    estimate_kaplan_meier,
    resampled_survival,
)
from acfnet_core.evaluation.outcomes import check_outcomes
from acfnet_core.evaluation.risk_groups import group_with_minimum
from acfnet_core.evaluation.verdict import CalibrationBin, Interval
from acfnet_core.time_units import MONTHS_PER_YEAR

MAX_GROUPS = 5


def calibration_bins(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    predicted: Float[np.ndarray, " patient"],
    *,
    year: int,
    minimum_cell: int,
) -> list[CalibrationBin]:
    """Compare predicted and observed probabilities in groups of predicted risk.

    Args:
        time_months: Time to event or censoring.
        event: True where the event was observed.
        predicted: Predicted probability of the event by the end of `year`.
        year: The horizon.
        minimum_cell: No group is smaller; with few patients there are fewer groups.

    Returns:
        Up to five groups, lowest risk first; none when all patients are too few.

    Raises:
        ValueError: The outcomes are not usable.
    """
    check_outcomes(time_months, event)
    label = group_with_minimum(predicted, MAX_GROUPS, minimum_cell)
    if label is None:
        return []
    bins = []
    for group in range(int(label.max()) + 1):
        inside = label == group
        bins.append(
            CalibrationBin(
                year=year,
                group=group + 1,
                num_patients=int(inside.sum()),
                predicted=float(predicted[inside].mean()),
                observed=observed_probability(
                    time_months[inside], event[inside], year * MONTHS_PER_YEAR
                ),
            )
        )
    return bins


def observed_probability(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    at_months: float,
) -> Interval | None:
    """Estimate the probability of an event by `at_months` (1 - Kaplan-Meier).

    Returns:
        The probability with its log-log Greenwood interval; None when nobody is at risk
        any more, since the data then say nothing about that time.
    """
    curve = estimate_kaplan_meier(time_months, event)
    months = np.array([at_months])
    if curve.num_at_risk(months)[0] == 0:
        return None
    low, high = curve.interval_at(months)
    determined = not np.isnan(low[0])
    return Interval(
        estimate=float(1.0 - curve.at(months)[0]),
        low=float(1.0 - high[0]) if determined else None,
        high=float(1.0 - low[0]) if determined else None,
    )


def observed_expected_statistic(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    predicted: Float[np.ndarray, " patient"],
    at_months: float,
) -> Statistic:
    """Make observed / expected probability by `at_months` a figure to bootstrap.

    Observed is 1 - Kaplan-Meier of the resample, expected the mean prediction in it;
    NaN where nobody is at risk at that time or nothing was expected.

    Source: McLernon et al. 2023, Ann Intern Med 176:105, mean calibration at a fixed
    time.
    """

    def ratio(counts: Float[np.ndarray, "resample patient"]) -> np.ndarray:
        observed = 1.0 - resampled_survival(time_months, event, counts, at_months)
        expected = (counts @ predicted) / counts.sum(axis=1)
        defined = expected > 0
        return np.where(defined, observed / np.where(defined, expected, 1.0), np.nan)

    return ratio
