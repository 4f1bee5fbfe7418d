"""What `predict` says of one patient, as numbers and words: prediction.json.

It holds the patient's pseudonym and never the identifier.
"""

from collections.abc import Sequence
from typing import Literal

from acfnet_core import __version__
from acfnet_core.config import Section
from acfnet_core.federation.release import ReleaseDescription
from acfnet_core.pictures.scan_panels import WHAT_A_MAP_IS
from acfnet_core.time_units import MONTHS_PER_YEAR
from acfnet_core.training.prediction import PatientPrediction, PredictedCurve

CAUTION = (
    "Research only, not a medical device: do not decide about a patient's treatment "
    "by it."
)


class ModelRecord(Section):
    """A trained model that was asked."""

    run: str
    parameters_sha256: str
    contract_sha256: str
    num_members: int
    """Models of earlier rounds that came with it and were asked too."""


class CurveRecord(Section):
    """A value for every bin; lowest and highest are null where one model was asked."""

    values: list[float]
    lowest: list[float] | None
    highest: list[float] | None


class ScanRead(Section):
    """A scan that the model read; times as `counted_from` says."""

    time_months: float
    time_assumed: bool
    channels: list[str]


class PredictionRecord(Section):
    """All numbers of one prediction, and what they are."""

    format_version: Literal[1] = 1
    acfnet: str
    pseudonym: str
    has_outcome: bool
    """Whether the prepared data has one; without it no run trains on the patient."""
    endpoint: str
    models: list[ModelRecord]
    num_models: int
    counted_from: str
    """From when months and years count."""
    supported_months: float | None
    """How far patients were followed in training; null where that is not known."""
    bin_edges_months: list[float]
    hazard: CurveRecord
    survival: CurveRecord
    cumulative_incidence: CurveRecord
    lowest_and_highest: str
    years: list[int]
    image_share_by_year: list[float]
    risk_map_sums: list[float]
    """The image logit of each year, to which the year's risk map sums."""
    has_image: bool
    scans: list[ScanRead]
    known_columns: list[str]
    missing_columns: list[str]
    notes: list[str]
    caution: str = CAUTION

    def bin_at_year(self, year: float) -> int | None:
        """Return the bin that ends at a year; None where none does."""
        months = year * MONTHS_PER_YEAR
        ends = [abs(edge - months) < 1e-6 for edge in self.bin_edges_months]
        return ends.index(True) if any(ends) else None

    def is_supported(self, year: float) -> bool:
        """Say whether training had patients under observation until a year's end."""
        limit = self.supported_months
        return limit is None or year * MONTHS_PER_YEAR <= limit


def make_record(
    prediction: PatientPrediction,
    releases: Sequence[ReleaseDescription],
    *,
    pseudonym: str,
    endpoint: str,
    has_outcome: bool,
) -> PredictionRecord:
    """Put a prediction and where it came from together.

    Args:
        prediction: What the models said.
        releases: Of the models that were asked, the one that gives the values first.
        pseudonym: The patient's, of this site.
        endpoint: Name of what is predicted.
        has_outcome: Whether the prepared data has the patient's.
    """
    first = releases[0]
    supported = [r.supported_months for r in releases if r.supported_months is not None]
    return PredictionRecord(
        acfnet=__version__,
        pseudonym=pseudonym,
        has_outcome=has_outcome,
        endpoint=endpoint,
        models=[
            ModelRecord(
                run=one.run,
                parameters_sha256=one.parameters_sha256,
                contract_sha256=one.contract_sha256,
                num_members=len(one.members),
            )
            for one in releases
        ],
        num_models=prediction.num_models,
        counted_from=describe_start(first.landmark_months),
        # The least of them: what one run had nobody for, the range cannot show.
        supported_months=min(supported, default=None),
        bin_edges_months=list(prediction.bin_edges_months),
        hazard=_to_record(prediction.hazard),
        survival=_to_record(prediction.survival),
        cumulative_incidence=_to_record(prediction.cumulative_incidence),
        lowest_and_highest=prediction.range_words,
        years=list(prediction.years),
        image_share_by_year=prediction.image_share_by_year.tolist(),
        risk_map_sums=prediction.risk_map_sums.tolist(),
        has_image=prediction.has_image,
        scans=[
            ScanRead(
                time_months=scan.time_months,
                time_assumed=scan.time_assumed,
                channels=list(scan.channels),
            )
            for scan in prediction.scans
        ],
        known_columns=list(prediction.known_columns),
        missing_columns=list(prediction.missing_columns),
        notes=[
            *_notes_on_inputs(prediction),
            *_notes_on_outcome(has_outcome, first.landmark_months),
        ],
    )


def describe_start(landmark_months: float | None) -> str:
    """Say from when a model's times count.

    >>> describe_start(None), describe_start(6.0)
    ('resection', 'the landmark, 6 months after resection')
    """
    if landmark_months is None:
        return "resection"
    side = "before" if landmark_months < 0 else "after"
    return f"the landmark, {abs(landmark_months):g} months {side} resection"


def _to_record(curve: PredictedCurve) -> CurveRecord:
    return CurveRecord(
        values=curve.values.tolist(),
        lowest=None if curve.lowest is None else curve.lowest.tolist(),
        highest=None if curve.highest is None else curve.highest.tolist(),
    )


def _notes_on_inputs(prediction: PatientPrediction) -> list[str]:
    """Say what a reader must know of what the model was told."""
    notes = []
    if not prediction.has_image:
        notes.append(
            "No scan was read: the curve rests on the clinical columns alone, and "
            "there is no risk map."
        )
    else:
        notes.append(f"Risk map: {WHAT_A_MAP_IS}")
    if len(prediction.scans) == 1:
        notes.append(
            "One scan tells of no change: the hazard over the years is projected from "
            "it, not an evolution that was seen."
        )
    if any(scan.time_assumed for scan in prediction.scans):
        notes.append(
            "The day of the resection is not known: the last scan was taken to be at "
            "it."
        )
    return notes


def _notes_on_outcome(has_outcome: bool, landmark_months: float | None) -> list[str]:
    """Say whether the model may have learned from the patient."""
    if has_outcome:
        return [
            "If this site took part in the run, the patient was in training and the "
            "model has seen the outcome: then this is a description, not a forecast."
        ]
    notes = [
        "The patient has no outcome in the prepared data, so was not in training: no "
        "run trains on such a patient. It would be otherwise if an earlier table had "
        "an outcome."
    ]
    if landmark_months is not None:
        notes.append(
            "The curve holds only if the patient was still free of the event at the "
            "landmark: nothing in the prepared data tells."
        )
    return notes
