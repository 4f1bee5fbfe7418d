"""Discrimination: does the higher predicted risk fail first?

All three figures are shares of concordant pairs, so all are two matrices over pairs of
patients: how much a pair counts, and how much of that is concordant. A bootstrap
resample is then a quadratic form in the counts, exact also for repeated patients, since
no patient is comparable with itself.

Axes: `patient` the one who fails first, `other` the one compared with it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from acfnet_core.evaluation.kaplan_meier import KaplanMeierCurve, estimate_censoring
from acfnet_core.evaluation.outcomes import check_outcomes

TIED_RISK = 1e-8
"""Risks closer than this are a tie and count one half, as in scikit-survival."""

DEFAULT_TAU_MONTHS = 96.0


@dataclass(frozen=True, kw_only=True)
class PairConcordance:
    """A share of concordant pairs, ready for any number of resamples."""

    comparable: Float[np.ndarray, "patient other"]
    """The weight of each pair; 0 where the two cannot be compared."""
    concordant: Float[np.ndarray, "patient other"]
    """The part of that weight that is concordant; half of it for a tie of risks."""

    def __call__(
        self, counts: Float[np.ndarray, "resample patient"]
    ) -> Float[np.ndarray, " resample"]:
        """Return the share in each resample; NaN without a comparable pair."""
        total = np.sum((counts @ self.comparable) * counts, axis=1)
        agreed = np.sum((counts @ self.concordant) * counts, axis=1)
        return np.where(total > 0, agreed / np.where(total > 0, total, 1.0), np.nan)

    def value(self) -> float | None:
        """Return the share over the patients themselves, None without a pair."""
        total = float(self.comparable.sum())
        return float(self.concordant.sum()) / total if total > 0 else None


def harrell_c(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    risk: Float[np.ndarray, " patient"],
) -> float | None:
    """Compute Harrell's concordance index.

    Source: Harrell et al. 1996, Stat Med 15:361, section 5.5; see `harrell_pairs`.

    Args:
        time_months: Time to event or censoring.
        event: True where the event was observed.
        risk: Higher means an earlier event.

    Returns:
        The index, or None when no two patients are comparable.

    Raises:
        ValueError: The outcomes or risks are not usable.
    """
    return harrell_pairs(time_months, event, risk).value()


def uno_c(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    risk: Float[np.ndarray, " patient"],
    *,
    train_time_months: Float[np.ndarray, " training"],
    train_event: Bool[np.ndarray, " training"],
    tau_months: float = DEFAULT_TAU_MONTHS,
) -> float | None:
    """Compute Uno's concordance index, which does not depend on the censoring.

    Source: Uno et al. 2011, Stat Med 30:1105, eq. 6; see `uno_pairs`.

    Args:
        time_months: Time to event or censoring.
        event: True where the event was observed.
        risk: Higher means an earlier event.
        train_time_months: Outcomes from which the censoring is estimated.
        train_event: The same patients' events.
        tau_months: Only pairs whose first event is before this time count.

    Returns:
        The index, or None when no two patients are comparable.

    Raises:
        ValueError: The outcomes or risks are not usable, or an event before
            `tau_months` is at a time when the training patients were all censored.
    """
    censoring = estimate_censoring(train_time_months, train_event)
    return uno_pairs(
        time_months, event, risk, censoring=censoring, tau_months=tau_months
    ).value()


def cumulative_dynamic_auc(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    risk: Float[np.ndarray, " patient"],
    *,
    train_time_months: Float[np.ndarray, " training"],
    train_event: Bool[np.ndarray, " training"],
    at_months: float,
) -> float | None:
    """Compute the area under the ROC curve for "event by `at_months`".

    Source: Hung & Chiang 2010, Can J Stat 38:8; see `auc_pairs`.

    Args:
        time_months: Time to event or censoring.
        event: True where the event was observed.
        risk: Predicted risk of an event by `at_months`, on any scale.
        train_time_months: Outcomes from which the censoring is estimated.
        train_event: The same patients' events.
        at_months: The horizon.

    Returns:
        The area, or None when nobody failed by then or nobody was followed beyond.

    Raises:
        ValueError: As for `uno_c`.
    """
    censoring = estimate_censoring(train_time_months, train_event)
    return auc_pairs(
        time_months, event, risk, censoring=censoring, at_months=at_months
    ).value()


def harrell_pairs(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    risk: Float[np.ndarray, " patient"],
) -> PairConcordance:
    """Prepare Harrell's C: i with an event is comparable with all who outlast it.

    A patient censored at the very time of an event outlasts it.

    Source: Harrell et al. 1996, Stat Med 15:361, section 5.5.
    """
    _check(time_months, event, risk)
    return _weigh(_first_fails(time_months, event), risk)


def uno_pairs(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    risk: Float[np.ndarray, " patient"],
    *,
    censoring: KaplanMeierCurve,
    tau_months: float,
) -> PairConcordance:
    """Prepare Uno's C: Harrell's pairs, weighted by G(time)^-2, before tau.

    Source: Uno et al. 2011, Stat Med 30:1105, eq. 6.
    """
    _check(time_months, event, risk)
    early = event & (time_months < tau_months)
    weight = inverse_censoring_weight(time_months, early, censoring) ** 2
    return _weigh(weight[:, None] * _first_fails(time_months, event), risk)


def auc_pairs(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    risk: Float[np.ndarray, " patient"],
    *,
    censoring: KaplanMeierCurve,
    at_months: float,
) -> PairConcordance:
    """Prepare the cumulative/dynamic AUC: cases by t against those outlasting t.

    Source: Hung & Chiang 2010, Can J Stat 38:8; Uno et al. 2007, J Am Stat Assoc
    102:527, with cases weighted by 1 / G(time).
    """
    _check(time_months, event, risk)
    case = event & (time_months <= at_months)
    weight = inverse_censoring_weight(time_months, case, censoring)
    return _weigh(weight[:, None] * (time_months > at_months)[None, :], risk)


def inverse_censoring_weight(
    time_months: Float[np.ndarray, " patient"],
    wanted: Bool[np.ndarray, " patient"],
    censoring: KaplanMeierCurve,
) -> Float[np.ndarray, " patient"]:
    """Return 1 / G(time) for the wanted patients and 0 for the others.

    Raises:
        ValueError: G is 0 at a wanted patient's time.
    """
    uncensored = censoring.at(time_months)
    num_unknown = int(np.sum(wanted & (uncensored <= 0)))
    if num_unknown:
        raise ValueError(
            f"{num_unknown} events are at times when all training patients were "
            "censored; choose an earlier horizon."
        )
    return np.where(wanted, 1.0 / np.where(wanted, uncensored, 1.0), 0.0)


def _first_fails(
    time_months: Float[np.ndarray, " patient"], event: Bool[np.ndarray, " patient"]
) -> Float[np.ndarray, "patient other"]:
    """Mark the pairs in which the first patient is known to fail first."""
    later = time_months[None, :] > time_months[:, None]
    censored_then = (time_months[None, :] == time_months[:, None]) & ~event[None, :]
    return (event[:, None] & (later | censored_then)).astype(np.float64)


def _weigh(
    comparable: Float[np.ndarray, "patient other"], risk: Float[np.ndarray, " patient"]
) -> PairConcordance:
    """Split the weight of each pair by the order of the two risks."""
    lead = risk[:, None] - risk[None, :]
    credit = np.where(np.abs(lead) <= TIED_RISK, 0.5, lead > 0)
    return PairConcordance(comparable=comparable, concordant=comparable * credit)


def _check(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    risk: Float[np.ndarray, " patient"],
) -> None:
    """Refuse unusable outcomes and risks.

    Raises:
        ValueError: See the message.
    """
    check_outcomes(time_months, event)
    if risk.shape != time_months.shape or not np.isfinite(risk).all():
        raise ValueError(
            f"risk has shape {risk.shape}; expected {time_months.shape} finite numbers."
        )
