"""All figures of one model, and its paired differences from another.

Axes: `patient`; `bin` of the predicted survival.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from acfnet_core.evaluation.bootstrap import (
    Statistic,
    difference,
    estimate_interval,
    on_subset,
)
from acfnet_core.evaluation.brier import (
    mean_statistic,
    patient_integrated_brier,
    scaled_statistic,
)
from acfnet_core.evaluation.calibration import (
    calibration_bins,
    observed_expected_statistic,
)
from acfnet_core.evaluation.discrimination import auc_pairs, harrell_pairs, uno_pairs
from acfnet_core.evaluation.held_out import HeldOut
from acfnet_core.evaluation.survival_curve import (
    check_survival,
    has_prediction,
    interpolate_survival,
    restricted_mean_months,
)
from acfnet_core.evaluation.verdict import (
    YEARS,
    CalibrationBin,
    Conclusion,
    Interval,
    Metric,
    ModelScore,
    PairedDifference,
)
from acfnet_core.time_units import MONTHS_PER_YEAR

HIGHER_IS_BETTER: dict[Metric, bool] = {
    "harrell_c": True,
    "uno_c": True,
    "integrated_brier": False,
}


MIN_EVENTS_TO_CONCLUDE = 10
"""With fewer, resampled intervals are too narrow to conclude anything from."""


class Predictions:
    """One model's curves for those held-out patients for whom it gave one.

    Args:
        held_out: The patients.
        survival: S at the bin edges; a row of NaN is "no prediction".
        among: Only these patients are looked at, for a comparison on common ground.

    Raises:
        ValueError: A row is no survival curve, or there is not one for each patient.
    """

    def __init__(
        self,
        held_out: HeldOut,
        survival: Float[np.ndarray, "row bin"],
        among: Bool[np.ndarray, " patient"] | None = None,
    ) -> None:
        if len(survival) != held_out.num_patients:
            raise ValueError(
                f"There are {len(survival)} predicted curves for "
                f"{held_out.num_patients} held-out patients; expected one for each."
            )
        known = has_prediction(survival)
        self.keep = known if among is None else known & among
        self.held_out = held_out
        self.survival = survival[self.keep]
        self.time_months = held_out.time_months[self.keep]
        self.event = held_out.event[self.keep]
        check_survival(self.survival, held_out.bin_edges_months)

    @property
    def num_patients(self) -> int:
        """The number of patients with a prediction."""
        return int(self.keep.sum())

    def risk(self) -> Float[np.ndarray, " patient"]:
        """Return minus the event-free months expected up to tau."""
        held_out = self.held_out
        return -restricted_mean_months(
            self.survival, held_out.bin_edges_months, held_out.tau_months
        )

    def probability(self, year: int) -> Float[np.ndarray, " patient"]:
        """Return the predicted probability of the event by the end of `year`."""
        months = np.array([year * MONTHS_PER_YEAR])
        edges = self.held_out.bin_edges_months
        return 1.0 - interpolate_survival(self.survival, edges, months)[:, 0]

    def patient_scores(self) -> Float[np.ndarray, " patient"]:
        """Return each patient's integrated Brier score."""
        months = self.held_out.brier_months
        return patient_integrated_brier(
            self.time_months,
            self.event,
            interpolate_survival(self.survival, self.held_out.bin_edges_months, months),
            months,
            censoring=self.held_out.censoring,
        )

    def statistic(self, metric: Metric) -> Statistic | None:
        """Make one metric a figure to bootstrap; None where it is undetermined."""
        if self.num_patients == 0:
            return None
        if metric == "integrated_brier":
            if self.held_out.brier_months.size == 0:
                return None
            return on_subset(mean_statistic(self.patient_scores()), self.keep)
        if metric == "harrell_c":
            pairs = harrell_pairs(self.time_months, self.event, self.risk())
        else:
            pairs = uno_pairs(
                self.time_months,
                self.event,
                self.risk(),
                censoring=self.held_out.censoring,
                tau_months=self.held_out.tau_months,
            )
        return on_subset(pairs, self.keep)

    def estimate(self, statistic: Statistic | None) -> Interval | None:
        """Estimate a figure with its interval, None where it is undetermined."""
        if statistic is None:
            return None
        return estimate_interval(statistic, self.held_out.counts)


def score_model(
    held_out: HeldOut,
    name: str,
    survival: Float[np.ndarray, "patient bin"],
    reference: Float[np.ndarray, "patient bin"],
) -> ModelScore:
    """Compute every figure of one model.

    Args:
        held_out: The patients.
        name: The model's name.
        survival: Its curves; a row of NaN where it predicts nothing.
        reference: Kaplan-Meier's curves, for the scaled Brier score.

    Raises:
        ValueError: A row is no survival curve.
    """
    model = Predictions(held_out, survival)
    return ModelScore(
        name=name,
        num_patients=model.num_patients,
        harrell_c=model.estimate(model.statistic("harrell_c")),
        uno_c=model.estimate(model.statistic("uno_c")),
        auc_by_year={str(year): _auc(model, year) for year in YEARS},
        integrated_brier=model.estimate(model.statistic("integrated_brier")),
        scaled_brier=_scaled_brier(model, reference),
        calibration=list(_calibration(model)),
        observed_expected={
            str(year): _observed_expected(model, year) for year in YEARS
        },
    )


def compare_models(
    held_out: HeldOut,
    metric: Metric,
    model: tuple[str, Float[np.ndarray, "patient bin"]],
    reference: tuple[str, Float[np.ndarray, "patient bin"]],
) -> PairedDifference:
    """Subtract the reference's figure from the model's, on the same resamples.

    Args:
        held_out: The patients.
        metric: What to compare in.
        model: Name and curves.
        reference: Name and curves.

    Raises:
        ValueError: A row is no survival curve.
    """
    both = has_prediction(model[1]) & has_prediction(reference[1])
    ours = Predictions(held_out, model[1], both)
    theirs = Predictions(held_out, reference[1], both)
    first, second = ours.statistic(metric), theirs.statistic(metric)
    interval = None
    if first is not None and second is not None:
        interval = ours.estimate(difference(first, second))
    return PairedDifference(
        model=model[0],
        reference=reference[0],
        metric=metric,
        num_patients=int(both.sum()),
        interval=interval,
        higher_is_better=HIGHER_IS_BETTER[metric],
        conclusion=conclude(
            interval,
            higher_is_better=HIGHER_IS_BETTER[metric],
            num_events=int(ours.event.sum()),
        ),
    )


def conclude(
    interval: Interval | None, *, higher_is_better: bool, num_events: int
) -> Conclusion:
    """Read a difference: an interval that includes 0 is no evidence of one.

    Nothing is concluded from fewer than `MIN_EVENTS_TO_CONCLUDE` events.
    """
    if interval is None or interval.low is None or interval.high is None:
        return "undetermined"
    if num_events < MIN_EVENTS_TO_CONCLUDE:
        return "undetermined"
    if interval.low <= 0.0 <= interval.high:
        return "no_evidence"
    return "better" if (interval.low > 0.0) == higher_is_better else "worse"


def _auc(model: Predictions, year: int) -> Interval | None:
    held_out = model.held_out
    if model.num_patients == 0 or not held_out.determines(year):
        return None
    pairs = auc_pairs(
        model.time_months,
        model.event,
        model.probability(year),
        censoring=held_out.censoring,
        at_months=year * MONTHS_PER_YEAR,
    )
    return model.estimate(on_subset(pairs, model.keep))


def _scaled_brier(
    model: Predictions, reference: Float[np.ndarray, "patient bin"]
) -> Interval | None:
    held_out = model.held_out
    both = model.keep & has_prediction(reference)
    if not both.any() or held_out.brier_months.size == 0:
        return None
    scores = model.patient_scores()[both[model.keep]]
    base = Predictions(held_out, reference, both).patient_scores()
    return model.estimate(on_subset(scaled_statistic(scores, base), both))


def _calibration(model: Predictions) -> Iterator[CalibrationBin]:
    for year in YEARS:
        if model.num_patients > 0 and model.held_out.determines(year):
            yield from calibration_bins(
                model.time_months,
                model.event,
                model.probability(year),
                year=year,
                minimum_cell=model.held_out.minimum_cell,
            )


def _observed_expected(model: Predictions, year: int) -> Interval | None:
    if model.num_patients == 0 or not model.held_out.determines(year):
        return None
    ratio = observed_expected_statistic(
        model.time_months,
        model.event,
        model.probability(year),
        year * MONTHS_PER_YEAR,
    )
    return model.estimate(on_subset(ratio, model.keep))
