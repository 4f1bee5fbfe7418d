"""What the sections of the data report say, as words and numbers for the template."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acf_client.data_report import DataReport
from acfnet_core.cohort.contract import ClinicalColumn
from acfnet_core.cohort.images.refusal_remedies import WHAT_TO_DO
from acfnet_core.cohort.images.refusals import NOTES, REASONS
from acfnet_core.evaluation.kaplan_meier import (
    estimate_censoring,
    estimate_kaplan_meier,
)
from acfnet_core.pictures.data_plots import FollowUp

_MOST_TICKS = 9
_TICK_MONTHS = 12


@dataclass(frozen=True, kw_only=True)
class RefusalRow:
    """One code of the quarantine."""

    code: str
    meaning: str
    what_to_do: str
    num_series: int
    num_studies: int
    rows: str
    is_note: bool


@dataclass(frozen=True, kw_only=True)
class FeatureRow:
    """One feature: what is known of it, and what the contract allows."""

    name: str
    meaning: str
    allowed: str
    num_known: int
    num_missing: int
    share_missing: float


@dataclass(frozen=True, kw_only=True)
class FollowUpFacts:
    """The endpoint's curve with what is said beside it; None is not reached."""

    curve: FollowUp
    median_follow_up_months: float | None
    median_free_months: float | None
    last_months: float


def describe_refusals(report: DataReport) -> list[RefusalRow]:
    """List every code that occurs, the most frequent first, notes last."""
    images = report.check.images
    if images is None:
        return []
    on_reading = report.refused_on_reading
    codes = {*images.series_codes, *images.study_codes, *on_reading}
    rows = [
        RefusalRow(
            code=code,
            meaning=REASONS[code],
            what_to_do=WHAT_TO_DO[code],
            num_series=images.series_codes.get(code, 0),
            num_studies=images.study_codes.get(code, 0) + len(on_reading.get(code, ())),
            rows=join_rows(_rows_of(report, code)),
            is_note=code in NOTES,
        )
        for code in codes
    ]
    return sorted(
        rows, key=lambda r: (r.is_note, -r.num_studies, -r.num_series, r.code)
    )


def describe_features(report: DataReport) -> list[FeatureRow]:
    """List the features in the contract's order."""
    num_rows = report.check.table.num_rows
    rows = []
    for name in report.contract.features:
        column = report.contract.columns[name]
        num_missing = report.check.table.num_missing[name]
        rows.append(
            FeatureRow(
                name=name,
                meaning=column.meaning,
                allowed=describe_allowed(column),
                num_known=num_rows - num_missing,
                num_missing=num_missing,
                share_missing=num_missing / num_rows,
            )
        )
    return rows


def describe_allowed(column: ClinicalColumn) -> str:
    """Write which values the contract allows in a column."""
    if column.type != "number":
        words = ", ".join(words for _, words in named_codes(column))
        return words or "any"
    unit = f" {column.unit}" if column.unit else ""
    low, high = column.minimum, column.maximum
    if low is None and high is None:
        return f"any number{unit}"
    if low is None or high is None:
        words = f"{high:g} or less" if low is None else f"{low:g} or more"
        return words + unit
    return f"{low:g} to {high:g}{unit}"


def named_codes(column: ClinicalColumn) -> list[tuple[str, str]]:
    """Return each code of a column with its meaning, or no and yes."""
    if column.categories:
        return [(code, words or code) for code, words in column.categories.items()]
    return [("0", "no"), ("1", "yes")] if column.type == "binary" else []


def count_codes_of(
    column: ClinicalColumn, values: NDArray[np.float64]
) -> list[tuple[str, int]]:
    """Return each code's meaning and how many values have it."""
    return [
        (words, int(np.sum(values == place)))
        for place, (_, words) in enumerate(named_codes(column))
    ]


def describe_follow_up(report: DataReport) -> FollowUpFacts | None:
    """Estimate the endpoint's curve; None without a patient who has an outcome."""
    times, event = report.time_months, report.event
    if times.size == 0:
        return None
    free = estimate_kaplan_meier(times, event)
    last = float(times.max())
    months = np.arange(0.0, last + 1e-9, _tick_step(last))
    return FollowUpFacts(
        curve=FollowUp(
            time_months=free.time_months,
            survival=free.survival,
            low=free.low,
            high=free.high,
            at_months=months,
            num_at_risk=free.num_at_risk(months),
        ),
        median_follow_up_months=estimate_censoring(times, event).median_months(),
        median_free_months=free.median_months(),
        last_months=last,
    )


def join_rows(rows: Sequence[int]) -> str:
    """Write row numbers, runs of them shortened.

    >>> join_rows([2, 3, 4, 7, 9, 10])
    '2 to 4, 7, 9, 10'
    """
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][-1] + 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run))
        for run in runs
    )


def _rows_of(report: DataReport, code: str) -> list[int]:
    early = report.refused_rows.get(code, ())
    return sorted({*early, *report.refused_on_reading.get(code, ())})


def _tick_step(last_months: float) -> float:
    """Return the distance of ticks in whole years, so that they do not collide."""
    years = max(1, int(np.ceil(last_months / _TICK_MONTHS / _MOST_TICKS)))
    return float(_TICK_MONTHS * years)
