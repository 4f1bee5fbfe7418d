"""A run as it goes on, on a terminal: what is done, by whom, at what cost."""

from collections.abc import Iterator
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


@contextmanager
def live_run(out: Console, view: RunView) -> Iterator[None]:
    """Show a run's view while the block runs; nothing where there is no terminal."""
    if not out.is_terminal:
        yield
        return
    with Live(
        get_renderable=lambda: render(view, now=datetime.now(UTC)),
        console=out,
        refresh_per_second=_REFRESHES_PER_S,
        transient=True,
    ):
        yield


def render(view: RunView, *, now: datetime) -> RenderableType:
    """Return what is shown of a run.

    What comes from a site is shown as text alone and cannot steer the terminal.
    """
    parts: list[RenderableType] = [Text(_head(view, now), style="bold"), _sites(view)]
    if view.judged is not None:
        parts.append(Text(describe_model(view.judged)))
    parts += [Text(line, style="dim") for line in _cost(view)]
    return Group(*parts)


def _head(view: RunView, now: datetime) -> str:
    words = f"{view.run}: {view.doing}"
    if view.since is not None:
        words += f", for {_spell(now - view.since)}"
    left = view.left()
    return words if left is None else f"{words}; about {_spell(left)} left"


def _sites(view: RunView) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("site", no_wrap=True)
    table.add_column("this round", no_wrap=True)
    table.add_column("answered", justify="right")
    table.add_column("without", justify="right")
    table.add_column("last failure", overflow="fold")
    for site in view.sites.values():
        table.add_row(*(Text(cell) for cell in _cells(site)))
    return table


def _cells(site: SiteView) -> tuple[str, ...]:
    counts = (str(len(site.answered)), str(len(site.without)))
    return (site.name, site.state, *counts, site.last_code or "")


def _cost(view: RunView) -> Iterator[str]:
    if not view.finished:
        return
    number = max(view.finished)
    yield f"round {number} took {describe_phases(view.finished[number].phases)}"
    events = view.finished.values()
    sent = sum(event.bytes_sent for event in events)
    received = sum(event.bytes_received for event in events)
    yield f"{len(view.finished)} rounds: {describe_bytes(sent, received)}"


def _spell(span: timedelta) -> str:
    """Return a duration in its two largest units, down to seconds."""
    minutes, seconds = divmod(max(0, round(span.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
