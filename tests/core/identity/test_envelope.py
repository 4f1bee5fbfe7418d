from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from acfnet_core.errors import ProtocolError
from acfnet_core.identity.envelope import UpdateClaim, sign_update, verify_update
from acfnet_core.identity.keys import generate_key


@pytest.fixture
def claim() -> UpdateClaim:
    return UpdateClaim(
        run="run-1",
        site="hospital-a",
        round=3,
        base_sha256="a" * 64,
        parameters_sha256="b" * 64,
        num_examples=40,
        reading_sha256="d" * 64,
    )


def test_a_signed_claim_verifies(
    claim: UpdateClaim, site_key: ec.EllipticCurvePrivateKey
) -> None:
    verify_update(site_key.public_key(), claim, sign_update(site_key, claim))


CHANGES: list[dict[str, Any]] = [
    {"run": "run-2"},
    {"site": "hospital-b"},
    {"round": 4},
    {"base_sha256": "c" * 64},
    {"parameters_sha256": "c" * 64},
    {"compression": "float16"},
    {"num_examples": 41},
    {"reading_sha256": "e" * 64},
    {"reading_sha256": None},
]


def test_every_field_has_a_change_that_is_tried() -> None:
    tried = {field for change in CHANGES for field in change}
    assert tried == set(UpdateClaim.model_fields)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_claim_does_not_verify(
    claim: UpdateClaim,
    site_key: ec.EllipticCurvePrivateKey,
    change: dict[str, Any],
) -> None:
    signature = sign_update(site_key, claim)
    changed = claim.model_copy(update=change)
    with pytest.raises(ProtocolError, match="does not verify") as caught:
        verify_update(site_key.public_key(), changed, signature)
    assert caught.value.code == "protocol.signature_invalid"


def test_another_sites_key_does_not_verify(
    claim: UpdateClaim, site_key: ec.EllipticCurvePrivateKey
) -> None:
    with pytest.raises(ProtocolError):
        verify_update(generate_key().public_key(), claim, sign_update(site_key, claim))


def test_a_signature_for_another_purpose_does_not_verify(
    claim: UpdateClaim, site_key: ec.EllipticCurvePrivateKey
) -> None:
    content = claim.model_dump_json().encode()
    signature = site_key.sign(content, ec.ECDSA(hashes.SHA384()))
    with pytest.raises(ProtocolError):
        verify_update(site_key.public_key(), claim, signature)


@settings(deadline=None, max_examples=40)
@given(signature=st.binary(max_size=200))
def test_any_bytes_are_no_signature(signature: bytes) -> None:
    key = generate_key().public_key()
    claim = UpdateClaim(
        run="r",
        site="a",
        round=1,
        base_sha256="a" * 64,
        parameters_sha256="b" * 64,
        num_examples=0,
        reading_sha256=None,
    )
    with pytest.raises(ProtocolError):
        verify_update(key, claim, signature)


@pytest.mark.parametrize(
    "change",
    [
        {"round": 0},
        {"num_examples": -1},
        {"num_examples": 2.0},
        {"round": True},
        {"base_sha256": "A" * 64},
        {"reading_sha256": ""},
        {"site": "../a"},
        {"run": ""},
        {"more": 1},
    ],
)
def test_a_senseless_claim_is_refused(
    claim: UpdateClaim, change: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        UpdateClaim.model_validate({**claim.model_dump(), **change})
