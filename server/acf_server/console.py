"""What the coordinator's commands show: progress and notes on stderr.

On a terminal the line that is being worked on is live; elsewhere every line is plain
and final. Results for other programs go to stdout, and not through here.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from acf_server.run_console import live_run
from acf_server.run_events import (
    ModelJudged,
    ReadinessChecked,
    RunEvent,
    SiteReadiness,
    WaitingForSites,
)
from acf_server.run_view import RunView
from acfnet_core.cohort.prepared.preparation_events import (
    CohortFinished,
    PreparationEvent,
)
from acfnet_core.errors import AcfnetError, format_error
from acfnet_core.evaluation.verdict import Interval, Verdict

if TYPE_CHECKING:
    # Heavy to import, and needed for their types alone.
    from acf_server.site_data import ComparedSites
    from acfnet_core.cohort.synthetic.sites import PatientWritten


class Console:
    """Writes for people, on stderr."""

    def __init__(self) -> None:
        self._out = RichConsole(stderr=True, highlight=False, soft_wrap=True)

    def stage(self, number: int, count: int, title: str) -> None:
        """Say which stage of several begins."""
        self._out.print(f"[{number}/{count}] {title}", style="bold", markup=False)

    def note(self, text: str) -> None:
        """Say something that has happened, indented under its stage."""
        self._out.print(f"  {text}", markup=False)

    def say(self, text: str) -> None:
        """Say something by itself."""
        self._out.print(text, markup=False)

    def error(self, error: AcfnetError) -> None:
        """Say what is wrong and what to do."""
        self._out.print(format_error(error), style="red", markup=False)

    def count_patients(
        self, name: str, total: int, events: "Iterable[PatientWritten]"
    ) -> None:
        """Show how the making up of a hospital's patients goes."""
        with self.progress(name, total) as bar:
            for event in events:
                bar.set_done(event.index)
        self.note(f"{name}: {total} patients made up")

    def preparing(self, name: str, event: PreparationEvent) -> None:
        """Say how the preparation of a cohort at the coordinator goes."""
        if isinstance(event, CohortFinished):
            self.note(
                f"{name}: {event.num_patients} patients prepared, "
                f"{event.num_scans} scans"
            )

    def show_site_data(self, compared: "ComparedSites", folder: Path) -> str:
        """Show the sites' summaries and their differences; return what to type next.

        What comes from a site is shown as text alone and cannot steer the terminal.
        """
        if not compared.stored:
            self.say("No site has told of its data yet.")
            return "at a site: acf-client data summary --write summary.json"
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in compared.headings():
            table.add_column(Text(heading))
        for row in compared.rows():
            table.add_row(*(Text(cell) for cell in row))
        self._out.print(table)
        self.say(
            "Means and standard deviations are of the numbers as the contract "
            "transforms them: of log(1 + x) where it says log1p."
        )
        for warning in compared.warnings:
            line = f"warning: {warning.describe()}"
            self._out.print(line, style="yellow", markup=False)
        if not compared.warnings:
            self.say("No difference is beyond the thresholds.")
        return f"acf-server run start run.toml --folder {folder}"

    def verdict(self, verdict: Verdict) -> None:
        """Say the headline and each model's figures."""
        for line in describe_verdict(verdict):
            self.say(line)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator["ProgressBar"]:
        """Show a bar while the block runs; nothing where there is no terminal."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(
            *columns,
            console=self._out,
            transient=True,
            disable=not self._out.is_terminal,
        ) as bars:
            yield ProgressBar(bars, title, total)

    def follow(self, events: Iterable[RunEvent], *, view: RunView) -> RunEvent | None:
        """Show a run's events as they come; return the last.

        Args:
            events: From `follow_run` or the like.
            view: What was known of the run before them.
        """
        event = None
        with live_run(self._out, view):
            for event in events:
                view.take(event)
                line = describe_event(event)
                if line:
                    self._tell_of_run(line)
        return event

    def _tell_of_run(self, line: str) -> None:
        # On a terminal words are not cut; a log keeps each event on its line.
        is_log = not self._out.is_terminal
        self._out.print(f"  {line}", markup=False, soft_wrap=is_log)


_LINES = {
    "site_failed": "round {round}: {site} did not take part ({code})",
    "site_asked_again": (
        "round {round}: {site} failed ({code}), asked again in {pause_s:.0f} s"
    ),
    "run_resumed": "the run goes on after round {round} of {num_rounds}",
    "run_interrupted": "the run broke off ({code}); it is taken up again by itself",
    "run_stopped": "the run was stopped",
    "run_finished": "all {rounds} rounds done in {seconds:.0f} s",
    "run_failed": "the run ended early ({code})",
}
"""By an event's kind; what is not here need not be read."""


class ProgressBar:
    """One live bar."""

    def __init__(self, bars: Progress, title: str, total: int) -> None:
        self._bars = bars
        self._task = bars.add_task(title, total=total)

    def set_done(self, done: int) -> None:
        """Move the bar."""
        self._bars.update(self._task, completed=done)


def describe_event(event: RunEvent) -> str | None:
    """Return the line for an event, or None for one that a person need not read."""
    if isinstance(event, ModelJudged):
        return describe_judgement(event)
    if isinstance(event, WaitingForSites):
        return (
            f"waiting for {', '.join(event.missing)}"
            if event.missing
            else "all sites are connected"
        )
    if isinstance(event, ReadinessChecked):
        return "\n  ".join(describe_readiness(site) for site in event.sites)
    line = _LINES.get(event.kind)
    return None if line is None else line.format(**event.model_dump())


def describe_readiness(site: SiteReadiness) -> str:
    """Return one line on whether a site is ready, and what its machine has."""
    parts = [] if site.version is None else [f"acfnet {site.version}", f"{site.device}"]
    if site.free_disk_gib is not None:
        parts.append(f"{site.free_disk_gib:g} GiB of disk free")
    if site.free_memory_gib is not None:
        parts.append(f"{site.free_memory_gib:g} GiB of memory free")
    state = f"NOT READY: {', '.join(site.codes)}" if site.codes else "ready"
    return f"{site.site}: {state}" + (f" ({', '.join(parts)})" if parts else "")


def describe_judgement(event: ModelJudged) -> str:
    """Return one line on the model after a round: loss and C, the worst site's too."""
    what = f"round {event.round}/{event.num_rounds}" if event.round else "initial model"
    if event.num_patients is None:
        return f"{what}: the sites' figures are below the minimum cell"
    parts = []
    if event.mean_loss is not None:
        parts.append(f"loss {event.mean_loss:.3f} (n = {event.num_patients})")
    if event.mean_c is not None:
        worst = f"worst {event.worst_c_site} {event.worst_c:.3f}"
        parts.append(f"C {event.mean_c:.3f} (n = {event.num_patients_c}, {worst})")
    return f"{what}: {', '.join(parts)}, on training patients"


def describe_verdict(verdict: Verdict) -> Sequence[str]:
    """Return the headline and a line for each model: figures with intervals and n."""
    lines = [verdict.headline]
    for score in verdict.scores:
        lines.append(
            f"  {score.name:<14} Harrell C {describe_interval(score.harrell_c)}   "
            f"IBS {describe_interval(score.integrated_brier)}   "
            f"n = {score.num_patients}"
        )
    lines.append(
        f"  (held-out: {verdict.num_patients} patients, {verdict.num_events} events; "
        "95 % bootstrap intervals)"
    )
    return lines


def describe_interval(interval: Interval | None) -> str:
    """Return `0.612 (0.540 to 0.684)`, or that there is none."""
    if interval is None or interval.estimate is None:
        return "not determined        "
    if interval.low is None or interval.high is None:
        return f"{interval.estimate:.3f} (no interval)"
    return f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})"
