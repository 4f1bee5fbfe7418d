import base64
import hashlib
import re

import pytest
from core.identity.conftest import Consortium
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from acfnet_core.errors import IdentityError
from acfnet_core.identity.fingerprint import (
    check_fingerprint,
    fingerprint_certificate,
    fingerprint_key,
)
from acfnet_core.identity.keys import generate_key


def test_a_fingerprint_is_thirteen_groups_of_four(
    site_key: ec.EllipticCurvePrivateKey,
) -> None:
    text = fingerprint_key(site_key.public_key())
    assert re.fullmatch(r"([A-Z2-7]{4}-){12}[A-Z2-7]{4}", text)


def test_a_keys_fingerprint_is_the_sha256_of_its_key_info(
    site_key: ec.EllipticCurvePrivateKey,
) -> None:
    public = site_key.public_key()
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    decoded = base64.b32decode(fingerprint_key(public).replace("-", "") + "====")
    assert decoded == hashlib.sha256(der).digest()


def test_a_certificates_fingerprint_is_that_of_its_der(consortium: Consortium) -> None:
    certificate = consortium.root.certificate
    text = fingerprint_certificate(certificate).replace("-", "")
    assert base64.b32decode(text + "====") == certificate.fingerprint(hashes.SHA256())


def test_how_a_person_types_it_makes_no_difference(
    site_key: ec.EllipticCurvePrivateKey,
) -> None:
    own = fingerprint_key(site_key.public_key())
    typed = own.replace("-", " ").lower().replace("o", "0").replace("i", "1")
    check_fingerprint(f" {typed}\n", own, subject="request")


def test_another_fingerprint_is_refused_without_showing_the_right_one(
    site_key: ec.EllipticCurvePrivateKey,
) -> None:
    own = fingerprint_key(site_key.public_key())
    other = fingerprint_key(generate_key().public_key())
    with pytest.raises(IdentityError) as caught:
        check_fingerprint(other, own, subject="request")
    assert caught.value.code == "identity.fingerprint_mismatch"
    assert own[:9] not in caught.value.message


@pytest.mark.parametrize("length", [0, 1, 4, 51])
def test_a_part_of_the_fingerprint_is_not_enough(
    site_key: ec.EllipticCurvePrivateKey, length: int
) -> None:
    own = fingerprint_key(site_key.public_key())
    with pytest.raises(IdentityError, match=f"{length} characters; 52 expected"):
        check_fingerprint(own.replace("-", "")[:length], own, subject="request")
