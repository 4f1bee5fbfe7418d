"""The verdict in one plain sentence: better, worse, or no evidence of a difference.

A negative result is worded as plainly as a positive one.
"""

from collections.abc import Collection

from acfnet_core.evaluation.baselines import FONG_SCORE, KAPLAN_MEIER, RIDGE_COX
from acfnet_core.evaluation.verdict import (
    METRIC_NAMES,
    Interval,
    Metric,
    ModelScore,
    PairedDifference,
)


def write_headline(
    num_patients: int,
    num_events: int,
    scores: list[ModelScore],
    differences: list[PairedDifference],
) -> str:
    """Say whether the model beats the clinical baseline and Kaplan-Meier.

    Concordance is compared with ridge Cox (or, without it, the Fong score), as
    Kaplan-Meier ranks nobody; the integrated Brier score with Kaplan-Meier.

    Args:
        num_patients: Held-out patients.
        num_events: Events among them.
        scores: The judged model first.
        differences: Of the model against each baseline.

    Returns:
        One sentence with n, both figures, their difference and its interval.
    """
    by_key = {(one.reference, one.metric): one for one in differences}
    by_name = {one.name: one for one in scores}
    wanted: list[tuple[str, Metric]] = []
    clinical = clinical_reference(by_name)
    if clinical is not None:
        wanted.append((clinical, "harrell_c"))
    wanted.append((KAPLAN_MEIER, "integrated_brier"))
    parts = [_compare(by_key[key], by_name) for key in wanted if key in by_key]
    patients = _number(num_patients, "held-out patient")
    beginning = f"On {patients} ({_number(num_events, 'event')}), "
    return beginning + ("; ".join(parts) or "there is nothing to compare with") + "."


def clinical_reference(names: Collection[str]) -> str | None:
    """Choose the clinical baseline that a verdict compares with first, if any is there.

    Ridge Cox, which knows the columns that the model knows; without it the Fong score.
    """
    return next((name for name in (RIDGE_COX, FONG_SCORE) if name in names), None)


def _compare(found: PairedDifference, by_name: dict[str, ModelScore]) -> str:
    """Word one comparison."""
    metric = METRIC_NAMES[found.metric]
    ours = _figure(by_name[found.model], found.metric)
    theirs = _figure(by_name[found.reference], found.metric)
    if found.conclusion == "undetermined" or found.interval is None:
        return (
            f"{found.model} and {found.reference} cannot be compared in {metric}, "
            "since the patients and events are too few"
        )
    words = {
        "better": f"{found.model} is better than {found.reference} in {metric}",
        "worse": f"{found.reference} is better than {found.model} in {metric}",
        "no_evidence": (
            "there is no evidence of a difference between "
            f"{found.model} and {found.reference} in {metric}"
        ),
    }[found.conclusion]
    interval = found.interval
    numbers = [
        f"difference {interval.estimate:+.3f}",
        f"95 % interval {interval.low:+.3f} to {interval.high:+.3f}",
    ]
    if ours is not None and theirs is not None:
        numbers.insert(0, f"{ours.estimate:.3f} against {theirs.estimate:.3f}")
    everyone = by_name[found.model].num_patients
    if found.num_patients != everyone:
        numbers.append(f"n = {found.num_patients}")
    return f"{words} ({', '.join(numbers)})"


def _figure(score: ModelScore, metric: Metric) -> Interval | None:
    figures: dict[Metric, Interval | None] = {
        "harrell_c": score.harrell_c,
        "uno_c": score.uno_c,
        "integrated_brier": score.integrated_brier,
    }
    return figures[metric]


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
