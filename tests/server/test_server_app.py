from pathlib import Path
from typing import cast

import pytest
from flwr.app import Context, RecordDict
from flwr.serverapp import Grid
from references.federated_run import make_run, make_sites
from references.run_folder import make_run as make_record

import acf_server.app as app_module
from acf_server.app import RUN_FOLDER_KEY, main
from acf_server.run_events import RunEvent, read_events
from acf_server.run_files import RUN_FILE, RUN_LOCK, end_run, read_run, write_record
from acf_server.run_plan import write_plan
from acfnet_core.errors import ConfigError, MachineError, ProtocolError
from acfnet_core.federation import readiness
from acfnet_core.files import held_lock

CANARY = "PATIENT-4711"
GRID = cast(Grid, None)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    run = make_run(tmp_path, make_sites(("hospital-a",)), minimum_sites=1)
    write_plan(tmp_path, run.plan)
    record = make_record(status="running", finished_utc=None)
    write_record(tmp_path / RUN_FILE, record)
    return tmp_path


def let_the_run_end(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    class Loop:
        def __init__(self, *_: object) -> None:
            pass

        def run(self) -> None:
            if error is not None:
                raise error

    monkeypatch.setattr(app_module, "RoundLoop", Loop)
    monkeypatch.setattr(app_module, "check_readiness", lambda *_, **__: None)


def start(run_folder: Path) -> None:
    config: dict[str, bool | float | int | str] = {RUN_FOLDER_KEY: str(run_folder)}
    main(GRID, Context(1, 1, {}, RecordDict(), config))


def last_event(run_folder: Path) -> RunEvent:
    return read_events(run_folder)[-1]


def test_a_run_that_is_done_says_so(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_the_run_end(monkeypatch, None)
    start(run_folder)
    assert last_event(run_folder).kind == "run_finished"
    record = read_run(run_folder)
    assert record.status == "finished"
    assert record.finished_utc is not None


def test_a_run_that_ends_early_says_why(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_the_run_end(
        monkeypatch, ProtocolError("protocol.too_few_sites", "Few.", remedy="Ask.")
    )
    with pytest.raises(ProtocolError):
        start(run_folder)
    event = last_event(run_folder)
    assert event.kind == "run_failed"
    assert (event.code, event.message) == ("protocol.too_few_sites", "Few.")
    assert read_run(run_folder).status == "failed"


def test_an_unexpected_error_is_told_by_its_type_alone(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_the_run_end(monkeypatch, ValueError(CANARY))
    with pytest.raises(ValueError, match=CANARY):
        start(run_folder)
    event = read_events(run_folder)[-1]
    assert event.kind == "run_interrupted"
    assert event.code == "protocol.run_failed"
    assert "ValueError" in event.message
    assert CANARY not in (run_folder / "events.jsonl").read_text()
    assert read_run(run_folder).status == "running"


def test_an_unexpected_error_on_a_full_disk_is_told_as_that(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "free_disk_bytes", lambda folder: 0)
    let_the_run_end(monkeypatch, ConnectionError("Flower's database"))
    with pytest.raises(ConnectionError):
        start(run_folder)
    event = last_event(run_folder)
    assert event.kind == "run_interrupted"
    assert event.code == "machine.disk_full"
    assert read_run(run_folder).status == "running"


def test_a_full_disk_interrupts_a_run_and_does_not_end_it(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_the_run_end(monkeypatch, MachineError("machine.disk_full", "Full.", remedy="."))
    with pytest.raises(MachineError):
        start(run_folder)
    assert read_events(run_folder)[-1].kind == "run_interrupted"
    assert read_run(run_folder).status == "running"


def test_a_run_that_a_person_stopped_is_not_called_interrupted(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_run(run_folder, "stopped")
    let_the_run_end(monkeypatch, ConnectionError("Flower has ended it"))
    with pytest.raises(ConnectionError):
        start(run_folder)
    assert read_events(run_folder) == []


def test_two_do_not_work_on_one_run(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_the_run_end(monkeypatch, None)
    with (
        held_lock(run_folder / RUN_LOCK, what="this run"),
        pytest.raises(MachineError) as caught,
    ):
        start(run_folder)
    assert caught.value.code == "machine.already_running"
    assert read_run(run_folder).status == "running"


def test_a_run_without_a_plan_says_so(run_folder: Path) -> None:
    (run_folder / "plan.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"plan\.json"):
        start(run_folder)
    assert last_event(run_folder).kind == "run_failed"
