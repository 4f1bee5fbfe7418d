"""Runs are given to Flower until they have ended, by a server that may be new."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import numpy as np
import pytest
from references.run_folder import make_run

import acf_server.run_keeper as keeper_module
from acf_server.coordinator import Coordinator, initialise
from acf_server.run_events import read_events
from acf_server.run_files import (
    FLOWER_RUN_FILE,
    RUN_FILE,
    RUN_LOCK,
    end_run,
    read_run,
    write_record,
)
from acf_server.run_keeper import MAX_ATTEMPTS, RunKeeper
from acfnet_core.errors import ProtocolError
from acfnet_core.federation import readiness
from acfnet_core.federation.checkpoint import save_checkpoint
from acfnet_core.files import held_lock


class FakeControl:
    """Flower's control interface; a run that is started may die at once."""

    started: ClassVar[list[Path]]
    stopped: ClassVar[list[int]]
    dies: ClassVar[bool]
    refuses: ClassVar[bool]

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
        if self.refuses:
            raise ProtocolError("protocol.flower_failed", "Not now.", remedy="Look.")
        self.started.append(run_folder)
        return 100 + len(self.started)

    def stop_run(self, run_id: int) -> None:
        self.stopped.append(run_id)

    def has_ended(self, run_id: int) -> bool:
        del run_id
        return self.dies


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> type[FakeControl]:
    class Control(FakeControl):
        started: ClassVar[list[Path]] = []
        stopped: ClassVar[list[int]] = []
        dies = False
        refuses = False

    monkeypatch.setattr(keeper_module, "Control", Control)
    for name in ("LOOK_AGAIN_S", "FIRST_PAUSE_S", "LONGEST_PAUSE_S"):
        monkeypatch.setattr(keeper_module, name, 0.0)
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
    folder = coordinator.runs_folder / "first"
    folder.mkdir()
    complete(folder, 0)
    started = datetime(2026, 3, 1, tzinfo=UTC)
    record = make_run(
        name="first", status="running", started_utc=started, finished_utc=None
    )
    write_record(folder / RUN_FILE, record)
    return folder


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def keeper(coordinator: Coordinator, told: list[str]) -> RunKeeper:
    return RunKeeper(coordinator, tell=told.append)


@pytest.fixture
def worked_on(run_folder: Path) -> Iterator[ExitStack]:
    """A ServerApp works on the run until the stack is closed."""
    with ExitStack() as stack:
        stack.enter_context(held_lock(run_folder / RUN_LOCK, what="this run"))
        yield stack


def complete(folder: Path, number: int) -> None:
    save_checkpoint(
        folder,
        {"weight": np.ones(2, np.float32)},
        run="first",
        round_number=number,
        contributors={},
    )


def test_a_running_run_is_given_to_flower_once(
    keeper: RunKeeper, run_folder: Path, control: type[FakeControl]
) -> None:
    for _ in range(5):
        keeper.tend()
    assert control.started == [run_folder.resolve()]
    assert (run_folder / FLOWER_RUN_FILE).read_text() == "101"


@pytest.mark.parametrize("status", ["finished", "stopped", "failed"])
def test_a_run_that_has_ended_is_left_alone(
    keeper: RunKeeper, run_folder: Path, control: type[FakeControl], status: str
) -> None:
    end_run(run_folder, status)  # type: ignore[arg-type]
    keeper.tend()
    assert control.started == []


@pytest.mark.usefixtures("worked_on")
def test_a_run_that_is_worked_on_is_left_alone(
    keeper: RunKeeper, control: type[FakeControl]
) -> None:
    keeper.tend()
    assert control.started == []


def test_a_run_whose_serverapp_was_killed_is_taken_up_again(
    keeper: RunKeeper,
    run_folder: Path,
    control: type[FakeControl],
    worked_on: ExitStack,
    told: list[str],
) -> None:
    keeper.tend()
    complete(run_folder, 1)
    worked_on.close()
    keeper.tend()
    assert len(control.started) == 1
    assert told == ["Run first is taken up again after round 1."]


def test_a_new_server_stops_what_flower_still_has_of_the_run(
    keeper: RunKeeper, run_folder: Path, control: type[FakeControl]
) -> None:
    (run_folder / FLOWER_RUN_FILE).write_text("55")
    keeper.tend()
    assert control.stopped == [55]
    assert len(control.started) == 1


def test_a_run_that_dies_at_once_is_given_again_and_at_last_given_up(
    keeper: RunKeeper, run_folder: Path, control: type[FakeControl]
) -> None:
    control.dies = True
    for _ in range(3 * MAX_ATTEMPTS):
        keeper.tend()
    assert len(control.started) == MAX_ATTEMPTS + 1
    assert read_run(run_folder).status == "failed"
    event = read_events(run_folder)[-1]
    assert event.kind == "run_failed"
    assert "acf-server run resume first" in event.remedy


def test_a_further_round_counts_the_attempts_anew(
    keeper: RunKeeper, run_folder: Path, control: type[FakeControl]
) -> None:
    control.dies = True
    for number in range(1, 2 * MAX_ATTEMPTS):
        keeper.tend()
        complete(run_folder, number)
    assert read_run(run_folder).status == "running"


def test_flowers_refusal_is_told_and_tried_again(
    keeper: RunKeeper, control: type[FakeControl], told: list[str], run_folder: Path
) -> None:
    control.refuses = True
    keeper.tend()
    assert told == ["Run first: Not now."]
    control.refuses = False
    keeper.tend()
    assert control.started == [run_folder.resolve()]


def test_a_run_waits_for_space_on_the_disk_and_says_so_once(
    keeper: RunKeeper,
    run_folder: Path,
    control: type[FakeControl],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(readiness, "free_disk_bytes", lambda folder: 0)
        for _ in range(3 * MAX_ATTEMPTS):
            keeper.tend()
    assert len(told) == 1
    assert "the disk is full; the run goes on when there is space" in told[0]
    assert read_events(run_folder) == []
    keeper.tend()
    assert told[1:] == ["Run first: The disk was full; there is space again."]
    (event,) = read_events(run_folder)
    assert event.kind == "run_interrupted"
    assert event.code == "machine.disk_full"
    assert control.started == [run_folder.resolve()]


def test_a_damaged_record_of_one_run_does_not_stop_the_others(
    keeper: RunKeeper,
    coordinator: Coordinator,
    run_folder: Path,
    control: type[FakeControl],
    told: list[str],
) -> None:
    broken = coordinator.runs_folder / "a-broken-one"
    broken.mkdir()
    (broken / RUN_FILE).write_text("{")
    keeper.tend()
    assert control.started == [run_folder.resolve()]
    assert "a-broken-one" in told[0]


def test_the_end_of_a_run_is_in_the_audit_log(
    keeper: RunKeeper,
    coordinator: Coordinator,
    run_folder: Path,
    control: type[FakeControl],
) -> None:
    keeper.tend()
    end_run(run_folder, "finished")
    keeper.tend()
    assert len(control.started) == 1
    last = (coordinator.folder / "audit.jsonl").read_text().splitlines()[-1]
    assert '"event":"run_ended"' in last.replace('": "', '":"')
    assert "finished" in last
