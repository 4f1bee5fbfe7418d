"""The aggregate of a prepared cohort that may leave its site.

Patients with an outcome are counted, and no others. Every figure goes through a rule of
`disclosure.py` first; what is built here depends on no earlier release, which
`federation/summary_releases.py` then looks at.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

import acfnet_core
from acfnet_core.cohort.contract import (
    ClinicalColumn,
    DataContract,
    ImagingExpectations,
)
from acfnet_core.cohort.disclosure import (
    tell_moments,
    tell_nested,
    tell_parts,
    tell_quantile,
)
from acfnet_core.cohort.prepared.store import PreparedCohort, PreparedPatient
from acfnet_core.cohort.prepared.stored_scan import measure_scan, read_stored_scan
from acfnet_core.errors import DataError
from acfnet_core.federation.site_summary import (
    RISK_YEARS,
    FeatureSummary,
    Moments,
    OutcomeSummary,
    Quartiles,
    ScanSummary,
    SiteSummary,
)
from acfnet_core.time_units import MONTHS_PER_YEAR
from acfnet_core.withholding import withhold, withhold_part

_SPACING_STEP_MM = 0.1
_FOLLOW_UP_STEP_YEARS = 0.5
_MISSING = "\0missing"
"""No code of a contract: a table has no such character."""


def summarise_site(
    cohort: PreparedCohort, *, consortium: str, site: str
) -> SiteSummary:
    """Put together what a site may tell of its data, as a first release.

    Args:
        cohort: The site's prepared patients.
        consortium: The consortium's name.
        site: The site's name.

    Raises:
        DataError: `data.too_few_patients`, or a prepared scan is damaged.
    """
    contract = cohort.contract
    minimum = contract.minimum_cell
    if len(cohort.patients) < minimum:
        raise DataError(
            "data.too_few_patients",
            f"fewer than {minimum} patients with an outcome are prepared; {minimum} "
            "is the smallest number that the contract allows to be told of.",
            remedy="Prepare more patients; nothing can be told of so few.",
        )
    return SiteSummary(
        consortium=consortium,
        site=site,
        release=1,
        acfnet_version=acfnet_core.__version__,
        contract_name=contract.name,
        contract_sha256=contract.sha256(),
        minimum_cell=minimum,
        num_patients=len(cohort.patients),
        outcome=_summarise_outcome(cohort.patients, minimum),
        scans=_summarise_scans(cohort, contract.imaging) if contract.imaging else None,
        features=dict(_summarise_features(cohort)),
        refused={
            code: withhold(count, minimum=minimum)
            for code, count in sorted(cohort.refused.items())
            if count
        },
    )


def spans_of(contract: DataContract) -> dict[str, float]:
    """Return how far a value of each number can move, on the scale of its mean.

    A feature that is no number, or has no bounds in the contract, is left out.
    """
    spans = {}
    for name in contract.features:
        column = contract.columns[name]
        low, high = column.minimum, column.maximum
        if column.type == "number" and low is not None and high is not None:
            spans[name] = _transform(column, high) - _transform(column, low)
    return spans


def median_follow_up_months(
    time_months: Float64[np.ndarray, " patient"],
    is_event: Bool[np.ndarray, " patient"],
) -> float | None:
    """Return the median time for which patients were followed; None if not reached.

    The Kaplan-Meier estimate in which the end of follow-up is what is awaited, and an
    event ends the waiting. Of equal times, events come first.

    Source: Schemper and Smith 1996, doi:10.1016/0197-2456(96)00075-X.
    """
    survival = 1.0
    for time in np.unique(time_months[~is_event]):
        num_ended = np.count_nonzero((time_months == time) & ~is_event)
        is_past = (time_months < time) | ((time_months == time) & is_event)
        survival *= 1 - num_ended / np.count_nonzero(~is_past)
        if survival <= 0.5:
            return float(time)
    return None


def _summarise_outcome(
    patients: Sequence[PreparedPatient], minimum: int
) -> OutcomeSummary:
    times = np.array([patient.time_months for patient in patients], np.float64)
    is_event = np.array([patient.event for patient in patients], np.bool_)
    years = [year * MONTHS_PER_YEAR for year in RISK_YEARS]
    at_risk = [int(np.count_nonzero(times >= end)) for end in years]
    told = tell_nested(len(patients), at_risk, minimum=minimum)
    num_censored = int(np.count_nonzero(~is_event))
    # A median of fewer would have fewer than the minimum on one side.
    months = (
        median_follow_up_months(times, is_event)
        if num_censored >= 2 * minimum
        else None
    )
    return OutcomeSummary(
        num_events=withhold_part(
            int(is_event.sum()), of=len(patients), minimum=minimum
        ),
        median_follow_up_years=None
        if months is None
        else _to_step(months / MONTHS_PER_YEAR, _FOLLOW_UP_STEP_YEARS),
        num_at_risk={
            str(year): count for year, count in zip(RISK_YEARS, told, strict=True)
        },
    )


def _summarise_scans(
    cohort: PreparedCohort, imaging: ImagingExpectations
) -> ScanSummary:
    minimum = cohort.contract.minimum_cell
    numbers = [len(patient.scans) for patient in cohort.patients]
    counts = {str(number): n for number, n in sorted(Counter(numbers).items())}
    # With the number of all scans, a single count held back could be worked out.
    are_told = all(withhold(n, minimum=minimum) is not None for n in counts.values())
    num_with_scans = withhold_part(
        sum(number > 0 for number in numbers), of=len(numbers), minimum=minimum
    )
    slice_spacings, pixel_spacings, livers = [], [], []
    for patient in cohort.patients:
        if not patient.scans:
            continue
        # One volume at a time: what is kept of it are three numbers.
        scan = read_stored_scan(cohort.folder, patient.scans[-1], imaging)
        slice_spacings.append(scan.series_spacing_mm[0])
        pixel_spacings.append(scan.series_spacing_mm[1])
        livers.append(measure_scan(scan).liver_hu)
    return ScanSummary(
        num_with_scans=num_with_scans,
        num_scans=sum(numbers) if are_told else None,
        patients_by_scans=counts if are_told else None,
        slice_spacing_mm=_quartiles(slice_spacings, minimum),
        pixel_spacing_mm=_quartiles(pixel_spacings, minimum),
        liver_hu=_moments(
            np.array([hu for hu in livers if hu is not None], np.float64), minimum
        ),
    )


def _quartiles(values: Sequence[float], minimum: int) -> Quartiles | None:
    told = [
        tell_quantile(np.array(values, np.float64), share, minimum=minimum)
        for share in (0.25, 0.5, 0.75)
    ]
    lower, median, upper = (
        None if value is None else _to_step(value, _SPACING_STEP_MM) for value in told
    )
    if median is None:
        return None
    return Quartiles(lower=lower, median=median, upper=upper)


def _moments(values: Float64[np.ndarray, " patient"], minimum: int) -> Moments | None:
    told = tell_moments(values, minimum=minimum)
    return None if told is None else Moments(mean=told[0], standard_deviation=told[1])


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """The model inputs that one column gives, and whose value is known."""

    column: ClinicalColumn
    values: Float64[np.ndarray, "patient input"]
    is_known: Bool[np.ndarray, " patient"]


def _summarise_features(
    cohort: PreparedCohort,
) -> Iterator[tuple[str, FeatureSummary]]:
    contract = cohort.contract
    values = np.stack([p.clinical for p in cohort.patients]).astype(np.float64)
    masks = np.stack([patient.clinical_mask for patient in cohort.patients])
    start = 0
    for name in contract.features:
        column = contract.columns[name]
        inputs = _Inputs(
            column=column,
            values=values[:, start : start + column.num_inputs],
            is_known=masks[:, start],
        )
        start += column.num_inputs
        summarise = _summarise_number if column.type == "number" else _summarise_codes
        yield name, summarise(inputs, contract.minimum_cell)


def _summarise_number(inputs: _Inputs, minimum: int) -> FeatureSummary:
    constants = inputs.column.standardise
    known = inputs.values[inputs.is_known, 0]
    numbers = known * constants.standard_deviation + constants.mean
    return FeatureSummary(
        num_known=withhold_part(known.size, of=inputs.is_known.size, minimum=minimum),
        moments=_moments(numbers, minimum),
    )


def _summarise_codes(inputs: _Inputs, minimum: int) -> FeatureSummary:
    """Count codes; a missing value is one more part of the whole."""
    column = inputs.column
    known = inputs.values[inputs.is_known]
    if column.type == "category":
        positions = known.argmax(axis=1)
    else:
        constants = column.standardise
        numbers = known[:, 0] * constants.standard_deviation + constants.mean
        positions = np.rint(numbers).astype(np.int64)
    found = Counter(positions.tolist())
    total = inputs.is_known.size
    counts = {code: found[position] for position, code in enumerate(column.codes)}
    if sum(counts.values()) != len(known):
        raise ValueError("a prepared value is none of the column's codes")
    told = tell_parts({**counts, _MISSING: total - len(known)}, minimum=minimum)
    num_missing = told.pop(_MISSING)
    return FeatureSummary(
        num_known=None if num_missing is None else total - num_missing, codes=told
    )


def _transform(column: ClinicalColumn, value: float) -> float:
    return math.log1p(value) if column.standardise.transform == "log1p" else value


def _to_step(value: float, step: float) -> float:
    return round(round(value / step) * step, 6)
