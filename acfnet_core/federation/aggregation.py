"""The weighted mean of the sites' parameters.

Axes: `value` runs over all parameters.
"""

from collections.abc import Sequence

import numpy as np

from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.parameters import FlatParameters


def aggregation_weights(num_examples: Sequence[int], *, cap: float) -> list[float]:
    """Return each site's share of the mean: by patients, none above `cap`.

    What a capped site loses goes to the others in proportion to their patients. With n
    sites a cap below 1/n cannot hold; every site then weighs its equal share. So two
    sites under a cap of one half weigh the same, whatever their patients.

    Args:
        num_examples: Patients of each site, 1 or more.
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


def weighted_mean(updates: Sequence[AdmittedUpdate], *, cap: float) -> FlatParameters:
    """Average the sites' parameters (FedAvg).

    The sum runs in float64 over the sites in the order of their names, so the result
    does not depend on who answered first; with one site it is that site's parameters,
    bit for bit.

    Source: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from
    Decentralized Data, algorithm 1 (arXiv 1602.05629). Ours: the cap on a site's share.
    """
    ordered = sorted(updates, key=lambda update: update.site)
    weights = aggregation_weights([u.num_examples for u in ordered], cap=cap)
    # From minus zero, since 0.0 + -0.0 would lose the sign of a parameter.
    total = np.full(ordered[0].parameters.shape, -0.0, dtype=np.float64)
    for weight, update in zip(weights, ordered, strict=True):
        total += weight * update.parameters.astype(np.float64)
    return total.astype(np.float32)
