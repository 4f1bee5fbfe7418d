"""Private keys on P-384: made here, kept here, and never given away.

One key serves a site twice: its certificate, and Flower's node authentication, which
asks for the OpenSSH form.
"""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from acfnet_core.errors import IdentityError
from acfnet_core.files import PRIVATE_MODE, write_atomically

MAX_KEY_BYTES = 16 * 1024

_OTHERS_MAY_USE = stat.S_IRWXG | stat.S_IRWXO


def generate_key() -> ec.EllipticCurvePrivateKey:
    """Make a new P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def save_key(
    path: Path, key: ec.EllipticCurvePrivateKey, *, passphrase: bytes | None = None
) -> None:
    """Write a key as PKCS #8 PEM that only its owner can read.

    Args:
        path: The file, replaced if it exists.
        key: The private key.
        passphrase: Encrypts the file; None leaves it in clear for unattended use.

    Raises:
        MachineError: The file cannot be written.
    """
    encryption: serialization.KeySerializationEncryption = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    write_atomically(path, content, mode=PRIVATE_MODE)


def load_key(
    path: Path, *, passphrase: bytes | None = None
) -> ec.EllipticCurvePrivateKey:
    """Read a key, provided that nobody but its owner can.

    Raises:
        IdentityError: Others may read or write the file, it is missing, damaged or
            locked by another passphrase, or it holds another kind of key.
    """
    content = read_private_file(path)
    try:
        key = serialization.load_pem_private_key(content, password=passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The cause is not chained: it adds nothing, and it was near the key.
        raise IdentityError(
            "identity.key_unreadable",
            f"{path}: is not a readable private key, or the passphrase differs.",
            remedy="Restore the file from a backup, or give the right passphrase.",
        ) from None
    if not (
        isinstance(key, ec.EllipticCurvePrivateKey)
        and isinstance(key.curve, ec.SECP384R1)
    ):
        raise _unsupported(str(path))
    return key


def read_private_file(path: Path) -> bytes:
    """Read a small secret file, provided that nobody but its owner can.

    Raises:
        IdentityError: Others may read or write the file, or it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            # The open file is examined, so that it cannot be exchanged in between.
            mode = os.fstat(descriptor).st_mode
            content = file.read(MAX_KEY_BYTES)
    except OSError as error:
        raise IdentityError(
            "identity.key_unreadable",
            f"{path}: cannot be read ({error.strerror}).",
            remedy="Restore the file from a backup, or enrol again.",
        ) from error
    if mode & _OTHERS_MAY_USE:
        raise IdentityError(
            "identity.key_unsafe",
            f"{path}: has mode {stat.S_IMODE(mode):04o}; others than its owner may "
            "use it; expected 0600.",
            remedy=f"Run `chmod 600 {path}`; if others may have read it, enrol again "
            "with a new key.",
        )
    return content


def public_key_pem(key: ec.EllipticCurvePublicKey) -> str:
    """Write a public key as SubjectPublicKeyInfo PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode("ascii")


def load_public_key(pem: str) -> ec.EllipticCurvePublicKey:
    """Read a public key that another machine sent.

    Raises:
        IdentityError: The text is no public key, or not one on P-384.
    """
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unsupported("the public key") from error
    if not (
        isinstance(key, ec.EllipticCurvePublicKey)
        and isinstance(key.curve, ec.SECP384R1)
    ):
        raise _unsupported("the public key")
    return key


def save_openssh_pair(
    private_path: Path, key: ec.EllipticCurvePrivateKey, *, comment: str
) -> Path:
    """Write a key in OpenSSH's form, with its public line beside it as `.pub`.

    Flower's SuperNode reads this form and accepts no passphrase.

    Returns:
        The path of the public file.
    """
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public_path = private_path.with_name(f"{private_path.name}.pub")
    line = openssh_public_line(key.public_key(), comment=comment)
    write_atomically(private_path, private, mode=PRIVATE_MODE)
    write_atomically(public_path, f"{line}\n".encode())
    return public_path


def openssh_public_line(key: ec.EllipticCurvePublicKey, *, comment: str) -> str:
    """Write a public key as the one line that OpenSSH and Flower read."""
    line = key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return f"{line.decode('ascii')} {comment}"


def _unsupported(where: str) -> IdentityError:
    return IdentityError(
        "identity.key_unsupported",
        f"{where}: is not a key on the elliptic curve P-384, the only kind accepted.",
        remedy="Let `acf-client enroll` make the key and the request.",
    )
