"""The one line that a coordinator gives a site, once and in private.

It says where the federation is, pins the fingerprint of its root, and carries a
secret that proves the site's request comes from whoever was given the line. The
coordinator keeps only a key derived from the secret, not the secret.
"""

import base64
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from acfnet_core.config import describe_faults
from acfnet_core.errors import IdentityError
from acfnet_core.identity.fingerprint import FINGERPRINT_CHARACTERS
from acfnet_core.identity.names import Address, Name

LINE_PREFIX = "acf1:"
MAX_LINE_CHARACTERS = 4096
SECRET_BYTES = 32

_MAX_FINGERPRINT = 2 * FINGERPRINT_CHARACTERS


class Invitation(BaseModel):
    """What an invitation line holds."""

    # A fault must not print the line's content: it holds the secret.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True
    )

    format_version: Literal[1] = 1
    consortium: Name
    site: Name
    address: Address
    secret: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        repr=False
    )
    """256 random bits in hexadecimal."""
    root_fingerprint: Annotated[str, StringConstraints(max_length=_MAX_FINGERPRINT)]
    expires: AwareDatetime

    def to_line(self) -> str:
        """Write the invitation as one line to be copied; keep the line private."""
        content = base64.urlsafe_b64encode(self.model_dump_json().encode())
        return f"{LINE_PREFIX}{content.decode('ascii').rstrip('=')}"

    def proof_key(self) -> bytes:
        """Derive the key of the request's proof from the secret."""
        return derive_proof_key(bytes.fromhex(self.secret))


def make_invitation(
    *,
    consortium: str,
    site: str,
    address: str,
    root_fingerprint: str,
    now: datetime,
    hours: int,
) -> Invitation:
    """Make an invitation with a new secret.

    Args:
        consortium: The consortium's name.
        site: The one site that may use it.
        address: The coordinator's public `host:port`.
        root_fingerprint: Of the consortium's root certificate.
        now: The present time.
        hours: How long the invitation is good for, more than 0.

    Raises:
        ValueError: A name, the address or the number of hours is not allowed.
    """
    if not 0 < hours <= 24 * 30:
        raise ValueError(f"hours is {hours}; must be above 0 and at most 720")
    expires = (now.astimezone(UTC) + timedelta(hours=hours)).replace(microsecond=0)
    return Invitation(
        consortium=consortium,
        site=site,
        address=address,
        secret=secrets.token_hex(SECRET_BYTES),
        root_fingerprint=root_fingerprint,
        expires=expires,
    )


def parse_invitation(line: str, *, now: datetime) -> Invitation:
    """Read an invitation line.

    Raises:
        IdentityError: The line is no invitation, was cut, or has expired. The message
            never repeats the line.
    """
    stripped = line.strip()
    if not stripped.startswith(LINE_PREFIX) or len(stripped) > MAX_LINE_CHARACTERS:
        raise _invalid(f"the line does not begin with {LINE_PREFIX}, or is too long")
    encoded = stripped.removeprefix(LINE_PREFIX)
    try:
        padding = "=" * (-len(encoded) % 4)
        content = base64.b64decode(encoded + padding, altchars=b"-_", validate=True)
        invitation = Invitation.model_validate_json(content)
    except ValidationError as error:
        faults = describe_faults(error, where="invitation", with_values=False)
        # The cause is not chained: its context may hold the secret.
        raise _invalid("; ".join(faults)) from None
    except ValueError:
        raise _invalid("the line is not base64; it was cut or changed") from None
    check_not_expired(invitation.expires, now=now, site=invitation.site)
    return invitation


def check_not_expired(expires: datetime, *, now: datetime, site: str) -> None:
    """Refuse an invitation whose time is over.

    Raises:
        IdentityError: `identity.invitation_expired`.
    """
    if now >= expires:
        raise IdentityError(
            "identity.invitation_expired",
            f"the invitation for site {site} expired at {expires.isoformat()}.",
            remedy=f"Let the coordinator run `acf-server site invite {site}` again.",
        )


def derive_proof_key(secret: bytes) -> bytes:
    """Derive the HMAC key that both sides use in the place of the secret."""
    return hashlib.sha256(b"acf-proof" + secret).digest()


def _invalid(reason: str) -> IdentityError:
    return IdentityError(
        "identity.invitation_invalid",
        f"this is not an invitation: {reason}.",
        remedy="Copy the whole line that `acf-server site invite` printed.",
    )
