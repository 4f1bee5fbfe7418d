import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from core.identity.conftest import Consortium
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from acfnet_core.errors import IdentityError
from acfnet_core.identity.certificates import (
    ISSUING_LIFETIME,
    Authority,
    certificate_pem,
    load_certificate,
    make_issuing,
    make_root,
    make_server_leaf,
    make_site_leaf,
    site_uri,
)
from acfnet_core.identity.keys import generate_key
from acfnet_core.identity.path_checks import (
    verify_server_certificate,
    verify_site_certificate,
)

URI = site_uri("crlm", "hospital-a")


@pytest.fixture
def site_leaf(
    consortium: Consortium, site_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    return make_site_leaf(
        "crlm",
        "hospital-a",
        site_key.public_key(),
        consortium.issuing,
        now=consortium.now,
    )


@pytest.fixture
def server_leaf(consortium: Consortium) -> x509.Certificate:
    return make_server_leaf(
        "crlm",
        ["fl.example.org", "192.0.2.7"],
        generate_key().public_key(),
        consortium.issuing,
        now=consortium.now,
    )


def verify_site(
    leaf: x509.Certificate,
    consortium: Consortium,
    *,
    uri: str = URI,
    after: timedelta = timedelta(0),
    root: x509.Certificate | None = None,
) -> None:
    verify_site_certificate(
        leaf,
        issuing=consortium.issuing.certificate,
        root=root or consortium.root.certificate,
        uri=uri,
        now=consortium.now + after,
    )


def verify_server(leaf: x509.Certificate, consortium: Consortium, host: str) -> None:
    verify_server_certificate(
        leaf,
        issuing=consortium.issuing.certificate,
        root=consortium.root.certificate,
        host=host,
        now=consortium.now,
    )


def test_a_sites_certificate_verifies(
    site_leaf: x509.Certificate, consortium: Consortium
) -> None:
    verify_site(site_leaf, consortium)


def test_a_sites_certificate_ends_after_thirty_days(
    site_leaf: x509.Certificate, consortium: Consortium
) -> None:
    verify_site(site_leaf, consortium, after=timedelta(days=29, hours=23))
    with pytest.raises(IdentityError, match="not valid at") as caught:
        verify_site(site_leaf, consortium, after=timedelta(days=30, hours=1))
    assert caught.value.code == "identity.certificate_invalid"


def test_a_certificate_of_another_site_is_refused(
    site_leaf: x509.Certificate, consortium: Consortium
) -> None:
    with pytest.raises(IdentityError, match="not issued to"):
        verify_site(site_leaf, consortium, uri=site_uri("crlm", "hospital-b"))


def test_another_root_is_refused(
    site_leaf: x509.Certificate, consortium: Consortium
) -> None:
    stranger = make_root("crlm", generate_key(), now=consortium.now)
    with pytest.raises(IdentityError, match="does not verify"):
        verify_site(site_leaf, consortium, root=stranger.certificate)


def test_a_server_certificate_is_no_site_certificate(
    server_leaf: x509.Certificate, consortium: Consortium
) -> None:
    with pytest.raises(IdentityError, match="EKU"):
        verify_site(server_leaf, consortium)


def test_a_site_certificate_is_no_server_certificate(
    site_leaf: x509.Certificate, consortium: Consortium
) -> None:
    with pytest.raises(IdentityError, match="does not verify for localhost"):
        verify_server(site_leaf, consortium, "localhost")


@pytest.mark.parametrize(
    "host", ["fl.example.org", "192.0.2.7", "localhost", "127.0.0.1"]
)
def test_the_server_certificate_verifies_for_its_hosts(
    server_leaf: x509.Certificate, consortium: Consortium, host: str
) -> None:
    verify_server(server_leaf, consortium, host)


def test_the_server_certificate_is_refused_for_another_host(
    server_leaf: x509.Certificate, consortium: Consortium
) -> None:
    with pytest.raises(IdentityError, match=r"evil\.example\.org"):
        verify_server(server_leaf, consortium, "evil.example.org")


def test_a_site_cannot_issue_certificates(
    site_leaf: x509.Certificate,
    site_key: ec.EllipticCurvePrivateKey,
    consortium: Consortium,
) -> None:
    impostor = Authority(certificate=site_leaf, key=site_key)
    forged = make_site_leaf(
        "crlm",
        "hospital-b",
        generate_key().public_key(),
        impostor,
        now=consortium.now,
    )
    with pytest.raises(IdentityError, match="does not verify"):
        verify_site_certificate(
            forged,
            issuing=site_leaf,
            root=consortium.root.certificate,
            uri=site_uri("crlm", "hospital-b"),
            now=consortium.now,
        )


def test_a_leaf_that_the_root_signed_itself_is_refused(consortium: Consortium) -> None:
    leaf = make_site_leaf(
        "crlm",
        "hospital-a",
        generate_key().public_key(),
        consortium.root,
        now=consortium.now,
    )
    with pytest.raises(IdentityError, match="authority given with it"):
        verify_site(leaf, consortium)


def test_no_authority_may_stand_below_the_issuing_one(consortium: Consortium) -> None:
    below = make_issuing("crlm", generate_key(), consortium.issuing, now=consortium.now)
    leaf = make_site_leaf(
        "crlm", "hospital-a", generate_key().public_key(), below, now=consortium.now
    )
    with pytest.raises(IdentityError):
        verify_site_certificate(
            leaf,
            issuing=below.certificate,
            root=consortium.root.certificate,
            uri=URI,
            now=consortium.now,
        )


def test_a_site_leaf_is_for_client_authentication_alone(
    site_leaf: x509.Certificate,
) -> None:
    usage = site_leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(usage.value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert site_leaf.extensions.get_extension_for_class(x509.KeyUsage).critical


def test_a_leaf_never_outlives_its_authority(consortium: Consortium) -> None:
    late = consortium.now + ISSUING_LIFETIME - timedelta(days=3)
    leaf = make_site_leaf(
        "crlm", "hospital-a", generate_key().public_key(), consortium.issuing, now=late
    )
    end = consortium.issuing.certificate.not_valid_after_utc
    assert leaf.not_valid_after_utc == end


def test_an_expired_authority_issues_nothing(consortium: Consortium) -> None:
    with pytest.raises(IdentityError, match="authority has expired"):
        make_site_leaf(
            "crlm",
            "hospital-a",
            generate_key().public_key(),
            consortium.issuing,
            now=consortium.now + ISSUING_LIFETIME,
        )


def test_an_authority_does_not_show_its_key(consortium: Consortium) -> None:
    assert "key=" not in repr(consortium.issuing)


def test_text_that_is_no_certificate_is_refused() -> None:
    with pytest.raises(IdentityError, match="the root certificate is not a readable"):
        load_certificate("hello", subject="the root certificate")


def openssl_verify(
    folder: Path, leaf: x509.Certificate, consortium: Consortium, purpose: str
) -> subprocess.CompletedProcess[str]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is not installed")
    for name, certificate in {
        "leaf": leaf,
        "issuing": consortium.issuing.certificate,
        "root": consortium.root.certificate,
    }.items():
        (folder / f"{name}.pem").write_text(certificate_pem(certificate))
    command = [openssl, "verify", "-x509_strict", "-purpose", purpose]
    command += ["-attime", str(int(consortium.now.timestamp()))]
    command += ["-CAfile", "root.pem", "-untrusted", "issuing.pem", "leaf.pem"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )


def test_openssl_accepts_the_site_certificate(
    tmp_path: Path, site_leaf: x509.Certificate, consortium: Consortium
) -> None:
    result = openssl_verify(tmp_path, site_leaf, consortium, "sslclient")
    assert result.stdout == "leaf.pem: OK\n", result.stderr


def test_openssl_accepts_the_server_certificate(
    tmp_path: Path, server_leaf: x509.Certificate, consortium: Consortium
) -> None:
    result = openssl_verify(tmp_path, server_leaf, consortium, "sslserver")
    assert result.stdout == "leaf.pem: OK\n", result.stderr


def test_openssl_refuses_the_site_certificate_for_a_server(
    tmp_path: Path, site_leaf: x509.Certificate, consortium: Consortium
) -> None:
    result = openssl_verify(tmp_path, site_leaf, consortium, "sslserver")
    assert "purpose" in result.stderr
    assert result.returncode != 0
