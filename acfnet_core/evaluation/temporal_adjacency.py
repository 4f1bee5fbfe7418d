"""Temporal adjacency accuracy, never shown without the best constant answer.

Predicting one and the same year for everybody can score high, because most recurrences
come in the first years. The figure means something only beside that.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from acfnet_core.evaluation.outcomes import check_outcomes
from acfnet_core.evaluation.survival_curve import median_months
from acfnet_core.evaluation.verdict import TemporalAdjacency
from acfnet_core.time_units import MONTHS_PER_YEAR

NOTE = (
    "Patients with an event only. The predicted year is that of the median of the "
    "predicted distribution; a median beyond the last "
    "supported bin counts as a miss. The best "
    "constant year was chosen on these same patients."
)


def temporal_adjacency_accuracy(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    survival: Float[np.ndarray, "patient bin"],
    bin_edges_months: Float[np.ndarray, " bin"],
) -> TemporalAdjacency | None:
    """Compute the share of patients whose predicted year is within one of the true.

    Source: the name is that of arXiv 2503.09652, whose abstract gives no formula; the
    definition is ours.

    Args:
        time_months: Time to event or censoring; year 1 is up to 12 months.
        event: True where the event was observed: only then is the year known.
        survival: Predicted survival at the right edges of the bins.
        bin_edges_months: The edges.

    Returns:
        The share with the best constant answer beside it; None without an event.

    Raises:
        ValueError: The outcomes are not usable.
    """
    check_outcomes(time_months, event)
    if not event.any():
        return None
    true_year = year_of(time_months[event])
    predicted = median_months(survival[event], bin_edges_months)
    reached = np.isfinite(predicted)
    predicted_year = year_of(np.where(reached, predicted, 0.0))
    adjacent = reached & (np.abs(predicted_year - true_year) <= 1)
    candidates = np.arange(1, int(true_year.max()) + 1)
    hits = np.abs(candidates[:, None] - true_year[None, :]) <= 1
    shares = hits.mean(axis=1)
    best = int(np.argmax(shares))
    return TemporalAdjacency(
        value=float(adjacent.mean()),
        best_constant=float(shares[best]),
        best_constant_year=int(candidates[best]),
        num_patients=int(true_year.size),
        note=NOTE,
    )


def year_of(months: Float[np.ndarray, " patient"]) -> Int[np.ndarray, " patient"]:
    """Number the year of a time: 1 for 0 to 12 months, 2 for above 12 to 24."""
    return np.maximum(np.ceil(months / MONTHS_PER_YEAR), 1).astype(np.int64)
