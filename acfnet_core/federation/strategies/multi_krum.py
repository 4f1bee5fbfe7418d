"""Multi-Krum: the mean of the updates that lie nearest to the others.

Flower's class takes all updates into memory at once and finds the distances from inner
products, which cancel where updates are alike. So the distances here are our own, of
differences, in blocks; the tests compare the choice with Flower's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.aggregation import Weighing, in_order, mean_of
from acfnet_core.federation.blocks import blocks_of, stack_block
from acfnet_core.federation.parameters import FlatParameters, NamedArrays
from acfnet_core.federation.strategies.robust_counts import fewest_sites_for_krum

SquaredDistances = Float64[np.ndarray, "site site"]


@dataclass(frozen=True, kw_only=True)
class MultiKrum:
    """Averages the `num_kept` updates that lie nearest to others; remembers nothing.

    Source: Blanchard et al. 2017, arXiv 1703.02757, section 4. Ours: those kept are
    weighed and capped as in FedAvg; of equal scores the first by name is kept.

    Args:
        weighing: What those kept weigh.
        num_malicious: How many updates may be anything at all, f.
        num_kept: How many updates are averaged, m; 1 is Krum.
    """

    weighing: Weighing
    num_malicious: int
    num_kept: int

    def aggregate(
        self,
        updates: Sequence[AdmittedUpdate],
        *,
        base: FlatParameters,
        state: NamedArrays,
        round_number: int,
    ) -> tuple[FlatParameters, NamedArrays]:
        """Return the mean of those kept.

        Raises:
            ValueError: There are fewer updates than `fewest_sites_for_krum`.
        """
        del base, state, round_number
        ordered = in_order(updates)
        fewest = fewest_sites_for_krum(
            num_malicious=self.num_malicious, num_kept=self.num_kept
        )
        if len(ordered) < fewest:
            raise ValueError(
                f"{len(ordered)} updates; num_malicious {self.num_malicious} and "
                f"num_kept {self.num_kept} need {fewest}"
            )
        distances = squared_distances([update.parameters for update in ordered])
        scores = krum_scores(distances, num_malicious=self.num_malicious)
        best = sorted(np.argsort(scores, kind="stable")[: self.num_kept])
        kept = [ordered[index] for index in best]
        return mean_of(kept, self.weighing.shares(kept)), {}


def squared_distances(vectors: Sequence[FlatParameters]) -> SquaredDistances:
    """Return the squared Euclidean distance between any two vectors."""
    num_sites = len(vectors)
    distances = np.zeros((num_sites, num_sites), dtype=np.float64)
    # Twice: the block of all sites and its differences from one of them.
    for block in blocks_of(vectors[0].size, num_vectors=2 * num_sites):
        rows = stack_block(vectors, block)
        for index in range(num_sites - 1):
            others = rows[index + 1 :] - rows[index]
            distances[index, index + 1 :] += np.square(others).sum(axis=1)
    return distances + distances.T


def krum_scores(
    distances: SquaredDistances, *, num_malicious: int
) -> Float64[np.ndarray, " site"]:
    """Return each site's sum of squared distances to its n - f - 2 nearest others.

    Raises:
        ValueError: There are fewer than `num_malicious` + 3 sites.
    """
    num_sites = len(distances)
    num_nearest = num_sites - num_malicious - 2
    if num_nearest < 1:
        raise ValueError(f"{num_sites} sites; num_malicious is {num_malicious}")
    scores = np.empty(num_sites, dtype=np.float64)
    for index in range(num_sites):
        others = np.sort(np.delete(distances[index], index))
        scores[index] = others[:num_nearest].sum()
    return scores
