import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import ClassVar

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
    follow_events,
)
from acf_server.run_files import RUN_FILE, read_run, write_record
from acf_server.runs import find_run, list_runs, start_run
from acfnet_core.errors import ConfigError, ProtocolError

STARTED = RoundStarted(round=1, num_rounds=1, sites=("hospital-a",))
FINISHED = RunFinished(rounds=1, seconds=2.0)
FAILED = RunFailed(code="protocol.too_few_sites", message="Few.", remedy="Ask.")


class FakeControl:
    """Flower's control interface, of a run that writes `events` and may then die."""

    events: tuple[RunEvent, ...] = ()
    dies = False
    stopped: ClassVar[list[int]]

    def __init__(self, server: object) -> None:
        del server

    def __enter__(self) -> "FakeControl":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def start_run(self, bundle: Path, run_folder: Path) -> int:
        del bundle
        for event in self.events:
            append_event(run_folder, event)
        return 7

    def check_run(self, run_id: int) -> None:
        if self.dies:
            raise ProtocolError("protocol.run_failed", "It ended.", remedy="Look.")

    def stop_run(self, run_id: int) -> None:
        self.stopped.append(run_id)
        if self.dies:
            raise ProtocolError("protocol.flower_failed", "Is over.", remedy="Look.")


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> type[FakeControl]:
    class Control(FakeControl):
        stopped: ClassVar[list[int]] = []

    monkeypatch.setattr(runs_module, "Control", Control)
    return Control


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


def last_audit(coordinator: Coordinator) -> dict[str, object]:
    text = (coordinator.folder / "audit.jsonl").read_text()
    return dict(json.loads(text.splitlines()[-1]))


def alive() -> None:
    """Nothing is wrong with the run."""


def ended() -> None:
    raise ProtocolError("protocol.run_failed", "It ended.", remedy="Look.")


@pytest.mark.parametrize("last", [FINISHED, FAILED])
def test_events_are_followed_to_the_last(tmp_path: Path, last: RunEvent) -> None:
    for event in (STARTED, last, STARTED):
        append_event(tmp_path, event)
    assert list(follow_events(tmp_path, check_alive=alive)) == [STARTED, last]


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
    assert next(events) == STARTED
    with pytest.raises(ProtocolError, match="It ended"):
        next(events)


@pytest.mark.parametrize(("last", "completed"), [(FINISHED, True), (FAILED, False)])
def test_the_audit_log_says_whether_a_run_was_completed(
    coordinator: Coordinator,
    run_folder: Path,
    control: type[FakeControl],
    last: RunEvent,
    completed: bool,
) -> None:
    control.events = (STARTED, last)
    assert list(start_run(coordinator, run_folder))[-1] == last
    record = last_audit(coordinator)
    assert (record["event"], record["completed"]) == ("run_ended", completed)
    assert control.stopped == []


def test_a_run_that_is_no_longer_followed_is_stopped(
    coordinator: Coordinator, run_folder: Path, control: type[FakeControl]
) -> None:
    control.events = (STARTED,)
    events = start_run(coordinator, run_folder)
    next(events)
    close: Callable[[], None] = events.close  # type: ignore[attr-defined]  # generator
    close()
    assert control.stopped == [7]
    assert read_run(run_folder).status == "stopped"
    assert last_audit(coordinator)["completed"] is False


def test_the_reason_of_a_run_that_died_is_what_one_learns(
    coordinator: Coordinator, run_folder: Path, control: type[FakeControl]
) -> None:
    control.events, control.dies = (STARTED,), True
    with pytest.raises(ProtocolError) as caught:
        list(start_run(coordinator, run_folder))
    assert caught.value.code == "protocol.run_failed"
    assert read_run(run_folder).status == "stopped"


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
