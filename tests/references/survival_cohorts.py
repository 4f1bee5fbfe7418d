"""Small made-up outcomes with what makes survival metrics hard: ties and censoring."""

from dataclasses import dataclass

import numpy as np

from acfnet_core.evaluation.kaplan_meier import KaplanMeierCurve, estimate_censoring


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Outcomes, a covariate that matters, and a risk that follows it loosely."""

    time_months: np.ndarray
    event: np.ndarray
    covariate: np.ndarray
    risk: np.ndarray

    def censoring(self) -> KaplanMeierCurve:
        return estimate_censoring(self.time_months, self.event)

    def structured(self) -> np.ndarray:
        """Return the outcomes as scikit-survival wants them."""
        pairs = list(zip(self.event, self.time_months, strict=True))
        return np.array(pairs, dtype=[("event", bool), ("time", float)])


def make_outcomes(
    seed: int, num_patients: int, *, censored_after: float = 90.0, whole: bool = True
) -> Outcomes:
    """Draw outcomes; whole months make ties, an early `censored_after` censoring."""
    generator = np.random.default_rng(seed)
    covariate = generator.normal(size=num_patients)
    failure = generator.exponential(30.0 * np.exp(-0.7 * covariate))
    dropout = generator.uniform(1.0, censored_after, num_patients)
    time_months = np.minimum(failure, dropout) + 0.5
    if whole:
        time_months = np.ceil(time_months)
    risk = np.round(covariate + generator.normal(size=num_patients), 1)
    return Outcomes(
        time_months=time_months,
        event=failure <= dropout,
        covariate=covariate,
        risk=risk,
    )


def exponential_survival(
    rate_per_month: np.ndarray, bin_edges_months: np.ndarray
) -> np.ndarray:
    """Return exp(-rate * t) at the edges: exact under interpolation."""
    return np.exp(-rate_per_month[:, None] * bin_edges_months[None, :])
