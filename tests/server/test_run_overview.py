from pathlib import Path

import pytest

from acf_server.run_events import (
    RoundStarted,
    RunEvent,
    RunInterrupted,
    WaitingForSites,
    append_event,
)
from acf_server.run_overview import _doing

STARTED = RoundStarted(round=2, num_rounds=5, sites=("hospital-a",))
LAST = RoundStarted(round=6, num_rounds=5, sites=("hospital-a",))
MISSING = WaitingForSites(missing=("hospital-a",))
BACK = WaitingForSites(missing=())


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], None),
        ([STARTED], "round 2 of 5"),
        ([STARTED, MISSING], "waiting for hospital-a"),
        ([STARTED, MISSING, BACK], "round 2 of 5"),
        ([STARTED, MISSING, LAST], "the sites judge the last model"),
        (
            [STARTED, RunInterrupted(code="machine.disk_full", message="Full.")],
            "broke off (machine.disk_full); it is taken up again by itself",
        ),
    ],
)
def test_what_a_run_does_is_told_in_words(
    tmp_path: Path, events: list[RunEvent], words: str | None
) -> None:
    for event in events:
        append_event(tmp_path, event)
    assert _doing(tmp_path) == words
