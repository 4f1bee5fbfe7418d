"""How a model does on a cohort: its predictions, its loss and its concordance.

Axes: `patient` runs over the cohort, `bin` over the hazard's time bins.
"""

from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch
from jaxtyping import Bool, Float

from acfnet_core.cohort.prepared.store import PreparedCohort, summarise
from acfnet_core.evaluation.discrimination import harrell_c
from acfnet_core.federation.messages import CohortCounts, SiteMetrics
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig, total_loss
from acfnet_core.objective.time_bins import num_at_risk, supported_bins
from acfnet_core.training.batches import make_batch
from acfnet_core.withholding import withhold_part


@dataclass(frozen=True, kw_only=True)
class CohortPrediction:
    """A model's predictions for a cohort beside what happened."""

    survival: Float[np.ndarray, "patient bin"]
    """Probability of being event-free at the right edge of each bin."""
    loss: Float[np.ndarray, " patient"]
    time_months: Float[np.ndarray, " patient"]
    event: Bool[np.ndarray, " patient"]


def predict_cohort(
    model: AcfNet, cohort: PreparedCohort, *, loss: LossConfig, batch_size: int = 16
) -> CohortPrediction:
    """Predict every patient of a cohort, in the cohort's order."""
    device = next(model.parameters()).device
    survival, losses = [], []
    model.eval()
    with torch.no_grad():
        for start in range(0, len(cohort.patients), batch_size):
            stop = min(start + batch_size, len(cohort.patients))
            batch = make_batch(cohort, range(start, stop), model.config, device)
            output = model(batch.inputs)
            terms = total_loss(
                output, time_bin=batch.time_bin, kind=batch.kind, config=loss
            )
            survival.append(output.survival.cpu().numpy())
            losses.append(terms.total.cpu().numpy())
    return CohortPrediction(
        survival=np.concatenate(survival).astype(np.float64),
        loss=np.concatenate(losses).astype(np.float64),
        time_months=np.array([p.time_months for p in cohort.patients], dtype=float),
        event=np.array([p.event == 1 for p in cohort.patients], dtype=bool),
    )


def site_metrics(prediction: CohortPrediction, *, minimum_cell: int) -> SiteMetrics:
    """Reduce a prediction to what may leave a site.

    Every figure needs `minimum_cell` patients; the number of events and the concordance
    also need as many events, and as many patients without one: otherwise a figure could
    point at few people. Of a model that does not give finite numbers no figure is told.
    """
    num_patients, num_events = len(prediction.event), int(prediction.event.sum())
    enough = num_patients >= minimum_cell
    is_finite = bool(np.isfinite(prediction.survival).all())
    cells = min(num_events, num_patients - num_events)
    concordance = (
        harrell_c(
            prediction.time_months, prediction.event, -prediction.survival.mean(axis=1)
        )
        if cells >= minimum_cell and is_finite
        else None
    )
    return SiteMetrics(
        num_patients=num_patients if enough else None,
        num_events=(
            withhold_part(num_events, of=num_patients, minimum=minimum_cell)
            if enough
            else None
        ),
        loss=finite_mean(prediction.loss) if enough else None,
        harrell_c=concordance,
    )


def finite_mean(values: Float[np.ndarray, " value"]) -> float | None:
    """Return the mean as a message may carry it: null where it is not finite."""
    mean = float(np.mean(values))
    return mean if isfinite(mean) else None


def cohort_counts(cohort: PreparedCohort, config: AcfNetConfig) -> CohortCounts:
    """Return the counts that may leave the site; null below the minimum cell.

    Args:
        cohort: The site's patients.
        config: Whose time bins tell how long enough of them were followed.
    """
    summary = summarise(cohort)
    return CohortCounts(
        num_patients=summary.num_patients,
        num_events=summary.num_events,
        num_with_scans=summary.num_with_scans,
        num_scans=summary.num_scans,
        followed_months=followed_months(cohort, config),
    )


def followed_months(cohort: PreparedCohort, config: AcfNetConfig) -> float | None:
    """Return the right edge of the last bin with enough patients at risk.

    None where there is no such bin.
    """
    times = [patient.time_months for patient in cohort.patients]
    at_risk = num_at_risk(
        torch.tensor(times, dtype=torch.float64),
        num_bins=config.num_bins,
        bin_width_months=config.bin_width_months,
    )
    num_bins = supported_bins(at_risk, minimum=cohort.contract.minimum_cell)
    return config.bin_edges_months[num_bins - 1] if num_bins else None
