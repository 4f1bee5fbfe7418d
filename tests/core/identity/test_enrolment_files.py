import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from core.identity.conftest import Consortium
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from acfnet_core.errors import ConfigError, IdentityError
from acfnet_core.identity.certificates import Authority, make_site_leaf
from acfnet_core.identity.invitation import Invitation, make_invitation
from acfnet_core.identity.keys import generate_key
from acfnet_core.identity.requests import (
    MAX_ADMISSION_BYTES,
    MAX_REQUEST_BYTES,
    Admission,
    EnrolmentRequest,
    check_admission_signature,
    check_proof,
    make_admission,
    make_request,
    read_admission,
    read_request,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def invite(site: str = "hospital-a") -> Invitation:
    return make_invitation(
        consortium="crlm",
        site=site,
        address="fl.example.org:8443",
        root_fingerprint="ABCD",
        now=NOW,
        hours=1,
    )


@pytest.fixture
def invitation() -> Invitation:
    return invite()


@pytest.fixture
def request_file(
    tmp_path: Path, invitation: Invitation, site_key: ec.EllipticCurvePrivateKey
) -> Path:
    path = tmp_path / "request.json"
    path.write_bytes(make_request(invitation, site_key.public_key()).to_bytes())
    return path


@pytest.fixture
def admission(
    consortium: Consortium, site_key: ec.EllipticCurvePrivateKey
) -> Admission:
    return admit(consortium, site_key, consortium.issuing)


def admit(
    consortium: Consortium, site_key: ec.EllipticCurvePrivateKey, issuing: Authority
) -> Admission:
    leaf = make_site_leaf(
        "crlm",
        "hospital-a",
        site_key.public_key(),
        consortium.issuing,
        now=consortium.now,
    )
    return make_admission(
        consortium="crlm",
        site="hospital-a",
        address="fl.example.org:8443",
        root=consortium.root.certificate,
        issuing=issuing,
        certificate=leaf,
        contract='name = "crlm"\r\n# ä\n',
        issued=NOW,
    )


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_a_request_proves_its_invitation(
    request_file: Path, invitation: Invitation
) -> None:
    check_proof(read_request(request_file), invitation.proof_key())


def test_a_request_does_not_hold_the_secret(
    request_file: Path, invitation: Invitation
) -> None:
    text = request_file.read_text()
    assert invitation.secret not in text
    assert invitation.proof_key().hex() not in text


def test_another_invitation_does_not_fit(request_file: Path) -> None:
    with pytest.raises(IdentityError, match="latest invitation") as caught:
        check_proof(read_request(request_file), invite().proof_key())
    assert caught.value.code == "identity.request_invalid"


def test_the_proof_does_not_fit_another_key(
    request_file: Path, invitation: Invitation
) -> None:
    stranger = make_request(invite(), generate_key().public_key())
    edit(request_file, lambda c: c.update(public_key=stranger.public_key))
    with pytest.raises(IdentityError, match="latest invitation"):
        check_proof(read_request(request_file), invitation.proof_key())


@pytest.mark.parametrize("field", ["consortium", "site"])
def test_the_proof_does_not_fit_another_name(
    request_file: Path, invitation: Invitation, field: str
) -> None:
    edit(request_file, lambda c: c.update({field: "other"}))
    with pytest.raises(IdentityError, match="latest invitation"):
        check_proof(read_request(request_file), invitation.proof_key())


def test_an_rsa_key_is_refused(request_file: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
    edit(request_file, lambda c: c.update(public_key=pem))
    with pytest.raises(IdentityError) as caught:
        read_request(request_file)
    assert caught.value.code == "identity.key_unsupported"


def test_a_request_that_is_too_large_is_refused(request_file: Path) -> None:
    request_file.write_bytes(request_file.read_bytes() + b" " * MAX_REQUEST_BYTES)
    with pytest.raises(IdentityError) as caught:
        read_request(request_file)
    assert caught.value.code == "identity.request_too_large"


def test_all_faults_of_a_request_are_named(request_file: Path) -> None:
    edit(request_file, lambda c: c.update(site="A b", proof="x", more=1))
    with pytest.raises(IdentityError) as caught:
        read_request(request_file)
    assert caught.value.code == "identity.request_invalid"
    for field in ("site", "proof", "more"):
        assert f"file: {field}:" in caught.value.message


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 60_000])
def test_what_is_no_request_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(content)
    with pytest.raises(IdentityError) as caught:
        read_request(path)
    assert caught.value.code == "identity.request_invalid"


def test_a_missing_request_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        read_request(tmp_path / "request.json")
    assert caught.value.code == "config.not_found"


def test_a_request_of_a_later_format_is_refused(request_file: Path) -> None:
    edit(request_file, lambda c: c.update(format_version=2))
    with pytest.raises(IdentityError, match="format_version"):
        read_request(request_file)


def test_an_admission_is_read_back_whole(tmp_path: Path, admission: Admission) -> None:
    path = tmp_path / "admission.json"
    path.write_bytes(admission.to_bytes())
    assert read_admission(path) == admission
    check_admission_signature(read_admission(path))


@pytest.mark.parametrize("field", ["consortium", "site", "address", "issued"])
def test_a_changed_admission_does_not_verify(
    tmp_path: Path, admission: Admission, field: str
) -> None:
    values = {"address": "evil.example.org:1", "issued": "2030-01-01T00:00:00Z"}
    path = tmp_path / "admission.json"
    path.write_bytes(admission.to_bytes())
    edit(path, lambda c: c.update({field: values.get(field, "other")}))
    with pytest.raises(IdentityError, match="signature does not verify"):
        check_admission_signature(read_admission(path))


def test_a_changed_contract_does_not_verify_even_with_its_own_hash(
    tmp_path: Path, admission: Admission, consortium: Consortium
) -> None:
    path = tmp_path / "admission.json"
    path.write_bytes(admission.to_bytes())
    text = "minimum_cell = 1"
    digest = hashlib.sha256(text.encode()).hexdigest()
    edit(path, lambda c: c.update(contract=text, contract_sha256=digest))
    with pytest.raises(IdentityError, match="signature does not verify"):
        check_admission_signature(read_admission(path))


def test_a_contract_without_its_hash_is_refused(
    tmp_path: Path, admission: Admission
) -> None:
    path = tmp_path / "admission.json"
    path.write_bytes(admission.to_bytes())
    edit(path, lambda c: c.update(contract="minimum_cell = 1"))
    with pytest.raises(IdentityError, match="not the hash of the contract") as caught:
        read_admission(path)
    assert caught.value.code == "identity.admission_invalid"


def test_another_authoritys_signature_does_not_verify(
    consortium: Consortium, site_key: ec.EllipticCurvePrivateKey
) -> None:
    impostor = Authority(certificate=consortium.issuing.certificate, key=generate_key())
    with pytest.raises(IdentityError, match="signature does not verify"):
        check_admission_signature(admit(consortium, site_key, impostor))


@pytest.mark.parametrize("signature", ["-", "AAAA", "ä"])
def test_a_senseless_signature_does_not_verify(
    admission: Admission, signature: str
) -> None:
    with pytest.raises(IdentityError, match="signature does not verify"):
        check_admission_signature(admission.model_copy(update={"signature": signature}))


def test_an_admission_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "admission.json"
    path.write_bytes(b" " * (MAX_ADMISSION_BYTES + 1))
    with pytest.raises(IdentityError, match="more than") as caught:
        read_admission(path)
    assert caught.value.code == "identity.admission_invalid"


def test_the_largest_contract_fits_an_admission(
    tmp_path: Path, consortium: Consortium, admission: Admission
) -> None:
    whole = make_admission(
        consortium="crlm",
        site="hospital-a",
        address="fl.example.org:8443",
        root=consortium.root.certificate,
        issuing=consortium.issuing,
        certificate=consortium.root.certificate,
        contract="\n" * (256 * 1024),
        issued=NOW,
    )
    path = tmp_path / "admission.json"
    path.write_bytes(whole.to_bytes())
    assert read_admission(path) == whole


def test_a_request_is_the_same_for_the_same_key(
    invitation: Invitation, site_key: ec.EllipticCurvePrivateKey
) -> None:
    first, second = (make_request(invitation, site_key.public_key()) for _ in range(2))
    assert first == second
    assert isinstance(first, EnrolmentRequest)
