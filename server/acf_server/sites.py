"""The registry of sites: who was invited, who was approved, with which key.

It is one SQLite file. Of an invitation's secret only a derived key is kept, and only
until the site is approved.
"""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec

from acf_server.database import Database
from acfnet_core.errors import IdentityError
from acfnet_core.identity.fingerprint import check_fingerprint, fingerprint_key
from acfnet_core.identity.invitation import Invitation, check_not_expired
from acfnet_core.identity.keys import load_public_key, public_key_pem
from acfnet_core.identity.names import check_name
from acfnet_core.identity.requests import EnrolmentRequest, check_proof

_FORMAT_VERSION = 1

_SCHEMA = (
    """CREATE TABLE sites (
    name TEXT PRIMARY KEY,
    invited_at TEXT NOT NULL,
    approved_at TEXT,
    public_key TEXT UNIQUE,
    node_id TEXT UNIQUE
) STRICT""",
    """CREATE TABLE invitations (
    site TEXT PRIMARY KEY REFERENCES sites (name),
    expires TEXT NOT NULL,
    proof_key BLOB NOT NULL
) STRICT""",
)


@dataclass(frozen=True, kw_only=True)
class SiteEntry:
    """One site as the registry knows it."""

    name: str
    invited_at: datetime
    approved_at: datetime | None
    invitation_expires: datetime | None
    """Of the open invitation; None once the site is approved."""
    public_key: str | None
    """PEM; what the site's updates are verified with."""
    node_id: str | None
    """Flower's number for the site, once it is registered there."""

    @property
    def status(self) -> Literal["invited", "approved"]:
        """How far the enrolment has come."""
        return "invited" if self.approved_at is None else "approved"

    def load_key(self) -> ec.EllipticCurvePublicKey:
        """Read the site's registered public key.

        Raises:
            IdentityError: The site has not been approved.
        """
        if self.public_key is None:
            raise IdentityError(
                "identity.not_enrolled",
                f"site {self.name} was invited but not approved.",
                remedy=f"Run `acf-server site approve {self.name}` with its request.",
            )
        return load_public_key(self.public_key)


class SiteRegistry:
    """The registry in one SQLite file; every call is one transaction.

    Args:
        path: The file, made by `create`.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, format_version=_FORMAT_VERSION)

    def create(self) -> None:
        """Make an empty registry; one that exists is left as it is.

        Raises:
            MachineError: The file cannot be written.
        """
        self._database.create(_SCHEMA)

    def invite(self, invitation: Invitation, *, now: datetime) -> None:
        """Register an invitation; it replaces an earlier one of the same site.

        Raises:
            IdentityError: `identity.site_exists`: the site was approved already.
        """
        with self._database.transaction() as connection:
            entry = _find(connection, invitation.site)
            if entry is not None and entry.status == "approved":
                raise IdentityError(
                    "identity.site_exists",
                    f"site {entry.name} was approved already; it needs no invitation.",
                    remedy="Invite the new site under another name.",
                )
            connection.execute(
                "INSERT INTO sites (name, invited_at) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET invited_at = excluded.invited_at",
                (invitation.site, _to_text(now)),
            )
            connection.execute(
                "INSERT OR REPLACE INTO invitations VALUES (?, ?, ?)",
                (
                    invitation.site,
                    _to_text(invitation.expires),
                    invitation.proof_key(),
                ),
            )

    def approve(
        self, name: str, request: EnrolmentRequest, fingerprint: str, *, now: datetime
    ) -> SiteEntry:
        """Register the key of a request, once all that speaks for it is checked.

        The same key again changes nothing and is accepted, also after the
        invitation's end: nothing new is granted by it.

        Args:
            name: The site that the coordinator means to approve.
            request: The file that came.
            fingerprint: What the site read out over the telephone.
            now: The present time.

        Raises:
            IdentityError: The site is unknown, the request is another site's or was
                not made with the invitation, the fingerprint differs, or the
                invitation is used or expired.
        """
        key = request.load_key()
        with self._database.transaction() as connection:
            entry = _require(connection, name)
            _check_request_name(request, name)
            check_fingerprint(
                fingerprint, fingerprint_key(key), subject=f"site {name}'s request"
            )
            if entry.status == "approved":
                _check_same_key(entry, key)
                return entry
            _check_invitation(connection, name, request, now)
            _register_key(connection, name, key, now)
            return _require(connection, name)

    def list_sites(self) -> tuple[SiteEntry, ...]:
        """Return all sites in the order of their names."""
        with self._database.transaction() as connection:
            rows = connection.execute(f"{_SELECT} ORDER BY name").fetchall()
        return tuple(_entry(row) for row in rows)

    def find(self, name: str) -> SiteEntry:
        """Return one site.

        Raises:
            IdentityError: `identity.site_unknown`.
        """
        with self._database.transaction() as connection:
            return _require(connection, name)

    def set_node_id(self, name: str, node_id: str) -> None:
        """Note the number that Flower gave to an approved site's node.

        Raises:
            IdentityError: The site is unknown or not approved, or the number is
                another site's.
        """
        with self._database.transaction() as connection:
            _require(connection, name).load_key()
            try:
                connection.execute(
                    "UPDATE sites SET node_id = ? WHERE name = ?", (node_id, name)
                )
            except sqlite3.IntegrityError as error:
                raise IdentityError(
                    "identity.site_exists",
                    f"node {node_id} is registered for another site than {name}.",
                    remedy="Register the site's own key with Flower.",
                ) from error


_SELECT = """
SELECT name, invited_at, approved_at, expires, public_key, node_id
FROM sites LEFT JOIN invitations ON invitations.site = sites.name
"""


def _find(connection: sqlite3.Connection, name: str) -> SiteEntry | None:
    row = connection.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
    return None if row is None else _entry(row)


def _require(connection: sqlite3.Connection, name: str) -> SiteEntry:
    entry = _find(connection, name)
    if entry is None:
        raise IdentityError(
            "identity.site_unknown",
            f"no site named {name!r} was invited.",
            remedy="See `acf-server site list`; correct the name or invite the site.",
        )
    return entry


def _check_request_name(request: EnrolmentRequest, name: str) -> None:
    if request.site != name:
        raise IdentityError(
            "identity.name_mismatch",
            f"the request is of site {request.site}; expected {name}.",
            remedy="Take the request that this site sent.",
        )


def _check_same_key(entry: SiteEntry, key: ec.EllipticCurvePublicKey) -> None:
    if entry.public_key != public_key_pem(key):
        raise IdentityError(
            "identity.invitation_used",
            f"the invitation of site {entry.name} was used already, with another key.",
            remedy="If the site lost its key, invite it under a new name; if it did "
            "not, somebody else holds its invitation.",
        )


def _check_invitation(
    connection: sqlite3.Connection, name: str, request: EnrolmentRequest, now: datetime
) -> None:
    expires, proof_key = connection.execute(
        "SELECT expires, proof_key FROM invitations WHERE site = ?", (name,)
    ).fetchone()
    check_not_expired(datetime.fromisoformat(expires), now=now, site=name)
    check_proof(request, proof_key)


def _register_key(
    connection: sqlite3.Connection,
    name: str,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
) -> None:
    try:
        connection.execute(
            "UPDATE sites SET public_key = ?, approved_at = ? WHERE name = ?",
            (public_key_pem(key), _to_text(now), name),
        )
    except sqlite3.IntegrityError as error:
        raise IdentityError(
            "identity.request_invalid",
            f"the key in the request of site {name} is another site's.",
            remedy="Each site makes its own key; ask this one to enrol anew.",
        ) from error
    connection.execute("DELETE FROM invitations WHERE site = ?", (name,))


def _entry(
    row: tuple[str, str, str | None, str | None, str | None, str | None],
) -> SiteEntry:
    name, invited_at, approved_at, expires, public_key, node_id = row
    return SiteEntry(
        name=check_name(name),
        invited_at=datetime.fromisoformat(invited_at),
        approved_at=None
        if approved_at is None
        else datetime.fromisoformat(approved_at),
        invitation_expires=None if expires is None else datetime.fromisoformat(expires),
        public_key=public_key,
        node_id=node_id,
    )


def _to_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
