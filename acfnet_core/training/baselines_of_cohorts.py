"""The baselines fitted on one cohort and asked about another.

Axes: `patient`; `feature`; `bin` right edges of a network's time bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.evaluation.baselines import (
    FONG_SCORE,
    RIDGE_COX,
    FongScore,
    RidgeCox,
)


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Clinical columns and outcomes of some patients, as the baselines take them."""

    clinical: Float[np.ndarray, "patient feature"]
    clinical_mask: Bool[np.ndarray, "patient feature"]
    fong_score: Float[np.ndarray, " patient"]
    """NaN where it is not known."""
    time_months: Float[np.ndarray, " patient"]
    event: Bool[np.ndarray, " patient"]


def outcomes_of(cohort: PreparedCohort) -> Outcomes:
    """Collect a cohort's clinical columns and outcomes."""
    patients = cohort.patients
    scores = [p.fong_score for p in patients]
    return Outcomes(
        clinical=np.array([p.clinical for p in patients], dtype=np.float64),
        clinical_mask=np.array([p.clinical_mask for p in patients], dtype=bool),
        fong_score=np.array(
            [np.nan if score is None else score for score in scores], dtype=np.float64
        ),
        time_months=np.array([p.time_months for p in patients], dtype=np.float64),
        event=np.array([p.event == 1 for p in patients], dtype=bool),
    )


def join_outcomes(parts: Sequence[Outcomes]) -> Outcomes:
    """Put the patients of several cohorts one behind the other.

    Raises:
        ValueError: There are none.
    """
    if not parts:
        raise ValueError("there are no cohorts to join")
    return Outcomes(
        clinical=np.concatenate([p.clinical for p in parts]),
        clinical_mask=np.concatenate([p.clinical_mask for p in parts]),
        fong_score=np.concatenate([p.fong_score for p in parts]),
        time_months=np.concatenate([p.time_months for p in parts]),
        event=np.concatenate([p.event for p in parts]),
    )


def predict_with_baselines(
    training: Outcomes, judged: Outcomes, bin_edges_months: Float[np.ndarray, " bin"]
) -> dict[str, Float[np.ndarray, "patient bin"]]:
    """Fit ridge Cox and, where scores are known, Fong; predict the judged patients.

    Raises:
        DataError: No training patient has an event.
    """
    outcomes = training.time_months, training.event
    cox = RidgeCox.fit(training.clinical, training.clinical_mask, *outcomes)
    predictions = {
        RIDGE_COX: cox.predict_survival(
            judged.clinical, judged.clinical_mask, bin_edges_months
        )
    }
    if np.isfinite(training.fong_score).any():
        fong = FongScore.fit(training.fong_score, *outcomes)
        predictions[FONG_SCORE] = fong.predict_survival(
            judged.fong_score, bin_edges_months
        )
    return predictions
