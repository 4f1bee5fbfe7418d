from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from references.run_folder import make_run

import acf_server.runs as runs_module
from acf_server.coordinator import Coordinator, initialise
from acf_server.run_events import (
    EVENTS_FILE,
    RoundStarted,
    RunEvent,
    RunFailed,
    RunFinished,
    append_event,
    end_of_events,
    follow_events,
    read_events,
)
from acf_server.run_files import RUN_FILE, end_run, read_run, write_record
from acf_server.runs import find_run, follow_run, list_runs, resume_run, stop_run
from acfnet_core.errors import ConfigError, MachineError, ProtocolError

STARTED = RoundStarted(round=1, num_rounds=1, sites=("hospital-a",))
FINISHED = RunFinished(rounds=1, seconds=2.0)
FAILED = RunFailed(code="protocol.too_few_sites", message="Few.", remedy="Ask.")


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return initialise(
        tmp_path / "coordinator",
        consortium="crlm",
        address="fl.example.org:8443",
        contract_text='name = "crlm"\n',
        root_passphrase=b"x",
    )


@pytest.fixture
def run_folder(coordinator: Coordinator) -> Path:
    return write_run(coordinator, "first")


def write_run(coordinator: Coordinator, name: str, *, day: int = 1) -> Path:
    folder = coordinator.runs_folder / name
    folder.mkdir()
    started = datetime(2026, 3, day, tzinfo=UTC)
    record = make_run(
        name=name, status="running", started_utc=started, finished_utc=None
    )
    write_record(folder / RUN_FILE, record)
    return folder


def timeless(events: Iterable[RunEvent]) -> list[RunEvent]:
    """Leave out when the events were written."""
    return [event.model_copy(update={"at_utc": None}) for event in events]


def alive() -> None:
    """Nothing is wrong with the run."""


def ended() -> None:
    raise ProtocolError("protocol.run_failed", "It ended.", remedy="Look.")


@pytest.mark.parametrize("last", [FINISHED, FAILED])
def test_events_are_followed_to_the_last(tmp_path: Path, last: RunEvent) -> None:
    for event in (STARTED, last, STARTED):
        append_event(tmp_path, event)
    assert timeless(follow_events(tmp_path, check_alive=alive)) == [STARTED, last]


def test_an_event_says_when_it_was_written(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    written = append_event(tmp_path, STARTED)
    assert read_events(tmp_path) == [written]
    assert written.at_utc is not None
    assert before <= written.at_utc <= datetime.now(UTC)


def test_an_event_from_before_events_told_their_time_is_read(tmp_path: Path) -> None:
    line = STARTED.model_dump_json(exclude={"at_utc"})
    (tmp_path / EVENTS_FILE).write_text(f"{line}\n")
    assert read_events(tmp_path) == [STARTED]


def test_half_a_line_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = FINISHED.model_dump_json() + "\n"
    path = tmp_path / EVENTS_FILE
    path.write_text(line[:10])

    def write_the_rest(seconds: float) -> None:
        with path.open("a") as file:
            file.write(line[10:])

    monkeypatch.setattr("acf_server.run_events.sleep", write_the_rest)
    assert list(follow_events(tmp_path, check_alive=alive)) == [FINISHED]


def test_a_run_that_ends_without_a_word_is_noticed(tmp_path: Path) -> None:
    append_event(tmp_path, STARTED)
    events = follow_events(tmp_path, check_alive=ended)
    assert timeless([next(events)]) == [STARTED]
    with pytest.raises(ProtocolError, match="It ended"):
        next(events)


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    append_event(tmp_path, STARTED)
    with (tmp_path / EVENTS_FILE).open("a") as file:
        file.write('{"kind": "round_sta')
    append_event(tmp_path, FINISHED)
    followed = follow_events(tmp_path, check_alive=alive)
    assert timeless(followed) == [STARTED, FINISHED]
    assert timeless(read_events(tmp_path)) == [STARTED, FINISHED]


def test_a_resumed_run_is_followed_from_there(tmp_path: Path) -> None:
    append_event(tmp_path, FAILED)
    start_at = end_of_events(tmp_path)
    append_event(tmp_path, FINISHED)
    events = follow_events(tmp_path, check_alive=alive, start_at=start_at)
    assert timeless(events) == [FINISHED]
    assert timeless(read_events(tmp_path, end_at=start_at)) == [FAILED]


def test_who_stops_following_stops_nothing(
    coordinator: Coordinator, run_folder: Path
) -> None:
    append_event(run_folder, STARTED)
    next(follow_run(coordinator, run_folder))
    assert read_run(run_folder).status == "running"


def test_a_server_that_stays_away_is_told(
    coordinator: Coordinator, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "SERVER_AWAY_S", 0.0)
    monkeypatch.setattr(runs_module, "ASK_SERVER_S", 0.0)
    with pytest.raises(MachineError) as caught:
        list(follow_run(coordinator, run_folder))
    assert caught.value.code == "machine.server_not_running"
    assert "acf-server run watch first" in caught.value.remedy


@pytest.mark.parametrize("act", [stop_run, resume_run])
def test_a_finished_run_is_neither_stopped_nor_resumed(
    act: Callable[[Coordinator, Path], object],
    coordinator: Coordinator,
    run_folder: Path,
) -> None:
    end_run(run_folder, "finished")
    with pytest.raises(ConfigError, match="is finished") as caught:
        act(coordinator, run_folder)
    assert caught.value.code == "config.run_state"


def test_a_failed_run_is_opened_again(
    coordinator: Coordinator, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "require_running", lambda coordinator: None)
    append_event(run_folder, FAILED)
    end_run(run_folder, "failed")
    assert resume_run(coordinator, run_folder) == end_of_events(run_folder)
    record = read_run(run_folder)
    assert (record.status, record.finished_utc) == ("running", None)


def test_runs_are_listed_oldest_first(coordinator: Coordinator) -> None:
    write_run(coordinator, "a-later", day=9)
    write_run(coordinator, "earlier", day=2)
    names = [record.name for record in list_runs(coordinator)]
    assert names == ["earlier", "a-later"]


@pytest.mark.usefixtures("run_folder")
def test_a_run_that_there_is_not_is_told_with_those_that_there_are(
    coordinator: Coordinator,
) -> None:
    with pytest.raises(ConfigError, match="there are: first") as caught:
        find_run(coordinator, "second")
    assert caught.value.code == "config.run_not_found"
