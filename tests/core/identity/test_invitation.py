import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.errors import IdentityError
from acfnet_core.identity.invitation import (
    LINE_PREFIX,
    Invitation,
    derive_proof_key,
    make_invitation,
    parse_invitation,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def invitation() -> Invitation:
    return make_invitation(
        consortium="crlm",
        site="hospital-a",
        address="fl.example.org:8443",
        root_fingerprint="ABCD-EFGH",
        now=NOW,
        hours=24,
    )


def encode(content: bytes) -> str:
    return LINE_PREFIX + base64.urlsafe_b64encode(content).decode().rstrip("=")


def test_a_line_is_read_back_whole(invitation: Invitation) -> None:
    assert parse_invitation(f" {invitation.to_line()}\n", now=NOW) == invitation


def test_a_line_is_one_word_of_printable_ascii(invitation: Invitation) -> None:
    line = invitation.to_line()
    assert line.isascii()
    assert line.isprintable()
    assert " " not in line


def test_every_invitation_has_its_own_secret(invitation: Invitation) -> None:
    other = make_invitation(
        consortium="crlm",
        site="hospital-a",
        address="fl.example.org:8443",
        root_fingerprint="ABCD-EFGH",
        now=NOW,
        hours=24,
    )
    assert other.secret != invitation.secret


def test_an_invitation_does_not_show_its_secret(invitation: Invitation) -> None:
    assert invitation.secret not in repr(invitation)


def test_the_proof_key_is_not_the_secret(invitation: Invitation) -> None:
    assert invitation.proof_key().hex() != invitation.secret


def test_proof_keys_stay_the_same_in_every_version() -> None:
    # SHA-256 of the ASCII text "acf-proof" and 32 zero bytes, by sha256sum.
    expected = "3816f13c400ad8a32f7bb43a1a141bfdaf6772fea5293b709264b1265ca95367"
    assert derive_proof_key(bytes(32)).hex() == expected


def test_an_invitation_expires(invitation: Invitation) -> None:
    parse_invitation(invitation.to_line(), now=NOW + timedelta(hours=23, minutes=59))
    with pytest.raises(IdentityError, match="expired at 2026-03-02T12:00") as caught:
        parse_invitation(invitation.to_line(), now=NOW + timedelta(hours=24))
    assert caught.value.code == "identity.invitation_expired"


@pytest.mark.parametrize(
    "line",
    ["", "acf1:", "acf2:e30", "hello", "acf1:!!!!", "acf1:AAAA", "acf1:" + "A" * 5000],
)
def test_what_is_no_invitation_is_refused(line: str) -> None:
    with pytest.raises(IdentityError) as caught:
        parse_invitation(line, now=NOW)
    assert caught.value.code == "identity.invitation_invalid"


def test_a_cut_line_is_refused_without_repeating_it(invitation: Invitation) -> None:
    line = invitation.to_line()
    for length in range(len(LINE_PREFIX), len(line)):
        with pytest.raises(IdentityError) as caught:
            parse_invitation(line[:length], now=NOW)
        assert caught.value.code == "identity.invitation_invalid"
        assert line[10:40] not in caught.value.message


def test_faults_do_not_show_the_secret(invitation: Invitation) -> None:
    content = invitation.model_dump_json().replace(
        invitation.secret, f"{invitation.secret}x"
    )
    with pytest.raises(IdentityError) as caught:
        parse_invitation(encode(content.encode()), now=NOW)
    assert invitation.secret not in repr(caught.value)
    assert caught.value.__cause__ is None


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_with_the_same_code(content: bytes) -> None:
    with pytest.raises(IdentityError) as caught:
        parse_invitation(encode(content), now=NOW)
    assert caught.value.code == "identity.invitation_invalid"


@pytest.mark.parametrize("hours", [0, -1, 721])
def test_a_senseless_number_of_hours_is_refused(hours: int) -> None:
    with pytest.raises(ValueError, match="above 0"):
        make_invitation(
            consortium="crlm",
            site="hospital-a",
            address="fl.example.org:8443",
            root_fingerprint="",
            now=NOW,
            hours=hours,
        )
