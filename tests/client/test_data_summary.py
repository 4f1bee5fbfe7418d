import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from references.command_line import Program, refused

from acf_client.cli import main
from acf_client.enrolment import EnrolmentState
from acf_client.site import Site, initialise
from acfnet_core import audit
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.federation.site_summary import parse_summary, verify_summary
from acfnet_core.identity.keys import generate_key, load_key, save_key

CONTRACT = shipped_contract("crlm").without_imaging()
CANARY = "PATIENT-4711"


def write_table(path: Path, num_patients: int, *, oldest: int = 70) -> None:
    """Patients of 50 to 70 years; half of them have an event."""
    numbers = ("age", "body_mass_index", "carcinoembryonic_antigen", "max_tumor_size")
    rows = [",".join(CONTRACT.required_columns)]
    for index in range(num_patients):
        row = []
        for name in CONTRACT.required_columns:
            column = CONTRACT.columns[name]
            if column.type == "identifier":
                row.append(f"{CANARY}-{index:03d}")
            elif name == "age":
                row.append(str(min(50 + index % 21, oldest)))
            elif name in numbers:
                row.append(str(20 + index % 7))
            elif column.type == "number":
                row.append(str(6 + index))
            else:
                row.append(column.codes[index % 2])
        rows.append(",".join(row))
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture
def client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program("acf-client", main, monkeypatch, capsys)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An enrolled site of 40 patients whose data is not prepared yet."""
    table = tmp_path / "clinical.csv"
    write_table(table, 40)
    made = initialise(
        tmp_path / "site", clinical_table=table, images=None, column_names={}
    )
    state = EnrolmentState(
        consortium="crlm",
        site="hospital-a",
        address="fl.example.org:8443",
        root_fingerprint="ab12",
        admitted=datetime(2026, 3, 1, tzinfo=UTC),
    )
    made.enrolment_path.write_text(state.model_dump_json())
    made.contract_path.write_text(contract_to_toml(CONTRACT))
    save_key(made.key_path, generate_key())
    return made


@pytest.fixture
def prepared(site: Site, client: Program) -> Site:
    prepare(client, site)
    return site


def prepare(client: Program, site: Site) -> None:
    ended = client.run("data", "prepare", "--folder", site.folder)
    assert ended.status == 0, ended.stderr


def write(client: Program, site: Site, target: Path) -> None:
    ended = client.run("data", "summary", "--folder", site.folder, "--write", target)
    assert ended.status == 0, ended.stderr


def events_of(site: Site) -> list[dict[str, object]]:
    lines = site.audit.path.read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_summary_is_shown_and_nothing_is_written(
    client: Program, prepared: Site
) -> None:
    before = sorted(prepared.folder.rglob("*"))
    ended = client.run("data", "summary", "--folder", prepared.folder)
    assert ended.status == 0
    assert "age" in ended.stderr
    assert "Nothing has left the site" in ended.stderr
    assert ended.stdout == ""
    assert sorted(prepared.folder.rglob("*")) == before


def test_json_is_exactly_what_the_file_holds(
    client: Program, prepared: Site, tmp_path: Path
) -> None:
    ended = client.run("data", "summary", "--folder", prepared.folder, "--json")
    write(client, prepared, tmp_path / "summary.json")
    written = json.loads((tmp_path / "summary.json").read_text())
    assert json.loads(ended.stdout) == written["summary"]


def test_no_identifier_is_shown_or_written(
    client: Program, prepared: Site, tmp_path: Path
) -> None:
    target = tmp_path / "summary.json"
    ended = client.run(
        "data", "summary", "--folder", prepared.folder, "--json", "--write", target
    )
    record = prepared.summaries_path.read_text()
    for text in (ended.stdout, ended.stderr, target.read_text(), record):
        assert CANARY not in text


def test_the_file_is_signed_with_the_sites_key(
    client: Program, prepared: Site, tmp_path: Path
) -> None:
    write(client, prepared, tmp_path / "summary.json")
    content = (tmp_path / "summary.json").read_bytes()
    key = load_key(prepared.key_path).public_key()
    verify_summary(key, parse_summary(content, where="summary.json"))


def test_the_audit_log_has_the_hash_of_what_left(
    client: Program, prepared: Site, tmp_path: Path
) -> None:
    write(client, prepared, tmp_path / "summary.json")
    content = (tmp_path / "summary.json").read_bytes()
    summary = parse_summary(content, where="summary.json").summary
    last = events_of(prepared)[-1]
    assert last["event"] == "data_summary_written"
    assert last["summary_sha256"] == summary.sha256()
    audit.verify(prepared.audit.path)


def test_the_same_summary_written_again_is_the_same_release(
    client: Program, prepared: Site, tmp_path: Path
) -> None:
    write(client, prepared, tmp_path / "first.json")
    write(client, prepared, tmp_path / "again.json")
    first, again = (
        json.loads((tmp_path / name).read_text())["summary"]
        for name in ("first.json", "again.json")
    )
    assert first == again


def test_a_few_more_patients_are_not_told_of(
    client: Program, prepared: Site, tmp_path: Path
) -> None:
    write(client, prepared, tmp_path / "summary.json")
    write_table(tmp_path / "clinical.csv", 43)
    prepare(client, prepared)
    target = tmp_path / "next.json"
    ended = client.run(
        "data", "summary", "--folder", prepared.folder, "--write", target
    )
    refused(ended, "data.summary_too_close", "release 1")
    assert not target.exists()


def test_many_more_patients_are_the_next_release(
    client: Program, prepared: Site, tmp_path: Path
) -> None:
    write(client, prepared, tmp_path / "summary.json")
    write_table(tmp_path / "clinical.csv", 80)
    prepare(client, prepared)
    write(client, prepared, tmp_path / "next.json")
    summary = json.loads((tmp_path / "next.json").read_text())["summary"]
    assert (summary["release"], summary["num_patients"]) == (2, 80)


def test_what_is_too_close_is_said_to_be_left_out(
    client: Program, prepared: Site, tmp_path: Path
) -> None:
    write(client, prepared, tmp_path / "summary.json")
    write_table(tmp_path / "clinical.csv", 40, oldest=65)
    prepare(client, prepared)
    ended = client.run("data", "summary", "--folder", prepared.folder)
    shown = " ".join(ended.stderr.split())
    assert "age left out: too close to an earlier release" in shown


def test_few_patients_are_told_of_not_at_all(
    client: Program, site: Site, tmp_path: Path
) -> None:
    write_table(tmp_path / "clinical.csv", 9)
    prepare(client, site)
    ended = client.run("data", "summary", "--folder", site.folder)
    refused(ended, "data.too_few_patients")


def test_data_that_is_not_prepared_is_said_to_be_so(
    client: Program, site: Site
) -> None:
    ended = client.run("data", "summary", "--folder", site.folder)
    refused(ended, "data.not_prepared", "acf-client data prepare")


def test_a_site_that_is_not_enrolled_has_nothing_to_tell(
    client: Program, site: Site
) -> None:
    site.enrolment_path.unlink()
    ended = client.run("data", "summary", "--folder", site.folder)
    refused(ended, "identity.not_enrolled")


def test_a_damaged_record_of_releases_lets_nothing_out(
    client: Program, prepared: Site, tmp_path: Path
) -> None:
    prepared.summaries_path.write_text("{")
    target = tmp_path / "summary.json"
    ended = client.run(
        "data", "summary", "--folder", prepared.folder, "--write", target
    )
    refused(ended, "machine.summary_damaged", str(prepared.summaries_path))
    assert not target.exists()


def test_the_record_of_releases_is_private(
    client: Program, prepared: Site, tmp_path: Path
) -> None:
    write(client, prepared, tmp_path / "summary.json")
    assert stat.S_IMODE(prepared.summaries_path.stat().st_mode) == 0o600
