import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from references.command_line import Program, all_commands, refused
from typer.testing import CliRunner

from acf_client.cli import app, main
from acf_client.enrolment import EnrolmentState
from acf_client.site import Site, initialise
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.errors import CATALOGUE

CONTRACT = shipped_contract("crlm").without_imaging()
CANARY = "PATIENT-4711"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program("acf-client", main, monkeypatch, capsys)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A clinical table with all columns and no rows."""
    path = tmp_path / "clinical.csv"
    path.write_text(",".join(CONTRACT.columns) + "\n")
    return path


@pytest.fixture
def site(tmp_path: Path, table: Path) -> Site:
    return initialise(
        tmp_path / "site", clinical_table=table, images=None, column_names={}
    )


@pytest.fixture
def enrolled(site: Site) -> Site:
    state = EnrolmentState(
        consortium="crlm",
        site="hospital-a",
        address="fl.example.org:8443",
        root_fingerprint="ab12",
        admitted=datetime(2026, 3, 1, tzinfo=UTC),
    )
    site.enrolment_path.write_text(state.model_dump_json())
    site.contract_path.write_text(contract_to_toml(CONTRACT))
    return site


@pytest.mark.parametrize("words", all_commands(app), ids=" ".join)
def test_the_help_of_every_command_has_an_example(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"])
    assert "\\[" not in shown.output
    assert shown.exit_code == 0
    assert f"Example:  acf-client {' '.join(words)}" in shown.output


def test_help_imports_neither_torch_nor_flower() -> None:
    folders = [str(ROOT / side) for side in ("client", "")]
    code = (
        f"import sys; sys.path[:0] = {folders}; sys.argv = ['acf-client', '--help']\n"
        "from acf_client.cli import app\n"
        "app(standalone_mode=False)\n"
        "sys.exit(bool({'torch', 'flwr'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True
    )
    assert done.returncode == 0


def test_a_new_folder_is_set_up_and_the_next_command_named(
    client: Program, tmp_path: Path, table: Path
) -> None:
    ended = client.run("init", tmp_path / "site", "--clinical", table)
    assert ended.status == 0
    assert "Wrote" in ended.stderr
    assert "Next: acf-client enroll" in ended.stderr
    assert ended.stdout == ""


def test_json_goes_to_stdout_alone(
    client: Program, tmp_path: Path, table: Path
) -> None:
    folder = tmp_path / "site"
    ended = client.run("init", folder, "--clinical", table, "--json")
    assert json.loads(ended.stdout) == {"folder": str(folder)}


def test_a_wrong_path_is_named(client: Program, tmp_path: Path) -> None:
    missing = tmp_path / "none.csv"
    ended = client.run("init", tmp_path / "site", "--clinical", missing)
    refused(ended, "data.path_not_found", str(missing))


def test_a_folder_below_a_file_is_unwritable(
    client: Program, tmp_path: Path, table: Path
) -> None:
    ended = client.run("init", table / "site", "--clinical", table)
    refused(ended, "machine.folder_unwritable", str(table / "site"))


def test_a_folder_is_set_up_once(client: Program, site: Site, table: Path) -> None:
    ended = client.run("init", site.folder, "--clinical", table)
    refused(ended, "config.already_initialised", str(site.folder))


@pytest.mark.parametrize(
    "words", [("data", "check"), ("data", "prepare"), ("start",), ("enroll", "acf1:x")]
)
def test_every_command_names_a_folder_that_is_not_set_up(
    client: Program, tmp_path: Path, words: tuple[str, ...]
) -> None:
    ended = client.run(*words, "--folder", tmp_path)
    refused(ended, "config.not_initialised", str(tmp_path), "acf-client init")


@pytest.mark.parametrize("words", [("data", "check"), ("data", "prepare"), ("start",)])
def test_data_commands_and_start_need_an_enrolment(
    client: Program, site: Site, words: tuple[str, ...]
) -> None:
    refused(client.run(*words, "--folder", site.folder), "identity.not_enrolled")


def test_settings_with_faults_are_all_named(client: Program, site: Site) -> None:
    path = site.folder / "site.toml"
    path.write_text('[data]\nclinical_table = 3\nextra = 1\n[compute]\ndevice = "gpu"')
    ended = client.run("data", "check", "--folder", site.folder)
    places = ("data.clinical_table", "data.extra", "compute.device")
    refused(ended, "config.invalid", str(path), *places)


def test_a_line_that_is_no_invitation_is_refused(client: Program, site: Site) -> None:
    ended = client.run("enroll", "acf1:nonsense", "--folder", site.folder)
    refused(ended, "identity.invitation_invalid")


def test_an_admission_that_is_not_there_is_named(
    client: Program, enrolled: Site, tmp_path: Path
) -> None:
    missing = tmp_path / "none.json"
    ended = client.run("enroll", "--admission", missing, "--folder", enrolled.folder)
    refused(ended, "config.not_found", str(missing))


@pytest.mark.parametrize(
    "words", [("enroll",), ("enroll", "acf1:x", "--admission", "a.json")]
)
def test_enrolling_takes_a_line_or_an_admission(
    client: Program, words: tuple[str, ...]
) -> None:
    ended = client.run(*words)
    assert ended.status == 2
    assert "--admission" in ended.stderr


@pytest.mark.parametrize("command", ["check", "prepare"])
def test_an_empty_table_is_named(
    client: Program, enrolled: Site, table: Path, command: str
) -> None:
    ended = client.run("data", command, "--folder", enrolled.folder)
    refused(ended, "data.table_empty", str(table))


@pytest.mark.parametrize("command", ["check", "prepare"])
def test_a_missing_column_is_named(
    client: Program, enrolled: Site, table: Path, command: str
) -> None:
    columns = [name for name in CONTRACT.columns if name != "max_tumor_size"]
    table.write_text(",".join(columns) + "\n" + ",".join("1" for _ in columns))
    ended = client.run("data", command, "--folder", enrolled.folder)
    refused(ended, "data.missing_column", str(table), "max_tumor_size")


def test_a_contract_that_was_damaged_is_refused(
    client: Program, enrolled: Site
) -> None:
    enrolled.contract_path.write_text("name = 3")
    ended = client.run("data", "check", "--folder", enrolled.folder)
    refused(ended, "config.contract_invalid", "contract.toml")


def test_starting_needs_prepared_data(client: Program, enrolled: Site) -> None:
    ended = client.run("start", "--folder", enrolled.folder)
    refused(ended, "data.not_prepared", "acf-client data prepare")


def test_an_error_is_json_when_json_was_asked_for(
    client: Program, tmp_path: Path
) -> None:
    ended = client.run("data", "check", "--folder", tmp_path, "--json")
    assert set(ended.error) == {"code", "message", "remedy"}
    assert ended.error["code"] == "config.not_initialised"


def test_ctrl_c_ends_with_its_status_and_a_word(
    client: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(folder: Path) -> Site:
        raise KeyboardInterrupt

    monkeypatch.setattr("acf_client.site.open_site", interrupt)
    ended = client.run("start")
    assert ended.status == 130
    assert "Interrupted" in ended.stderr


def test_an_unexpected_error_shows_where_and_no_data(
    client: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> Site:
        raise ValueError(CANARY)

    monkeypatch.setattr("acf_client.site.open_site", fail)
    ended = client.run("data", "check", "--json")
    assert ended.status == 1
    assert "internal error: ValueError at test_client_cli.py" in ended.stderr
    assert CANARY not in ended.stderr + ended.stdout


def test_the_module_is_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "acf_client", "start", "--folder", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{ROOT / 'client'}:{ROOT}"},
    )
    assert done.returncode == CATALOGUE["config.not_initialised"].exit_status
    assert done.stderr.startswith("error (config.not_initialised)")
