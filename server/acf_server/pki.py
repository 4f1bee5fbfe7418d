"""The coordinator's certificates and keys on disk.

The root's key is encrypted and needed once a year; the issuing key is in clear,
readable by its owner alone, because approving a site must work unattended.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from acfnet_core.errors import ConfigError, IdentityError
from acfnet_core.files import PRIVATE_MODE, make_folder, write_atomically
from acfnet_core.identity.certificates import (
    Authority,
    certificate_pem,
    load_certificate,
    make_issuing,
    make_root,
    make_server_leaf,
    make_site_leaf,
)
from acfnet_core.identity.keys import generate_key, load_key, save_key

ROOT_KEY_ADVICE = (
    "Move root.passphrase and root.key off this machine, to a place that is locked: "
    "they are needed once a year, to renew the issuing certificate."
)


@dataclass(frozen=True, kw_only=True)
class PkiPaths:
    """Where each certificate and key lies."""

    folder: Path

    @property
    def root_certificate(self) -> Path:
        """The root, which every site pins; also what Flower's nodes trust."""
        return self.folder / "root.pem"

    @property
    def root_key(self) -> Path:
        """The root's encrypted key."""
        return self.folder / "root.key"

    @property
    def root_passphrase(self) -> Path:
        """The passphrase made here when none was given; to be moved away."""
        return self.folder / "root.passphrase"

    @property
    def issuing_certificate(self) -> Path:
        """The authority that signs leaves and admissions."""
        return self.folder / "issuing.pem"

    @property
    def issuing_key(self) -> Path:
        """The issuing authority's key."""
        return self.folder / "issuing.key"

    @property
    def server_chain(self) -> Path:
        """The coordinator's certificate, followed by the issuing one."""
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        """The key of the coordinator's certificate."""
        return self.folder / "server.key"


def create_pki(
    folder: Path,
    *,
    consortium: str,
    hosts: Sequence[str],
    root_passphrase: bytes | None,
    now: datetime,
) -> PkiPaths:
    """Make the root, the issuing authority and the coordinator's certificate.

    Args:
        folder: Where they go; must not hold a root yet.
        consortium: The consortium's name.
        hosts: The coordinator's public host names and IP addresses; the loopback
            address is always added.
        root_passphrase: Encrypts the root's key. None makes a random one and leaves
            it in `root.passphrase`; see `ROOT_KEY_ADVICE`.
        now: The present time.

    Raises:
        ConfigError: There is a root in this folder already.
        MachineError: The folder cannot be written.
        ValueError: A host is neither an IP address nor an ASCII host name.
    """
    paths = PkiPaths(folder=folder)
    if paths.root_certificate.exists():
        raise ConfigError(
            "config.already_initialised",
            f"{folder}: holds a root certificate already.",
            remedy="Keep it, or choose a new folder for a new consortium.",
        )
    make_folder(folder, private=True)
    if root_passphrase is None:
        root_passphrase = secrets.token_urlsafe(32).encode("ascii")
        write_atomically(paths.root_passphrase, root_passphrase, mode=PRIVATE_MODE)
    root = make_root(consortium, generate_key(), now=now)
    issuing = make_issuing(consortium, generate_key(), root, now=now)
    save_key(paths.root_key, root.key, passphrase=root_passphrase)
    save_key(paths.issuing_key, issuing.key)
    _save_certificates(paths.issuing_certificate, issuing.certificate)
    _issue_server(paths, consortium, hosts, issuing, now)
    # The root goes last: its presence says that the folder is complete.
    _save_certificates(paths.root_certificate, root.certificate)
    return paths


def is_renewal_due(paths: PkiPaths, *, now: datetime) -> bool:
    """Tell whether two thirds of the server certificate's life are over.

    Raises:
        IdentityError: The certificate is missing or damaged.
    """
    leaf = _load(paths.server_chain, "the server's certificate")
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return now > begin + (end - begin) * 2 / 3


def renew_server_certificate(
    paths: PkiPaths, *, consortium: str, hosts: Sequence[str], now: datetime
) -> None:
    """Replace the coordinator's certificate and key by new ones.

    Raises:
        IdentityError: The issuing authority is missing, unsafe or expired.
    """
    _issue_server(paths, consortium, hosts, load_issuing(paths), now)


def issue_site_certificate(
    paths: PkiPaths,
    *,
    consortium: str,
    site: str,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
) -> x509.Certificate:
    """Issue a site's certificate for its public key.

    Raises:
        IdentityError: The issuing authority is missing, unsafe or expired.
    """
    return make_site_leaf(consortium, site, public_key, load_issuing(paths), now=now)


def load_issuing(paths: PkiPaths) -> Authority:
    """Read the issuing authority.

    Raises:
        IdentityError: A file is missing or damaged, or the key can be read by others.
    """
    certificate = _load(paths.issuing_certificate, "the issuing certificate")
    return Authority(certificate=certificate, key=load_key(paths.issuing_key))


def load_root_certificate(paths: PkiPaths) -> x509.Certificate:
    """Read the root certificate.

    Raises:
        IdentityError: The file is missing or damaged.
    """
    return _load(paths.root_certificate, "the root certificate")


def _issue_server(
    paths: PkiPaths,
    consortium: str,
    hosts: Sequence[str],
    issuing: Authority,
    now: datetime,
) -> None:
    key = generate_key()
    leaf = make_server_leaf(consortium, hosts, key.public_key(), issuing, now=now)
    save_key(paths.server_key, key)
    _save_certificates(paths.server_chain, leaf, issuing.certificate)


def _save_certificates(path: Path, *certificates: x509.Certificate) -> None:
    write_atomically(path, certificate_pem(*certificates).encode("ascii"))


def _load(path: Path, subject: str) -> x509.Certificate:
    try:
        pem = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise IdentityError(
            "identity.certificate_invalid",
            f"{path}: {subject} cannot be read.",
            remedy="Restore the coordinator's pki folder from a backup.",
        ) from error
    return load_certificate(pem, subject=f"{path}: {subject}")
