"""Joining a consortium by two files: a request goes out, an admission comes back.

The private key is made here and stays here. The invitation's secret is used once, in
memory, and is never written to the site's folder.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
)

from acf_client.site import Site
from acfnet_core.config import describe_faults
from acfnet_core.errors import ConfigError, IdentityError
from acfnet_core.files import PRIVATE_MODE, write_atomically
from acfnet_core.identity.certificates import (
    certificate_pem,
    load_certificate,
    site_uri,
)
from acfnet_core.identity.fingerprint import (
    check_fingerprint,
    fingerprint_certificate,
    fingerprint_key,
)
from acfnet_core.identity.invitation import Invitation, parse_invitation
from acfnet_core.identity.keys import (
    generate_key,
    load_key,
    public_key_pem,
    save_key,
    save_openssh_pair,
)
from acfnet_core.identity.names import Address, Name
from acfnet_core.identity.path_checks import verify_site_certificate
from acfnet_core.identity.requests import (
    Admission,
    check_admission_signature,
    make_request,
    read_admission,
)


class EnrolmentState(BaseModel):
    """How far a site's enrolment has come; identity/enrolment.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1] = 1
    consortium: Name
    site: Name
    address: Address
    root_fingerprint: Annotated[str, StringConstraints(max_length=200)]
    """Pinned by the invitation, before anything else was received."""
    admitted: AwareDatetime | None = None
    """When the coordinator issued the latest admission; None before the first."""


def start_enrolment(
    site: Site, line: str, *, now: datetime | None = None
) -> tuple[Path, str]:
    """Make the site's key, if it has none, and the request for the coordinator.

    Repeating it keeps the key, so that the fingerprint read out stays true.

    Args:
        site: The site's folder.
        line: The invitation, as the coordinator gave it.
        now: The present time; None asks the clock.

    Returns:
        The request file to send, and the fingerprint to read out over the telephone.

    Raises:
        ConfigError: The folder is enrolled elsewhere already.
        IdentityError: The invitation is invalid or expired, or the site's key is
            unsafe or damaged.
        MachineError: The folder cannot be written.
    """
    invitation = parse_invitation(line, now=now or datetime.now(UTC))
    earlier = load_enrolment(site)
    _refuse_other_membership(site, earlier, invitation)
    key = _load_or_make_key(site)
    # The OpenSSH form is written each time: an interruption may have left it out.
    save_openssh_pair(site.node_key_path, key, comment=invitation.site)
    _save_state(
        site,
        EnrolmentState(
            consortium=invitation.consortium,
            site=invitation.site,
            address=invitation.address,
            root_fingerprint=invitation.root_fingerprint,
            admitted=None if earlier is None else earlier.admitted,
        ),
    )
    request = make_request(invitation, key.public_key())
    write_atomically(site.request_path, request.to_bytes())
    fingerprint = fingerprint_key(key.public_key())
    site.audit.append(
        "enrolment_requested",
        consortium=invitation.consortium,
        site=invitation.site,
        fingerprint=fingerprint,
    )
    return site.request_path, fingerprint


def finish_enrolment(
    site: Site, admission_path: Path, *, now: datetime | None = None
) -> EnrolmentState:
    """Check the coordinator's admission against the pinned root, and keep it.

    A later admission of the same consortium renews certificate and contract.

    Raises:
        ConfigError: The admission file does not exist.
        IdentityError: The enrolment was not started, or the admission is not ours,
            not from the pinned root, changed on its way, expired or outdated.
        MachineError: The folder cannot be written.
    """
    state = load_enrolment(site)
    if state is None:
        raise _not_enrolled(site, "its enrolment was not started")
    admission = read_admission(admission_path)
    _check_addressee(admission, state)
    key = load_key(site.key_path)
    leaf, issuing, root = _verify_admission(
        admission, state, key.public_key(), now=now or datetime.now(UTC)
    )
    write_atomically(site.root_path, certificate_pem(root).encode())
    write_atomically(site.certificate_path, certificate_pem(leaf, issuing).encode())
    write_atomically(site.contract_path, admission.contract.encode())
    enrolled = state.model_copy(
        update={"address": admission.address, "admitted": admission.issued}
    )
    # The state goes last: it says that the files before it are complete.
    _save_state(site, enrolled)
    site.audit.append(
        "enrolled",
        consortium=admission.consortium,
        site=admission.site,
        contract_sha256=admission.contract_sha256,
        certificate_expires=leaf.not_valid_after_utc.isoformat(),
    )
    return enrolled


def load_enrolment(site: Site) -> EnrolmentState | None:
    """Read how far the enrolment has come; None if it was not started.

    Raises:
        ConfigError: The file is damaged.
    """
    try:
        content = site.enrolment_path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return EnrolmentState.model_validate_json(content)
    except ValidationError as error:
        where = str(site.enrolment_path)
        raise ConfigError(
            "config.invalid",
            "\n".join(describe_faults(error, where=where, with_values=False)),
            remedy="Restore the file from a backup, or enrol again.",
        ) from error


def require_enrolment(site: Site) -> EnrolmentState:
    """Return the state of a site that has been admitted.

    Raises:
        IdentityError: `identity.not_enrolled`.
    """
    state = load_enrolment(site)
    if state is None or state.admitted is None:
        raise _not_enrolled(site, "it has no admission from a coordinator yet")
    return state


def _refuse_other_membership(
    site: Site, earlier: EnrolmentState | None, invitation: Invitation
) -> None:
    """Keep a folder to the consortium and the name that it was admitted under."""
    if earlier is None or earlier.admitted is None:
        return
    is_same = (
        earlier.consortium == invitation.consortium
        and earlier.site == invitation.site
        and earlier.root_fingerprint == invitation.root_fingerprint
    )
    if not is_same:
        raise ConfigError(
            "config.already_initialised",
            f"{site.folder}: is enrolled as {earlier.site} in {earlier.consortium}; "
            f"the invitation is for {invitation.site} in {invitation.consortium}.",
            remedy="Set up another folder for another consortium or name.",
        )


def _load_or_make_key(site: Site) -> ec.EllipticCurvePrivateKey:
    if site.key_path.exists():
        return load_key(site.key_path)
    key = generate_key()
    save_key(site.key_path, key)
    return key


def _check_addressee(admission: Admission, state: EnrolmentState) -> None:
    found = (admission.consortium, admission.site)
    if found != (state.consortium, state.site):
        raise IdentityError(
            "identity.name_mismatch",
            f"the admission is for {admission.site} in {admission.consortium}; "
            f"expected {state.site} in {state.consortium}.",
            remedy="Ask the coordinator for this site's own admission file.",
        )
    if state.admitted is not None and admission.issued < state.admitted:
        raise IdentityError(
            "identity.admission_invalid",
            f"the admission was issued at {admission.issued.isoformat()}, before the "
            f"one in use, {state.admitted.isoformat()}.",
            remedy="Ask the coordinator for the latest admission file.",
        )


def _verify_admission(
    admission: Admission,
    state: EnrolmentState,
    key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
) -> tuple[x509.Certificate, x509.Certificate, x509.Certificate]:
    """Check root, path, name, key and signature; return leaf, issuing and root."""
    root = load_certificate(admission.root, subject="the root certificate")
    check_fingerprint(
        state.root_fingerprint,
        fingerprint_certificate(root),
        subject="the admission's root certificate",
    )
    leaf = load_certificate(admission.certificate, subject="the site's certificate")
    issuing = load_certificate(admission.issuing, subject="the issuing certificate")
    uri = site_uri(admission.consortium, admission.site)
    verify_site_certificate(leaf, issuing=issuing, root=root, uri=uri, now=now)
    leaf_key = leaf.public_key()
    is_ours = isinstance(leaf_key, ec.EllipticCurvePublicKey) and (
        public_key_pem(leaf_key) == public_key_pem(key)
    )
    if not is_ours:
        raise IdentityError(
            "identity.certificate_invalid",
            "the admission's certificate is for another key than this site's.",
            remedy="Send this site's request again and ask for a new admission.",
        )
    check_admission_signature(admission)
    return leaf, issuing, root


def _save_state(site: Site, state: EnrolmentState) -> None:
    content = f"{state.model_dump_json(indent=2)}\n".encode()
    write_atomically(site.enrolment_path, content, mode=PRIVATE_MODE)


def _not_enrolled(site: Site, reason: str) -> IdentityError:
    return IdentityError(
        "identity.not_enrolled",
        f"{site.folder}: {reason}.",
        remedy="Run `acf-client enroll` with the line that the coordinator gave you.",
    )
