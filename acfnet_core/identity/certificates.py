"""The federation's certificates: a root, an issuing authority, and two kinds of leaf.

    root (10 years, may be kept offline)
    └── issuing (1 year, signs leaves only)
        ├── server (90 days): the coordinator's host names, serverAuth
        └── site (30 days): urn:acfnet:<consortium>:site:<name>, clientAuth

They are checked in `path_checks`. Of a site's request only the public key is used;
everything else is written here.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from acfnet_core.errors import IdentityError

ROOT_LIFETIME = timedelta(days=3652)
ISSUING_LIFETIME = timedelta(days=365)
SERVER_LIFETIME = timedelta(days=90)
SITE_LIFETIME = timedelta(days=30)

CLOCK_TOLERANCE = timedelta(minutes=5)
"""A certificate begins this much in the past: hospitals' clocks differ."""

_LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate that may sign others, with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


def make_root(
    consortium: str, key: ec.EllipticCurvePrivateKey, *, now: datetime
) -> Authority:
    """Make the consortium's self-signed root, which signs only issuing authorities."""
    subject = _subject(consortium, f"{consortium} root")
    builder = _builder(subject, subject, key.public_key(), now, now + ROOT_LIFETIME)
    builder = _as_authority(builder, key.public_key(), path_length=1)
    return Authority(certificate=builder.sign(key, hashes.SHA384()), key=key)


def make_issuing(
    consortium: str,
    key: ec.EllipticCurvePrivateKey,
    root: Authority,
    *,
    now: datetime,
) -> Authority:
    """Make the authority that signs leaves, and itself can have none below it."""
    builder = _builder(
        _subject(consortium, f"{consortium} issuing"),
        root.certificate.subject,
        key.public_key(),
        now,
        _end(now, ISSUING_LIFETIME, root),
    )
    builder = _as_authority(builder, key.public_key(), path_length=0)
    builder = builder.add_extension(_authority_key(root), critical=False)
    return Authority(certificate=builder.sign(root.key, hashes.SHA384()), key=key)


def make_server_leaf(
    consortium: str,
    hosts: Sequence[str],
    public_key: ec.EllipticCurvePublicKey,
    issuing: Authority,
    *,
    now: datetime,
) -> x509.Certificate:
    """Make the coordinator's certificate for its hosts and the loopback address.

    Raises:
        ValueError: A host is neither an IP address nor an ASCII host name.
        IdentityError: The issuing certificate has expired.
    """
    names = dict.fromkeys([*hosts, *_LOOPBACK])
    return _make_leaf(
        _subject(consortium, f"{consortium} coordinator"),
        x509.SubjectAlternativeName([_general_name(name) for name in names]),
        ExtendedKeyUsageOID.SERVER_AUTH,
        public_key,
        issuing,
        now,
        SERVER_LIFETIME,
    )


def make_site_leaf(
    consortium: str,
    site: str,
    public_key: ec.EllipticCurvePublicKey,
    issuing: Authority,
    *,
    now: datetime,
) -> x509.Certificate:
    """Make a site's certificate; of the request only the public key is taken.

    Raises:
        IdentityError: The issuing certificate has expired.
    """
    uri = x509.UniformResourceIdentifier(site_uri(consortium, site))
    return _make_leaf(
        _subject(consortium, site),
        x509.SubjectAlternativeName([uri]),
        ExtendedKeyUsageOID.CLIENT_AUTH,
        public_key,
        issuing,
        now,
        SITE_LIFETIME,
    )


def site_uri(consortium: str, site: str) -> str:
    """Return the name under which a site's certificate is issued.

    Example:
        >>> site_uri("crlm", "hospital-a")
        'urn:acfnet:crlm:site:hospital-a'
    """
    return f"urn:acfnet:{consortium}:site:{site}"


def certificate_pem(*certificates: x509.Certificate) -> str:
    """Write one certificate, or a chain from the leaf upwards, as PEM."""
    return "".join(
        certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        for certificate in certificates
    )


def load_certificate(pem: str, *, subject: str) -> x509.Certificate:
    """Read one PEM certificate.

    Args:
        pem: The text.
        subject: What the certificate is, for the message.

    Raises:
        IdentityError: The text is no certificate.
    """
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise certificate_invalid(f"{subject} is not a readable certificate") from error


def certificate_invalid(reason: str) -> IdentityError:
    """Return the error for a certificate that is not valid, for this reason."""
    return IdentityError(
        "identity.certificate_invalid",
        f"{reason}.",
        remedy="Check this machine's clock; if it is right, ask the coordinator for a "
        "new admission file.",
    )


def _subject(consortium: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, consortium),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - CLOCK_TOLERANCE)
        .not_valid_after(end.astimezone(UTC))
    )


def _as_authority(
    builder: x509.CertificateBuilder,
    public_key: ec.EllipticCurvePublicKey,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
    return (
        builder.add_extension(constraints, critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(identifier, critical=False)
    )


def _make_leaf(
    subject: x509.Name,
    alternative_name: x509.SubjectAlternativeName,
    purpose: x509.ObjectIdentifier,
    public_key: ec.EllipticCurvePublicKey,
    issuing: Authority,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    end = _end(now, lifetime, issuing)
    issuer = issuing.certificate.subject
    builder = (
        _builder(subject, issuer, public_key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(alternative_name, critical=False)
        .add_extension(_authority_key(issuing), critical=False)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False
        )
    )
    return builder.sign(issuing.key, hashes.SHA384())


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    # The issuing authority also signs admissions, hence digital_signature for both.
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(authority: Authority) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(
        authority.key.public_key()
    )


def _end(now: datetime, lifetime: timedelta, signer: Authority) -> datetime:
    """Return the end of a certificate, which never outlives its signer."""
    last = signer.certificate.not_valid_after_utc
    if last <= now:
        raise certificate_invalid(
            "the certificate of the signing authority has expired"
        )
    return min(now + lifetime, last)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
