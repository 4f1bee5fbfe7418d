"""The baselines that a network must pass: Kaplan-Meier, the Fong score, ridge Cox.

Axes: `patient`; `feature`; `query` times asked for; `step` distinct event times.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from acfnet_core.errors import DataError
from acfnet_core.evaluation.kaplan_meier import (
    KaplanMeierCurve,
    estimate_kaplan_meier,
)
from acfnet_core.evaluation.outcomes import check_outcomes

KAPLAN_MEIER = "Kaplan-Meier"
FONG_SCORE = "Fong score"
RIDGE_COX = "ridge Cox"

DEFAULT_ALPHA = 10.0
"""Penalty on standardised features: about ten events' information against each
coefficient. Chosen beforehand, not tuned on any outcome."""
_FONG_ALPHA = 1e-3
_MAX_STEPS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True)
class KaplanMeierBaseline:
    """Everybody is predicted the training patients' Kaplan-Meier curve."""

    curve: KaplanMeierCurve

    @classmethod
    def fit(
        cls,
        time_months: Float[np.ndarray, " patient"],
        event: Bool[np.ndarray, " patient"],
    ) -> "KaplanMeierBaseline":
        """Estimate the curve.

        Raises:
            ValueError: The outcomes are not usable.
        """
        return cls(curve=estimate_kaplan_meier(time_months, event))

    def predict_survival(
        self, num_patients: int, months: Float[np.ndarray, " query"]
    ) -> Float[np.ndarray, "patient query"]:
        """Repeat the curve for every patient."""
        return np.tile(self.curve.at(months), (num_patients, 1))


@dataclass(frozen=True, kw_only=True)
class RidgeCox:
    """A Cox model with a ridge penalty, fitted by `RidgeCox.fit`."""

    centre: Float[np.ndarray, " feature"]
    scale: Float[np.ndarray, " feature"]
    fill: Float[np.ndarray, " feature"]
    """What a missing value becomes: the training mean, standardised."""
    coefficient: Float[np.ndarray, " feature"]
    event_months: Float[np.ndarray, " step"]
    cumulative_hazard: Float[np.ndarray, " step"]
    """Breslow's estimate for a patient whose standardised features are all 0."""

    @classmethod
    def fit(
        cls,
        clinical: Float[np.ndarray, "patient feature"],
        clinical_mask: Bool[np.ndarray, "patient feature"],
        time_months: Float[np.ndarray, " patient"],
        event: Bool[np.ndarray, " patient"],
        *,
        alpha: float = DEFAULT_ALPHA,
        centre: Float[np.ndarray, " feature"] | None = None,
        scale: Float[np.ndarray, " feature"] | None = None,
    ) -> "RidgeCox":
        """Maximise the partial likelihood, Breslow's for ties, minus alpha/2 |beta|^2.

        Source: Cox 1972, J R Stat Soc B 34:187; Breslow 1974, Biometrics 30:89, eq. 7;
        Verweij & van Houwelingen 1994, Stat Med 13:2427, eq. 2.

        Args:
            clinical: Features; what stands in masked places is not looked at.
            clinical_mask: True where a value is present.
            time_months: Time to event or censoring.
            event: True where the event was observed.
            alpha: The penalty, above 0.
            centre: Subtracted from each feature; 0 if the features are standardised.
            scale: Each feature is divided by it, above 0; 1 if standardised.

        Raises:
            DataError: No patient has an event.
            ValueError: The outcomes, alpha or the scale are not usable.
        """
        check_outcomes(time_months, event)
        num_features = clinical.shape[1]
        centre = np.zeros(num_features) if centre is None else centre
        scale = np.ones(num_features) if scale is None else scale
        if alpha <= 0 or np.any(scale <= 0):
            raise ValueError(f"alpha is {alpha}; it and every scale must be above 0.")
        if not event.any():
            raise DataError(
                "data.no_events",
                f"None of the {event.size} training patients has an event; a Cox model "
                "needs at least one.",
                remedy="Train the baseline on more patients or a longer follow-up.",
            )
        standardised = _standardise(clinical, clinical_mask, centre, scale)
        num_present = np.maximum(clinical_mask.sum(axis=0), 1)
        fill = np.sum(standardised, axis=0, where=clinical_mask) / num_present
        features = np.where(clinical_mask, standardised, fill)
        risk_sets = _RiskSets.of(features, time_months.astype(np.float64), event)
        coefficient = _maximise(risk_sets, alpha)
        return cls(
            centre=centre,
            scale=scale,
            fill=fill,
            coefficient=coefficient,
            event_months=risk_sets.steps,
            cumulative_hazard=risk_sets.cumulative_hazard(coefficient),
        )

    def predict_log_hazard(
        self,
        clinical: Float[np.ndarray, "patient feature"],
        clinical_mask: Bool[np.ndarray, "patient feature"],
    ) -> Float[np.ndarray, " patient"]:
        """Return the linear predictor of each patient."""
        standardised = _standardise(clinical, clinical_mask, self.centre, self.scale)
        return np.where(clinical_mask, standardised, self.fill) @ self.coefficient

    def predict_survival(
        self,
        clinical: Float[np.ndarray, "patient feature"],
        clinical_mask: Bool[np.ndarray, "patient feature"],
        months: Float[np.ndarray, " query"],
    ) -> Float[np.ndarray, "patient query"]:
        """Return exp(-H0(t) exp(x beta)); flat behind the last training event."""
        step = np.searchsorted(self.event_months, months, side="right")
        baseline = np.concatenate([[0.0], self.cumulative_hazard])[step]
        relative = np.exp(self.predict_log_hazard(clinical, clinical_mask))
        return np.exp(-relative[:, None] * baseline[None, :])


@dataclass(frozen=True, kw_only=True)
class FongScore:
    """A Cox model of the clinical risk score (0 to 5) alone.

    A missing score becomes the training median, as the score has no own way to say
    "unknown".

    Source: Fong et al. 1999, Ann Surg 230:309.
    """

    median: float
    cox: RidgeCox

    @classmethod
    def fit(
        cls,
        fong_score: Float[np.ndarray, " patient"],
        time_months: Float[np.ndarray, " patient"],
        event: Bool[np.ndarray, " patient"],
    ) -> "FongScore":
        """Fit the Cox model; NaN is a missing score.

        Raises:
            DataError: No patient has an event.
            ValueError: No patient has a score, or the outcomes are not usable.
        """
        known = ~np.isnan(fong_score)
        if not known.any():
            raise ValueError("No patient has a Fong score; leave this baseline out.")
        median = float(np.median(fong_score[known]))
        filled = np.where(known, fong_score, median)[:, None]
        cox = RidgeCox.fit(
            filled,
            np.ones_like(filled, dtype=np.bool_),
            time_months,
            event,
            alpha=_FONG_ALPHA,
            centre=np.array([median]),
        )
        return cls(median=median, cox=cox)

    def predict_survival(
        self,
        fong_score: Float[np.ndarray, " patient"],
        months: Float[np.ndarray, " query"],
    ) -> Float[np.ndarray, "patient query"]:
        """Return the survival of each patient at each time."""
        filled = np.where(np.isnan(fong_score), self.median, fong_score)[:, None]
        mask = np.ones_like(filled, dtype=np.bool_)
        return self.cox.predict_survival(filled, mask, months)


@dataclass(frozen=True, kw_only=True)
class _RiskSets:
    """Patients from the longest followed down, so that a risk set is a prefix."""

    features: Float[np.ndarray, "patient feature"]
    event: Bool[np.ndarray, " patient"]
    last: np.ndarray
    """Per patient, the last row of the risk set at the patient's own time."""
    steps: Float[np.ndarray, " step"]
    step_last: np.ndarray
    step_events: Float[np.ndarray, " step"]

    @classmethod
    def of(
        cls,
        features: Float[np.ndarray, "patient feature"],
        time_months: Float[np.ndarray, " patient"],
        event: Bool[np.ndarray, " patient"],
    ) -> "_RiskSets":
        order = np.argsort(-time_months, kind="stable")
        descending = -time_months[order]
        steps, num_events = np.unique(time_months[event], return_counts=True)
        return cls(
            features=features[order].astype(np.float64),
            event=event[order],
            last=np.searchsorted(descending, descending, side="right") - 1,
            steps=steps,
            step_last=np.searchsorted(descending, -steps, side="right") - 1,
            step_events=num_events.astype(np.float64),
        )

    def objective(self, beta: Float[np.ndarray, " feature"], alpha: float) -> float:
        """Return minus the penalised log partial likelihood."""
        predictor = self.features @ beta
        log_risk = np.logaddexp.accumulate(predictor)[self.last]
        log_likelihood = np.sum((predictor - log_risk)[self.event])
        return float(alpha / 2.0 * (beta @ beta) - log_likelihood)

    def derivatives(
        self, beta: Float[np.ndarray, " feature"], alpha: float
    ) -> tuple[Float[np.ndarray, " feature"], Float[np.ndarray, "feature feature"]]:
        """Return gradient and Hessian of `objective`."""
        predictor = self.features @ beta
        relative = np.exp(predictor - predictor.max())
        ends = self.last[self.event]
        total = np.cumsum(relative)[ends]
        weighted = relative[:, None] * self.features
        mean = np.cumsum(weighted, axis=0)[ends] / total[:, None]
        gradient = alpha * beta - np.sum(self.features[self.event] - mean, axis=0)
        # Each patient enters the second moment once per event in whose set it is.
        rows = np.arange(len(relative))
        inverse = np.bincount(ends, weights=1.0 / total, minlength=rows.size)
        share = relative * np.cumsum(inverse[::-1])[::-1]
        second = (self.features * share[:, None]).T @ self.features
        hessian = second - mean.T @ mean + alpha * np.eye(beta.size)
        return gradient, hessian

    def cumulative_hazard(
        self, beta: Float[np.ndarray, " feature"]
    ) -> Float[np.ndarray, " step"]:
        """Sum Breslow's jumps: events over the risk set's relative hazards."""
        total = np.cumsum(np.exp(self.features @ beta))[self.step_last]
        return np.cumsum(self.step_events / total)


def _maximise(risk_sets: _RiskSets, alpha: float) -> Float[np.ndarray, " feature"]:
    """Take Newton steps, halved while they do not help; the problem is convex."""
    beta = np.zeros(risk_sets.features.shape[1])
    value = risk_sets.objective(beta, alpha)
    for _ in range(_MAX_STEPS):
        gradient, hessian = risk_sets.derivatives(beta, alpha)
        step = np.linalg.solve(hessian, gradient)
        if gradient @ step <= _TOLERANCE * max(1.0, value):
            return beta - step
        while risk_sets.objective(beta - step, alpha) > value:
            step = step / 2.0
        beta = beta - step
        value = risk_sets.objective(beta, alpha)
    raise ArithmeticError(f"The Cox model did not converge in {_MAX_STEPS} steps.")


def _standardise(
    clinical: Float[np.ndarray, "patient feature"],
    clinical_mask: Bool[np.ndarray, "patient feature"],
    centre: Float[np.ndarray, " feature"],
    scale: Float[np.ndarray, " feature"],
) -> Float[np.ndarray, "patient feature"]:
    """Apply the constants; masked places become 0 whatever stands there."""
    present = np.where(clinical_mask, clinical, centre)
    return (present.astype(np.float64) - centre) / scale
