"""How far a run is: what `acf-server run show` tells."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel

from acf_server.coordinator import Coordinator
from acf_server.run_events import (
    RoundStarted,
    RunFailed,
    RunInterrupted,
    SiteAskedAgain,
    SiteFailed,
    WaitingForSites,
    read_events,
)
from acf_server.run_files import (
    RoundPhases,
    RoundRecord,
    RunRecord,
    RunStatus,
    SiteRecord,
    read_rounds,
    read_run,
    read_sites,
)
from acf_server.run_plan import read_plan
from acf_server.run_view import RunView, describe_bytes, describe_phases
from acf_server.runs import list_runs
from acfnet_core.federation.checkpoint import completed_rounds


class SiteOverview(BaseModel):
    """One site of the roster.

    `last_code` is the last failure that was seen, whether it has passed or not.
    """

    name: str
    rounds_answered: int
    rounds_failed: int
    last_code: str | None
    mean_seconds: float | None
    """From a round's begin to its answer."""
    mean_computing_seconds: float | None
    """Of them, what the site took to judge and train, as it says."""


class RunOverview(BaseModel):
    """A run at this moment.

    `rounds_done` counts complete rounds; `doing` says in words what goes on, if it is
    known; the figures are of the last model that the sites have judged.
    """

    run: str
    status: RunStatus
    rounds: int
    rounds_done: int
    doing: str | None
    mean_seconds_per_round: float | None
    mean_phases: RoundPhases | None
    bytes_sent: int
    bytes_received: int
    mean_loss: float | None
    mean_c: float | None
    num_patients: int | None
    sites: list[SiteOverview]


def overview_of(run_folder: Path) -> RunOverview:
    """Read how far a run is.

    Raises:
        ConfigError: The folder holds no run.
        MachineError: One of its files is damaged.
    """
    run = read_run(run_folder)
    rounds = read_rounds(run_folder)
    judged = [record for record in rounds if record.num_patients is not None]
    last = judged[-1] if judged else None
    told = {site.name: site for site in read_sites(run_folder)}
    codes = _last_codes(run_folder)
    return RunOverview(
        run=run.name,
        status=run.status,
        rounds=run.rounds,
        rounds_done=max(completed_rounds(run_folder), default=0),
        doing=_doing(run_folder) if run.status == "running" else None,
        mean_seconds_per_round=_mean_seconds(rounds),
        mean_phases=_mean_phases(rounds),
        bytes_sent=sum(record.bytes_sent for record in rounds),
        bytes_received=sum(record.bytes_received for record in rounds),
        mean_loss=last.mean_loss if last else None,
        mean_c=last.mean_c if last else None,
        num_patients=last.num_patients if last else None,
        sites=[
            _site_overview(site.name, told.get(site.name), codes.get(site.name), rounds)
            for site in read_plan(run_folder).sites
        ],
    )


def view_of(run_folder: Path, *, end_at: int | None = None) -> RunView:
    """Return the view of a run up to a byte of its events.

    Raises:
        ConfigError: The folder holds no run.
        MachineError: One of its files is damaged.
    """
    view = RunView.of(run_folder.name, num_rounds=read_run(run_folder).rounds)
    for event in read_events(run_folder, end_at=end_at):
        view.take(event)
    return view


class ListedRun(RunRecord):
    """A run's record, with what it has done and cost so far."""

    rounds_done: int
    mean_seconds_per_round: float | None
    bytes_sent: int
    bytes_received: int


def list_with_cost(coordinator: Coordinator) -> list[ListedRun]:
    """Return all runs, oldest first.

    Raises:
        MachineError: A file of a run is damaged.
    """
    return [
        ListedRun(
            **dict(record),
            rounds_done=max(completed_rounds(folder), default=0),
            mean_seconds_per_round=_mean_seconds(rounds),
            bytes_sent=sum(row.bytes_sent for row in rounds),
            bytes_received=sum(row.bytes_received for row in rounds),
        )
        for record in list_runs(coordinator)
        for folder in [coordinator.runs_folder / record.name]
        for rounds in [read_rounds(folder)]
    ]


def describe_listed(run: ListedRun) -> str:
    """Return a run's line for people."""
    line = f"{run.name:<30} {run.status:<9} {run.rounds_done:>4} of {run.rounds} rounds"
    if run.mean_seconds_per_round is not None:
        line += f", {run.mean_seconds_per_round:.1f} s each"
    if run.bytes_sent:
        line += f", {describe_bytes(run.bytes_sent, run.bytes_received)}"
    return line


def describe_run(overview: RunOverview) -> Iterator[str]:
    """Yield the lines for people."""
    yield (
        f"{overview.run}: {overview.status}, {overview.rounds_done} of "
        f"{overview.rounds} rounds complete"
    )
    if overview.doing:
        yield f"now: {overview.doing}"
    if overview.mean_phases is not None:
        yield f"a round took {describe_phases(overview.mean_phases)}, on average"
    if overview.bytes_sent:
        yield describe_bytes(overview.bytes_sent, overview.bytes_received)
    if overview.mean_loss is not None:
        concordance = (
            "" if overview.mean_c is None else f", Harrell's C {overview.mean_c:.3f}"
        )
        yield (
            f"last judged model: loss {overview.mean_loss:.3f}{concordance} "
            f"(n = {overview.num_patients}, on training patients)"
        )
    for site in overview.sites:
        failures = f", {site.rounds_failed} without" if site.rounds_failed else ""
        code = f"; last failure {site.last_code}" if site.last_code else ""
        answered = f"{site.rounds_answered} rounds answered{_describe_pace(site)}"
        yield f"  {site.name:<30} {answered}{failures}{code}"


def _mean_seconds(rounds: list[RoundRecord]) -> float | None:
    """Return the mean duration of the rounds that trained."""
    trained = [record.seconds for record in rounds if record.round and record.seconds]
    return sum(trained) / len(trained) if trained else None


def _mean_phases(rounds: list[RoundRecord]) -> RoundPhases | None:
    """Return the mean of each phase over the rounds that tell them."""
    told = [record.phases.model_dump() for record in rounds if record.phases]
    if not told:
        return None
    return RoundPhases(
        **{name: fmean(phases[name] for phases in told) for name in told[0]}
    )


def _describe_pace(site: SiteOverview) -> str:
    if site.mean_seconds is None:
        return ""
    words = f" after {site.mean_seconds:.1f} s"
    if site.mean_computing_seconds is None:
        return words
    return f"{words}, {site.mean_computing_seconds:.1f} of them computing"


def _site_overview(
    name: str,
    told: SiteRecord | None,
    last_code: str | None,
    rounds: list[RoundRecord],
) -> SiteOverview:
    answers = [
        row
        for record in rounds
        for row in record.sites
        if row.name == name and row.asked and row.code is None
    ]
    computing = [
        row.computing_seconds for row in answers if row.computing_seconds is not None
    ]
    return SiteOverview(
        mean_seconds=fmean(row.seconds for row in answers) if answers else None,
        mean_computing_seconds=fmean(computing) if computing else None,
        name=name,
        rounds_answered=told.rounds_answered if told else 0,
        rounds_failed=sum(told.rounds_failed.values()) if told else 0,
        last_code=last_code,
    )


def _last_codes(run_folder: Path) -> dict[str, str]:
    return {
        event.site: event.code
        for event in read_events(run_folder)
        if isinstance(event, SiteFailed | SiteAskedAgain)
    }


def _doing(run_folder: Path) -> str | None:
    """Say what the last event that tells it means."""
    are_known = False
    for event in reversed(read_events(run_folder)):
        if isinstance(event, RoundStarted):
            if event.round > event.num_rounds:
                return "the sites judge the last model"
            return f"round {event.round} of {event.num_rounds}"
        if isinstance(event, WaitingForSites):
            if event.missing and not are_known:
                return f"waiting for {', '.join(event.missing)}"
            are_known = True
        if isinstance(event, RunInterrupted | RunFailed):
            return f"broke off ({event.code}); it is taken up again by itself"
    return None
