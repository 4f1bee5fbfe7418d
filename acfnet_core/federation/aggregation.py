"""What each site weighs, and the weighted mean of the sites' parameters.

Axes: `value` runs over all parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.blocks import Block, blocks_of, take_block
from acfnet_core.federation.parameters import FlatParameters

Weighting = Literal["patients", "events", "equal"]


def aggregation_weights(num_examples: Sequence[int], *, cap: float) -> list[float]:
    """Return each site's share of the mean: by patients, none above `cap`.

    What a capped site loses goes to the others in proportion to their patients. With n
    sites a cap below 1/n cannot hold; every site then weighs its equal share. So two
    sites under a cap of one half weigh the same, whatever their patients.

    Args:
        num_examples: Patients of each site, 1 or more; or what it weighs by instead.
        cap: Largest share of one site, in (0, 1]; 0.5 keeps any one hospital from
            outvoting all others.

    Returns:
        Shares that sum to 1.

    >>> aggregation_weights([80, 15, 5], cap=0.5)
    [0.5, 0.375, 0.125]
    """
    if not num_examples or min(num_examples) < 1:
        raise ValueError(f"expected counts of 1 or more, got {list(num_examples)}")
    if not 0.0 < cap <= 1.0:
        raise ValueError(f"cap is {cap}; expected more than 0 and at most 1")
    limit = max(cap, 1.0 / len(num_examples))
    shares = np.asarray(num_examples, dtype=np.float64)
    shares /= shares.sum()
    capped = np.zeros(len(shares), dtype=bool)
    while (over := (shares > limit) & ~capped).any():
        capped |= over
        shares[capped] = limit
        free = ~capped
        if not free.any():
            break
        counts = np.asarray(num_examples, dtype=np.float64)[free]
        shares[free] = counts / counts.sum() * (1.0 - limit * capped.sum())
    return [float(share) for share in shares]


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """What a site's share of the mean follows from.

    Args:
        by: The site's patients, its events, or nothing: every site weighs the same.
        cap: Largest share of one site, in (0, 1].
        minimum_cell: Of the contract. A site that may not tell its events, because they
            are few, weighs as if they were this many; so does one with fewer.
    """

    by: Weighting = "patients"
    cap: float = 0.5
    minimum_cell: int = 1

    def shares(self, updates: Sequence[AdmittedUpdate]) -> list[float]:
        """Return the sites' shares, in the order of the updates; they sum to 1."""
        counts = [self._count(update) for update in updates]
        return aggregation_weights(counts, cap=self.cap)

    def _count(self, update: AdmittedUpdate) -> int:
        if self.by == "patients":
            return update.num_examples
        if self.by == "events":
            return max(update.num_events or 0, self.minimum_cell)
        return 1


def in_order(updates: Sequence[AdmittedUpdate]) -> list[AdmittedUpdate]:
    """Return the updates by the names of their sites.

    Sums run in this order, so that no result depends on who answered first.

    Raises:
        ValueError: There is no update, or two are of one site or of unlike lengths.
    """
    ordered = sorted(updates, key=lambda update: update.site)
    sites = {update.site for update in ordered}
    lengths = {update.parameters.size for update in ordered}
    if len(sites) < len(ordered) or len(lengths) != 1:
        raise ValueError(
            f"{len(ordered)} updates of {len(sites)} sites and {len(lengths)} lengths; "
            "expected one or more, each of another site, all of one length"
        )
    return ordered


def mean_of_block(
    updates: Sequence[AdmittedUpdate], shares: Sequence[float], block: slice
) -> Block:
    """Return the weighted mean of a block of the sites' parameters, in float64."""
    # From minus zero, since 0.0 + -0.0 would lose the sign of a parameter.
    total = np.full(block.stop - block.start, -0.0, dtype=np.float64)
    for share, update in zip(shares, updates, strict=True):
        total += share * take_block(update.parameters, block)
    return total


def mean_of(
    updates: Sequence[AdmittedUpdate], shares: Sequence[float]
) -> FlatParameters:
    """Return the weighted mean of the sites' parameters, summed in float64."""
    mean = np.empty(updates[0].parameters.size, dtype=np.float32)
    for block in blocks_of(mean.size):
        mean[block] = mean_of_block(updates, shares, block)
    return mean
