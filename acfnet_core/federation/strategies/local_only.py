"""Local-only: every site trains on by itself, and no parameters leave it.

What a federation has to beat. The rounds go as ever, so that the same figures are told
of the sites' own models at the same time; the global model stays as it began.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.admission import AdmissionRules, AdmittedUpdate, refusal
from acfnet_core.federation.messages import RoundReply
from acfnet_core.federation.parameters import FlatParameters, NamedArrays
from acfnet_core.federation.strategies.site_rounds import note_rounds


@dataclass(frozen=True)
class LocalOnly:
    """Leaves the global model as it is; remembers who has trained in which round."""

    def aggregate(
        self,
        updates: Sequence[AdmittedUpdate],
        *,
        base: FlatParameters,
        state: NamedArrays,
        round_number: int,
    ) -> tuple[FlatParameters, NamedArrays]:
        """Return the global parameters as they were."""
        return base.copy(), note_rounds(state, updates, round_number)


def admit_without_parameters(
    reply: RoundReply, *, base: FlatParameters, rules: AdmissionRules, has_sent: bool
) -> AdmittedUpdate:
    """Check the reply of a site that has trained and keeps its parameters.

    Args:
        reply: A reply that `check_reply` accepted.
        base: The global parameters, which the update then has in place of its own.
        rules: The bounds of the run.
        has_sent: Whether parameters came beside the reply.

    Raises:
        ProtocolError: `protocol.update_refused`: parameters came all the same, or the
            count is out of bounds.
    """
    if has_sent or reply.parameters_sha256 is not None:
        raise _unasked(reply.site)
    rules.check_counts(reply)
    return AdmittedUpdate(
        site=reply.site,
        num_examples=reply.num_examples,
        num_events=reply.counts.num_events,
        parameters=base,
        update_norm=0.0,
    )


def _unasked(site: str) -> ProtocolError:
    return refusal(site, "it sent parameters that were not asked for")
