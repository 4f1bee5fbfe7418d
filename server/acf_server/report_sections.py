"""What the report says in words that depend on the run.

Each function takes what is known of the run and returns plain sentences; the template
only places them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from acf_server.report_numbers import count, told, whole
from acf_server.report_traffic import describe_encoding
from acf_server.run_files import RoundRecord, RunRecord, SiteRecord
from acf_server.run_plan import StrategySettings
from acfnet_core.evaluation.headline import clinical_reference
from acfnet_core.evaluation.verdict import PairedDifference, Verdict
from acfnet_core.withholding import withhold, withhold_part

MOST_ROUNDS_SHOWN = 24


@dataclass(frozen=True, kw_only=True)
class SiteRow:
    """One site of the sites table, its counts as they may be printed."""

    name: str
    patients: str
    events: str
    with_scans: str
    scans: str
    rounds_answered: int
    rounds_failed: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class PersonalRow:
    """A site's own model beside the global one, on patients that nobody trained on."""

    name: str
    patients: str
    global_loss: str
    own_loss: str
    global_c: str
    own_c: str


def describe_personal(sites: Sequence[SiteRecord]) -> list[PersonalRow]:
    """Return a row for each site that compared its own model with the global one."""
    rows = []
    for site in sites:
        told_of = site.personal
        if told_of is None:
            continue
        rows.append(
            PersonalRow(
                name=site.name,
                patients=told(told_of.num_patients),
                global_loss=_three(told_of.global_model.loss),
                own_loss=_three(told_of.own_model.loss),
                global_c=_three(told_of.global_model.harrell_c),
                own_c=_three(told_of.own_model.harrell_c),
            )
        )
    return rows


def _three(figure: float | None) -> str:
    return "Withheld" if figure is None else f"{figure:.3f}"


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
    """Find the judged model's differences to the reference of the headline.

    A verdict without a clinical baseline shows the differences to its first reference.
    """
    if verdict is None or not verdict.differences:
        return []
    references = [row.reference for row in verdict.differences]
    reference = clinical_reference(references) or references[0]
    return [
        row
        for row in verdict.differences
        if row.reference == reference
        and row.metric in ("harrell_c", "integrated_brier")
    ]


def describe_sites(sites: Sequence[SiteRecord], minimum_cell: int) -> list[SiteRow]:
    """Write the rows of the sites table; what points at few patients is withheld."""
    return [_describe_site(site, minimum_cell) for site in sites]


def has_scans(sites: Sequence[SiteRecord]) -> bool:
    """Tell whether scans may have been used: not every site that tells says 0."""
    told_counts = [site.num_scans for site in sites if site.num_patients is not None]
    return not told_counts or any(number != 0 for number in told_counts)


def describe_training_patients(sites: Sequence[SiteRecord], minimum_cell: int) -> str:
    """Say how many patients the sites train on, without giving a small site away.

    The sum of all sites less the known ones would be the count that is withheld, so
    then only the known ones are summed.
    """
    known = _known_patients(sites, minimum_cell)
    if not known:
        return f"{len(sites)} sites with {count(None, minimum_cell)} patients each"
    at_least = "" if len(known) == len(sites) else "at least "
    return f"{at_least}{whole(sum(known))} patients"


def describe_fitted_on(
    verdict: Verdict | None, sites: Sequence[SiteRecord], minimum_cell: int
) -> str:
    """Say on whom the baselines were fitted; nothing when the verdict does not know.

    The number is left out beside a withheld site: less the others it would be its own.
    """
    if verdict is None or verdict.num_training_patients is None:
        return ""
    text = "The baselines were fitted on patients whose tables the coordinator holds"
    if len(_known_patients(sites, minimum_cell)) < len(sites):
        return f"{text}."
    return f"{text} (n = {count(verdict.num_training_patients, minimum_cell)})."


def describe_groups(verdict: Verdict | None, minimum_cell: int) -> str:
    """List the risk groups with their patients and, if all may be told, events.

    One withheld number of events could be had from the total and the others.
    """
    groups = [] if verdict is None else verdict.risk_groups
    events = [
        withhold_part(group.num_events, of=group.num_patients, minimum=minimum_cell)
        for group in groups
    ]
    texts = []
    for group, number in zip(groups, events, strict=True):
        shown = "" if None in events else f" ({number} events)"
        texts.append(
            f"{group.label} n = {count(group.num_patients, minimum_cell)}{shown}"
        )
    return ", ".join(texts)


_UNWEIGHTED = {
    "median": "median of the sites' parameters, each number by itself",
    "trimmed_mean": "mean of the sites' parameters without the outermost, each number "
    "by itself",
    "scaffold": "SCAFFOLD: mean of the sites' parameters, all sites alike, with "
    "corrections of where each of them drifts",
    "local_only": "not at all: each site trained a model of its own",
}
_MEANS = {
    "fedprox": "FedProx: ",
    "fedavgm": "FedAvgM, a momentum on the ",
    "fedadam": "FedAdam, adaptive steps along the ",
    "fedyogi": "FedYogi, adaptive steps along the ",
    "fedadagrad": "FedAdagrad, adaptive steps along the ",
    "multi_krum": "Multi-Krum, of the updates nearest to the others the ",
}
_WEIGHTING = {"patients": "by patients", "events": "by events", "equal": "all alike"}


def describe_aggregation(run: RunRecord, sites: Sequence[SiteRecord]) -> str:
    """Say how the sites' parameters became one model."""
    rule = _describe_rule(run.strategy, len(sites))
    return f"{rule}{describe_encoding(run.updates)}"


def _describe_rule(strategy: StrategySettings, num_sites: int) -> str:
    if strategy.name in _UNWEIGHTED:
        return _UNWEIGHTED[strategy.name]
    share = strategy.max_share
    by = _WEIGHTING[strategy.weighting]
    text = f"{_MEANS.get(strategy.name, '')}mean of the sites' parameters {by}"
    if share == 1 or strategy.weighting == "equal":
        return text
    text += f", no site above {100 * share:g} %"
    # A cap below an equal share cannot hold: it ends in equal shares.
    is_equal = num_sites > 1 and share * num_sites <= 1
    return f"{text}: at {num_sites} sites all weigh the same" if is_equal else text


def describe_start(run: RunRecord) -> str:
    """Say from when times count, and of whom the model speaks.

    A run without a landmark counts from the resection, of all patients.
    """
    months = run.landmark_months
    if months is None:
        return "from the resection"
    where = "after" if months >= 0 else "before"
    return (
        f"from month {abs(months):g} {where} the resection, among those still free of "
        "the event"
    )


def describe_limits(
    run: RunRecord, sites: Sequence[SiteRecord], verdict: Verdict | None
) -> list[str]:
    """List what a reader must bear in mind, the gravest first."""
    texts = [_ORIGIN_LIMITS[run.data_origin]]
    if run.status != "finished":
        texts.append(f"The run's state is “{run.status}”: its last round is missing.")
    if run.landmark_months is not None:
        texts.append(
            f"The model speaks {describe_start(run)}, by the scans up to then. It says "
            "nothing of patients who had the event before."
        )
    texts += [] if verdict is None else verdict.warnings
    if run.strategy.select_by != "last":
        texts.append(
            f"The released model is the round's with the best {run.strategy.select_by}"
            ", which the sites told of patients that it was trained on."
        )
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


def _describe_site(site: SiteRecord, minimum_cell: int) -> SiteRow:
    patients, with_scans = site.num_patients, site.num_with_scans
    if patients is not None:
        patients = withhold(patients, minimum=minimum_cell)
    with_scans = _part(with_scans, patients, minimum_cell)
    return SiteRow(
        name=site.name,
        patients=told(patients),
        events=told(_part(site.num_events, patients, minimum_cell)),
        with_scans=told(with_scans),
        scans=told(None if with_scans is None else site.num_scans),
        rounds_answered=site.rounds_answered,
        rounds_failed=site.rounds_failed,
    )


def _part(number: int | None, whole_of: int | None, minimum_cell: int) -> int | None:
    """Return a part of a site's patients if both may be told."""
    if number is None or whole_of is None:
        return None
    return withhold_part(number, of=whole_of, minimum=minimum_cell)


def _known_patients(sites: Sequence[SiteRecord], minimum_cell: int) -> list[int]:
    """Return the patients of the sites whose number may be told."""
    numbers = [site.num_patients for site in sites if site.num_patients is not None]
    known = [withhold(number, minimum=minimum_cell) for number in numbers]
    return [number for number in known if number is not None]


def _has_single_scans(sites: Sequence[SiteRecord]) -> bool:
    """Tell whether every count is known and no patient has a second scan."""
    pairs = [(site.num_scans, site.num_with_scans) for site in sites]
    return any(num_scans for num_scans, _ in pairs) and all(
        num_scans is not None and num_scans == num_with for num_scans, num_with in pairs
    )
