"""The two files of an enrolment: a site's request and the coordinator's admission.

The request holds a public key and the proof that its sender holds the invitation; the
secret itself is not in it. The admission holds the certificates and the data contract
and is signed by the issuing authority, so that nothing in it, the contract included,
can be exchanged on its way.
"""

import base64
import hashlib
import hmac
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)

from acfnet_core.canonical import canonical_json
from acfnet_core.config import describe_faults
from acfnet_core.errors import ConfigError, IdentityError
from acfnet_core.identity.certificates import (
    Authority,
    certificate_pem,
    load_certificate,
)
from acfnet_core.identity.invitation import Invitation
from acfnet_core.identity.keys import load_public_key, public_key_pem
from acfnet_core.identity.names import Address, Name

MAX_REQUEST_BYTES = 64 * 1024
MAX_ADMISSION_BYTES = 1024 * 1024
MAX_CONTRACT_BYTES = 256 * 1024

_PROOF_DOMAIN = b"acfnet-enrolment-v1\n"
_ADMISSION_DOMAIN = b"acfnet-admission-v1\n"

_Pem = Annotated[str, StringConstraints(min_length=1, max_length=8192)]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class EnrolmentRequest(BaseModel):
    """What a site sends to be enrolled."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True
    )

    format_version: Literal[1] = 1
    consortium: Name
    site: Name
    public_key: _Pem
    """SubjectPublicKeyInfo PEM on P-384."""
    proof: _Sha256
    """HMAC-SHA256 of the fields above under the invitation's proof key."""

    def load_key(self) -> ec.EllipticCurvePublicKey:
        """Read the public key.

        Raises:
            IdentityError: It is no key on P-384.
        """
        return load_public_key(self.public_key)

    def to_bytes(self) -> bytes:
        """Write the request as its file has it."""
        return f"{self.model_dump_json(indent=2)}\n".encode()


class Admission(BaseModel):
    """What the coordinator sends back to a site it has approved."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True
    )

    format_version: Literal[1] = 1
    consortium: Name
    site: Name
    address: Address
    root: _Pem
    issuing: _Pem
    certificate: _Pem
    contract: Annotated[
        str, StringConstraints(min_length=1, max_length=MAX_CONTRACT_BYTES)
    ]
    """The data contract, as TOML text."""
    contract_sha256: _Sha256
    """Of the bytes of the contract's text in UTF-8."""
    issued: AwareDatetime
    signature: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    """ECDSA with SHA-384 by the issuing authority over all other fields, base64."""

    @model_validator(mode="after")
    def _contract_is_whole(self) -> "Admission":
        if hashlib.sha256(self.contract.encode()).hexdigest() != self.contract_sha256:
            raise ValueError("contract_sha256 is not the hash of the contract")
        return self

    def to_bytes(self) -> bytes:
        """Write the admission as its file has it."""
        return f"{self.model_dump_json(indent=2)}\n".encode()


def make_request(
    invitation: Invitation, public_key: ec.EllipticCurvePublicKey
) -> EnrolmentRequest:
    """Ask for a certificate for `public_key`, proving that we hold the invitation."""
    unproven = EnrolmentRequest(
        consortium=invitation.consortium,
        site=invitation.site,
        public_key=public_key_pem(public_key),
        proof="0" * 64,
    )
    proof = _proof(unproven, invitation.proof_key())
    return unproven.model_copy(update={"proof": proof})


def check_proof(request: EnrolmentRequest, proof_key: bytes) -> None:
    """Check that the request was made by the holder of the invitation.

    Args:
        request: The site's request.
        proof_key: What the coordinator kept of the invitation.

    Raises:
        IdentityError: `identity.request_invalid`.
    """
    if not hmac.compare_digest(_proof(request, proof_key), request.proof):
        raise _request_invalid(
            f"the request of site {request.site}",
            "it was not made with this site's latest invitation",
        )


def read_request(path: Path) -> EnrolmentRequest:
    """Read a site's request and check its form and the kind of its key.

    Raises:
        ConfigError: There is no such file.
        IdentityError: The file is too large, has faults (all are listed), or the key
            is not on P-384.
    """
    content = _read_capped(path, MAX_REQUEST_BYTES)
    if len(content) > MAX_REQUEST_BYTES:
        raise IdentityError(
            "identity.request_too_large",
            f"{path}: has more than {MAX_REQUEST_BYTES} bytes; this is no request.",
            remedy="Ask the site for the file that `acf-client enroll` wrote.",
        )
    try:
        request = EnrolmentRequest.model_validate_json(content)
    except ValidationError as error:
        raise _request_invalid(str(path), _faults(error)) from error
    request.load_key()
    return request


def make_admission(
    *,
    consortium: str,
    site: str,
    address: str,
    root: x509.Certificate,
    issuing: Authority,
    certificate: x509.Certificate,
    contract: str,
    issued: datetime,
) -> Admission:
    """Put together and sign what an approved site needs."""
    unsigned = Admission(
        consortium=consortium,
        site=site,
        address=address,
        root=certificate_pem(root),
        issuing=certificate_pem(issuing.certificate),
        certificate=certificate_pem(certificate),
        contract=contract,
        contract_sha256=hashlib.sha256(contract.encode()).hexdigest(),
        issued=issued,
        signature="-",
    )
    signature = issuing.key.sign(_signed_bytes(unsigned), ec.ECDSA(hashes.SHA384()))
    text = base64.b64encode(signature).decode("ascii")
    return unsigned.model_copy(update={"signature": text})


def read_admission(path: Path) -> Admission:
    """Read an admission and check its form, but not yet whose it is.

    Raises:
        ConfigError: There is no such file.
        IdentityError: The file is too large or has faults; all are listed.
    """
    content = _read_capped(path, MAX_ADMISSION_BYTES)
    if len(content) > MAX_ADMISSION_BYTES:
        raise _admission_invalid(
            str(path), f"it has more than {MAX_ADMISSION_BYTES} bytes"
        )
    try:
        return Admission.model_validate_json(content)
    except ValidationError as error:
        raise _admission_invalid(str(path), _faults(error)) from error


def check_admission_signature(admission: Admission) -> None:
    """Check that the issuing authority named in the admission signed all of it.

    Whether that authority belongs to the pinned root is for the caller to verify.

    Raises:
        IdentityError: `identity.admission_invalid`.
    """
    subject = f"the admission of site {admission.site}"
    issuing = load_certificate(admission.issuing, subject="the issuing certificate")
    key = issuing.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _admission_invalid(subject, "its issuing key is not on P-384")
    try:
        signature = base64.b64decode(admission.signature, validate=True)
        key.verify(signature, _signed_bytes(admission), ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, ValueError) as error:
        raise _admission_invalid(subject, "its signature does not verify") from error


def _proof(request: EnrolmentRequest, proof_key: bytes) -> str:
    content = canonical_json(request.model_dump(mode="json", exclude={"proof"}))
    return hmac.new(proof_key, _PROOF_DOMAIN + content, hashlib.sha256).hexdigest()


def _signed_bytes(admission: Admission) -> bytes:
    content = admission.model_dump(mode="json", exclude={"signature"})
    return _ADMISSION_DOMAIN + canonical_json(content)


def _read_capped(path: Path, limit_bytes: int) -> bytes:
    """Read at most one byte more than the limit."""
    try:
        with path.open("rb") as file:
            return file.read(limit_bytes + 1)
    except OSError as error:
        raise ConfigError(
            "config.not_found",
            f"{path}: cannot be read ({error.strerror}).",
            remedy="Correct the path or the file's permissions.",
        ) from error


def _faults(error: ValidationError) -> str:
    return "; ".join(describe_faults(error, where="file", with_values=False))


def _request_invalid(subject: str, reason: str) -> IdentityError:
    return IdentityError(
        "identity.request_invalid",
        f"{subject}: {reason}.",
        remedy="Invite the site again and ask it for a new request.",
    )


def _admission_invalid(subject: str, reason: str) -> IdentityError:
    return IdentityError(
        "identity.admission_invalid",
        f"{subject}: {reason}.",
        remedy="Ask the coordinator for the admission file again.",
    )
