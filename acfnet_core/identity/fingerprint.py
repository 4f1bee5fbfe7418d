"""Fingerprints that two people compare over the telephone.

A fingerprint is a SHA-256 in base 32, thirteen groups of four characters. Base 32 has
no 0, 1 and 8, so what sounds or looks like them can only be O, I and B.
"""

import base64
import hashlib
import hmac

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from acfnet_core.errors import IdentityError

FINGERPRINT_CHARACTERS = 52
GROUP_CHARACTERS = 4

_LOOK_ALIKES = str.maketrans("018", "OIB")


def fingerprint_key(key: ec.EllipticCurvePublicKey) -> str:
    """Return the fingerprint of a public key, over its SubjectPublicKeyInfo."""
    return _fingerprint(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def fingerprint_certificate(certificate: x509.Certificate) -> str:
    """Return the fingerprint of a certificate, over all of its DER bytes."""
    return _fingerprint(certificate.public_bytes(serialization.Encoding.DER))


def check_fingerprint(given: str, own: str, *, subject: str) -> None:
    """Compare the fingerprint that a person gave with the one found, in constant time.

    Upper and lower case, spaces, hyphens and colons make no difference.

    Args:
        given: What was typed, or pinned before.
        own: What this machine computed.
        subject: What the fingerprint is of, for the message.

    Raises:
        IdentityError: They differ. The one found is not shown, so that nobody is
            tempted to copy it.
    """
    characters = _normalise(given)
    if hmac.compare_digest(characters.encode(), _normalise(own).encode()):
        return
    raise IdentityError(
        "identity.fingerprint_mismatch",
        f"{subject}: its fingerprint is not the one given "
        f"({len(characters)} characters; {FINGERPRINT_CHARACTERS} expected).",
        remedy="Ask the other side to read its fingerprint out again, by telephone. "
        "If it still differs, the file was exchanged on its way: do not go on.",
    )


def _normalise(text: str) -> str:
    kept = "".join(character for character in text.upper() if character.isalnum())
    return kept.translate(_LOOK_ALIKES)


def _fingerprint(content: bytes) -> str:
    digest = hashlib.sha256(content).digest()
    text = base64.b32encode(digest).decode("ascii").rstrip("=")
    groups = range(0, FINGERPRINT_CHARACTERS, GROUP_CHARACTERS)
    return "-".join(text[start : start + GROUP_CHARACTERS] for start in groups)
