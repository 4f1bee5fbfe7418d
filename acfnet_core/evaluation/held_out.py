"""The held-out patients, prepared once: horizons, censoring weights, resamples.

Everything here is the same for all models, which is what makes them comparable.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
from jaxtyping import Bool, Float

from acfnet_core.evaluation.bootstrap import draw_resamples
from acfnet_core.evaluation.brier import brier_window
from acfnet_core.evaluation.kaplan_meier import KaplanMeierCurve, estimate_censoring
from acfnet_core.evaluation.outcomes import check_outcomes
from acfnet_core.time_units import MONTHS_PER_YEAR


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Outcomes of the held-out patients and what every metric needs beside them."""

    time_months: Float[np.ndarray, " patient"]
    event: Bool[np.ndarray, " patient"]
    bin_edges_months: Float[np.ndarray, " bin"]
    censoring: KaplanMeierCurve
    """Of the training patients; held fixed over the resamples."""
    counts: Float[np.ndarray, "resample patient"]
    limit_months: float
    """From here on the held-out data no longer determine anything."""
    supported_months: float
    """After this time the predicted curves rest on no training patient, or end."""
    tau_months: float
    brier_months: Float[np.ndarray, " query"]
    minimum_cell: int

    @classmethod
    def prepare(
        cls,
        time_months: Float[np.ndarray, " patient"],
        event: Bool[np.ndarray, " patient"],
        bin_edges_months: Float[np.ndarray, " bin"],
        *,
        train_time_months: Float[np.ndarray, " training"],
        train_event: Bool[np.ndarray, " training"],
        tau_months: float,
        num_bootstrap: int,
        bootstrap_seed: int,
        minimum_cell: int,
        supported_months: float | None = None,
    ) -> "HeldOut":
        """Check the outcomes and bound every horizon by follow-up and support.

        Raises:
            ValueError: The outcomes, `tau_months`, `minimum_cell` or
                `supported_months` are not usable.
        """
        check_outcomes(time_months, event)
        if tau_months <= 0 or minimum_cell < 1:
            raise ValueError(
                f"tau_months is {tau_months} and minimum_cell {minimum_cell}; "
                "expected above 0 and at least 1."
            )
        supported = _bound_support(supported_months, float(bin_edges_months[-1]))
        censoring = estimate_censoring(train_time_months, train_event)
        longest = float(time_months.max())
        limit = min(longest, _end_of_support(censoring))
        return cls(
            time_months=time_months.astype(np.float64),
            event=event,
            bin_edges_months=bin_edges_months.astype(np.float64),
            censoring=censoring,
            counts=draw_resamples(time_months.size, num_bootstrap, bootstrap_seed),
            limit_months=limit,
            supported_months=supported,
            tau_months=min(tau_months, limit, supported),
            # The grid stays below its limit, and may reach the supported time.
            brier_months=brier_window(min(limit, float(np.nextafter(supported, inf)))),
            minimum_cell=minimum_cell,
        )

    @property
    def num_patients(self) -> int:
        """The number of held-out patients."""
        return int(self.time_months.size)

    def determines(self, year: int) -> bool:
        """Tell whether the year is supported and patients are followed beyond it."""
        return self.supports(year) and year * MONTHS_PER_YEAR < self.limit_months

    def supports(self, year: int) -> bool:
        """Tell whether the predicted curves hold to the end of `year`."""
        return year * MONTHS_PER_YEAR <= self.supported_months


def _bound_support(supported_months: float | None, horizon_months: float) -> float:
    """Return how far the curves hold: at most to their last bin."""
    if supported_months is None:
        return horizon_months
    if not supported_months > 0:
        raise ValueError(f"supported_months is {supported_months}; expected above 0.")
    return min(supported_months, horizon_months)


def _end_of_support(censoring: KaplanMeierCurve) -> float:
    """Return the time from which on G is 0 or, if it never is, the last time known."""
    gone = np.flatnonzero(censoring.survival <= 0)
    return float(censoring.time_months[gone[0] if gone.size else -1])
