"""The warnings of a verdict: what limits its figures, and why one is missing."""

from collections.abc import Iterator

import numpy as np

from acfnet_core.evaluation.brier import WINDOW_MONTHS
from acfnet_core.evaluation.held_out import HeldOut
from acfnet_core.evaluation.verdict import YEARS, ModelScore
from acfnet_core.time_units import MONTHS_PER_YEAR

ENOUGH_EVENTS = 100
"""Collins, Ogundimu & Altman 2016, Stat Med 35:214: the fewest events with which an
external validation is informative."""


def collect_warnings(
    held_out: HeldOut,
    scores: list[ModelScore],
    *,
    wanted_tau_months: float,
    has_training_outcomes: bool,
) -> list[str]:
    """Say what a reader must know before believing the figures.

    Args:
        held_out: The patients and their horizons.
        scores: Of all models.
        wanted_tau_months: The horizon asked for, which the follow-up may have cut.
        has_training_outcomes: False when censoring was estimated on the held-out.
    """
    return [
        *_about_size(held_out),
        *_about_support(held_out),
        *_about_horizons(held_out, wanted_tau_months),
        *_about_years(held_out),
        *_about_scores(held_out, scores),
        *([] if has_training_outcomes else [_OWN_CENSORING]),
    ]


_OWN_CENSORING = (
    "No training outcomes were at hand: censoring weights and the Kaplan-Meier "
    "reference come from the held-out patients themselves, which flatters that "
    "reference."
)


def _about_size(held_out: HeldOut) -> Iterator[str]:
    num_patients, num_events = held_out.num_patients, int(held_out.event.sum())
    if num_patients < held_out.minimum_cell:
        yield (
            f"Only {num_patients} held-out patients, fewer than the minimum of "
            f"{held_out.minimum_cell}: curves and calibration groups are left out."
        )
    if num_events == 0:
        yield "No held-out patient has an event: concordance is not determined."
    elif num_events < ENOUGH_EVENTS:
        noun = "event" if num_events == 1 else "events"
        yield (
            f"{num_events} {noun}: intervals are wide. At least {ENOUGH_EVENTS} are "
            "advised for judging a model on new patients."
        )


def _about_support(held_out: HeldOut) -> Iterator[str]:
    supported = held_out.supported_months
    if supported < held_out.bin_edges_months[-1]:
        yield (
            f"After {supported:.0f} months no site had {held_out.minimum_cell} "
            "patients left at risk to train on: the model's hazards beyond rest on few "
            "patients or on none. No figure uses a predicted curve beyond that time."
        )


def _about_horizons(held_out: HeldOut, wanted_tau_months: float) -> Iterator[str]:
    what = _what_ends(held_out)
    if held_out.tau_months < wanted_tau_months:
        yield (
            f"{what} at {held_out.tau_months:.1f} months: Uno's C and the "
            f"restricted mean use this instead of {wanted_tau_months:.0f} months."
        )
    months = held_out.brier_months
    if months.size == 0:
        yield (
            f"{what} before the window of the integrated Brier score: "
            "it is not determined."
        )
    elif months[-1] < WINDOW_MONTHS[1]:
        yield (
            f"The integrated Brier score covers {months[0]:.0f} to {months[-1]:.0f} "
            f"months instead of {WINDOW_MONTHS[0]:.0f} to {WINDOW_MONTHS[1]:.0f}."
        )


def _what_ends(held_out: HeldOut) -> str:
    """Say what comes to its end first, the patients' follow-up or the model's say."""
    if held_out.limit_months <= held_out.supported_months:
        return "Follow-up ends"
    return "What the model can tell ends"


def _about_years(held_out: HeldOut) -> Iterator[str]:
    for year in YEARS:
        months = year * MONTHS_PER_YEAR
        followed = int(np.sum(held_out.time_months >= months))
        name = "1 year" if year == 1 else f"{year} years"
        if not held_out.supports(year):
            yield f"{name}: beyond what the model can tell; no figure is given for it."
        elif not held_out.determines(year):
            yield f"Nobody is followed beyond {name}: no figure is given for it."
        elif followed < held_out.minimum_cell:
            yield (
                f"Fewer than {held_out.minimum_cell} patients are at risk at {name}: "
                "its figures rest on few."
            )


def _about_scores(held_out: HeldOut, scores: list[ModelScore]) -> Iterator[str]:
    for score in scores:
        num_missing = held_out.num_patients - score.num_patients
        if num_missing:
            yield (
                f"{score.name} gave no prediction for {num_missing} of "
                f"{held_out.num_patients} patients: they are left out of its figures."
            )
    skipped = [one.harrell_c.num_skipped for one in scores if one.harrell_c is not None]
    if skipped and max(skipped) > 0:
        yield (
            f"Concordance was undefined in {max(skipped)} of {len(held_out.counts)} "
            "bootstrap resamples, which were left out."
        )
