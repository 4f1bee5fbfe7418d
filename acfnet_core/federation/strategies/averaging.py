"""FedAvg: the weighted mean is the next global model. FedProx differs at the sites."""

from collections.abc import Sequence
from dataclasses import dataclass

from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.aggregation import Weighing, in_order, mean_of
from acfnet_core.federation.parameters import FlatParameters, NamedArrays


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """Takes the sites' weighted mean; remembers nothing.

    Source: McMahan et al. 2017, arXiv 1602.05629, algorithm 1. Ours: the cap on a
    site's share.
    """

    weighing: Weighing

    def aggregate(
        self,
        updates: Sequence[AdmittedUpdate],
        *,
        base: FlatParameters,
        state: NamedArrays,
        round_number: int,
    ) -> tuple[FlatParameters, NamedArrays]:
        """Return the mean."""
        del base, state, round_number
        ordered = in_order(updates)
        return mean_of(ordered, self.weighing.shares(ordered)), {}
