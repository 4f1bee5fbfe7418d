import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from acfnet_core.errors import IdentityError
from acfnet_core.identity.keys import (
    generate_key,
    load_key,
    load_public_key,
    public_key_pem,
    save_key,
    save_openssh_pair,
)


def numbers(key: ec.EllipticCurvePrivateKey) -> int:
    return key.private_numbers().private_value


def test_a_saved_key_is_loaded_again(tmp_path: Path) -> None:
    key = generate_key()
    save_key(tmp_path / "site.key", key)
    assert numbers(load_key(tmp_path / "site.key")) == numbers(key)


def test_a_saved_key_is_for_its_owner_only(tmp_path: Path) -> None:
    save_key(tmp_path / "site.key", generate_key())
    assert stat.S_IMODE((tmp_path / "site.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "site.key"
    save_key(path, generate_key())
    path.chmod(mode)
    with pytest.raises(IdentityError, match=f"mode {mode:04o}") as caught:
        load_key(path)
    assert caught.value.code == "identity.key_unsafe"


def test_a_passphrase_protects_a_key(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    save_key(path, generate_key(), passphrase=b"right")
    assert load_key(path, passphrase=b"right").curve.name == "secp384r1"
    for wrong in (b"wrong", None):
        with pytest.raises(IdentityError) as caught:
            load_key(path, passphrase=wrong)
        assert caught.value.code == "identity.key_unreadable"


def test_a_damaged_key_is_reported_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    save_key(path, generate_key())
    secret_line = path.read_text().splitlines()[1]
    path.write_text(path.read_text().replace("END", "EMD"))
    with pytest.raises(IdentityError) as caught:
        load_key(path)
    assert caught.value.code == "identity.key_unreadable"
    assert secret_line not in str(caught.value)


def test_a_missing_key_is_reported(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="No such file") as caught:
        load_key(tmp_path / "site.key")
    assert caught.value.code == "identity.key_unreadable"


def test_a_key_on_another_curve_is_refused(tmp_path: Path) -> None:
    save_key(tmp_path / "site.key", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(IdentityError) as caught:
        load_key(tmp_path / "site.key")
    assert caught.value.code == "identity.key_unsupported"


def test_a_public_key_survives_its_text() -> None:
    key = generate_key().public_key()
    assert load_public_key(public_key_pem(key)) == key


def test_an_rsa_public_key_is_refused() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
    with pytest.raises(IdentityError, match="P-384") as caught:
        load_public_key(pem)
    assert caught.value.code == "identity.key_unsupported"


def test_text_that_is_no_key_is_refused() -> None:
    with pytest.raises(IdentityError) as caught:
        load_public_key("hello")
    assert caught.value.code == "identity.key_unsupported"


def test_the_openssh_pair_holds_the_same_key(tmp_path: Path) -> None:
    key = generate_key()
    public_path = save_openssh_pair(tmp_path / "node.key", key, comment="hospital-a")
    private = serialization.load_ssh_private_key(
        (tmp_path / "node.key").read_bytes(), password=None
    )
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert numbers(private) == numbers(key)
    public = serialization.load_ssh_public_key(public_path.read_bytes())
    assert public == key.public_key()


def test_the_openssh_key_is_for_its_owner_only(tmp_path: Path) -> None:
    save_openssh_pair(tmp_path / "node.key", generate_key(), comment="hospital-a")
    assert stat.S_IMODE((tmp_path / "node.key").stat().st_mode) == 0o600


def test_the_public_line_names_curve_and_site(tmp_path: Path) -> None:
    path = save_openssh_pair(tmp_path / "n", generate_key(), comment="hospital-a")
    kind, _, comment = path.read_text().split()
    assert (kind, comment) == ("ecdsa-sha2-nistp384", "hospital-a")
