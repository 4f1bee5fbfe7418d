"""Whether an update may enter the global model: one place, checked before any sum.

An aggregation that checks nothing is poisoned for ever by one NaN, taken over by one
count of a thousand million, and killed by one wrong shape. So each reply passes here
first. A refusal names the site and the reason; it never stops the run by itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.blocks import norm_of, norm_of_difference
from acfnet_core.federation.messages import RoundReply, RoundRequest
from acfnet_core.federation.parameters import FlatParameters, sha256_of


@dataclass(frozen=True, kw_only=True)
class AdmissionRules:
    """Bounds of a run that every update must keep.

    Args:
        num_values: Length of the flat vector that a reply brings.
        max_examples: Most patients that one site may claim, and most events.
        max_update_norm: Largest Euclidean norm of local minus global parameters.
        max_control_norm: Largest norm of the vector's second half, where a strategy
            has the sites send one behind the parameters; None where it has not.
    """

    num_values: int
    max_examples: int
    max_update_norm: float
    max_control_norm: float | None = None

    def check_counts(self, reply: RoundReply) -> None:
        """Check what the site's weight follows from.

        Raises:
            ProtocolError: `protocol.update_refused`, with the reason.
        """
        counts = {"num_examples": (reply.num_examples, 1)}
        if reply.counts.num_events is not None:
            counts["num_events"] = (reply.counts.num_events, 0)
        for name, (found, least) in counts.items():
            if not least <= found <= self.max_examples:
                raise refusal(
                    reply.site,
                    f"{name} is {found}; expected {least} to {self.max_examples}",
                )

    def check_control(self, site: str, control: FlatParameters) -> None:
        """Check the second half of what a site sent.

        Raises:
            ProtocolError: `protocol.update_refused`, with the reason.
        """
        norm = norm_of(control)
        if self.max_control_norm is not None and norm > self.max_control_norm:
            raise refusal(
                site,
                f"the control variate's change has the norm {norm:.3g}; at most "
                f"{self.max_control_norm:.3g}",
            )


@dataclass(frozen=True, kw_only=True)
class AdmittedUpdate:
    """A site's parameters that passed every check."""

    site: str
    num_examples: int
    parameters: FlatParameters
    """All that came: with a strategy that has two halves, both of them."""
    update_norm: float
    num_events: int | None = None
    """Null where the site may not tell them."""


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
        ("compression", reply.compression, request.updates.compression),
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
        base: What the request carried, of the same length: the global parameters that
            the site started from, and a second half where the strategy has one.
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
    rules.check_counts(reply)
    half = rules.num_values // (1 if rules.max_control_norm is None else 2)
    rules.check_control(site, parameters[half:])
    norm = norm_of_difference(parameters[:half], base[:half])
    if norm > rules.max_update_norm:
        raise refusal(
            site,
            f"the update's norm is {norm:.3g}; at most {rules.max_update_norm:.3g}",
        )
    return AdmittedUpdate(
        site=site,
        num_examples=reply.num_examples,
        num_events=reply.counts.num_events,
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
