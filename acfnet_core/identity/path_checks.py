"""Checking that a certificate leads to the pinned root, for a purpose and a name.

Paths are verified by `cryptography.x509.verification`, never by code of our own.
"""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.verification import (
    PolicyBuilder,
    Store,
    Subject,
    VerificationError,
)

from acfnet_core.identity.certificates import certificate_invalid


def verify_site_certificate(
    leaf: x509.Certificate,
    *,
    issuing: x509.Certificate,
    root: x509.Certificate,
    uri: str,
    now: datetime,
) -> None:
    """Check that a site's certificate is valid now, for this site, under this root.

    Raises:
        IdentityError: `identity.certificate_invalid`, with the reason.
    """
    verifier = _policy(root, now).build_client_verifier()
    try:
        verified = verifier.verify(leaf, [issuing])
    except VerificationError as error:
        raise certificate_invalid(
            f"the site's certificate does not verify: {error}"
        ) from error
    names = verified.subjects or []
    if [name.value for name in names] != [uri]:
        raise certificate_invalid(f"the site's certificate is not issued to {uri}")
    _require_path(verified.chain, [leaf, issuing, root])


def verify_server_certificate(
    leaf: x509.Certificate,
    *,
    issuing: x509.Certificate,
    root: x509.Certificate,
    host: str,
    now: datetime,
) -> None:
    """Check that the coordinator's certificate is valid now, for this host.

    Raises:
        IdentityError: `identity.certificate_invalid`, with the reason.
    """
    verifier = _policy(root, now).build_server_verifier(_verification_subject(host))
    try:
        chain = verifier.verify(leaf, [issuing])
    except VerificationError as error:
        raise certificate_invalid(
            f"the coordinator's certificate does not verify for {host}: {error}"
        ) from error
    _require_path(chain, [leaf, issuing, root])


def _verification_subject(host: str) -> Subject:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _policy(root: x509.Certificate, now: datetime) -> PolicyBuilder:
    return PolicyBuilder().store(Store([root])).time(now.astimezone(UTC))


def _require_path(
    found: Sequence[x509.Certificate], expected: Sequence[x509.Certificate]
) -> None:
    """Refuse a path that is valid but leads round the issuing authority given."""
    if list(found) != list(expected):
        raise certificate_invalid(
            "the certificate was not issued by the authority given with it"
        )
