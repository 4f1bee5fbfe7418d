"""The two sides together, with nothing between them but the files they exchange."""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from acf_client.enrolment import (
    finish_enrolment,
    load_enrolment,
    require_enrolment,
    start_enrolment,
)
from acf_client.site import Site
from acf_client.site import initialise as initialise_site
from acf_server.coordinator import Coordinator
from acf_server.coordinator import initialise as initialise_coordinator
from acf_server.enrolment import approve_site, invite_site
from acfnet_core.audit import verify
from acfnet_core.errors import ConfigError, IdentityError
from acfnet_core.identity.envelope import UpdateClaim, sign_update, verify_update
from acfnet_core.identity.invitation import parse_invitation
from acfnet_core.identity.keys import generate_key, load_key, save_key

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CONTRACT = 'name = "crlm"\r\n# größe\n'


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One coordinator and one site, each with a folder of its own."""

    coordinator: Coordinator
    site: Site
    admission: Path

    def request(self, *, name: str = "hospital-a") -> str:
        line = invite_site(self.coordinator, name, now=NOW)
        return start_enrolment(self.site, line, now=NOW)[1]

    def approve(self, fingerprint: str, *, after: timedelta = timedelta(0)) -> Path:
        return approve_site(
            self.coordinator,
            "hospital-a",
            self.site.request_path,
            fingerprint,
            self.admission,
            now=NOW + after,
        )


def make_coordinator(folder: Path) -> Coordinator:
    return initialise_coordinator(
        folder,
        consortium="crlm",
        address="fl.example.org:8443",
        contract_text=CONTRACT,
        root_passphrase=b"x",
        now=NOW,
    )


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    table = tmp_path / "clinical.csv"
    table.touch()
    return Pair(
        coordinator=make_coordinator(tmp_path / "coordinator"),
        site=initialise_site(
            tmp_path / "site", clinical_table=table, images=None, column_names={}
        ),
        admission=tmp_path / "admission.json",
    )


@pytest.fixture
def enrolled(pair: Pair) -> Pair:
    pair.approve(pair.request())
    finish_enrolment(pair.site, pair.admission, now=NOW)
    return pair


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, **values}))


def enrolled_fingerprint(pair: Pair) -> str:
    last = pair.coordinator.audit.path.read_bytes().splitlines()[-1]
    return str(json.loads(last)["fingerprint"])


def refusal(pair: Pair, *, now: datetime = NOW) -> str:
    with pytest.raises(IdentityError) as caught:
        finish_enrolment(pair.site, pair.admission, now=now)
    return caught.value.code


def test_a_site_is_enrolled_by_two_files(enrolled: Pair) -> None:
    state = require_enrolment(enrolled.site)
    assert (state.consortium, state.site) == ("crlm", "hospital-a")
    assert state.address == "fl.example.org:8443"


def test_the_contract_arrives_byte_for_byte(enrolled: Pair) -> None:
    assert enrolled.site.contract_path.read_bytes() == CONTRACT.encode()


def test_an_enrolled_sites_signature_verifies_at_the_coordinator(
    enrolled: Pair,
) -> None:
    claim = UpdateClaim(
        run="run-1",
        site="hospital-a",
        round=1,
        base_sha256="a" * 64,
        parameters_sha256="b" * 64,
        num_examples=40,
        reading_sha256=None,
    )
    signature = sign_update(load_key(enrolled.site.key_path), claim)
    key = enrolled.coordinator.registry.find("hospital-a").load_key()
    verify_update(key, claim, signature)


def test_flowers_node_key_is_the_registered_key(enrolled: Pair) -> None:
    path = enrolled.site.node_key_path.with_name("node.key.pub")
    public = serialization.load_ssh_public_key(path.read_bytes())
    entry = enrolled.coordinator.registry.find("hospital-a")
    assert public == entry.load_key()


def test_repeating_the_request_keeps_the_key(pair: Pair) -> None:
    assert pair.request() == pair.request()


def test_the_latest_invitation_is_the_one_that_counts(pair: Pair) -> None:
    pair.request()
    pair.approve(pair.request())
    finish_enrolment(pair.site, pair.admission, now=NOW)


def test_finishing_twice_is_harmless(enrolled: Pair) -> None:
    before = require_enrolment(enrolled.site)
    assert finish_enrolment(enrolled.site, enrolled.admission, now=NOW) == before


def test_a_second_admission_renews_the_certificate(enrolled: Pair) -> None:
    before = enrolled.site.certificate_path.read_bytes()
    later = timedelta(days=20)
    enrolled.approve(enrolled_fingerprint(enrolled), after=later)
    finish_enrolment(enrolled.site, enrolled.admission, now=NOW + later)
    assert enrolled.site.certificate_path.read_bytes() != before


def test_an_earlier_admission_is_refused_after_a_later_one(
    enrolled: Pair, tmp_path: Path
) -> None:
    old = tmp_path / "old.json"
    shutil.copy(enrolled.admission, old)
    enrolled.approve(enrolled_fingerprint(enrolled), after=timedelta(days=1))
    finish_enrolment(enrolled.site, enrolled.admission, now=NOW + timedelta(days=1))
    shutil.copy(old, enrolled.admission)
    assert refusal(enrolled, now=NOW + timedelta(days=1)) == (
        "identity.admission_invalid"
    )


def test_an_admission_of_another_root_is_refused(pair: Pair, tmp_path: Path) -> None:
    fingerprint = pair.request()
    impostor = make_coordinator(tmp_path / "impostor")
    line = invite_site(impostor, "hospital-a", now=NOW)
    stranger = parse_invitation(line, now=NOW)
    assert stranger.root_fingerprint != pair.coordinator.root_fingerprint
    pair.approve(fingerprint)
    root = impostor.pki.root_certificate.read_text()
    change(pair.admission, root=root)
    assert refusal(pair) == "identity.fingerprint_mismatch"


def test_an_expired_certificate_is_refused(pair: Pair) -> None:
    pair.approve(pair.request())
    code = refusal(pair, now=NOW + timedelta(days=31))
    assert code == "identity.certificate_invalid"


def test_a_certificate_for_another_key_is_refused(pair: Pair) -> None:
    pair.approve(pair.request())
    save_key(pair.site.key_path, generate_key())
    assert refusal(pair) == "identity.certificate_invalid"


def test_a_changed_address_is_refused(pair: Pair) -> None:
    pair.approve(pair.request())
    change(pair.admission, address="evil.example.org:1")
    assert refusal(pair) == "identity.admission_invalid"


def test_an_admission_for_another_site_is_refused(pair: Pair) -> None:
    pair.approve(pair.request())
    change(pair.admission, site="hospital-b")
    assert refusal(pair) == "identity.name_mismatch"


def test_a_refused_admission_changes_nothing(pair: Pair) -> None:
    pair.approve(pair.request())
    change(pair.admission, address="evil.example.org:1")
    refusal(pair)
    assert not pair.site.certificate_path.exists()
    with pytest.raises(IdentityError) as caught:
        require_enrolment(pair.site)
    assert caught.value.code == "identity.not_enrolled"


def test_an_admission_without_a_request_is_refused(pair: Pair) -> None:
    assert refusal(pair) == "identity.not_enrolled"


def test_an_enrolled_folder_joins_no_other_consortium(
    enrolled: Pair, tmp_path: Path
) -> None:
    other = make_coordinator(tmp_path / "other")
    line = invite_site(other, "hospital-a", now=NOW)
    with pytest.raises(ConfigError) as caught:
        start_enrolment(enrolled.site, line, now=NOW)
    assert caught.value.code == "config.already_initialised"


def test_a_damaged_state_is_reported(enrolled: Pair) -> None:
    enrolled.site.enrolment_path.write_text("{}")
    with pytest.raises(ConfigError, match="consortium: Field required"):
        load_enrolment(enrolled.site)


def test_a_key_that_others_can_read_is_not_used(pair: Pair) -> None:
    pair.request()
    pair.site.key_path.chmod(0o640)
    with pytest.raises(IdentityError) as caught:
        pair.request()
    assert caught.value.code == "identity.key_unsafe"


def test_the_invitations_secret_is_never_written(pair: Pair, tmp_path: Path) -> None:
    line = invite_site(pair.coordinator, "hospital-a", now=NOW)
    invitation = parse_invitation(line, now=NOW)
    _, fingerprint = start_enrolment(pair.site, line, now=NOW)
    pair.approve(fingerprint)
    finish_enrolment(pair.site, pair.admission, now=NOW)
    needles = [line, invitation.secret, invitation.proof_key().hex()]
    for path in tmp_path.rglob("*"):
        for needle in needles:
            assert path.is_dir() or needle.encode() not in path.read_bytes()


def test_no_other_file_holds_the_private_key(enrolled: Pair) -> None:
    key = load_key(enrolled.site.key_path)
    value = key.private_numbers().private_value.to_bytes(48, "big")
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    folders = (enrolled.site.folder, enrolled.coordinator.folder)
    files = [p for folder in folders for p in folder.rglob("*") if p.is_file()]
    pem_line = enrolled.site.key_path.read_bytes().splitlines()[1]
    holders = {
        path.name
        for path in [*files, enrolled.admission]
        if any(n in path.read_bytes() for n in (value, der, value.hex().encode()))
        or pem_line in path.read_bytes()
    }
    assert holders == {"site.key"}


def test_the_sites_audit_log_tells_the_whole_enrolment(enrolled: Pair) -> None:
    verify(enrolled.site.audit.path)
    lines = enrolled.site.audit.path.read_bytes().splitlines()
    assert [json.loads(line)["event"] for line in lines] == [
        "site_initialised",
        "enrolment_requested",
        "enrolled",
    ]
