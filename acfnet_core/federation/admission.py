"""Whether an update may enter the global model: one place, checked before any sum.

An aggregation that checks nothing is poisoned for ever by one NaN, taken over by one
count of a thousand million, and killed by one wrong shape. So each reply passes here
first. A refusal names the site and the reason; it never stops the run by itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.messages import RoundReply, RoundRequest
from acfnet_core.federation.parameters import FlatParameters, sha256_of


@dataclass(frozen=True, kw_only=True)
class AdmissionRules:
    """Bounds of a run that every update must keep.

    Args:
        num_values: Length of the flat parameter vector.
        max_examples: Most patients that one site may claim.
        max_update_norm: Largest Euclidean norm of local minus global parameters.
    """

    num_values: int
    max_examples: int
    max_update_norm: float


@dataclass(frozen=True, kw_only=True)
class AdmittedUpdate:
    """A site's parameters that passed every check."""

    site: str
    num_examples: int
    parameters: FlatParameters
    update_norm: float


def check_reply(reply: RoundReply, request: RoundRequest, *, site: str) -> None:
    """Check that a reply answers this very request.

    Raises:
        ProtocolError: `protocol.update_refused`, with the reason.
    """
    expected: tuple[tuple[str, object, object], ...] = (
        ("site", reply.site, site),
        ("run", reply.run, request.run),
        ("round", reply.round, request.round),
        ("base_sha256", reply.base_sha256, request.base_sha256),
    )
    for field, found, wanted in expected:
        if found != wanted:
            raise refusal(site, f"{field} is {found!r}; expected {wanted!r}")


def admit(
    reply: RoundReply,
    parameters: NDArray[np.generic],
    *,
    base: FlatParameters,
    rules: AdmissionRules,
) -> AdmittedUpdate:
    """Check a trained reply's parameters against the rules of the run.

    Args:
        reply: A reply that `check_reply` accepted.
        parameters: What came beside it, of any shape and type.
        base: The global parameters that the site started from.
        rules: The bounds of the run.

    Raises:
        ProtocolError: `protocol.update_refused`, with the reason.
    """
    site = reply.site
    if parameters.dtype != np.float32 or parameters.shape != (rules.num_values,):
        found = f"{parameters.dtype}{list(parameters.shape)}"
        raise refusal(site, f"got {found}; expected float32[{rules.num_values}]")
    if not np.isfinite(parameters).all():
        raise refusal(site, "there are values that are not finite")
    if reply.parameters_sha256 != sha256_of(parameters):
        raise refusal(site, "the parameters do not match their hash")
    if not 1 <= reply.num_examples <= rules.max_examples:
        raise refusal(
            site,
            f"num_examples is {reply.num_examples}; expected 1 to {rules.max_examples}",
        )
    norm = float(np.linalg.norm(parameters.astype(np.float64) - base))
    if norm > rules.max_update_norm:
        raise refusal(
            site,
            f"the update's norm is {norm:.3g}; at most {rules.max_update_norm:.3g}",
        )
    return AdmittedUpdate(
        site=site,
        num_examples=reply.num_examples,
        parameters=parameters,
        update_norm=norm,
    )


def refusal(site: str, reason: str) -> ProtocolError:
    """Name the site and the reason of a refused update."""
    return ProtocolError(
        "protocol.update_refused",
        f"{site}: the update was refused: {reason}.",
        remedy=f"Ask the operator of {site} to compare versions and look at its log.",
    )
