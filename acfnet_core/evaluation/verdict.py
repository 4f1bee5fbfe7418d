"""The result of an evaluation, as it is written to evaluation.json and reported.

Every figure is an `Interval` or `None`. `None` means that the held-out patients do not
determine the figure (no event yet, nobody followed that long); `Verdict.warnings` then
says why. Nothing is ever filled in.
"""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION: Final = 1

Metric = Literal["harrell_c", "uno_c", "integrated_brier"]
METRIC_NAMES: dict[Metric, str] = {
    "harrell_c": "Harrell's C",
    "uno_c": "Uno's C",
    "integrated_brier": "the integrated Brier score",
}
"""The metrics in which models are compared, as they stand in a sentence."""

YEARS = (1, 3, 5)
"""The years at which probabilities are judged."""

Conclusion = Literal["better", "worse", "no_evidence", "undetermined"]


class _Record(BaseModel):
    """A frozen record that refuses unknown keys and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(_Record):
    """An estimate with its 95 % interval.

    A percentile bootstrap interval over patients, except for observed Kaplan-Meier
    probabilities, where it is the log-log Greenwood interval. `low` and `high` are None
    when the data do not determine an interval.
    """

    estimate: float
    low: float | None = None
    high: float | None = None
    num_skipped: int = Field(default=0, ge=0)
    """Bootstrap resamples left out because the figure was undefined in them."""


class CalibrationBin(_Record):
    """One group of patients of similar predicted risk, at one year."""

    year: int = Field(ge=1)
    group: int = Field(ge=1)
    """1 is the lowest predicted risk."""
    num_patients: int = Field(ge=0)
    predicted: float
    """Mean predicted probability of the event by the end of the year."""
    observed: Interval | None
    """Kaplan-Meier probability of it; None when nobody of the group is at risk then."""


class ModelScore(_Record):
    """All figures of one model (or baseline) on the held-out patients.

    The keys of the dictionaries are years as text: "1", "3", "5".
    """

    name: str
    num_patients: int = Field(ge=0)
    """Patients for whom this model gave a prediction: the n of all its figures."""
    harrell_c: Interval | None
    uno_c: Interval | None
    auc_by_year: dict[str, Interval | None]
    integrated_brier: Interval | None
    """Lower is better."""
    scaled_brier: Interval | None
    """1 - IBS / IBS of Kaplan-Meier: 0 is no better than the average, 1 is perfect."""
    calibration: list[CalibrationBin]
    observed_expected: dict[str, Interval | None]
    """Observed (Kaplan-Meier) over mean predicted probability; above 1 the model
    underestimated the risk."""


class PairedDifference(_Record):
    """Model minus reference, on the same patients and the same resamples."""

    model: str
    reference: str
    metric: Metric
    num_patients: int = Field(ge=0)
    interval: Interval | None
    higher_is_better: bool
    """False for the integrated Brier score: there a negative difference is a gain."""
    conclusion: Conclusion
    """Of `model` against `reference`: "no_evidence" when the interval includes 0,
    "undetermined" without an interval or with fewer than ten events."""


class GroupCurve(_Record):
    """The Kaplan-Meier curve of one third of the model's predicted risk."""

    label: str
    num_patients: int = Field(ge=0)
    num_events: int = Field(ge=0)
    time_months: list[float]
    """Starts at 0; the curve is a step function and ends with the follow-up."""
    survival: list[float]
    low: list[float | None]
    high: list[float | None]
    times_at_risk: list[float]
    at_risk: list[int | None]
    """Same length as `times_at_risk`; None is a count from 1 to below the minimum."""


class TemporalAdjacency(_Record):
    """How often the predicted year is within one year of the true one."""

    value: float
    best_constant: float
    """What always answering the same, best-chosen year scores on these patients."""
    best_constant_year: int = Field(ge=1)
    num_patients: int = Field(ge=0)
    """Patients with an event, whose year is therefore known."""
    note: str


class Verdict(_Record):
    """The judgement of a model on held-out patients, beside its baselines."""

    format_version: Literal[1] = FORMAT_VERSION
    model: str
    """The name of the judged model; its score is the first of `scores`."""
    headline: str
    """A plain sentence: better, worse or no evidence, with n and interval."""
    num_patients: int = Field(ge=0)
    num_events: int = Field(ge=0)
    median_follow_up_months: float | None
    """Reverse Kaplan-Meier; None when it is not reached."""
    num_training_patients: int | None = None
    """None when whoever judged does not know it."""
    tau_months: float
    """The horizon of Uno's C and of the restricted mean survival used as risk."""
    supported_months: float | None = None
    """No figure looks beyond this time: after it no training site had enough patients
    at risk, or the predicted curves end. None in files from before it was told."""
    landmark_months: float | None = None
    """Months after the resection from which all times count, among those still free of
    the event then; None is from the resection."""
    reading_sha256: str | None = None
    """Of how the held-out patients' table and images were read; None where that is not
    known."""
    references_reading_sha256: list[str | None] = Field(default_factory=list)
    """The same of every cohort that the baselines were fitted on."""
    risk_definition: str
    """How a survival curve becomes the one number that concordance needs."""
    brier_window_months: tuple[float, float] | None
    """None when the follow-up does not reach into the window."""
    scores: list[ModelScore]
    differences: list[PairedDifference]
    risk_groups: list[GroupCurve]
    """From lowest to highest risk; groups below the minimum cell are left out."""
    log_rank_p: float | None
    temporal_adjacency: TemporalAdjacency | None
    num_bootstrap: int = Field(ge=0)
    bootstrap_seed: int
    minimum_cell: int = Field(ge=1)
    warnings: list[str]
