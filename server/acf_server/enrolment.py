"""Inviting and approving a site, for networks where only files may travel.

The coordinator sends a line, receives a request, hears a fingerprint over the
telephone and sends an admission. Each step can be repeated without harm.
"""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from pydantic import ValidationError

from acf_server.coordinator import Coordinator
from acf_server.pki import issue_site_certificate, load_issuing, load_root_certificate
from acfnet_core.errors import ConfigError, IdentityError
from acfnet_core.files import write_atomically
from acfnet_core.identity.fingerprint import fingerprint_key
from acfnet_core.identity.invitation import make_invitation
from acfnet_core.identity.names import NAME_RULE, check_name
from acfnet_core.identity.requests import EnrolmentRequest, make_admission, read_request

DEFAULT_HOURS = 24


def invite_site(
    coordinator: Coordinator,
    name: str,
    *,
    hours: int = DEFAULT_HOURS,
    now: datetime | None = None,
) -> str:
    """Invite a site and return the line to give to it in private.

    Inviting again before the approval replaces the earlier line.

    Args:
        coordinator: The coordinator's folder.
        name: The site's name.
        hours: How long the line is good for.
        now: The present time; None asks the clock.

    Raises:
        ConfigError: The name or the number of hours is not allowed.
        IdentityError: The site was approved already.
    """
    moment = now or datetime.now(UTC)
    try:
        invitation = make_invitation(
            consortium=coordinator.config.consortium,
            site=check_name(name),
            address=coordinator.config.address,
            root_fingerprint=coordinator.root_fingerprint,
            now=moment,
            hours=hours,
        )
    except (ValueError, ValidationError) as error:
        raise ConfigError(
            "config.invalid",
            f"invitation of {name!r} for {hours} hours: expected a name of "
            f"{NAME_RULE}; and more than 0 hours, at most 720.",
            remedy="Correct the name or the hours and repeat the command.",
        ) from error
    coordinator.registry.invite(invitation, now=moment)
    coordinator.audit.append(
        "site_invited", site=name, expires=invitation.expires.isoformat()
    )
    return invitation.to_line()


def approve_site(
    coordinator: Coordinator,
    name: str,
    request_file: Path,
    fingerprint: str,
    admission_file: Path,
    *,
    now: datetime | None = None,
) -> Path:
    """Approve a site's request and write its admission.

    Repeated with the same request it issues a new certificate for the same key.

    Args:
        coordinator: The coordinator's folder.
        name: The site that is meant.
        request_file: What the site sent.
        fingerprint: What the site read out over the telephone.
        admission_file: Where to write what the site needs; it holds no secret.
        now: The present time; None asks the clock.

    Returns:
        `admission_file`.

    Raises:
        ConfigError: The request file does not exist.
        IdentityError: The request or the site is refused; the code says why.
        MachineError: The admission cannot be written; repeat the call.
    """
    moment = now or datetime.now(UTC)
    try:
        request = read_request(request_file)
        _check_consortium(request, coordinator.config.consortium)
        entry = coordinator.registry.approve(name, request, fingerprint, now=moment)
    except IdentityError as error:
        coordinator.audit.append("site_refused", site=name, code=error.code)
        raise
    certificate = issue_site_certificate(
        coordinator.pki,
        consortium=coordinator.config.consortium,
        site=name,
        public_key=entry.load_key(),
        now=moment,
    )
    coordinator.audit.append(
        "site_approved",
        site=name,
        fingerprint=fingerprint_key(entry.load_key()),
        certificate_serial=f"{certificate.serial_number:x}",
        certificate_expires=certificate.not_valid_after_utc.isoformat(),
    )
    _write_admission(coordinator, name, certificate, admission_file, moment)
    return admission_file


def _check_consortium(request: EnrolmentRequest, consortium: str) -> None:
    if request.consortium != consortium:
        raise IdentityError(
            "identity.name_mismatch",
            f"the request is for consortium {request.consortium}; expected "
            f"{consortium}.",
            remedy="Take the request that was made with this consortium's invitation.",
        )


def _write_admission(
    coordinator: Coordinator,
    name: str,
    certificate: x509.Certificate,
    path: Path,
    moment: datetime,
) -> None:
    admission = make_admission(
        consortium=coordinator.config.consortium,
        site=name,
        address=coordinator.config.address,
        root=load_root_certificate(coordinator.pki),
        issuing=load_issuing(coordinator.pki),
        certificate=certificate,
        contract=coordinator.read_contract_text(),
        issued=moment.astimezone(UTC),
    )
    write_atomically(path, admission.to_bytes())
