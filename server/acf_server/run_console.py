"""A run as it goes on, on a terminal: what is done, by whom, at what cost."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from acf_server.run_view import (
    RunView,
    SiteView,
    describe_bytes,
    describe_model,
    describe_phases,
)

_REFRESHES_PER_S = 2
_OTHER_LINES = 10
"""Of what is drawn, without the sites' rows; one line of each kind may be wrapped."""
_FEWEST_ROWS = 3


@contextmanager
def live_run(out: Console, view: RunView) -> Iterator[None]:
    """Show a run's view while the block runs; nothing where there is no terminal."""
    if not out.is_terminal:
        yield
        return
    with Live(
        get_renderable=lambda: render(
            view, now=datetime.now(UTC), num_lines=out.size.height
        ),
        console=out,
        refresh_per_second=_REFRESHES_PER_S,
        transient=True,
    ):
        yield


def render(
    view: RunView, *, now: datetime, num_lines: int | None = None
) -> RenderableType:
    """Return what is shown of a run.

    What comes from a site is shown as text alone and cannot steer the terminal.

    Args:
        view: The run as it is known.
        now: The present time, aware.
        num_lines: Of the terminal: of more sites than fit, those that a person should
            look at are shown, and the others counted.
    """
    sites = list(view.sites.values())
    shown = _most_urgent(sites, num_lines)
    parts: list[RenderableType] = [_text(_head(view, now), "bold"), _table(shown)]
    if len(shown) < len(sites):
        parts.append(_text(_describe_rest(sites, shown)))
    if view.judged is not None:
        parts.append(_text(describe_model(view.judged)))
    parts += [_text(line, "dim") for line in _cost(view)]
    return Group(*parts)


def _text(words: str, style: str = "") -> Text:
    # Said here, since the console that it is drawn on does not wrap.
    return Text(words, style=style, no_wrap=False, overflow="fold")


def _head(view: RunView, now: datetime) -> str:
    words, lasted = f"{view.run}: {view.doing}", timedelta()
    if view.since is not None:
        lasted = now - view.since
        words += f", for {_spell(lasted)}"
    left = view.left()
    if left is None:
        return words
    this_round, after_it = left
    if lasted > this_round:
        return f"{words}; at least {_spell(after_it)} left" if after_it else words
    return f"{words}; about {_spell(this_round - lasted + after_it)} left"


def _most_urgent(sites: Sequence[SiteView], num_lines: int | None) -> list[SiteView]:
    """Return the sites that fit, in the order of the roster."""
    if num_lines is None:
        return list(sites)
    room = max(_FEWEST_ROWS, num_lines - _OTHER_LINES)
    chosen = {site.name for site in sorted(sites, key=lambda s: s.urgency)[:room]}
    return [site for site in sites if site.name in chosen]


def _describe_rest(sites: Sequence[SiteView], shown: Sequence[SiteView]) -> str:
    """Count the sites that are not shown, by what they do."""
    names = {site.name for site in shown}
    rest = [site.kind_of_state for site in sites if site.name not in names]
    kinds = ", ".join(f"{number} {kind}" for kind, number in Counter(rest).items())
    return f"and {len(rest)} more: {kinds}"


def _table(sites: Sequence[SiteView]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("site", no_wrap=True)
    table.add_column("this round", no_wrap=True)
    table.add_column("answered", justify="right")
    table.add_column("without", justify="right")
    table.add_column("last failure", overflow="fold")
    for site in sites:
        table.add_row(*(Text(cell) for cell in _cells(site)))
    return table


def _cells(site: SiteView) -> tuple[str, ...]:
    counts = (str(len(site.answered)), str(len(site.without)))
    return (site.name, site.state, *counts, site.last_code or "")


def _cost(view: RunView) -> Iterator[str]:
    finished = dict(view.finished)
    if not finished:
        return
    number = max(finished)
    yield f"round {number} took {describe_phases(finished[number].phases)}"
    sent = sum(event.bytes_sent for event in finished.values())
    received = sum(event.bytes_received for event in finished.values())
    rounds = "1 round" if len(finished) == 1 else f"{len(finished)} rounds"
    yield f"{rounds}: {describe_bytes(sent, received)}"


def _spell(span: timedelta) -> str:
    """Return a duration in its two largest units, down to seconds."""
    minutes, seconds = divmod(max(0, round(span.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
