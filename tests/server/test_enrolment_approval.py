import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from acf_server.coordinator import Coordinator, initialise
from acf_server.enrolment import approve_site, invite_site
from acfnet_core.audit import verify
from acfnet_core.errors import AcfnetError, ConfigError, IdentityError, MachineError
from acfnet_core.identity.fingerprint import fingerprint_key
from acfnet_core.identity.invitation import Invitation, parse_invitation
from acfnet_core.identity.keys import generate_key, public_key_pem
from acfnet_core.identity.requests import make_request, read_admission

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return initialise(
        tmp_path / "coordinator",
        consortium="crlm",
        address="fl.example.org:8443",
        contract_text='name = "crlm"\n',
        root_passphrase=b"x",
        now=NOW,
    )


@dataclass(frozen=True, kw_only=True)
class Applicant:
    """A site as the coordinator sees it: a request file and a voice."""

    coordinator: Coordinator
    key: ec.EllipticCurvePrivateKey
    invitation: Invitation
    request: Path

    @property
    def fingerprint(self) -> str:
        return fingerprint_key(self.key.public_key())

    def approve(
        self,
        *,
        name: str = "hospital-a",
        fingerprint: str | None = None,
        after: timedelta = timedelta(0),
    ) -> Path:
        return approve_site(
            self.coordinator,
            name,
            self.request,
            fingerprint or self.fingerprint,
            self.request.with_name("admission.json"),
            now=NOW + after,
        )

    def refusal(
        self,
        *,
        name: str = "hospital-a",
        fingerprint: str | None = None,
        after: timedelta = timedelta(0),
    ) -> AcfnetError:
        with pytest.raises(AcfnetError) as caught:
            self.approve(name=name, fingerprint=fingerprint, after=after)
        return caught.value


Apply = Callable[[str], Applicant]


@pytest.fixture
def apply(coordinator: Coordinator, tmp_path: Path) -> Apply:
    def apply(name: str) -> Applicant:
        line = invite_site(coordinator, name, now=NOW)
        return respond(line)

    def respond(line: str) -> Applicant:
        invitation = parse_invitation(line, now=NOW)
        key = generate_key()
        path = tmp_path / f"{invitation.site}-request.json"
        path.write_bytes(make_request(invitation, key.public_key()).to_bytes())
        return Applicant(
            coordinator=coordinator, key=key, invitation=invitation, request=path
        )

    return apply


@pytest.fixture
def applicant(apply: Apply) -> Applicant:
    return apply("hospital-a")


def certificate_of(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(read_admission(path).certificate.encode())


def test_an_approved_site_gets_a_certificate_for_its_key(applicant: Applicant) -> None:
    certificate = certificate_of(applicant.approve())
    assert certificate.public_key() == applicant.key.public_key()


def test_an_approved_sites_key_is_registered(applicant: Applicant) -> None:
    applicant.approve()
    entry = applicant.coordinator.registry.find("hospital-a")
    assert (entry.status, entry.invitation_expires) == ("approved", None)
    assert entry.load_key() == applicant.key.public_key()


def test_a_stolen_line_with_another_key_shows_another_fingerprint(
    applicant: Applicant,
) -> None:
    thief = generate_key()
    forged = make_request(applicant.invitation, thief.public_key())
    applicant.request.write_bytes(forged.to_bytes())
    error = applicant.refusal()
    assert error.code == "identity.fingerprint_mismatch"
    assert fingerprint_key(thief.public_key()) not in error.message
    entry = applicant.coordinator.registry.find("hospital-a")
    assert entry.status == "invited"


def test_a_used_invitation_with_another_key_is_refused(applicant: Applicant) -> None:
    applicant.approve()
    other = generate_key().public_key()
    request = make_request(applicant.invitation, other)
    applicant.request.write_bytes(request.to_bytes())
    error = applicant.refusal(fingerprint=fingerprint_key(other))
    assert error.code == "identity.invitation_used"


def test_an_expired_invitation_is_refused(applicant: Applicant) -> None:
    error = applicant.refusal(after=timedelta(hours=24))
    assert error.code == "identity.invitation_expired"


def test_a_request_of_another_site_is_refused(
    apply: Apply, applicant: Applicant
) -> None:
    other = apply("hospital-b")
    assert other.refusal(name="hospital-a").code == "identity.name_mismatch"


def test_a_request_for_another_consortium_is_refused(applicant: Applicant) -> None:
    elsewhere = applicant.invitation.model_copy(update={"consortium": "other"})
    request = make_request(elsewhere, applicant.key.public_key())
    applicant.request.write_bytes(request.to_bytes())
    assert applicant.refusal().code == "identity.name_mismatch"


def test_a_site_that_was_not_invited_is_refused(applicant: Applicant) -> None:
    assert applicant.refusal(name="hospital-z").code == "identity.site_unknown"


def test_an_rsa_key_is_refused(applicant: Applicant) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
    content = json.loads(applicant.request.read_bytes())
    applicant.request.write_text(json.dumps({**content, "public_key": pem}))
    assert applicant.refusal().code == "identity.key_unsupported"


def test_an_oversized_request_is_refused(applicant: Applicant) -> None:
    with applicant.request.open("ab") as file:
        file.write(b" " * 70_000)
    assert applicant.refusal().code == "identity.request_too_large"


def test_a_request_made_with_a_replaced_invitation_is_refused(
    applicant: Applicant,
) -> None:
    invite_site(applicant.coordinator, "hospital-a", now=NOW)
    assert applicant.refusal().code == "identity.request_invalid"


def test_a_key_of_another_site_is_refused(apply: Apply, applicant: Applicant) -> None:
    applicant.approve()
    other = apply("hospital-b")
    request = make_request(other.invitation, applicant.key.public_key())
    other.request.write_bytes(request.to_bytes())
    error = other.refusal(name="hospital-b", fingerprint=applicant.fingerprint)
    assert error.code == "identity.request_invalid"


def test_every_refusal_is_audited_with_its_code(applicant: Applicant) -> None:
    applicant.refusal(after=timedelta(days=2))
    last = applicant.coordinator.audit.path.read_bytes().splitlines()[-1]
    record = json.loads(last)
    assert (record["event"], record["code"]) == (
        "site_refused",
        "identity.invitation_expired",
    )


def test_approving_again_renews_the_certificate_of_the_same_key(
    applicant: Applicant,
) -> None:
    first = certificate_of(applicant.approve())
    second = certificate_of(applicant.approve(after=timedelta(days=20)))
    assert first.public_key() == second.public_key()
    assert second.not_valid_after_utc > first.not_valid_after_utc


def test_an_approved_site_is_not_invited_again(applicant: Applicant) -> None:
    applicant.approve()
    with pytest.raises(IdentityError) as caught:
        invite_site(applicant.coordinator, "hospital-a", now=NOW)
    assert caught.value.code == "identity.site_exists"


@pytest.mark.parametrize(("name", "hours"), [("A b", 24), ("a", 0), ("a", 10_000)])
def test_a_senseless_invitation_is_refused(
    coordinator: Coordinator, name: str, hours: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        invite_site(coordinator, name, hours=hours, now=NOW)
    assert caught.value.code == "config.invalid"


def test_sites_are_listed_by_name_with_their_status(
    apply: Apply, applicant: Applicant
) -> None:
    apply("clinic")
    applicant.approve()
    sites = applicant.coordinator.registry.list_sites()
    assert [(site.name, site.status) for site in sites] == [
        ("clinic", "invited"),
        ("hospital-a", "approved"),
    ]


def test_a_node_id_is_kept(applicant: Applicant) -> None:
    applicant.approve()
    registry = applicant.coordinator.registry
    registry.set_node_id("hospital-a", "18446744073709551615")
    assert registry.find("hospital-a").node_id == "18446744073709551615"


def test_a_node_id_belongs_to_one_site(apply: Apply, applicant: Applicant) -> None:
    applicant.approve()
    other = apply("hospital-b")
    other.approve(name="hospital-b")
    registry = applicant.coordinator.registry
    registry.set_node_id("hospital-a", "7")
    with pytest.raises(IdentityError) as caught:
        registry.set_node_id("hospital-b", "7")
    assert caught.value.code == "identity.site_exists"


def test_an_invited_site_has_no_node(applicant: Applicant) -> None:
    with pytest.raises(IdentityError) as caught:
        applicant.coordinator.registry.set_node_id("hospital-a", "7")
    assert caught.value.code == "identity.not_enrolled"


def test_secrets_stand_in_no_file_of_the_coordinator(applicant: Applicant) -> None:
    applicant.approve()
    secret = applicant.invitation.secret
    for needle in (secret.encode(), bytes.fromhex(secret)):
        for path in applicant.coordinator.folder.rglob("*"):
            assert path.is_dir() or needle not in path.read_bytes()


def test_the_proof_key_is_gone_after_the_approval(applicant: Applicant) -> None:
    registry_file = applicant.coordinator.folder / "registry.sqlite"
    proof_key = applicant.invitation.proof_key()
    assert proof_key in registry_file.read_bytes()
    applicant.approve()
    assert proof_key not in registry_file.read_bytes()


def test_the_audit_log_tells_the_whole_enrolment(applicant: Applicant) -> None:
    applicant.approve()
    verify(applicant.coordinator.audit.path)
    lines = applicant.coordinator.audit.path.read_bytes().splitlines()
    assert [json.loads(line)["event"] for line in lines] == [
        "coordinator_initialised",
        "site_invited",
        "site_approved",
    ]


def test_an_admission_that_cannot_be_written_can_be_written_later(
    applicant: Applicant, tmp_path: Path
) -> None:
    with pytest.raises(MachineError):
        approve_site(
            applicant.coordinator,
            "hospital-a",
            applicant.request,
            applicant.fingerprint,
            tmp_path / "none" / "admission.json",
            now=NOW,
        )
    applicant.approve()


def test_a_registry_of_a_later_format_is_refused(applicant: Applicant) -> None:
    path = applicant.coordinator.folder / "registry.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(ConfigError, match="format 9; expected 1"):
        applicant.coordinator.registry.list_sites()


def test_a_registry_that_is_no_database_is_reported(applicant: Applicant) -> None:
    path = applicant.coordinator.folder / "registry.sqlite"
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(MachineError, match="not a database"):
        applicant.coordinator.registry.list_sites()


def test_the_registered_key_is_written_as_pem(applicant: Applicant) -> None:
    applicant.approve()
    entry = applicant.coordinator.registry.find("hospital-a")
    assert entry.public_key == public_key_pem(applicant.key.public_key())
