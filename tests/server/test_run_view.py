from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console as RichConsole

from acf_server.console import describe_event
from acf_server.run_console import live_run, render
from acf_server.run_events import (
    ModelJudged,
    ReadinessChecked,
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunInterrupted,
    RunResumed,
    RunStopped,
    SiteAnswered,
    SiteAskedAgain,
    SiteFailed,
    SiteReadiness,
    WaitingForSites,
)
from acf_server.run_files import RoundPhases
from acf_server.run_view import RunView

BEGUN = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
SITES = ("hospital-a", "hospital-b", "a-hospital-with-the-longest-name"[:30])
PHASES = RoundPhases(waiting=7.0, checking=1.0, combining=0.5, writing=1.5)


def started(number: int) -> RoundStarted:
    return RoundStarted(round=number, num_rounds=40, sites=SITES, at_utc=BEGUN)


def finished(number: int) -> RoundFinished:
    return RoundFinished(
        round=number,
        num_rounds=40,
        phases=PHASES,
        bytes_sent=3_000_000,
        bytes_received=2_000_000,
    )


def judged(number: int, **changes: object) -> ModelJudged:
    values: dict[str, object] = {
        "round": number,
        "num_rounds": 40,
        "num_patients": 120,
        "num_patients_c": 98,
        "mean_loss": 1.234,
        "mean_c": 0.612,
        "worst_c": 0.55,
        "worst_c_site": "hospital-b",
    }
    return ModelJudged.model_validate({**values, **changes})


def view_after(*events: RunEvent) -> RunView:
    view = RunView.of("first", num_rounds=40, sites=SITES)
    for event in events:
        view.take(event)
    return view


def shown(
    view: RunView, *, width: int = 80, after_s: float = 12.0, num_lines: int = 24
) -> str:
    # As on the coordinator's terminal, whose lines are not wrapped unless one asks.
    out = RichConsole(file=StringIO(), width=width, highlight=False, soft_wrap=True)
    now = BEGUN + timedelta(seconds=after_s)
    out.print(render(view, now=now, num_lines=num_lines))
    file = out.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def answer(site: str, number: int = 1) -> SiteAnswered:
    return SiteAnswered(round=number, site=site, seconds=8.1, computing_seconds=7.0)


def test_before_the_first_event_nothing_is_claimed() -> None:
    view = view_after()
    assert view.doing == "not begun"
    assert {site.state for site in view.sites.values()} == {"not asked yet"}
    assert view.left() is None


def test_each_site_shows_what_it_does_in_this_round() -> None:
    view = view_after(
        started(1),
        answer("hospital-a"),
        SiteAskedAgain(
            round=1, site="hospital-b", code="machine.disk_full", pause_s=4.0
        ),
    )
    assert [site.state for site in view.sites.values()] == [
        "answered after 8.1 s",
        "asked again after 4 s",
        "at work",
    ]


def test_a_site_that_comes_back_is_no_longer_shown_as_missing() -> None:
    view = view_after(started(1), WaitingForSites(missing=("hospital-b",)))
    assert view.sites["hospital-b"].state == "not connected"
    view.take(WaitingForSites(missing=()))
    assert view.sites["hospital-b"].state == "at work"


def test_a_lost_request_does_not_hide_that_a_site_is_missing() -> None:
    lost = SiteAskedAgain(
        round=1, site="hospital-b", code="protocol.flower_failed", pause_s=1.0
    )
    view = view_after(started(1), WaitingForSites(missing=("hospital-b",)), lost)
    assert view.sites["hospital-b"].state == "not connected"
    assert view.sites["hospital-b"].last_code == "protocol.flower_failed"


def test_a_site_that_is_not_ready_is_shown_with_the_reason() -> None:
    told = (
        SiteReadiness(site="hospital-a"),
        SiteReadiness(site="hospital-z", codes=("data.not_prepared",)),
    )
    view = view_after(ReadinessChecked(sites=told))
    assert view.sites["hospital-a"].state == "ready"
    assert view.sites["hospital-z"].state == "not ready"
    assert view.sites["hospital-z"].last_code == "data.not_prepared"


def test_rounds_with_and_without_a_site_are_counted() -> None:
    failed = SiteFailed(
        round=2, site="hospital-b", code="protocol.site_timeout", seconds=9.0
    )
    view = view_after(started(1), answer("hospital-b"), started(2), failed)
    site = view.sites["hospital-b"]
    assert (site.answered, site.without) == ({1}, {2})
    assert site.last_code == "protocol.site_timeout"


def test_a_round_that_is_repeated_counts_once() -> None:
    failed = SiteFailed(
        round=2, site="hospital-b", code="protocol.site_timeout", seconds=9.0
    )
    view = view_after(
        finished(1),
        failed,
        finished(2),
        RunInterrupted(code="machine.disk_full", message="Full."),
        RunResumed(round=1, num_rounds=40),
        answer("hospital-b", 2),
    )
    assert set(view.finished) == {1}
    assert (view.sites["hospital-b"].answered, view.sites["hospital-b"].without) == (
        {2},
        set(),
    )


def test_the_time_left_follows_from_the_last_rounds() -> None:
    view = view_after(*(finished(number) for number in range(1, 11)), started(11))
    assert view.left() == (
        timedelta(seconds=PHASES.total),
        timedelta(seconds=29 * PHASES.total),
    )


@pytest.mark.parametrize(
    ("after_s", "words"), [(4, "about 4 min 56 s left"), (90, "at least 4 min 50 s")]
)
def test_a_round_that_drags_on_makes_the_time_left_a_least_one(
    after_s: float, words: str
) -> None:
    view = view_after(finished(10), started(11))
    assert words in shown(view, after_s=after_s)


@pytest.mark.parametrize(
    "event", [RunStopped(), RunInterrupted(code="machine.disk_full", message="Full.")]
)
def test_a_run_that_stands_still_promises_no_end(event: RunEvent) -> None:
    view = view_after(finished(1), started(2), event)
    assert view.left() is None
    assert "left" not in shown(view)


def test_what_is_shown_fits_eighty_columns() -> None:
    long = SITES[-1]
    view = view_after(
        *(finished(number) for number in range(1, 4)),
        judged(3, worst_c_site=long),
        started(4),
        SiteFailed(round=3, site=long, code="protocol.flower_failed", seconds=99.0),
        SiteAskedAgain(
            round=4, site=long, code="protocol.trainer_unreachable", pause_s=30.0
        ),
    )
    text = shown(view)
    assert max(map(len, text.splitlines())) <= 80
    assert long in text


def test_the_longest_name_of_a_run_hides_nothing() -> None:
    view = RunView.of("r" * 50, num_rounds=40, sites=SITES)
    for event in (finished(10), started(11)):
        view.take(event)
    lines = shown(view, after_s=7260).splitlines()
    assert max(map(len, lines)) <= 80
    assert "at least 4 min 50 s left" in " ".join(lines)


def test_of_many_sites_those_in_trouble_are_shown_and_the_others_counted() -> None:
    names = tuple(f"site-{number:02d}" for number in range(50))
    view = RunView.of("first", num_rounds=40, sites=names)
    events: list[RunEvent] = [
        finished(1),
        judged(1),
        RoundStarted(round=2, num_rounds=40, sites=names, at_utc=BEGUN),
        *(answer(name, 2) for name in names[:30]),
        WaitingForSites(missing=(names[44],)),
        SiteAskedAgain(round=2, site=names[49], code="machine.disk_full", pause_s=2.0),
    ]
    for event in events:
        view.take(event)
    lines = shown(view).splitlines()
    assert len(lines) <= 24
    rows = [line.split()[0] for line in lines]
    assert {names[44], names[49]} <= set(rows)
    assert "and 36 more: 30 answered, 6 at work" in lines
    assert "machine.disk_full" in "".join(lines)


def test_every_figure_of_a_model_has_its_n() -> None:
    text = shown(view_after(judged(3)))
    assert "loss 1.234 (n = 120), C 0.612 (n = 98)" in text
    assert "worst site hospital-b: C 0.550, on training patients" in text


def test_a_model_of_too_few_patients_is_said_to_be_none() -> None:
    view = view_after(judged(3, mean_loss=None, num_patients=None))
    assert "below the minimum cell" in shown(view)


def test_seconds_by_phase_and_bytes_are_shown() -> None:
    text = shown(view_after(finished(1), finished(2), started(3)))
    assert (
        "round 2 took 10.0 s: sites 7.0, checks 1.0, combining 0.5, writing 1.5" in text
    )
    assert "2 rounds: 6.0 MB out, 4.0 MB in" in text


@pytest.mark.parametrize(
    ("after_s", "words"),
    [
        (12, "for 12 s"),
        (75, "for 1 min 15 s"),
        (7260, "for 2 h 1 min"),
        (-3, "for 0 s"),
    ],
)
def test_the_time_of_a_round_is_spelt(after_s: float, words: str) -> None:
    assert words in shown(view_after(started(1)), after_s=after_s)


def test_what_a_site_is_called_cannot_steer_the_terminal() -> None:
    view = RunView.of("[red]first", num_rounds=1, sites=["[link=x]site"])
    assert "[link=x]site" in shown(view)
    assert "[red]first" in shown(view)


def test_where_there_is_no_terminal_nothing_is_drawn() -> None:
    out = RichConsole(file=StringIO(), force_terminal=False)
    with live_run(out, view_after(started(1))):
        pass
    file = out.file
    assert isinstance(file, StringIO)
    assert file.getvalue() == ""


def test_on_a_terminal_the_sites_are_drawn() -> None:
    out = RichConsole(file=StringIO(), force_terminal=True, width=80)
    with live_run(out, view_after(started(1))):
        pass
    file = out.file
    assert isinstance(file, StringIO)
    assert "hospital-a" in file.getvalue()


def test_that_nobody_is_missing_any_more_is_told() -> None:
    assert describe_event(WaitingForSites(missing=())) == "all sites are connected"


def test_that_a_round_is_complete_is_no_line_of_its_own() -> None:
    assert describe_event(finished(1)) is None
