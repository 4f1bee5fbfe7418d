"""What the report says in words that depend on the run.

Each function takes what is known of the run and returns plain sentences; the template
only places them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from acf_server.report_numbers import count, size
from acf_server.run_files import RoundRecord, RunRecord, SiteRecord
from acfnet_core.errors import CATALOGUE
from acfnet_core.evaluation.verdict import PairedDifference, Verdict

MOST_ROUNDS_SHOWN = 24
HEADLINE_REFERENCE = "cox"


@dataclass(frozen=True, kw_only=True)
class LeftRow:
    """One kind of thing that crossed a site's border, and how much of it."""

    what: str
    content: str
    amount: str


def shown_rounds(rounds: Sequence[RoundRecord]) -> list[RoundRecord]:
    """Choose the rounds of the table: all of a short run, an even part of a long one.

    The first and the last round are always among them.
    """
    if len(rounds) <= MOST_ROUNDS_SHOWN:
        return list(rounds)
    last = len(rounds) - 1
    steps = range(MOST_ROUNDS_SHOWN)
    chosen = {round(step * last / (MOST_ROUNDS_SHOWN - 1)) for step in steps}
    return [rounds[index] for index in sorted(chosen)]


def find_difference(verdict: Verdict | None) -> list[PairedDifference]:
    """Find the judged model's differences to ridge Cox, which the headline box shows.

    A run without ridge Cox shows the differences to its first reference.
    """
    if verdict is None or not verdict.differences:
        return []
    references = [row.reference for row in verdict.differences]
    named = [name for name in references if HEADLINE_REFERENCE in name.lower()]
    reference = (named or references)[0]
    return [
        row
        for row in verdict.differences
        if row.reference == reference
        and row.metric in ("harrell_c", "integrated_brier")
    ]


def describe_training_patients(sites: Sequence[SiteRecord], minimum_cell: int) -> str:
    """Say how many patients the sites train on, without giving a small site away.

    The sum of all sites less the known ones would be the count that is suppressed, so
    then only the known ones are summed.
    """
    known = [
        site.num_patients
        for site in sites
        if site.num_patients is not None and site.num_patients >= minimum_cell
    ]
    if not known:
        return f"{len(sites)} sites with {count(None, minimum_cell)} patients each"
    at_least = "" if len(known) == len(sites) else "at least "
    return f"{at_least}{count(sum(known), minimum_cell)} patients"


def describe_traffic(
    run: RunRecord, sites: Sequence[SiteRecord], rounds: Sequence[RoundRecord]
) -> list[LeftRow]:
    """List what the sites sent and were sent, with the amounts of this run."""
    received = sum(record.bytes_received for record in rounds)
    sent = sum(record.bytes_sent for record in rounds)
    answers = sum(site.rounds_answered for site in sites)
    smallest = count(None, run.minimum_cell)
    return [
        LeftRow(
            what="Arrays",
            content=f"the model's parameters after the site's training{_number(run)}, "
            "with their hash and the site's signature",
            amount=f"{answers} answers, {size(received)} in all",
        ),
        LeftRow(
            what="Counts",
            content="patients, events, patients with scans and scans; one below "
            f"{run.minimum_cell} is left out and stands here as {smallest}. Patients "
            "and steps of the training, in full: a site with fewer than "
            f"{run.minimum_cell} patients does not train",
            amount="6 numbers an answer",
        ),
        LeftRow(
            what="Metrics",
            content="mean loss and Harrell's C of the global model on the site's "
            "patients with the patients and events behind them, the loss in training, "
            "and seconds taken",
            amount="6 numbers an answer",
        ),
        LeftRow(
            what="Codes",
            content="constant words for what went wrong, never the text of an error",
            amount=_codes(sites),
        ),
        LeftRow(
            what="To the sites",
            content="the global model's parameters and the settings of training",
            amount=f"{size(sent)} in all",
        ),
    ]


def describe_limits(
    run: RunRecord, sites: Sequence[SiteRecord], verdict: Verdict | None
) -> list[str]:
    """List what a reader must bear in mind, the gravest first."""
    texts = [_ORIGIN_LIMITS[run.data_origin]]
    if run.status != "finished":
        texts.append(f"The run's state is “{run.status}”: its last round is missing.")
    texts += [] if verdict is None else verdict.warnings
    failed = sum(sum(site.rounds_failed.values()) for site in sites)
    if failed:
        texts.append(
            f"Answers of sites that failed or were refused: {failed}; the sites table "
            "names the codes. The model saw those patients less often."
        )
    if _has_single_scans(sites):
        texts.append(
            "No patient has more than one scan: what the model shows over the years is "
            "a projected hazard, not an observed evolution."
        )
    return texts


_ORIGIN_LIMITS = {
    "synthetic": "The patients are made up. The figures show that the parts work "
    "together; they say nothing about patients, hospitals or the method's worth.",
    "public": "The patients come from one public cohort of one hospital. The sites are "
    "divisions of it, so differences between real hospitals are not tested.",
    "consortium": "The held-out patients are those of this consortium. How the model "
    "does at a hospital that took no part is not tested here.",
}


def _number(run: RunRecord) -> str:
    """Say how many parameters the model has, when the run recorded it."""
    number = run.model.get("num_parameters")
    return f" ({number:,} numbers)" if isinstance(number, int) else ""


def _codes(sites: Sequence[SiteRecord]) -> str:
    """List the codes that sites sent, with their meaning."""
    codes = sorted({code for site in sites for code in site.rounds_failed})
    if not codes:
        return "none in this run"
    return "; ".join(
        f"{code}: {CATALOGUE[code].meaning}" if code in CATALOGUE else code
        for code in codes
    )


def _has_single_scans(sites: Sequence[SiteRecord]) -> bool:
    """Tell whether every count is known and no patient has a second scan."""
    pairs = [(site.num_scans, site.num_with_scans) for site in sites]
    return any(num_scans for num_scans, _ in pairs) and all(
        num_scans is not None and num_scans == num_with for num_scans, num_with in pairs
    )
