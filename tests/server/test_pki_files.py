import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from acf_server.pki import (
    PkiPaths,
    create_pki,
    is_renewal_due,
    issue_site_certificate,
    load_issuing,
    load_root_certificate,
    renew_server_certificate,
)
from acfnet_core.errors import ConfigError, IdentityError
from acfnet_core.identity.certificates import site_uri
from acfnet_core.identity.keys import generate_key, load_key
from acfnet_core.identity.path_checks import (
    verify_server_certificate,
    verify_site_certificate,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def paths(tmp_path: Path) -> PkiPaths:
    return create_pki(
        tmp_path / "pki",
        consortium="crlm",
        hosts=["fl.example.org"],
        root_passphrase=b"secret words",
        now=NOW,
    )


def verify_server(paths: PkiPaths, now: datetime) -> None:
    chain = x509.load_pem_x509_certificates(paths.server_chain.read_bytes())
    verify_server_certificate(
        chain[0],
        issuing=chain[1],
        root=load_root_certificate(paths),
        host="fl.example.org",
        now=now,
    )


def test_no_private_file_can_be_read_by_others(paths: PkiPaths) -> None:
    private = {path.name for path in paths.folder.glob("*.key")}
    assert private == {"root.key", "issuing.key", "server.key"}
    for name in private:
        assert stat.S_IMODE((paths.folder / name).stat().st_mode) == 0o600


def test_the_root_key_needs_its_passphrase(paths: PkiPaths) -> None:
    load_key(paths.root_key, passphrase=b"secret words")
    with pytest.raises(IdentityError):
        load_key(paths.root_key)


def test_a_given_passphrase_is_not_written(paths: PkiPaths) -> None:
    assert not paths.root_passphrase.exists()
    for path in paths.folder.iterdir():
        assert b"secret words" not in path.read_bytes()


def test_without_a_passphrase_a_random_one_is_kept_private(tmp_path: Path) -> None:
    paths = create_pki(
        tmp_path, consortium="crlm", hosts=[], root_passphrase=None, now=NOW
    )
    assert stat.S_IMODE(paths.root_passphrase.stat().st_mode) == 0o600
    load_key(paths.root_key, passphrase=paths.root_passphrase.read_bytes())


def test_the_server_chain_verifies(paths: PkiPaths) -> None:
    verify_server(paths, NOW)


def test_the_server_certificate_is_renewed(paths: PkiPaths) -> None:
    later = NOW + timedelta(days=91)
    with pytest.raises(IdentityError):
        verify_server(paths, later)
    renew_server_certificate(
        paths, consortium="crlm", hosts=["fl.example.org"], now=later
    )
    verify_server(paths, later)


def test_a_site_certificate_is_issued(paths: PkiPaths) -> None:
    leaf = issue_site_certificate(
        paths,
        consortium="crlm",
        site="hospital-a",
        public_key=generate_key().public_key(),
        now=NOW,
    )
    verify_site_certificate(
        leaf,
        issuing=load_issuing(paths).certificate,
        root=load_root_certificate(paths),
        uri=site_uri("crlm", "hospital-a"),
        now=NOW,
    )


def test_a_root_is_never_replaced(paths: PkiPaths) -> None:
    with pytest.raises(ConfigError) as caught:
        create_pki(
            paths.folder, consortium="crlm", hosts=[], root_passphrase=b"x", now=NOW
        )
    assert caught.value.code == "config.already_initialised"


def test_an_issuing_key_that_others_can_read_is_not_used(paths: PkiPaths) -> None:
    paths.issuing_key.chmod(0o644)
    with pytest.raises(IdentityError) as caught:
        load_issuing(paths)
    assert caught.value.code == "identity.key_unsafe"


def test_a_missing_certificate_is_reported(paths: PkiPaths) -> None:
    paths.issuing_certificate.unlink()
    with pytest.raises(IdentityError, match="issuing certificate cannot be read"):
        load_issuing(paths)


@pytest.mark.parametrize(("days", "due"), [(0, False), (59, False), (61, True)])
def test_renewal_is_due_after_two_thirds_of_ninety_days(
    paths: PkiPaths, days: int, due: bool
) -> None:
    assert is_renewal_due(paths, now=NOW + timedelta(days=days)) is due
