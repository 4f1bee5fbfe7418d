"""What is known of a run at this moment, put together from its events one by one."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from acf_server.run_events import (
    LastEvent,
    ModelJudged,
    ReadinessChecked,
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunInterrupted,
    RunResumed,
    SiteAnswered,
    SiteAskedAgain,
    SiteFailed,
    WaitingForSites,
)
from acf_server.run_files import RoundPhases

LATELY = 5
"""Rounds whose mean duration tells how long the others will take."""

NOT_ASKED = "not asked yet"
NOT_CONNECTED = "not connected"
ASKED = "at work"
NOT_READY = "not ready"
ASKED_AGAIN = "asked again"
WITHOUT = "without an answer"
_TROUBLE = (NOT_CONNECTED, NOT_READY, ASKED_AGAIN, WITHOUT)
_MEGA = 1e6


@dataclass
class SiteView:
    """One site: what it does in this round, and the numbers of the earlier ones."""

    name: str
    state: str = NOT_ASKED
    answered: set[int] = field(default_factory=set)
    without: set[int] = field(default_factory=set)
    last_code: str | None = None
    """The last failure, whether it has passed or not."""

    @property
    def kind_of_state(self) -> str:
        """The state without its seconds."""
        return self.state.partition(" after ")[0]

    @property
    def urgency(self) -> int:
        """How much a person should look at it: 0 is most."""
        if self.kind_of_state in _TROUBLE:
            return 0
        has_answered = self.state not in (ASKED, NOT_ASKED)
        return 1 + 2 * has_answered + (self.last_code is None)


@dataclass
class RunView:
    """A run as its events tell it so far.

    Attributes:
        doing: What goes on, in words.
        since: When the round that goes on was begun.
        judged: How the last model that the sites have judged does.
        finished: What the complete rounds cost, by number.
    """

    run: str
    num_rounds: int
    sites: dict[str, SiteView]
    doing: str = "not begun"
    since: datetime | None = None
    judged: ModelJudged | None = None
    finished: dict[int, RoundFinished] = field(default_factory=dict)

    @classmethod
    def of(cls, run: str, *, num_rounds: int, sites: Iterable[str] = ()) -> "RunView":
        """Return the view of a run of which nothing has happened yet.

        Sites that are not named appear with the first event that names them.
        """
        return cls(run, num_rounds, {name: SiteView(name) for name in sites})

    def take(self, event: RunEvent) -> None:
        """Bring the view up to an event."""
        if isinstance(event, SiteAnswered | SiteFailed | SiteAskedAgain):
            self._take_of_site(event, self._site(event.site))
        elif isinstance(event, WaitingForSites):
            self._note_missing(event.missing)
        elif isinstance(event, ReadinessChecked):
            self._note_readiness(event)
        else:
            self._take_of_run(event)

    def _take_of_run(self, event: RunEvent) -> None:
        if isinstance(event, RoundStarted):
            self._begin(event)
        elif isinstance(event, RoundFinished):
            self.finished[event.round] = event
        elif isinstance(event, ModelJudged):
            self.judged = event
        elif isinstance(event, RunResumed):
            self._forget_after(event.round)
        elif isinstance(event, RunInterrupted | LastEvent):
            self._pause(event)

    def left(self) -> tuple[timedelta, timedelta] | None:
        """Return how long this round and those after it take, if the last ones tell.

        The last ones are `LATELY` rounds, and their mean is what each is taken to need.
        """
        # A copy: the terminal is drawn by a thread of its own.
        finished = dict(self.finished)
        lately = [finished[number] for number in sorted(finished)[-LATELY:]]
        if not lately or self.since is None:
            return None
        mean_s = sum(event.phases.total for event in lately) / len(lately)
        after_this = max(0, self.num_rounds - max(finished) - 1)
        return timedelta(seconds=mean_s), timedelta(seconds=mean_s * after_this)

    def _site(self, name: str) -> SiteView:
        return self.sites.setdefault(name, SiteView(name))

    @staticmethod
    def _take_of_site(
        event: SiteAnswered | SiteFailed | SiteAskedAgain, site: SiteView
    ) -> None:
        if isinstance(event, SiteAnswered):
            site.answered.add(event.round)
            site.without.discard(event.round)
            site.state = f"answered after {event.seconds:.1f} s"
            return
        site.last_code = event.code
        if isinstance(event, SiteAskedAgain):
            if site.state == NOT_CONNECTED:
                # It is asked when it is back, whatever the pause.
                return
            site.state = f"{ASKED_AGAIN} after {event.pause_s:.0f} s"
        else:
            site.without.add(event.round)
            site.state = WITHOUT

    def _begin(self, event: RoundStarted) -> None:
        self.since = event.at_utc
        self.doing = (
            f"round {event.round} of {event.num_rounds}"
            if event.round <= event.num_rounds
            else "judging the last model"
        )
        for name in event.sites:
            self._site(name).state = ASKED

    def _note_missing(self, missing: tuple[str, ...]) -> None:
        for site in self.sites.values():
            if site.state == NOT_CONNECTED:
                site.state = ASKED
        for name in missing:
            self._site(name).state = NOT_CONNECTED

    def _note_readiness(self, event: ReadinessChecked) -> None:
        for told in event.sites:
            site = self._site(told.site)
            site.state = NOT_READY if told.codes else "ready"
            site.last_code = ", ".join(told.codes) or site.last_code

    def _forget_after(self, last_round: int) -> None:
        """Drop what was told of rounds that are done once more."""
        self.finished = {n: e for n, e in self.finished.items() if n <= last_round}
        for site in self.sites.values():
            site.answered = {n for n in site.answered if n <= last_round}
            site.without = {n for n in site.without if n <= last_round}

    def _pause(self, event: RunInterrupted | LastEvent) -> None:
        self.doing = event.kind.removeprefix("run_")
        self.since = None
        for site in self.sites.values():
            site.state = "-"


def describe_model(event: ModelJudged) -> str:
    """Return the figures of a judged model, each with its n, in two lines."""
    what = f"model after round {event.round}" if event.round else "initial model"
    if event.mean_loss is None:
        return f"{what}: the sites' figures are below the minimum cell"
    lines = [f"{what}: loss {event.mean_loss:.3f} (n = {event.num_patients})"]
    if event.mean_c is not None:
        lines[0] += f", C {event.mean_c:.3f} (n = {event.num_patients_c})"
        lines.append(f"  worst site {event.worst_c_site}: C {event.worst_c:.3f}")
    lines[-1] += ", on training patients"
    return "\n".join(lines)


def describe_phases(phases: RoundPhases) -> str:
    """Return the seconds of a round by phase."""
    return (
        f"{phases.total:.1f} s: sites {phases.waiting:.1f}, "
        f"checks {phases.checking:.1f}, combining {phases.combining:.1f}, "
        f"writing {phases.writing:.1f}"
    )


def describe_bytes(sent: int, received: int) -> str:
    """Return the size of what went out and came in."""
    return f"{sent / _MEGA:.1f} MB out, {received / _MEGA:.1f} MB in"
