import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from references.command_line import Program, all_commands, refused
from references.run_folder import make_run
from typer.testing import CliRunner

from acf_server.cli import app, main
from acf_server.coordinator import Coordinator, initialise
from acf_server.run_events import RunEvent, RunFailed
from acf_server.run_files import RUN_FILE, write_record
from acf_server.run_plan import StrategySettings
from acf_server.superlink import check_port_is_free, free_loopback_port
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.errors import CATALOGUE, MachineError

CONTRACT = shipped_contract("crlm").without_imaging()
CANARY = "PATIENT-4711"
ROOT = Path(__file__).parents[2]
RUN_TOML = """
[run]
name = "first"
study = "A study"
sites = ["hospital-a"]
rounds = 1
[training]
local_steps = 1
"""


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program("acf-server", main, monkeypatch, capsys)


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.fixture
def coordinator(tmp_path: Path, busy_port: int) -> Coordinator:
    return initialise(
        tmp_path / "coordinator",
        consortium="crlm",
        address="fl.example.org:8443",
        contract_text=contract_to_toml(CONTRACT),
        port=busy_port,
        root_passphrase=b"x",
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )


@pytest.fixture
def run_toml(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(RUN_TOML)
    return path


@pytest.fixture
def finished_run(coordinator: Coordinator) -> Path:
    """The folder of a run, as far as `evaluate` looks before it reads a table."""
    folder = coordinator.runs_folder / "first"
    folder.mkdir()
    write_record(folder / RUN_FILE, make_run(name="first"))
    (folder / "contract.toml").write_text(contract_to_toml(CONTRACT))
    return folder


@pytest.mark.parametrize("words", all_commands(app), ids=" ".join)
def test_the_help_of_every_command_has_an_example(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"])
    assert "\\[" not in shown.output
    assert shown.exit_code == 0
    assert f"Example:  acf-server {' '.join(words)}" in shown.output


def test_help_imports_neither_torch_nor_flower() -> None:
    folders = [str(ROOT / side) for side in ("server", "")]
    code = (
        f"import sys; sys.path[:0] = {folders}; sys.argv = ['acf-server', '--help']\n"
        "from acf_server.cli import app\n"
        "app(standalone_mode=False)\n"
        "sys.exit(bool({'torch', 'flwr'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("start",),
        ("site", "list"),
        ("site", "invite", "hospital-a"),
        ("run", "list"),
        ("run", "start", "run.toml"),
        ("evaluate", "first", "--clinical", "a.csv"),
        ("report", "first"),
    ],
    ids=" ".join,
)
def test_every_command_names_a_folder_that_is_not_set_up(
    server: Program, tmp_path: Path, words: tuple[str, ...]
) -> None:
    ended = server.run(*words, "--folder", tmp_path)
    refused(ended, "config.not_initialised", str(tmp_path), "acf-server init")


def test_a_folder_below_a_file_is_unwritable(server: Program, run_toml: Path) -> None:
    folder = run_toml / "coordinator"
    options = ("--consortium", "crlm", "--address", "fl.example.org:8443")
    refused(server.run("init", folder, *options), "machine.folder_unwritable")


def test_a_contract_that_is_not_there_is_named(server: Program, tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    options = ("--consortium", "crlm", "--address", "fl.example.org:8443")
    ended = server.run("init", tmp_path / "new", *options, "--contract", missing)
    refused(ended, "config.not_found", str(missing))


def test_a_port_in_use_is_named_before_anything_is_started(
    server: Program, coordinator: Coordinator, busy_port: int
) -> None:
    ended = server.run("start", "--folder", coordinator.folder)
    refused(ended, "machine.port_in_use", str(busy_port), "listen_port")
    assert not list(coordinator.logs_folder.iterdir())


def test_a_run_file_that_is_not_there_is_named(
    server: Program, coordinator: Coordinator, tmp_path: Path
) -> None:
    missing = tmp_path / "none.toml"
    ended = server.run("run", "start", missing, "--folder", coordinator.folder)
    refused(ended, "config.not_found", str(missing))


def test_a_run_with_a_site_that_nobody_invited_is_refused(
    server: Program, coordinator: Coordinator, run_toml: Path
) -> None:
    ended = server.run("run", "start", run_toml, "--folder", coordinator.folder)
    refused(ended, "identity.site_unknown", "hospital-a")
    assert not list(coordinator.runs_folder.iterdir())


@pytest.mark.parametrize(
    "words", [("evaluate", "first", "--clinical", "a.csv"), ("report", "first")]
)
def test_a_run_that_there_is_not_is_refused(
    server: Program, coordinator: Coordinator, words: tuple[str, ...]
) -> None:
    ended = server.run(*words, "--folder", coordinator.folder)
    refused(ended, "config.run_not_found", "'first'")


@pytest.mark.usefixtures("finished_run")
@pytest.mark.parametrize(
    ("content", "code", "word"),
    [
        (None, "data.path_not_found", "held-out.csv"),
        (",".join(CONTRACT.columns), "data.table_empty", "held-out.csv"),
        ("age,sex\n1,2", "data.missing_column", "max_tumor_size"),
    ],
)
def test_an_unusable_held_out_table_is_named(
    server: Program,
    coordinator: Coordinator,
    tmp_path: Path,
    content: str | None,
    code: str,
    word: str,
) -> None:
    table = tmp_path / "held-out.csv"
    if content is not None:
        table.write_text(content + "\n")
    folder = coordinator.folder
    ended = server.run("evaluate", "first", "--clinical", table, "--folder", folder)
    refused(ended, code, word)


def test_a_run_without_a_global_model_is_not_evaluated(
    server: Program, coordinator: Coordinator, finished_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").touch()
    alone = make_run(name="first", strategy=StrategySettings(name="local_only"))
    write_record(finished_run / RUN_FILE, alone)
    folder = coordinator.folder
    table = tmp_path / "t.csv"
    ended = server.run("evaluate", "first", "--clinical", table, "--folder", folder)
    refused(ended, "data.path_not_found", "local_only", "acf-server report first")


def test_an_error_is_json_when_json_was_asked_for(
    server: Program, tmp_path: Path
) -> None:
    ended = server.run("site", "list", "--folder", tmp_path, "--json")
    assert set(ended.error) == {"code", "message", "remedy"}
    assert ended.error["code"] == "config.not_initialised"


def test_an_invitation_is_the_one_line_on_stdout(
    server: Program, coordinator: Coordinator
) -> None:
    ended = server.run("site", "invite", "hospital-a", "--folder", coordinator.folder)
    assert ended.status == 0
    assert ended.stdout.startswith("acf1:")
    assert len(ended.stdout.splitlines()) == 1
    assert ended.stdout.strip() not in ended.stderr


def test_sites_are_listed_as_json(server: Program, coordinator: Coordinator) -> None:
    server.run("site", "invite", "hospital-a", "--folder", coordinator.folder)
    ended = server.run("site", "list", "--json", "--folder", coordinator.folder)
    assert json.loads(ended.stdout) == [{"site": "hospital-a", "status": "invited"}]


def test_a_run_that_failed_ends_the_command_with_its_status(
    server: Program,
    coordinator: Coordinator,
    run_toml: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> Iterator[RunEvent]:
        code = "protocol.too_few_sites"
        yield RunFailed(code=code, message="Too few.", remedy="Ask them.")

    monkeypatch.setattr("acf_server.runs.create_run", lambda *_: run_toml.parent)
    record = make_run(status="running", finished_utc=None)
    write_record(run_toml.parent / RUN_FILE, record)
    monkeypatch.setattr("acf_server.runs.follow_run", fail)
    ended = server.run("run", "start", run_toml, "--folder", coordinator.folder)
    refused(ended, "protocol.too_few_sites", "Too few.", "Ask them.")


def test_ctrl_c_ends_with_its_status_and_a_word(
    server: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(folder: Path) -> Coordinator:
        raise KeyboardInterrupt

    monkeypatch.setattr("acf_server.coordinator.open_coordinator", interrupt)
    ended = server.run("start")
    assert ended.status == 130
    assert "Interrupted" in ended.stderr


def test_an_unexpected_error_shows_where_and_no_data(
    server: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> Coordinator:
        raise ValueError(CANARY)

    monkeypatch.setattr("acf_server.coordinator.open_coordinator", fail)
    ended = server.run("site", "list", "--json")
    assert ended.status == 1
    assert "internal error: ValueError at " in ended.stderr
    assert CANARY not in ended.stderr + ended.stdout


def test_a_port_in_use_is_refused(busy_port: int) -> None:
    with pytest.raises(MachineError, match=str(busy_port)):
        check_port_is_free("127.0.0.1", busy_port)


def test_a_port_that_was_just_left_is_free() -> None:
    check_port_is_free("127.0.0.1", free_loopback_port())


def test_the_module_is_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "acf_server", "start", "--folder", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{ROOT / 'server'}:{ROOT}"},
    )
    assert done.returncode == CATALOGUE["config.not_initialised"].exit_status
    assert done.stderr.startswith("error (config.not_initialised)")


def test_a_run_without_a_server_leaves_its_name_free(
    server: Program,
    coordinator: Coordinator,
    run_toml: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("acf_server.runs._public_keys", lambda *_: _PublicKeys())
    ended = server.run("run", "start", run_toml, "--folder", coordinator.folder)
    refused(ended, "machine.server_not_running", "acf-server start")
    assert not list(coordinator.runs_folder.iterdir())


class _PublicKeys(dict[str, str]):
    """A key for every site that is asked for."""

    def __missing__(self, name: str) -> str:
        return f"key of {name}"
