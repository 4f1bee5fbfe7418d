import csv
import json
from pathlib import Path

import pytest
from references.admitted_sites import admit_site, synthesize_small_hospital
from references.command_line import Ended, Program, refused

from acf_client.cli import main
from acf_client.site import Site
from acfnet_core import audit
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.deidentified.export_manifest import CAUTION
from acfnet_core.errors import MachineError


@pytest.fixture
def client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program("acf-client", main, monkeypatch, capsys)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("hospital")
    synthesize_small_hospital(folder)
    return admit_site(folder, shipped_contract("crlm"))


def _export(client: Program, site: Site, out: Path, *options: object) -> Ended:
    return client.run("data", "export", out, "--folder", site.folder, *options)


def _exports(site: Site) -> list[dict[str, object]]:
    lines = site.audit.path.read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["event"] == "data_exported"]


def test_a_copy_is_written_and_its_hash_is_noted(
    client: Program, site: Site, tmp_path: Path
) -> None:
    ended = _export(client, site, tmp_path / "copy", "--json")
    assert ended.status == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert (said["num_patients"], said["num_with_scans"]) == (3, 2)
    assert (tmp_path / "copy" / "export.json").is_file()
    noted = _exports(site)[-1]
    assert noted["manifest_sha256"] == said["manifest_sha256"]
    assert noted["num_patients"] == 3
    audit.verify(site.audit.path)


def test_nothing_shown_or_noted_names_a_patient(
    client: Program, site: Site, tmp_path: Path
) -> None:
    ended = _export(client, site, tmp_path / "copy", "--json")
    noted = site.audit.path.read_text()
    assert "CRLM-SYN" not in ended.stdout + ended.stderr + noted
    names = [path.name for path in (tmp_path / "copy" / "images").iterdir()]
    assert [name for name in names if name in ended.stderr + noted] == []


def test_the_operator_is_told_that_it_is_personal_data_still(
    client: Program, site: Site, tmp_path: Path
) -> None:
    ended = _export(client, site, tmp_path / "copy")
    assert ended.stdout == ""
    assert all(line in ended.stderr for line in CAUTION)
    assert f"Next: acf-client data inspect {tmp_path / 'copy'}" in ended.stderr
    assert CAUTION[0] in (tmp_path / "copy" / "READ-ME.txt").read_text()


def test_patients_of_a_list_are_copied_alone(
    client: Program, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("CRLM-SYN-A0001\n\n")
    ended = _export(
        client, site, tmp_path / "copy", "--patients", tmp_path / "list.txt"
    )
    assert ended.status == 0, ended.stderr
    with (tmp_path / "copy" / "clinical.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1


def test_a_list_that_is_not_there_is_told(
    client: Program, site: Site, tmp_path: Path
) -> None:
    ended = _export(client, site, tmp_path / "x", "--patients", tmp_path / "none")
    refused(ended, "config.not_found", "none")


def test_a_list_that_is_no_text_is_told_without_its_content(
    client: Program, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "list").write_bytes(b"Smith\xff")
    ended = _export(client, site, tmp_path / "x", "--patients", tmp_path / "list")
    refused(ended, "config.invalid", "UTF-8")
    assert "Smith" not in ended.stderr


def test_a_folder_with_something_in_it_is_refused(
    client: Program, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    refused(_export(client, site, tmp_path), "machine.folder_not_empty")


@pytest.mark.parametrize("place", ["site/copy", "images/copy"])
def test_the_key_and_the_data_do_not_lie_around_a_copy(
    client: Program, site: Site, place: str
) -> None:
    ended = _export(client, site, site.folder.parent / place)
    refused(ended, "config.invalid", "must not be handed out")


def test_a_copy_that_cannot_be_noted_is_not_there(
    client: Program, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **fields: object) -> None:
        raise MachineError("machine.disk_full", "full", remedy="Free space.")

    monkeypatch.setattr(audit.AuditLog, "append", fail)
    refused(_export(client, site, tmp_path / "copy"), "machine.disk_full")
    assert list(tmp_path.iterdir()) == []
