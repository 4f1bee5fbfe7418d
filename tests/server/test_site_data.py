import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from references.command_line import Program, refused
from references.summary_cohorts import CONTRACT, make_summary

from acf_server.cli import main
from acf_server.coordinator import Coordinator, initialise
from acf_server.enrolment import approve_site, invite_site
from acf_server.site_data import load_all, take_summary
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.errors import AcfnetError
from acfnet_core.federation.site_summary import Quartiles, SiteSummary, sign_summary
from acfnet_core.identity.fingerprint import fingerprint_key
from acfnet_core.identity.invitation import parse_invitation
from acfnet_core.identity.keys import generate_key
from acfnet_core.identity.requests import make_request

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 4, 2, 12, 0, tzinfo=UTC)
KEYS = {name: generate_key() for name in ("hospital-a", "hospital-b")}


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    """A coordinator that has approved hospital-a and hospital-b, invited another."""
    made = initialise(
        tmp_path / "coordinator",
        consortium="crlm",
        address="fl.example.org:8443",
        contract_text=contract_to_toml(CONTRACT),
        root_passphrase=b"x",
        now=NOW,
    )
    for name, key in KEYS.items():
        approve(made, tmp_path, name, key)
    invite_site(made, "hospital-c", now=NOW)
    return made


def approve(
    coordinator: Coordinator, folder: Path, name: str, key: ec.EllipticCurvePrivateKey
) -> None:
    line = invite_site(coordinator, name, now=NOW)
    request = folder / f"{name}-request.json"
    invitation = parse_invitation(line, now=NOW)
    request.write_bytes(make_request(invitation, key.public_key()).to_bytes())
    fingerprint = fingerprint_key(key.public_key())
    admission = folder / f"{name}-admission.json"
    approve_site(coordinator, name, request, fingerprint, admission, now=NOW)


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program("acf-server", main, monkeypatch, capsys)


def sent(
    folder: Path,
    site: str = "hospital-a",
    key: ec.EllipticCurvePrivateKey | None = None,
    **fields: Any,
) -> Path:
    """Write a site's summary, signed, with some fields changed."""
    summary = make_summary(site).model_copy(update=fields)
    path = folder / f"{site}-summary.json"
    path.write_bytes(sign_summary(key or KEYS[site], summary).to_bytes())
    return path


def events_of(coordinator: Coordinator) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in coordinator.audit.path.read_text().splitlines()
    ]


def refusal(coordinator: Coordinator, path: Path) -> AcfnetError:
    with pytest.raises(AcfnetError) as caught:
        take_summary(coordinator, path, now=NOW)
    assert load_all(coordinator) == ()
    return caught.value


def thin(site: str) -> SiteSummary:
    summary = make_summary(site)
    assert summary.scans is not None
    scans = summary.scans.model_copy(update={"slice_spacing_mm": Quartiles(median=1.0)})
    return summary.model_copy(update={"scans": scans})


def test_before_any_was_taken_there_is_none(coordinator: Coordinator) -> None:
    assert load_all(coordinator) == ()


def test_a_summary_that_was_taken_is_loaded_again(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    taken = take_summary(coordinator, sent(tmp_path), now=NOW)
    assert load_all(coordinator) == (taken,)
    assert taken.received == NOW
    assert taken.summary == make_summary("hospital-a")


def test_sites_come_in_the_order_of_their_names(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    for name in ("hospital-b", "hospital-a"):
        take_summary(coordinator, sent(tmp_path, name), now=NOW)
    names = [stored.summary.site for stored in load_all(coordinator)]
    assert names == ["hospital-a", "hospital-b"]


def test_taking_is_noted_with_the_hash(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    taken = take_summary(coordinator, sent(tmp_path), now=NOW)
    last = events_of(coordinator)[-1]
    assert last["event"] == "site_data_taken"
    assert last["summary_sha256"] == taken.summary.sha256()


def test_the_same_file_again_changes_nothing(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    first = take_summary(coordinator, sent(tmp_path), now=NOW)
    assert take_summary(coordinator, sent(tmp_path), now=LATER) == first
    assert not (coordinator.site_data_folder / "earlier").exists()


def test_a_newer_release_replaces_the_older_which_is_kept_with_its_date(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    take_summary(coordinator, sent(tmp_path), now=NOW)
    taken = take_summary(coordinator, sent(tmp_path, release=2), now=LATER)
    assert load_all(coordinator) == (taken,)
    kept = list((coordinator.site_data_folder / "earlier").iterdir())
    assert [path.name for path in kept] == ["hospital-a-1-2026-04-02.json"]


def test_an_older_release_is_refused(coordinator: Coordinator, tmp_path: Path) -> None:
    take_summary(coordinator, sent(tmp_path, release=2), now=NOW)
    with pytest.raises(AcfnetError) as caught:
        take_summary(coordinator, sent(tmp_path, release=1), now=LATER)
    assert caught.value.code == "protocol.summary_outdated"
    assert load_all(coordinator)[0].summary.release == 2


def test_another_content_under_the_same_number_is_refused(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    take_summary(coordinator, sent(tmp_path), now=NOW)
    with pytest.raises(AcfnetError) as caught:
        take_summary(coordinator, sent(tmp_path, num_patients=200), now=LATER)
    assert caught.value.code == "protocol.summary_outdated"


def test_a_signature_by_another_sites_key_is_refused(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    path = sent(tmp_path, "hospital-a", KEYS["hospital-b"])
    assert refusal(coordinator, path).code == "protocol.signature_invalid"


def test_a_file_changed_on_its_way_is_refused(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    path = sent(tmp_path)
    path.write_text(path.read_text().replace('"num_events": 50', '"num_events": 60'))
    assert refusal(coordinator, path).code == "protocol.signature_invalid"


def test_a_site_that_was_never_invited_is_refused(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    path = sent(tmp_path, "hospital-x", generate_key())
    assert refusal(coordinator, path).code == "identity.site_unknown"


def test_a_site_that_was_not_approved_is_refused(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    path = sent(tmp_path, "hospital-c", generate_key())
    assert refusal(coordinator, path).code == "identity.not_enrolled"


def test_another_consortiums_summary_is_refused(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    error = refusal(coordinator, sent(tmp_path, consortium="other"))
    assert error.code == "identity.name_mismatch"


def test_another_contract_is_refused(coordinator: Coordinator, tmp_path: Path) -> None:
    error = refusal(coordinator, sent(tmp_path, contract_sha256="0" * 64))
    assert error.code == "data.contract_mismatch"
    assert CONTRACT.sha256()[:12] in error.message


@pytest.mark.parametrize("content", ["", "{}", "CANARY"])
def test_a_file_that_is_no_summary_is_refused(
    coordinator: Coordinator, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "summary.json"
    path.write_text(content)
    assert refusal(coordinator, path).code == "protocol.malformed"


@pytest.mark.parametrize("num_patients", [49, 79, 82])
def test_counts_that_cannot_be_or_tell_of_few_are_refused(
    coordinator: Coordinator, tmp_path: Path, num_patients: int
) -> None:
    path = sent(tmp_path)
    content = json.loads(path.read_text())
    content["summary"]["num_patients"] = num_patients
    path.write_text(json.dumps(content))
    assert refusal(coordinator, path).code == "protocol.malformed"


def test_a_missing_file_is_named(coordinator: Coordinator, tmp_path: Path) -> None:
    error = refusal(coordinator, tmp_path / "none.json")
    assert error.code == "config.not_found"
    assert "none.json" in error.message


def test_a_refusal_is_noted_by_its_code(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    refusal(coordinator, sent(tmp_path, consortium="other"))
    last = events_of(coordinator)[-1]
    assert (last["event"], last["code"]) == (
        "site_data_refused",
        "identity.name_mismatch",
    )


@pytest.mark.parametrize("name", ["hospital-a", "hospital-b"])
def test_a_damaged_or_misnamed_file_that_was_kept_is_named(
    coordinator: Coordinator, tmp_path: Path, name: str
) -> None:
    take_summary(coordinator, sent(tmp_path), now=NOW)
    kept = coordinator.site_data_folder / "hospital-a.json"
    content = "{" if name == "hospital-a" else kept.read_text()
    (coordinator.site_data_folder / f"{name}.json").write_text(content)
    with pytest.raises(AcfnetError) as caught:
        load_all(coordinator)
    assert caught.value.code == "machine.summary_damaged"
    assert f"{name}.json" in caught.value.message


def test_the_command_takes_and_shows(
    server: Program, coordinator: Coordinator, tmp_path: Path
) -> None:
    ended = server.run(
        "site", "data", "--take", sent(tmp_path), "--folder", coordinator.folder
    )
    assert ended.status == 0
    assert "Took release 1 of hospital-a" in ended.stderr
    assert "No difference" in ended.stderr
    assert ended.stdout == ""


def test_the_command_shows_sites_side_by_side_with_n(
    server: Program, coordinator: Coordinator, tmp_path: Path
) -> None:
    for name in ("hospital-a", "hospital-b"):
        take_summary(coordinator, sent(tmp_path, name), now=NOW)
    ended = server.run("site", "data", "--folder", coordinator.folder)
    (age,) = [line for line in ended.stderr.splitlines() if line.startswith("age ")]
    assert age.count("60 (sd 12), n 100") == 2
    assert "hospital-a (2026-03-01)" in ended.stderr


def test_the_command_warns_of_drift(
    server: Program, coordinator: Coordinator, tmp_path: Path
) -> None:
    take_summary(coordinator, sent(tmp_path), now=NOW)
    scans = thin("hospital-b").scans
    take_summary(coordinator, sent(tmp_path, "hospital-b", scans=scans), now=NOW)
    ended = server.run("site", "data", "--folder", coordinator.folder)
    assert "warning: median slice spacing: hospital-b 1 mm" in ended.stderr


def test_json_has_the_summaries_and_the_warnings(
    server: Program, coordinator: Coordinator, tmp_path: Path
) -> None:
    take_summary(coordinator, sent(tmp_path), now=NOW)
    scans = thin("hospital-b").scans
    take_summary(coordinator, sent(tmp_path, "hospital-b", scans=scans), now=NOW)
    ended = server.run("site", "data", "--folder", coordinator.folder, "--json")
    content = json.loads(ended.stdout)
    assert [one["summary"]["site"] for one in content["sites"]] == [
        "hospital-a",
        "hospital-b",
    ]
    assert [warning["kind"] for warning in content["warnings"]] == ["slice_spacing"]


def test_a_summary_under_an_earlier_contract_is_warned_of(
    server: Program, coordinator: Coordinator, tmp_path: Path
) -> None:
    take_summary(coordinator, sent(tmp_path), now=NOW)
    newer = CONTRACT.model_copy(update={"version": 99})
    coordinator.contract_path.write_text(contract_to_toml(newer))
    ended = server.run("site", "data", "--folder", coordinator.folder)
    assert "warning: contract: hospital-a" in ended.stderr


def test_without_summaries_the_command_says_how_to_get_one(
    server: Program, coordinator: Coordinator
) -> None:
    ended = server.run("site", "data", "--folder", coordinator.folder)
    assert "Next: at a site: acf-client data summary --write" in ended.stderr


def test_the_command_says_why_a_file_is_refused(
    server: Program, coordinator: Coordinator, tmp_path: Path
) -> None:
    path = sent(tmp_path, "hospital-a", KEYS["hospital-b"])
    ended = server.run("site", "data", "--take", path, "--folder", coordinator.folder)
    refused(ended, "protocol.signature_invalid", "hospital-a")
