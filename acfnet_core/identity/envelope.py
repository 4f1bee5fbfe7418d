"""The signature that says which site sent an update, for which round, from what.

A Flower node that knows another's message id can answer in its place, so an update is
believed by this signature alone. It is checked against the key that was registered
when the site was approved, before anything is aggregated.
"""

from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from acfnet_core.canonical import canonical_json
from acfnet_core.errors import ProtocolError
from acfnet_core.identity.names import Name

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

MAX_EXAMPLES = 10_000_000
"""No site has more patients; a run's own bound is lower."""

_DOMAIN = b"acfnet-update-v3\n"


class UpdateClaim(BaseModel):
    """What a site says about its update, and signs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """The run's identifier."""
    site: Name
    round: Annotated[int, Field(ge=1, le=1_000_000)]
    """From 1."""
    base_sha256: Sha256
    """Of the global parameters that the round began with."""
    parameters_sha256: Sha256
    """Of the parameters that the server has by this update, decoded if encoded."""
    compression: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,20}$")] = (
        "none"
    )
    """How they are encoded on their way."""
    num_examples: Annotated[int, Field(ge=0, le=MAX_EXAMPLES)]
    reading_sha256: Sha256 | None
    """Of how the site read its table and images; null where its data does not say."""


def sign_update(key: ec.EllipticCurvePrivateKey, claim: UpdateClaim) -> bytes:
    """Sign a claim with the site's key.

    Returns:
        The ECDSA signature with SHA-384, in DER.
    """
    return key.sign(_signed_bytes(claim), ec.ECDSA(hashes.SHA384()))


def verify_update(
    key: ec.EllipticCurvePublicKey, claim: UpdateClaim, signature: bytes
) -> None:
    """Check that the holder of `key` signed exactly this claim.

    Args:
        key: The key that was registered at the site's approval.
        claim: What the coordinator expects, filled from its own knowledge of the run.
        signature: What came with the update.

    Raises:
        ProtocolError: `protocol.signature_invalid`.
    """
    try:
        key.verify(signature, _signed_bytes(claim), ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise ProtocolError(
            "protocol.signature_invalid",
            f"site {claim.site}, round {claim.round}: the update's signature does not "
            "verify with the key registered for this site.",
            remedy="Leave the update out; ask the site whether its key was changed.",
        ) from error


def _signed_bytes(claim: UpdateClaim) -> bytes:
    """Put the purpose before the content, so that no other signature fits."""
    return _DOMAIN + canonical_json(claim.model_dump())
