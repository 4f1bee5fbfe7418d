import pytest

from acf_server.console import Console, describe_event, describe_interval
from acf_server.run_events import (
    ModelJudged,
    RoundStarted,
    RunEvent,
    RunFailed,
    RunFinished,
    SiteAnswered,
    SiteFailed,
    WaitingForSites,
)
from acf_server.run_view import RunView
from acfnet_core.evaluation.verdict import Interval

JUDGED = {
    "kind": "model_judged",
    "round": 2,
    "num_rounds": 5,
    "num_patients": 60,
    "num_patients_c": 60,
    "mean_loss": 1.25,
    "mean_c": 0.6,
    "worst_c": 0.5,
    "worst_c_site": "hospital-b",
}
EVENTS: list[RunEvent] = [
    WaitingForSites(missing=("hospital-a",)),
    RoundStarted(round=1, num_rounds=5, sites=("hospital-a",)),
    SiteAnswered(round=1, site="hospital-a", seconds=1.0),
    SiteFailed(round=1, site="hospital-b", code="data.no_events", seconds=1.0),
    ModelJudged.model_validate(JUDGED),
    RunFinished(rounds=5, seconds=3.2),
    RunFailed(code="protocol.too_few_sites", message="Few.", remedy="Ask."),
]


def describe(**changes: object) -> str:
    return describe_event(ModelJudged.model_validate(JUDGED | changes)) or ""


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (EVENTS[0], "waiting for hospital-a"),
        (EVENTS[3], "round 1: hospital-b did not take part (data.no_events)"),
        (EVENTS[5], "all 5 rounds done in 3 s"),
        (EVENTS[6], "the run ended early (protocol.too_few_sites)"),
    ],
)
def test_an_event_is_told_in_one_line(event: RunEvent, words: str) -> None:
    assert describe_event(event) == words


@pytest.mark.parametrize("event", EVENTS[1:3])
def test_what_nobody_needs_to_read_is_not_told(event: RunEvent) -> None:
    assert describe_event(event) is None


def test_a_judgement_names_the_worst_site() -> None:
    line = describe()
    words = ("round 2/5", "loss 1.250", "C 0.600", "worst hospital-b 0.500")
    assert [word for word in words if word not in line] == []


def test_a_judgement_says_on_how_many_patients_it_rests() -> None:
    assert "n = 60" in describe()


def test_a_judgement_of_too_few_patients_is_said_to_be_none() -> None:
    line = describe(num_patients=None, num_patients_c=None, mean_loss=None, mean_c=None)
    assert "minimum cell" in line


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.5, 0.7, "0.600 (0.500 to 0.700)"), (None, None, "0.600 (no interval)")],
)
def test_an_interval_is_shown_with_its_bounds(
    low: float | None, high: float | None, words: str
) -> None:
    assert describe_interval(Interval(estimate=0.6, low=low, high=high)) == words


def test_no_estimate_is_shown_as_none() -> None:
    assert describe_interval(None).strip() == "not determined"


def test_following_returns_the_last_event_and_shows_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = RunView.of("first", num_rounds=5, sites=["hospital-a", "hospital-b"])
    assert Console().follow(EVENTS, view=view) == EVENTS[-1]
    said = capsys.readouterr()
    assert said.out == ""
    assert "did not take part" in said.err
